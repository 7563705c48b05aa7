"""Labels as people write them, and back: names, numbers and ranges of classes, for Python, the command line,
the page and recipes.

A class is its number; −1 is no label. Of names the exact one goes first, then the one that fits but for case,
Unicode form (NFC) and outer spaces. A text is the name of a class; or names, numbers and ranges between
commas; or a JSON list, in which a string is a name and a whole number a class number, so that everything can
be written: ``["a, b", "0-9", 3, -1]``.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from backbones.registry import suggest

NO_LABEL = -1
SHOWN = 12  # names that an error lists
FILES = (".txt", ".csv", ".npy", ".json")  # what a file of labels is called


def fold(name: str) -> str:
    """A name without outer spaces, case and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).strip().casefold())


def word(plain: str, classes: Sequence[str]) -> str:
    """``plain``, in brackets where a class is called so: a word that no class has."""
    taken = names_of(tuple(classes)).folded
    while fold(plain) in taken:
        plain = f"({plain})"
    return plain


def no_label(classes: Sequence[str]) -> str:
    """The word for −1: "none", or "(none)" where a class is called none."""
    return names_of(tuple(classes)).none


def listed(classes: Sequence[str]) -> str:
    """Names for an error: a few, and how many there are."""
    names = ", ".join(
        c[:40] if c.isprintable() and c.strip() == c != "" else repr(c[:40]) for c in classes[:SHOWN]
    )
    return names if len(classes) <= SHOWN else f"{names} … ({len(classes)} classes)"


class Names:
    """The classes of a model, to be asked for in any of the ways that the module tells."""

    def __init__(self, classes: Sequence[str]):
        self.classes = tuple(classes)
        self.exact = {name: i for i, name in enumerate(self.classes)}
        self.folded: dict[str, list[int]] = {}
        for i, name in enumerate(self.classes):
            self.folded.setdefault(fold(name), []).append(i)
        self.none = "none"
        while self.none in self.folded:
            self.none = f"({self.none})"

    def find(self, name: str) -> int | None:
        """The class of a name, None for none. Raises ``ValueError`` for a name that fits several and none
        exactly."""
        if name in self.exact:
            return self.exact[name]
        near = self.folded.get(fold(name), [])
        if len(near) > 1:
            raise ValueError(
                f"got class {name!r}, which could be "
                f"{' or '.join(repr(self.classes[i]) for i in near[:SHOWN])}; write it exactly"
            )
        return near[0] if near else None

    def number(self, value: Any) -> int:
        """A class number, or −1. Raises ``ValueError`` for what is not whole or out of range."""
        if value is None:
            return NO_LABEL
        value = value.item() if hasattr(value, "item") else value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (isinstance(value, float) and not value.is_integer())
        ):
            raise ValueError(
                f"got the label {value!r} ({type(value).__name__}), expected a class number, a name, or "
                "−1 for no label"
            )
        if not NO_LABEL <= value < len(self.classes):
            raise self.unknown(str(int(value)))
        return int(value)

    def named(self, name: str) -> int:
        """The class of a name and nothing else. Raises ``ValueError``."""
        found = self.find(name)
        if found is None:
            raise self.unknown(repr(name), name)
        return found

    def item(self, text: str, *, alone: bool = True) -> list[int]:
        """One name, number, range "5-9" or no label ("none", −1). ``alone``: not one of several between
        commas."""
        plain = text.strip()
        if not alone and text in self.exact and plain in self.exact and text != plain:
            raise ValueError(
                f"got class {text!r} between commas, which could be {text!r} or {plain!r}; write a JSON "
                f"list, such as {json.dumps([plain])}"
            )
        found = self.exact.get(text, self.exact.get(plain))
        found = self.find(text) if found is None else found
        if found is not None:
            return [found]
        if fold(text) == self.none or plain in ("-1", "−1"):
            return [NO_LABEL]
        span = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", plain)
        if span is None:
            raise self.unknown(repr(plain), plain)
        first, last = int(span[1]), int(span[2] or span[1])
        if last < first:
            raise ValueError(
                f"got the labels {plain!r}, a range that runs backwards, expected such as {last}-{first}"
            )
        if last >= len(self.classes):
            raise self.unknown(str(last))
        return list(range(first, last + 1))

    def text(self, text: str) -> list[int]:
        """All that a text asks for; see the module."""
        if text in self.exact:
            return [self.exact[text]]
        if text.lstrip().startswith("["):
            try:
                items = json.loads(text)
            except ValueError:
                items = None
            if isinstance(items, list):
                return [self.named(v) if isinstance(v, str) else self.number(v) for v in items]
        pieces = text.split(",")
        try:
            return [label for piece in pieces for label in self.item(piece, alone=len(pieces) == 1)]
        except ValueError:
            whole = self.find(text)
            if whole is None:
                raise
            return [whole]

    def parse(self, value: Any) -> list[int]:
        """Class numbers of a text, a number, None (no label), or a list or array of them; in a list a text is
        one name, number, range or "none"."""
        if isinstance(value, str):
            return self.text(value)
        items = value.tolist() if hasattr(value, "tolist") else value
        if items is None or isinstance(items, bool | int | float):
            return [self.number(items)]
        if not isinstance(items, Sequence) or isinstance(items, bytes):
            raise ValueError(
                f"got labels of {type(value).__name__}, expected a name, a number, or a list of them"
            )
        return [
            label
            for item in items
            for label in (self.item(item) if isinstance(item, str) else [self.number(item)])
        ]

    def unknown(self, shown: str, name: str = "") -> ValueError:
        hint = suggest(fold(name), self.folded) if name else ""
        shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
        return ValueError(
            f"got class {shown}, expected 0 to {len(self.classes) - 1} or one of {listed(self.classes)}{hint}"
        )


@lru_cache(maxsize=16)
def names_of(classes: tuple[str, ...]) -> Names:
    """`Names` of these classes, made once."""
    return Names(classes)


def parse_labels(value: Any, classes: Sequence[str], seeds: Sequence[int]) -> tuple[int, ...] | None:
    """Class numbers for the seeds. ``value``: None (each seed's own: seed modulo classes), or what
    `Names.parse` takes. One label serves all seeds.

    Raises ``ValueError`` for a class that is out of range, unknown or ambiguous, or a count that does not
    match.
    """
    if not classes:
        try:
            none = (
                value is None
                or (isinstance(value, str) and value == "")
                or set(names_of(()).parse(value)) <= {NO_LABEL}
            )
        except ValueError:
            none = False
        if not none:
            raise ValueError(f"got labels {value!r}, but this model has no classes; leave them out")
        return None
    if value is None or (isinstance(value, str) and value.strip() == "" and value not in classes):
        return tuple(s % len(classes) for s in seeds)
    labels = names_of(tuple(classes)).parse(value)
    if len(labels) == 1:
        labels *= len(seeds)
    if len(labels) != len(seeds):
        raise ValueError(
            f"got {len(labels)} labels for {len(seeds)} seeds, expected one label or as many as seeds"
        )
    return tuple(labels)


def labels_text(labels: Sequence[int], classes: Sequence[str] | Mapping[int, str]) -> str:
    """A short text that `parse_labels` reads as these labels again (one where all are the same); of printable
    characters, not empty and without a dash in front, so that it can stand on a command line.

    ``classes``: all names, or what a recipe knows of them, the ``class`` of each ``label``.
    """
    chosen = list(labels[:1]) if len(set(labels)) == 1 else list(labels)
    if isinstance(classes, Mapping):
        there = [k for k in dict.fromkeys(chosen) if k != NO_LABEL and isinstance(classes.get(k), str)]
        names, told = Names([classes[k] for k in there]), classes.get(NO_LABEL)
        names.none = told if isinstance(told, str) and re.fullmatch(r"\(*none\)*", told) else names.none
        place = {k: i for i, k in enumerate(there)} | {NO_LABEL: NO_LABEL}
    else:
        names = names_of(tuple(classes))
        place = {k: k for k in chosen}
    if all(k in place for k in chosen):
        said = [names.none if k == NO_LABEL else names.classes[place[k]] for k in chosen]
        trimmed = (
            not isinstance(classes, Mapping) or len(said) == 1 or all(name == name.strip() for name in said)
        )
        if trimmed and _says(",".join(said), [place[k] for k in chosen], names):
            return ",".join(said)
    items = [k if k == NO_LABEL or k not in place else names.classes[place[k]] for k in chosen]
    text = json.dumps(items, ensure_ascii=not all(str(i).isprintable() for i in items))
    while text in names.exact:
        text = text.replace("[", "[ ", 1)
    return text


def says(text: str, labels: Sequence[int], classes: Sequence[str]) -> bool:
    """Whether a text that is not JSON says these labels and nothing else, wherever it may stand."""
    return _says(text, labels, names_of(tuple(classes)))


def _says(text: str, labels: Sequence[int], names: Names) -> bool:
    if (
        not text.strip()
        or text.startswith("-")
        or not text.isprintable()
        or (text.endswith(FILES) and text not in names.exact)
    ):
        return False
    try:
        return names.text(text) == list(labels)
    except ValueError:
        return False
