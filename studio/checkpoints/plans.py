"""Plans of a model as files: which run each belongs to, and the one that a run asks for.

They lie in the model's folder under ``plans/``; those of a model that cannot be written to, such as a bundled
one, in the user's own data folder.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from backbones.caching.plan import Plan
from backbones.registry import suggest
from studio.runtime import files, untrusted
from studio.runtime.recipes import short

FOLDER, FORMAT = "plans", 1
NONE, AUTO = "none", "auto"


@dataclass(frozen=True)
class Key:
    """The runs that a plan is for: weights by their hash, steps, the line of the sampler and of the guidance,
    the shape that the network sees, and which way a bridge is crossed."""

    model: str
    num_steps: int
    sampler: str
    guidance: str
    shape: tuple[int, ...]
    direction: str = "forward"

    def against(self, other: "Key") -> list[str]:
        """In words, what differs from another run."""
        names = {"model": "weights", "num_steps": "steps"}
        return [
            f"{names.get(f.name, f.name)} {_said(getattr(self, f.name))}, not {_said(getattr(other, f.name))}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        ]


def _said(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value) or "none"


@dataclass(frozen=True)
class Saved:
    """A plan with its name, the runs it is for, and what was ``measured`` where it was found."""

    name: str
    key: Key
    plan: Plan
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """In one line the runs that it is for, and what it costs as far as that was measured."""
        words = [f"{self.key.num_steps} steps of {self.key.sampler}, guidance {self.key.guidance or 'none'}"]
        if (share := self.number("flops")) is not None:
            words.append(f"{share:.0%} of the operations")
        if (error := self.number("error")) is not None:
            words.append(f"error {error:.3g}")
        return ", ".join(words)

    def number(self, name: str) -> float | None:
        """What was measured under a name; None for what is no number from 0 on."""
        value = self.measured.get(name)
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
        return value if good else None

    def tree(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "key": asdict(self.key) | {"shape": list(self.key.shape)},
            "plan": self.plan.tree(),
            "measured": dict(self.measured),
        }


def folder_of(model: Path, digest: str) -> Path:
    """Where plans of a model are written."""
    shelf = Path(str(resources.files("studio")))
    if shelf not in model.absolute().parents and os.access(model, os.W_OK):
        return model / FOLDER
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return home / "drift-studio" / FOLDER / digest


def read(path: Path) -> Saved:
    """A file's plan. Raises ``ValueError`` for one that is damaged, or edited into what is no plan."""
    try:
        if path.stat().st_size > untrusted.LONGEST:
            raise ValueError("it is too long")
        tree = untrusted.parsed(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict) or not isinstance(tree.get("key"), dict):
            raise ValueError("it has no key that says which runs it is for")
        if tree.get("format") != FORMAT:
            raise ValueError(f"got format {short(tree.get('format'))}, expected {FORMAT}")
        return Saved(
            str(tree.get("name", path.stem)),
            _key(tree["key"]),
            Plan.of(tree["plan"] if isinstance(tree.get("plan"), dict) else {}),
            tree["measured"] if isinstance(tree.get("measured"), dict) else {},
        )
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no plan: {error}; take the file that studio compress wrote, or run it again"
        ) from None


def _key(tree: Mapping[str, Any]) -> Key:
    kinds = {"num_steps": int, "shape": list}
    for f in fields(Key):
        if type(tree.get(f.name)) is not kinds.get(f.name, str):
            raise ValueError(f"got {f.name} {short(tree.get(f.name))} in its key")
    if unknown := sorted(set(tree) - {f.name for f in fields(Key)}):
        raise ValueError(f"got {', '.join(unknown)} in its key")
    parts: dict[str, Any] = {k: tuple(v) if k == "shape" else v for k, v in tree.items()}
    return Key(**parts)


def write(folder: Path, saved: Saved) -> Path:
    """Into ``folder``; returns the path."""
    path = folder / f"{saved.name}.json"
    files.write_json(path, saved.tree())
    return path


def listed(model: Path, digest: str) -> dict[str, Path]:
    """The files of a model's plans by name."""
    places = dict.fromkeys((model / FOLDER, folder_of(model, digest)))
    return {p.stem: p for place in places for p in sorted(place.glob("*.json"))}


def chosen(asked: str, key: Key, model: Path, called: str) -> tuple[Saved | None, str]:
    """The plan that a run asks for by name or file, or ``auto``: the smallest error of those that belong to
    it; and in words what ``auto`` fell back to. Raises ``ValueError`` for a plan that is not there or does
    not belong to the run, naming the nearest that does."""
    if asked in ("", NONE):
        return None, ""
    there = listed(model, key.model)
    if asked == AUTO:
        known = _readable(there.values())
        fitting = [s for s in known if s.key == key]
        if fitting:
            return min(fitting, key=lambda s: float(s.measured.get("error", math.inf))), ""
        return None, f"no plan of {called} is for this run; it runs without" + _nearest(known, key)
    path = Path(asked).expanduser() if asked.endswith(".json") else there.get(asked)
    if path is None or not path.is_file():
        raise ValueError(unknown(asked, there, called))
    found = read(path)
    if found.key != key:
        others = [s for s in _readable(there.values()) if s != found]
        raise ValueError(
            f"the plan {found.name} is for other runs: {'; '.join(found.key.against(key))}; choose these, or "
            f"make one with studio compress{_nearest(others, key)}"
        )
    return found, ""


def unknown(asked: str, there: Mapping[str, Path], called: str, *, words: str = "auto, none, ") -> str:
    """What is said of a plan that is not there; ``words`` that would do as well."""
    return (
        f"got plan {asked!r}, expected {words}a file, or one of {called}: "
        f"{', '.join(there) or 'it has none yet'}{suggest(asked, there)}; studio compress makes one"
    )


def _readable(paths: Any) -> list[Saved]:
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except ValueError:
            continue
    return found


def _nearest(known: Sequence[Saved], key: Key) -> str:
    """Of those of these weights, the one with the fewest differences."""
    own = [s for s in known if s.key.model == key.model]
    if not own:
        return ""
    best = min(own, key=lambda s: len(s.key.against(key)))
    away = best.key.against(key)
    return f"; the nearest is {best.name}: {'; '.join(away) if away else 'it belongs to this run'}"
