"""What lies below a folder of outputs: the index there, where an item's files are, and the words by which
people ask for items."""

from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

from studio.jobs.index import HOME, Index
from studio.jobs.records import Item

USUAL = "outputs"  # the folder of outputs where nobody says another


def indexed(out: str | Path) -> bool:
    """Whether a folder of outputs has an index; asking makes none."""
    return (Path(out) / HOME).is_dir()


def outputs_of(place: str | Path) -> Path:
    """The folder of outputs that a path lies in: the nearest one with an index, or else ``outputs`` here,
    which is the page's where it is told no other."""
    path = Path(place).expanduser().absolute()
    return next((folder for folder in (path, *path.parents) if indexed(folder)), Path(USUAL))


def opened(out: str | Path) -> Index:
    """The index of a folder of outputs. Raises ``ValueError`` where there is no such folder."""
    if not Path(out).is_dir():
        raise ValueError(
            f"got the folder of outputs {out}, which does not exist; try --out and the folder that the page "
            "or studio sample saved to"
        )
    return Index(out)


def path_of(out: Path, file: str) -> Path:
    """Where a file lies that the index names. Raises ``ValueError`` for one that is not below the folder of
    outputs, is reached through a link, or belongs to the index."""
    root, inner = out.resolve(), PurePosixPath(file)
    usual = not inner.is_absolute() and ".." not in inner.parts and inner.parts
    path = root / inner
    if not usual or inner.parts[0] == HOME or path.parent.resolve() != path.parent or path.is_symlink():
        raise ValueError(f"got the file {ascii(file)}, expected one below {root}, not through a link")
    return path


def folder_of(item: Item) -> str:
    """The folder of an item's file, as seen from the folder of outputs; "" for that one."""
    return item.file.rpartition("/")[0]


def checked(index: Index, ids: list[str]) -> list[str]:
    """The ids, each of an item that is there. Raises ``ValueError`` for another."""
    for name in ids:
        if (item := index.item(name)) is None or item.gone:
            raise ValueError(
                f"got item {ascii(name[:60])}, expected the id of one that is there; see studio library"
            )
    return ids


def moment(text: str, *, end: bool = False) -> float | None:
    """A date or a time of this place in seconds since 1970, None for an empty text; ``end``: of a date alone
    when the day is over. Raises ``ValueError`` for what is none."""
    if not (plain := text.strip()):
        return None
    try:
        found = datetime.fromisoformat(plain)
        later = timedelta(days=1) if end and len(plain) <= len("2026-11-30") else timedelta()
        return (found + later).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"got the date {ascii(plain[:40])}, expected one such as 2026-11-30 or 2026-11-30 18:00"
        ) from None


def when(seconds: float) -> str:
    """A time of this place, to the minute."""
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
