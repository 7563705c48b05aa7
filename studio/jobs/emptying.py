"""The bin: what is in it, what emptying it would remove, and the emptying. Only here files are removed, each
a plain file below the folder of outputs that no other item needs."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from studio.jobs.artefacts import folder_of, path_of
from studio.jobs.found import ARRAYS
from studio.jobs.index import Index
from studio.jobs.records import UNFINISHED, Item, Wanted

STEMS = ("samples", "sheet")  # of what all samples of a folder are kept and listed in
RECIPES = "recipe.json"


@dataclass(frozen=True)
class Bin:
    """``items`` that go and their ``files``, of which ``beside`` are what drawings were made of; ``bytes`` of
    all; ``kept``: why others stay, a sentence each."""

    items: tuple[Item, ...] = ()
    files: tuple[Path, ...] = ()
    beside: tuple[Path, ...] = ()
    bytes: int = 0
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.items:
            words = "nothing in the bin can be removed" if self.kept else "the bin is empty"
        else:
            words = f"{_count(self.items, 'item')}: {_count(self.files, 'file')}, {size_of(self.bytes)}"
        if self.beside:
            names = ", ".join(sorted({p.name for p in self.beside}))
            words += f"; with drawings also what they were made of ({names})"
        return "; ".join([words, *self.kept])


def look(index: Index, out: str | Path) -> Bin:
    """What `empty` would remove."""
    root = Path(out).resolve()
    binned = index.items(Wanted(binned=True))
    shown = index.items() if binned else []
    needed, places = {i.file for i in shown}, Counter(folder_of(i) for i in [*shown, *binned])
    at_work = {job.id for job in index.jobs(UNFINISHED)} if binned else set()
    items: list[Item] = []
    files: dict[Path, int] = {}
    beside: dict[Path, int] = {}
    waiting, refused = 0, 0
    for item in binned:
        try:
            path = path_of(root, item.file)
        except ValueError:
            refused += 1
            continue
        if item.job in at_work:
            waiting += 1
            continue
        items.append(item)
        if item.file not in needed:
            files |= _there(path)
        if item.seed is None and places[folder_of(item)] == 1:
            for name in _made_of(path.parent):
                beside |= _there(path.with_name(name))
    kept = [f"{_count(waiting, 'item')} of running jobs stay until these have ended"] if waiting else []
    kept += [f"{_count(refused, 'item')} stay: not below {root}, or through a link"] if refused else []
    every = files | beside
    return Bin(tuple(items), tuple(every), tuple(beside), sum(every.values()), tuple(kept))


def empty(index: Index, out: str | Path) -> Bin:
    """Remove for good what `look` tells, and say so in the index; returns what went. A file that cannot be
    removed keeps its item in the bin."""
    root, found = Path(out).resolve(), look(index, out)
    left: dict[Path, str] = {}
    for path in found.files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            left[path] = error.strerror or str(error)
    gone = tuple(i for i in found.items if path_of(root, i.file) not in left)
    index.mark([i.id for i in gone], gone=True)
    if not left:
        return found
    there = sum(path.lstat().st_size for path in left if path.exists())
    return replace(
        found,
        items=gone,
        files=tuple(p for p in found.files if p not in left),
        beside=tuple(p for p in found.beside if p not in left),
        bytes=found.bytes - there,
        kept=(*found.kept, f"{_count(left, 'file')} could not be removed ({next(iter(left.values()))})"),
    )


def _there(path: Path) -> dict[Path, int]:
    """A plain file and its bytes; nothing for what is none."""
    plain = path.is_file() and not path.is_symlink()
    return {path: path.stat().st_size} if plain else {}


def _made_of(folder: Path) -> list[str]:
    """What a drawing alone in its folder was made of: ``samples.npz``, and what lists those samples."""
    if not (folder / ARRAYS).is_file():
        return []
    return sorted(p.name for p in folder.iterdir() if p.name == RECIPES or p.name.partition(".")[0] in STEMS)


def _count(things: object, name: str) -> str:
    count = things if isinstance(things, int) else len(things)  # type: ignore[arg-type]
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def size_of(count: int) -> str:
    """Bytes for the eye."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
