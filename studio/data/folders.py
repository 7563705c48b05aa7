"""What a folder of pictures holds: its files, and the class of each.

Classes stand in ``labels.csv`` (file,label), in the ``dataset.json`` of EDM's tools, in the recipes of a folder that `studio generate` made, or are the names of
sub-folders. Numbered sub-folders that only share out a long row of numbered files (``00000/img00000000.png``, ``000/000000.png``) are no classes.
"""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from studio.data.classes import class_numbers

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
CHUNK = 1000  # files in a sub-folder that is none of a class
NUMBERED = re.compile(r"(?:img)?(\d{5,})")


class Folder(NamedTuple):
    """``labels`` (N,) go with ``files``, −1 = none, or are None; ``origin``: what they were read from, in words."""

    files: list[Path]
    labels: np.ndarray | None
    classes: list[str]
    origin: str


def listing(root: Path) -> Folder:
    """Raises ``ValueError`` for a folder without pictures, for labels that are missing, contradict or go with no file, and for a mixture."""
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise ValueError(f"{root} holds no pictures ({', '.join(sorted(SUFFIXES))}); check the path")
    if (root / "labels.csv").is_file():
        return _table(root, files)
    if (pinned := _manifest(root)) is not None:
        return _generated(root, pinned)
    if (root / "dataset.json").is_file():
        return _numbered(root, files)
    if all(p.parent == root for p in files):
        return Folder(files, None, [], "")
    loose = [p for p in files if p.parent == root]
    if loose:
        raise ValueError(f"{root} holds both folders and loose pictures such as {loose[0].name}; move them into a class folder")
    if shares(root, files):
        return Folder(files, None, [], "its numbered folders share out one row of numbered files")
    return _named(files, [p.relative_to(root).parts[0] for p in files], "its folders")


def shares(root: Path, files: Sequence[Path]) -> bool:
    """Whether numbered sub-folders are parts of one row of files: a thousand in each, by their numbers."""

    def fits(path: Path) -> bool:
        parts, number = path.relative_to(root).parts, NUMBERED.fullmatch(path.stem)
        if len(parts) != 2 or number is None or not re.fullmatch(r"\d{3,}", parts[0]):
            return False
        return int(parts[0]) in (int(number[1]) // CHUNK, int(number[1]) // CHUNK * CHUNK)

    return all(map(fits, files))


def _named(files: list[Path], names: Sequence[str], origin: str) -> Folder:
    classes = sorted(set(names), key=lambda n: (not n.isdecimal(), int(n) if n.isdecimal() else 0, n))
    place = {c: i for i, c in enumerate(classes)}
    return Folder(files, np.array([place[n] for n in names], dtype=np.int64), classes, origin)


def _table(root: Path, files: list[Path]) -> Folder:
    table = root / "labels.csv"
    with open(table, newline="", encoding="utf-8-sig") as handle:
        lines = [(k, r) for k, r in enumerate(csv.reader(handle), 1) if any(c.strip() for c in r)]
    there, named, lost, width = {p.relative_to(root).as_posix() for p in files}, {}, [], 2
    if lines and Path(lines[0][1][0]).suffix.lower() not in SUFFIXES:  # a header
        width, lines = max(2, len(lines[0][1])), lines[1:]
    for k, row in lines:
        if not 2 <= len(row) <= width or not row[1].strip():
            raise ValueError(f"{table}, line {k}: got {row}, expected file,label; quote a label with commas")
        file = row[0].strip().replace("\\", "/").removeprefix("./")
        if file not in there:
            lost.append(file)
        elif named.setdefault(file, row[1]) != row[1]:
            raise ValueError(f"{table}, line {k}: got the label {row[1]!r} for {file}, which is {named[file]!r} further up; expected one label each")
    missing = [p for p in files if p.relative_to(root).as_posix() not in named]
    if missing:
        raise ValueError(f"{table} has no label for {missing[0].relative_to(root)} ({len(missing)} are missing); expected lines file,label")
    more = f" ({len(lost)} of its rows name no picture that is there, first {lost[0]})" if lost else ""
    return _named(files, [named[p.relative_to(root).as_posix()] for p in files], f"labels.csv{more}")


def _numbered(root: Path, files: list[Path]) -> Folder:
    """``dataset.json``: {"labels": [[file, class number], ...]}, or null for none."""
    path = root / "dataset.json"
    try:
        rows = json.loads(path.read_text()).get("labels")
        pairs = None if rows is None else {str(Path(file).as_posix()): number for file, number in rows}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ValueError(f'{path} is not readable ({error}), expected {{"labels": [[file, class number], ...]}}; mend or remove it') from None
    if pairs is None:
        return Folder(files, None, [], "dataset.json has no labels")
    names = [p.relative_to(root).as_posix() for p in files]
    lacking, absent = [n for n in names if n not in pairs], sorted(set(pairs) - set(names))
    if lacking or absent or len(pairs) < len(rows):
        what = f"no label for {lacking[0]}" if lacking else f"a label for {absent[0]}, which is not there" if absent else "two labels for one file"
        raise ValueError(f"{path} has {what}, expected one for each of {len(names)} pictures; make it again")
    labels = class_numbers([pairs[n] for n in names], str(path), len(names))
    there = np.unique(labels[labels >= 0])
    return Folder(files, np.where(labels < 0, -1, np.searchsorted(there, labels)), [str(i) for i in there], "dataset.json")


def _manifest(root: Path) -> dict[str, Any] | None:
    """What `studio generate` pinned of a set, None for a folder that is none of its own."""
    try:
        pinned = json.loads((root / "manifest.json").read_text())["pinned"]
        return pinned if isinstance(pinned["num"], int) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _generated(root: Path, pinned: dict[str, Any]) -> Folder:
    """The samples of a set, with the class that their recipes tell."""
    from studio.recipes import read_recipe

    files = sorted(root.glob("[0-9]*/[0-9]*.png"), key=lambda p: int(p.stem))
    if len(files) != pinned["num"]:
        raise ValueError(f"{root} holds {len(files)} of {pinned['num']} samples; run the same studio generate again until it is complete")
    recipes = [read_recipe(p) for p in files]
    told = {r["label"]: str(r.get("class", r["label"])) for r in recipes if isinstance(r.get("label"), int) and r["label"] >= 0}
    if not told:
        return Folder(files, None, [], "samples of studio generate without classes")
    order = sorted(told)
    labels = np.array([order.index(r["label"]) if r.get("label") in told else -1 for r in recipes], dtype=np.int64)
    return Folder(files, labels, [told[k] for k in order], "the recipes of its samples")
