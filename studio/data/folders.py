"""What a folder of pictures holds: its files, and the class of each.

Classes stand in a table such as ``labels.csv`` (`studio.data.tables`), in the ``dataset.json`` of EDM's
tools, in the recipes of a folder that `studio generate` made, or are the names of sub-folders. Numbered
sub-folders that only share out a long row of numbered files (``00000/img00000000.png``, ``000/000000.png``)
are no classes, and neither are ``train/`` and ``val/``, which are the parts of a data set.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from studio.data import tables
from studio.data.classes import class_numbers, numbered
from studio.data.walk import suffixes, walk

CHUNK = 1000  # files in a sub-folder that is none of a class
NUMBERED = re.compile(r"(?:img)?(\d{5,})")
LEVEL = r"(?:{})(?:[-_ ]?(?:set|images|data|\d\d|\d{{4}}))?"  # train, training_set, val2017 ...
TRAIN, VALID, TEST = (
    re.compile(LEVEL.format(names), re.IGNORECASE)
    for names in ("train|training", "val|valid|validation|dev|held[-_ ]?out", "test|testing")
)


class Folder(NamedTuple):
    """``labels`` (N,) go with ``files``, −1 = none, or are None; ``origin``: what they were read from, in
    words; ``held`` (N,): which the folder itself keeps from training, None where it does not say; ``left``:
    reasons by file or folder; ``notes``: what else there is to tell."""

    files: list[Path]
    labels: np.ndarray | None
    classes: list[str]
    origin: str
    held: np.ndarray | None = None
    left: dict[Path, str] = {}
    notes: tuple[str, ...] = ()


def listing(root: Path) -> Folder:
    """Raises ``ValueError`` for a folder without pictures, for labels that are missing, contradict or go with
    no file, and for a mixture."""
    files, left = walk(root)
    if not files:
        more = f"; left out: {_first(root, left)}" if left else ""
        raise ValueError(f"{root} holds no pictures ({', '.join(suffixes())}){more}; check the path")
    if (pinned := _manifest(root)) is not None:
        return _generated(root, pinned)
    found = _read(root, files)
    return found._replace(left={**left, **found.left})


def _first(root: Path, left: dict[Path, str]) -> str:
    path, why = next(iter(left.items()))
    return f"{path.relative_to(root)}, {why}" + (f", and {len(left) - 1} more" if len(left) > 1 else "")


def _read(root: Path, files: list[Path]) -> Folder:
    if (found := _table(root, files)) is not None:
        return found
    notes = tuple(
        f"{p.name} has no column of labels; data.captions=COLUMN reads its texts"
        for p in tables.find(root)[:1]
    )
    if (root / "dataset.json").is_file():
        return _numbered(root, files)
    if all(p.parent == root for p in files):
        return Folder(files, None, [], "", notes=notes)
    loose = [p for p in files if p.parent == root]
    if loose:
        raise ValueError(
            f"{root} holds both folders and loose pictures such as {loose[0].name}; move them into a "
            "class folder"
        )
    if shares(root, files):
        return Folder(
            files, None, [], "its numbered folders share out one row of numbered files", notes=notes
        )
    tops = [p.relative_to(root).parts[0] for p in files]
    if (parts := _levels(root, sorted(set(tops)))) is not None:
        found = _parts(root, files, tops, parts)
        return found._replace(notes=(*notes, *found.notes))
    return _named(files, tops, "its folders")._replace(notes=notes)


def _levels(root: Path, tops: Sequence[str]) -> tuple[list[str], list[str], list[str]] | None:
    """The folders to train on, to hold out and to leave alone, None where folders are classes. Raises
    ``ValueError`` where both could be meant."""
    kinds = [[t for t in tops if kind.fullmatch(t)] for kind in (TRAIN, VALID, TEST)]
    train, valid, test = kinds
    others = [t for t in tops if not any(t in some for some in kinds)]
    if (
        not train
        and (others or len(tops) == 1 and not _deep(root / tops[0]))
        or train
        and others
        and not (valid or test)
    ):
        return None
    if not train or others:
        what = f"{', '.join(f'{t}/' for t in [*train, *valid, *test])}" + (
            f" beside {', '.join(f'{t}/' for t in others[:3])}" if others else ""
        )
        raise ValueError(
            f"{root} holds {what}, which could be parts of a data set or classes, expected train/ with "
            "val/ or test/, or classes alone; "
            f"set data.path={root / (train or tops)[0]} to train on one of them, or move "
            f"{'the others' if others else 'or rename them'}"
        )
    return (train, valid, test) if valid else (train, test, [])


def _deep(folder: Path) -> bool:
    """Whether the pictures of a folder lie in further ones."""
    return all(p.parent != folder for p in walk(folder).files)


def _parts(
    root: Path, files: list[Path], tops: Sequence[str], parts: tuple[list[str], list[str], list[str]]
) -> Folder:
    """The parts of a data set, each read as a folder of its own."""
    train, valid, aside = parts
    found = [(t, _read(root / t, [f for f, top in zip(files, tops) if top == t])) for t in (*train, *valid)]
    without = [t for t, one in found if one.labels is None]
    if without and len(without) < len(found):
        told = next(t for t, one in found if one.labels is not None)
        raise ValueError(
            f"{root / told} has classes and {root / without[0]} has none, expected the same in both; set "
            f"data.path={root / train[0]}"
        )
    every = [f for _, one in found for f in one.files]
    held = np.array([t in valid for t, one in found for _ in one.files])
    origin = f"{found[0][1].origin or 'no table and no folders'} in {', '.join(f'{t}/' for t, _ in found)}"
    names = [
        one.classes[k] if k >= 0 else None
        for _, one in found
        for k in (() if one.labels is None else one.labels)
    ]
    whole = Folder(every, None, [], "") if without else _named(every, names, origin)
    left = {root / t: "kept for judging: it is a reference of its own (--ref)" for t in aside}
    notes = [n for _, one in found for n in one.notes]
    if valid:
        notes.append(
            f"{', '.join(f'{t}/' for t in valid)} is held out, {', '.join(f'{t}/' for t in train)} is "
            "trained on"
        )
    return whole._replace(
        held=held if valid else None,
        left=left | {k: v for _, one in found for k, v in one.left.items()},
        notes=tuple(dict.fromkeys(notes)),
    )


def shares(root: Path, files: Sequence[Path]) -> bool:
    """Whether numbered sub-folders are parts of one row of files: a thousand in each, by their numbers."""

    def fits(path: Path) -> bool:
        parts, number = path.relative_to(root).parts, NUMBERED.fullmatch(path.stem)
        if len(parts) != 2 or number is None or not re.fullmatch(r"\d{3,}", parts[0]):
            return False
        return int(parts[0]) in (int(number[1]) // CHUNK, int(number[1]) // CHUNK * CHUNK)

    return all(map(fits, files))


def _named(files: list[Path], names: Sequence[str | None], origin: str) -> Folder:
    """None is no label."""
    classes = sorted({n for n in names if n is not None}, key=numbered)
    place = {c: i for i, c in enumerate(classes)}
    return Folder(
        files, np.array([-1 if n is None else place[n] for n in names], dtype=np.int64), classes, origin
    )


def _table(root: Path, files: list[Path]) -> Folder | None:
    there = tables.find(root)
    if not there:
        return None
    names = [p.relative_to(root).as_posix() for p in files]
    found = tables.read(there[0], names)
    if found is None:
        return None
    absent = found.absent
    more = f" ({len(absent)} of its rows name no picture that is there, first {absent[0]})" if absent else ""
    notes = [f"{p.name} is not read: {there[0].name} has the labels" for p in there[1:]]
    left = {root / name: f"{there[0].name} names it, but it is not there" for name in absent}
    tops = [n.partition("/")[0] if "/" in n else "" for n in names]
    train, valid, test = (
        [bool(t) and kind.fullmatch(t) is not None for t in tops] for kind in (TRAIN, VALID, TEST)
    )
    held = None
    if all(a or b or c for a, b, c in zip(train, valid, test)) and any(train) and not all(train):
        held = ~np.array(train)
        notes.append("what lies in train/ is trained on, the rest is held out")
    return _named(files, [found.of[n] for n in names], f"{there[0].name}{more}")._replace(
        held=held, left=left, notes=(*found.notes, *notes)
    )


def _numbered(root: Path, files: list[Path]) -> Folder:
    """``dataset.json``: {"labels": [[file, class number], ...]}, or null for none."""
    path = root / "dataset.json"
    try:
        rows = json.loads(path.read_text()).get("labels")
        pairs = None if rows is None else {str(Path(file).as_posix()): number for file, number in rows}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ValueError(
            f'{path} is not readable ({error}), expected {{"labels": [[file, class number], ...]}}; mend '
            "or remove it"
        ) from None
    if pairs is None:
        return Folder(files, None, [], "dataset.json has no labels")
    names = [p.relative_to(root).as_posix() for p in files]
    lacking, absent = [n for n in names if n not in pairs], sorted(set(pairs) - set(names))
    if lacking or absent or len(pairs) < len(rows):
        what = (
            f"no label for {lacking[0]}"
            if lacking
            else f"a label for {absent[0]}, which is not there"
            if absent
            else "two labels for one file"
        )
        raise ValueError(f"{path} has {what}, expected one for each of {len(names)} pictures; make it again")
    labels = class_numbers([pairs[n] for n in names], str(path), len(names))
    there = np.unique(labels[labels >= 0])
    return Folder(
        files,
        np.where(labels < 0, -1, np.searchsorted(there, labels)),
        [str(i) for i in there],
        "dataset.json",
    )


def _manifest(root: Path) -> dict[str, Any] | None:
    """What `studio generate` pinned of a set, None for a folder that is none of its own."""
    try:
        pinned = json.loads((root / "manifest.json").read_text())["pinned"]
        return pinned if isinstance(pinned["num"], int) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _generated(root: Path, pinned: dict[str, Any]) -> Folder:
    """The samples of a set, with the class that their recipes tell."""
    from studio.runtime.recipes import read_recipe

    files = sorted(root.glob("[0-9]*/[0-9]*.png"), key=lambda p: int(p.stem))
    if len(files) != pinned["num"]:
        raise ValueError(
            f"{root} holds {len(files)} of {pinned['num']} samples; run the same studio generate again "
            "until it is complete"
        )
    recipes = [read_recipe(p) for p in files]
    told = {
        r["label"]: str(r.get("class", r["label"]))
        for r in recipes
        if isinstance(r.get("label"), int) and r["label"] >= 0
    }
    if not told:
        return Folder(files, None, [], "samples of studio generate without classes")
    order = sorted(told)
    labels = np.array(
        [order.index(r["label"]) if r.get("label") in told else -1 for r in recipes], dtype=np.int64
    )
    return Folder(files, labels, [told[k] for k in order], "the recipes of its samples")
