"""Pictures that no job of the index made, taken into it: what `studio sample`, `generate` and `translate`
wrote below the folder of outputs.

A folder is read when it is new or has changed. Each of its PNGs that says how it was made is an item, all of
a folder one job of the kind ``found``. A sheet of many samples is one only where the folder has, and had, no
file for each of them: then it is the drawing of ``samples.npz``. What was made elsewhere is left alone.
"""

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.jobs.artefacts import folder_of
from studio.jobs.index import Index
from studio.jobs.records import Item, Job, Wanted
from studio.runtime.npz import npz_array
from studio.runtime.recipes import read_recipe
from studio.runtime.strict_json import to_json

KIND = "found"
ARRAYS = "samples.npz"
FRESH = 2_000_000_000  # nanoseconds in which a folder may change twice and keep its time


@dataclass(frozen=True)
class Adopted:
    """Items that are new in the index, and the folders that were read."""

    items: int
    folders: int


def adopt(index: Index, out: str | Path) -> Adopted:
    """Take what lies below ``out`` into the index. Asked again, nothing is added; a file that was replaced is
    a new item, and one that is not there any more is gone."""
    root = Path(out).resolve()
    seen, theirs = index.seen(), {_inside(root, f) for f in index.folders(beside=KIND)}
    items = folders = 0
    for folder, mtime in _folders(root, theirs):
        if seen.get(folder) == mtime:
            continue
        items += _read(index, root, folder)
        folders += 1
        if time.time_ns() - mtime > FRESH:
            index.see(folder, mtime)
    return Adopted(items, folders)


def _folders(root: Path, theirs: set[str]) -> Iterator[tuple[str, int]]:
    """Folders as seen from ``root`` and their times, but those of jobs, hidden ones and links."""
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            mtime = (root / folder).stat().st_mtime_ns
            with os.scandir(root / folder) as entries:
                inside = sorted(
                    f"{folder}/{e.name}".lstrip("/")
                    for e in entries
                    if not e.name.startswith(".") and _tellable(e.name) and e.is_dir(follow_symlinks=False)
                )
        except OSError:  # removed meanwhile, or not ours to read
            continue
        todo += [name for name in reversed(inside) if name not in theirs]
        yield folder, mtime


def _read(index: Index, root: Path, folder: str) -> int:
    """Bring the items of one folder up to date; how many are new."""
    known = [i for i in index.items(Wanted(folder=folder, binned=None, gone=None)) if folder_of(i) == folder]
    name = f"{KIND}-{_digest(folder)}"
    others = {i.file for i in known if i.job != name}
    ours = {i.id: i for i in known if i.job == name}
    there = {i.id: i for i in _items(root, folder, name, known) if i.file not in others}
    new = [i for k, i in there.items() if k not in ours]
    if new and (job := index.job(name)) is None:
        model = Counter(i.model for i in new).most_common(1)[0][0]
        began = min(i.created for i in new)
        index.add(Job(name, KIND, model, {}, began, "done", 0.0, "", len(new), len(new), folder))
    elif new and job is not None:
        count = len(ours | there)
        index.say(Job(name, KIND, job.model, job.spec, job.created, "done", 0.0, "", count, count, folder))
    index.keep(new)
    index.mark([k for k, i in ours.items() if i.gone and k in there], gone=False, binned=False)
    index.mark([k for k, i in ours.items() if not i.gone and k not in there], gone=True)
    return len(new)


def _items(root: Path, folder: str, job: str, known: list[Item]) -> Iterator[Item]:
    """What the pictures of a folder say of themselves."""
    told: list[tuple[str, float, dict[str, Any]]] = []
    with os.scandir(root / folder) as entries:
        pictures = [
            (e.path, e.name, e.stat(follow_symlinks=False).st_mtime)
            for e in entries
            if e.name.lower().endswith(".png")
            and not e.name.startswith(".")
            and _tellable(e.name)
            and e.is_file(follow_symlinks=False)
        ]
    for path, file, mtime in sorted(pictures):
        try:
            recipe = read_recipe(path)
        except (ValueError, OSError):
            continue
        if "seed" in recipe and "model" in recipe and _tellable(recipe["model"] + _class(recipe)):
            told.append((file, mtime, recipe))
    alone = [t for t in told if not isinstance(t[2]["seed"], list)]
    had = any(i.seed is not None for i in known)
    task = _task(root / folder / ARRAYS)
    for file, mtime, recipe in alone if alone or had else told:
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", file.rpartition(".")[0])[:40]
        name = f"{_digest(folder)}-{stem}-{_digest(file + to_json(recipe))[:6]}"
        place = f"{folder}/{file}".lstrip("/")
        # of a minute's files the order of their names counts
        yield Item(name, job, place, task, recipe["model"], _class(recipe), _seed(recipe), mtime // 60 * 60)


def _task(arrays: Path) -> str:
    """What samples are, as the file of all of them says."""
    if not arrays.is_file() or arrays.is_symlink():
        return "image"
    try:
        return str(npz_array(arrays, "task"))[:40]
    except ValueError:
        return ""


def _class(recipe: Mapping[str, Any]) -> str:
    """The class of a recipe, or of all of a sheet, as text."""
    found = recipe.get("class")
    every = {str(c) for c in (found if isinstance(found, list) else [found]) if c is not None}
    return every.pop() if len(every) == 1 else ""


def _seed(recipe: Mapping[str, Any]) -> int | None:
    return None if isinstance(recipe["seed"], list) else int(recipe["seed"])


def _inside(root: Path, folder: str) -> str:
    """The folder of a job as seen from the folder of outputs."""
    path = Path(folder)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _tellable(text: str) -> bool:
    """Whether it is text: names of files may be any bytes, and JSON may hold half of a character."""
    return not any("\ud800" <= c <= "\udfff" for c in text)
