"""What lies in the user's cache: decoded pictures, tables of molecules, features of samples. All of it can be
made again; `studio cache` lists it and removes what is old."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.runtime.files import cache_home

KINDS = {  # where each kind lies, and how its files are called: nothing else is ever removed
    "pictures": (".", re.compile(r"([0-9a-f]{24})\.(npy|json)")),
    "molecules": ("molecules", re.compile(r"([0-9a-f]{16,64})\.npz")),
    "features": ("features", re.compile(r"([0-9a-f]{32})\.safetensors")),
}
# of a process that was killed while writing
DRAFT = re.compile(r"\.?[0-9a-f]{16,64}\..*tmp|\.[0-9a-f]{16,64}\..+")
LEFT = 3600  # seconds after which a draft is nobody's any more
UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}


@dataclass(frozen=True)
class Entry:
    """One thing that was kept. ``used``: when it was last written or read, in seconds since 1970."""

    kind: str
    name: str
    files: tuple[Path, ...]
    bytes: int
    used: float


def entries() -> list[Entry]:
    """All there is, least recently used first; drafts of processes that ended are of the kind ``draft``."""
    found: dict[tuple[str, str], list[Path]] = {}
    for kind, (place, pattern) in KINDS.items():
        folder = cache_home() / place
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_symlink() or not path.is_file():
                continue
            match = pattern.fullmatch(path.name)
            if match is not None:
                found.setdefault((kind, match[1]), []).append(path)
            elif DRAFT.fullmatch(path.name):
                found[("draft", path.name)] = [path]
    listed = []
    for (kind, name), paths in found.items():
        stats = [s for p in paths if (s := _stat(p)) is not None]
        if stats:
            listed.append(Entry(kind, name, tuple(paths), sum(s[0] for s in stats), max(s[1] for s in stats)))
    return sorted(listed, key=lambda e: e.used)


def _stat(path: Path) -> tuple[int, float] | None:
    try:
        stat = path.stat()
    except OSError:  # gone meanwhile
        return None
    return stat.st_size, stat.st_mtime


def old(listed: Sequence[Entry], *, days: float, most: int | None = None) -> list[Entry]:
    """Those that were not used for so many days, and of the rest the least recently used until what is left
    has at most ``most`` bytes; drafts that nobody writes any more."""
    now = time.time()
    going = [e for e in listed if now - e.used >= (LEFT if e.kind == "draft" else days * 86400)]
    left = [e for e in listed if e not in going and e.kind != "draft"]
    total = sum(e.bytes for e in left)
    for e in left:
        if most is None or total <= most:
            break
        going.append(e)
        total -= e.bytes
    return going


def remove(going: Sequence[Entry]) -> int:
    """Bytes that were freed. A run that has such a file open keeps what it has."""
    for e in going:
        for path in e.files:
            path.unlink(missing_ok=True)
    return sum(e.bytes for e in going)


def size_of(text: str) -> int:
    """Bytes of ``2GB``, ``500 MB`` or a number. Raises ``ValueError`` for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in UNITS:
        raise ValueError(f"got a size of {text!r}, expected a number with a unit, such as 500MB or 2GB")
    return int(float(match[1]) * UNITS[match[2].upper()])
