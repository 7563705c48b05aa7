"""What a file of molecules came to, kept in the user's cache by the file's content."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studio.chem.reading import Rejected
from studio.runtime.files import used, write_bytes


@dataclass(frozen=True, eq=False)
class Collection:
    """``smiles`` canonical, without stereochemistry; ``graphs`` (N, n, n + 1) uint8 over the atom types
    ``atoms``; ``numeric`` (N, K) float64, NaN = missing; ``extra`` a further column's text, if one was asked
    for; ``rejected`` rows and why; ``salts``: rows cut to their largest fragment; ``duplicates``: rows whose
    graph was there before, the first one is kept; ``unread``: cells that are no numbers, in rows that are
    kept."""

    smiles: tuple[str, ...]
    graphs: np.ndarray
    atoms: tuple[str, ...]
    numeric: np.ndarray
    extra: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    salts: int
    duplicates: int
    unread: tuple[Rejected, ...] = ()

    def __len__(self) -> int:
        return len(self.smiles)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user is told about the rows that did not come in as they stood."""
        found = (
            (len(self.rejected), "rows were left out, first line {}: {}"),
            (self.salts, "rows were cut to their largest fragment"),
            (self.duplicates, "rows are duplicates and were left out"),
        )
        first = min(self.rejected, key=lambda r: r.line, default=None)
        told = [
            f"{n:,} {text.format(first and first.line, first and first.reason)}" for n, text in found if n
        ]
        if self.unread:
            one = self.unread[0]
            told.append(
                f"{len(self.unread):,} cells are no numbers and count as missing, their molecules are "
                f"kept, first line {one.line}: {one.reason}"
            )
        return tuple(told)


def digest(path: Path, options: Sequence[object]) -> str:
    return hashlib.sha256(path.read_bytes() + json.dumps(options).encode()).hexdigest()[:24]


def write(store: Path, found: Collection) -> None:
    """Best effort: a cache that cannot be written costs time, never the run."""
    notes = {k: getattr(found, k) for k in ("smiles", "atoms", "extra", "salts", "duplicates")}
    notes |= {k: [[r.line, r.text, r.reason] for r in getattr(found, k)] for k in ("rejected", "unread")}
    tables: dict[str, Any] = {
        "graphs": found.graphs,
        "numeric": found.numeric,
        "notes": np.frombuffer(json.dumps(notes).encode(), np.uint8),
    }
    with contextlib.suppress(OSError):
        write_bytes(store, lambda handle: np.savez_compressed(handle, **tables))


def read(store: Path) -> Collection | None:
    """None for what is not there or damaged: it is made again."""
    try:
        with np.load(store, allow_pickle=False) as file:
            values, numeric, notes = file["graphs"], file["numeric"], json.loads(file["notes"].tobytes())
        rejected, unread = (tuple(Rejected(*r) for r in notes[k]) for k in ("rejected", "unread"))
        texts = (tuple(notes[k]) for k in ("smiles", "atoms", "extra"))
        smiles, atoms, extra = texts
        used(store)
        return Collection(
            smiles, values, atoms, numeric, extra, rejected, notes["salts"], notes["duplicates"], unread
        )
    except Exception:  # whatever a damaged file makes numpy, zipfile or json raise
        return None
