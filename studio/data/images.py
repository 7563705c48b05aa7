"""A folder of pictures, whose classes `studio.data.folders` finds.

Pictures are decoded once, in parallel, into a uint8 cache that is keyed by every file's name, size and time,
and by how they are read; later runs map it from disk.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from studio.data import notes, tables
from studio.data.arrays import Data, content_hash, from_arrays
from studio.data.colour import MODES, background_of
from studio.data.decode import decode, numbers_in, open_file
from studio.data.depth import (
    BITS,
    UNCLEAR,
    Misfit,
    Reading,
    Span,
    is_deep,
    reading_of,
    span,
    unclear,
)
from studio.data.folders import listing
from studio.data.kept import Decoded, Entry, cache_path, cached, keep
from studio.data.parts import HELD_OUT, parted
from studio.data.sides import as_size, sides_of
from studio.runtime.progress import counted

DECODER = 2  # the version of what `decode` makes of a file; 1 knew no EXIF, transparency, depth and profiles


def images(
    *,
    path: str,
    size: int | tuple[int, ...] | None = None,
    channels: int | None = None,
    crop: Literal["centre", "none"] = "centre",
    background: str | int | tuple[int, ...] = "white",
    bits: int | None = None,
    frames: Literal["first", "all"] = "first",
    held_out: float | None = None,
    stratify: bool = True,
    strict: bool = False,
    workers: int = 2,
    cache: bool = True,
    captions: str | None = None,
) -> Data:
    """(C, H, W) pictures from a folder. ``size``, the side of a square or height and width, scales them to
    cover both sides and crops the middle or, with ``crop`` none, to fit in and fills the rest up with
    ``background``; ``channels`` (1, 3, 4) converts.

    ``background`` stands behind what is transparent, unless four channels are asked for; ``bits`` (8, 10, 12,
    14, 16) is the depth of files with more than eight, by default the smallest that holds the greatest number
    of them all; ``frames``: all pages of a TIFF and frames of an animation, or the first. Without size and
    channels all pictures must agree. ``held_out``: the share that is kept from training, of each class (of
    all together without ``stratify``); by default what lies in ``val/`` beside ``train/``, or 0.05.
    ``captions``: the column of the folder's table (labels.csv, metadata.csv, ...) that holds texts, which are
    the condition ``caption``. A file that does not decode or is too large is skipped and told, as is a class
    without any that does; both are errors if ``strict``. Raises ``ValueError``.
    """
    root, sides = Path(path).expanduser(), None if size is None else sides_of(size)
    if not root.is_dir():
        raise ValueError(f"got image folder {root}, which does not exist or is not a folder; check the path")
    if channels not in (None, *MODES):
        raise ValueError(f"got data.channels={channels}, expected 1, 3 or 4")
    if bits not in (None, *BITS):
        raise ValueError(f"got data.bits={bits}, expected one of {', '.join(map(str, BITS))}")
    behind = background_of(background)
    folder = listing(root)
    files, labels, classes = folder.files, folder.labels, folder.classes
    if folder.held is not None and held_out is not None:
        train = files[int(np.argmin(folder.held))].relative_to(root).parts[0]
        raise ValueError(
            f"got data.held_out={held_out} for {root}, which has a part of its own for that; leave it "
            f"out, or set data.path={root / train}"
        )
    whole, key = crop == "none" and sides is not None, None if sides is None else as_size(sides)
    store = cache_path(
        root, files, (DECODER, key, channels, behind, bits, frames, *(["whole"] if whole else []))
    )
    found = cached(store) if cache else None
    if found is None:
        found = _decode(
            root, files, sides, channels, strict, workers, Reading(behind, bits), frames == "all", whole
        )
        note = keep(store, found) if cache else None
        if note is not None:
            found = replace(found, notes=(*found.notes, note))
    if found.failed and strict:
        raise ValueError(
            f"{len(found.failed)} pictures of {root} do not decode, first {next(iter(found.failed))}; "
            "mend them or leave out strict"
        )
    where = {f: i for i, f in enumerate(files)}
    file_of = np.array([where[found.entries[k][0]] for k in found.kept])
    numbers = None if labels is None else labels[file_of]
    chosen, left, lost = _present(numbers, classes)
    if folder.held is not None:
        held = folder.held[file_of]
        if held.all():
            raise ValueError(
                f"no picture of {root} to train on decodes, first {next(iter(found.failed))}; mend them"
            )
        parts = (np.flatnonzero(~held), np.flatnonzero(held))
    elif frames == "all":  # pages of one file are alike: all of them are held out, or none
        held = np.isin(file_of, parted(len(files), labels, held_out, stratify)[1])
        parts = (
            (np.flatnonzero(~held), np.flatnonzero(held))
            if not held.all()
            else parted(len(file_of), None, 0.0)
        )
    else:
        parts = parted(len(file_of), chosen, held_out, stratify)
    asked: dict[str, Any] = {}
    if captions is not None:
        said = _captions(root, files, captions)
        asked["caption"] = ("tokens", [said[i] for i in file_of])
    data = from_arrays(
        root.name,
        found.values,
        chosen,
        left,
        held_out=HELD_OUT,
        task="image",
        codec={"name": "pixels"},
        skipped=len(found.failed),
        parts=parts,
        read_from=folder.origin,
        conditions=asked,
    )
    if lost:  # content is told by the numbers that the folders have, whichever of them can be read
        data = replace(data, hash=content_hash(found.values, numbers, np.zeros(0)))  # type: ignore[arg-type]
    unread = {str(path): why for path, why in folder.left.items()} | found.failed
    told = [
        *folder.notes,
        *notes.of_left(root, folder.left),
        *notes.of_failed(root, found.failed, lost),
        *found.notes,
    ]
    if unread and not found.failed:
        told[len(folder.notes)] += (
            f"; {'it stands' if len(unread) == 1 else 'all of them stand'} in {notes.LEFT_OUT}"
        )
    beside = {notes.LEFT_OUT: notes.table(root, unread)} if unread else {}
    return replace(
        data,
        notes=tuple(told),
        beside=beside,
        decoder=DECODER,
        background=behind,
        bits=found.reading.bits,
        stratified=stratify,
    )


def _captions(root: Path, files: Sequence[Path], column: str) -> list[str]:
    """A text for each file, "" where the table has none. Raises ``ValueError`` for a folder without a table,
    and for a column that is not there or names none of the files."""
    there = tables.find(root)
    if not there:
        raise ValueError(
            f"got data.captions={column} for {root}, which has no table, expected one of "
            f"{', '.join(tables.NAMES)}"
        )
    names = [f.relative_to(root).as_posix() for f in files]
    said = tables.column(there[0], names, column)
    if not any(text.strip() for text in said.values()):
        raise ValueError(f"{there[0]} has no text for a picture of {root} in its column {column}")
    return [said.get(name, "") for name in names]


def _present(
    numbers: np.ndarray | None, classes: list[str]
) -> tuple[np.ndarray | None, list[str], list[str]]:
    """Class numbers and names without the classes of which nothing could be read, and those."""
    if numbers is None:
        return None, classes, []
    there = np.unique(numbers[numbers >= 0])
    lost = [c for i, c in enumerate(classes) if i not in there]
    return (
        np.where(numbers < 0, -1, np.searchsorted(there, numbers)).astype(np.int64),
        [classes[i] for i in there],
        lost,
    )


def survey(
    files: Sequence[Path], reading: Reading, workers: int = 2, *, every: bool = False
) -> tuple[Reading, list[int], list[Span]]:
    """What must be known of all files before any is decoded: the reading for all of them, how many pictures
    each gives (0: it cannot be opened), and the `Span` of every deep one: of the first of each file or, with
    ``every``, all. Raises `Misfit` for a file whose numbers are no picture's."""

    def look(file: Path) -> tuple[int, list[Span]]:
        try:
            with open_file(file) as handle:
                count, deep = getattr(handle, "n_frames", 1) if every else 1, is_deep(handle)
            return count, [span(numbers_in(file, k)) for k in range(count)] if deep else []
        except Misfit:
            raise
        except Exception:  # it will fail again when it is decoded, and is told then
            return 0, []

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        seen = list(pool.map(look, files))
    whole = reading_of([s for _, some in seen for s in some], reading)
    above = max(
        ((s.top, file, s) for file, (_, some) in zip(files, seen) for s in some if s.floats),
        key=lambda found: found[0],
        default=None,
    )
    if above is not None and any(unclear(s, reading.bits, whole.unit) for _, some in seen for s in some):
        raise Misfit(f"{above[1]} {UNCLEAR.format(top=above[0])}")
    return whole, [count for count, _ in seen], [s for _, some in seen for s in some]


def _decode(
    root: Path,
    files: list[Path],
    sides: tuple[int, int] | None,
    channels: int | None,
    strict: bool,
    workers: int,
    reading: Reading,
    every: bool,
    whole: bool,
) -> Decoded:
    """All entries that decode, and what there is to tell."""
    reading, counts, spans = survey(files, reading, workers, every=every)
    entries: list[Entry] = [(f, k) for f, count in zip(files, counts) for k in range(max(1, count))]
    told: list[dict[str, str]] = [{} for _ in entries]

    def one(i: int) -> np.ndarray | Exception:
        try:
            return decode(entries[i][0], sides, channels, reading, entries[i][1], told[i], whole)
        except Misfit:
            raise
        except Exception as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        decoded = list(
            counted(pool.map(one, range(len(entries))), len(entries), f"decoding the pictures of {root.name}")
        )
    kept = [i for i, d in enumerate(decoded) if isinstance(d, np.ndarray)]
    good = [d for d in decoded if isinstance(d, np.ndarray)]
    failed = {
        _name(e): str(d) or type(d).__name__
        for e, d in zip(entries, decoded)
        if not isinstance(d, np.ndarray)
    }
    if failed and (strict or not kept):
        first, why = next(iter(failed.items()))
        raise ValueError(
            f"{first} does not decode ({why}); {len(failed)} of {len(entries)} pictures do not; mend or "
            "remove them"
        )
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i, picture in zip(kept, good):
        shapes.setdefault(picture.shape, []).append(i)
    if len(shapes) > 1:
        (a, some), (b, few) = sorted(shapes.items(), key=lambda kv: -len(kv[1]))[:2]
        raise ValueError(
            f"{root} mixes pictures of (C, H, W) {a} ({len(some)}, e.g. {_short(entries[some[0]])}) and "
            f"{b} ({len(few)}, e.g. {_short(entries[few[0]])}); "
            "set data.size=N to resize (or [HEIGHT,WIDTH]) and data.channels=1|3 to convert"
        )
    those = [(_short(entries[i]), told[i]) for i in kept]
    lines = [
        *notes.of_depth(spans, reading),
        *([] if every else notes.of_frames(those)),
        *notes.of_pictures(those, reading.background),
    ]
    return Decoded(
        np.stack(good),
        np.array(kept, dtype=np.int64),
        entries,
        reading,
        failed,
        tuple(lines),
    )


def _name(entry: Entry) -> str:
    return str(entry[0]) + (f" (picture {entry[1] + 1})" if entry[1] else "")


def _short(entry: Entry) -> str:
    return _name((Path(entry[0].name), entry[1]))
