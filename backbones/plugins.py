"""What packages that are installed beside the studio add to its registries, by entry points. In their
``pyproject.toml``:

    [project.entry-points."drift_studio.backbones"]
    mine = "my_package.networks:Mine"

Entry points are read where a name is asked for that the studio does not have, or where all names are. A name
of the studio wins. What clashes, cannot be imported or lacks what its kind must have is told once, as a
warning, and left out. Configs and models hold names only: nothing in them can cause an import that no
installed package asked for.
"""

import functools
import importlib
import operator
import threading
import warnings
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "drift_studio."
_LOADING = threading.RLock()  # a plug-in that asks for names while it is imported sees the others


@dataclass
class Offer:
    """One line of a plug-in: ``group`` (``backbones``), the name, ``module:attribute``, and the package with
    its version. ``fault``: why it is left out, empty where it is not; None before it was looked at."""

    group: str
    name: str
    target: str
    package: str
    fault: str | None = None
    busy: bool = field(default=False, repr=False)

    def usable(self, taken: bool, needs: Sequence[str]) -> bool:
        """Whether the name stands for something; what it stands for is imported. ``taken``: the studio has
        the name; ``needs``: attributes that it must have."""
        with _LOADING:
            if self.fault is None and not self.busy:
                self.busy = True
                try:
                    self.fault = (
                        f"the name is {self._of_whom()}; give it another" if taken else self._load(needs)
                    )
                finally:
                    self.busy = False
                if self.fault:
                    warnings.warn(f"{self.told()} is left out: {self.fault}", stacklevel=2)
            return self.fault == ""

    def told(self) -> str:
        return f"{self.name!r} of the plug-in {self.package} ({PREFIX}{self.group})"

    def _of_whom(self) -> str:
        first = _offers().get(self.group, {}).get(self.name)
        return "the studio's own" if first is self or first is None else f"taken by {first.package} as well"

    def _load(self, needs: Sequence[str]) -> str:
        try:
            thing = imported(self.target)
        except (Exception, SystemExit) as error:  # whatever a stranger's module does when it is imported
            return " ".join(str(error).split()) or f"importing {self.target} fails without a word"
        lacking = [name for name in needs if not hasattr(thing, name)]
        if not callable(thing):
            return f"{self.target} is neither a class nor a function"
        return f"{self.target} lacks {', '.join(lacking)}" if lacking else ""


def imported(target: str) -> Any:
    """What stands behind ``module:attribute``."""
    module, _, attribute = target.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


@functools.cache
def _read() -> tuple[Offer, ...]:
    """Every line of every plug-in, sorted by package."""
    from importlib.metadata import entry_points

    try:
        every = entry_points()
        found = [e for group in every.groups if group.startswith(PREFIX) for e in every.select(group=group)]
    except Exception as error:  # what is installed is damaged
        warnings.warn(f"what is installed cannot be listed, so plug-ins are left out: {error}", stacklevel=2)
        return ()
    offers = [
        Offer(
            e.group.removeprefix(PREFIX),
            e.name,
            f"{e.module}:{e.attr}",
            "" if e.dist is None else f"{e.dist.name} {e.dist.version}",
        )
        for e in found
    ]
    return tuple(sorted(offers, key=lambda o: (o.package, o.group, o.name)))


@functools.cache
def _offers() -> dict[str, dict[str, Offer]]:
    """By group and name; of two packages with one name the first has it."""
    by: dict[str, dict[str, Offer]] = {}
    for offer in _read():
        by.setdefault(offer.group, {}).setdefault(offer.name, offer)
    return by


def installed() -> tuple[Offer, ...]:
    """Every line of every plug-in, in whatever group."""
    return _read()


def forget() -> None:
    """Read what is installed again, where it has changed since."""
    _read.cache_clear()
    _offers.cache_clear()


class Registry(MutableMapping[str, str]):
    """``"name": "module:attribute"`` of the studio, and of plug-ins under ``drift_studio.<group>``.
    ``needs``: attributes that what a plug-in offers must have."""

    def __init__(self, group: str, own: Mapping[str, str], needs: Sequence[str] = ()):
        self.group, self.own, self.needs = group, dict(own), tuple(needs)

    def __getitem__(self, name: str) -> str:
        if name in self.own:
            return self.own[name]
        offer = _offers().get(self.group, {}).get(name)
        if offer is None or not offer.usable(False, self.needs):
            raise KeyError(name)
        return offer.target

    def __setitem__(self, name: str, target: str) -> None:
        self.own[name] = target

    def __delitem__(self, name: str) -> None:
        del self.own[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (offer.name for offer in self.offers() if offer.fault == "")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Registry({self.group!r}, {dict(self)!r})"

    def offers(self) -> list[Offer]:
        """What plug-ins bring, looked at: those with a ``fault`` are left out."""
        first = _offers().get(self.group, {})
        found = [offer for offer in _read() if offer.group == self.group]
        for offer in found:
            offer.usable(offer.name in self.own or first[offer.name] is not offer, self.needs)
        return found

    def refused(self, name: str) -> str:
        """Why a plug-in's name is left out; empty for any other name."""
        offer = _offers().get(self.group, {}).get(name)
        return f"{offer.told()} is left out: {offer.fault}" if offer is not None and offer.fault else ""
