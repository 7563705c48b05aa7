"""A folder of pictures, whose classes `studio.data.folders` finds.

Pictures are decoded once, in parallel, into a uint8 cache that is keyed by every file's name, size and time, and by how they are read; later runs map it from disk.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from studio.data import notes
from studio.data.arrays import Data, content_hash, from_arrays, split
from studio.data.colour import MODES, ORIENTATION, background_of, flattened, in_srgb, upright
from studio.data.depth import BITS, UNCLEAR, Misfit, Reading, Span, eight_bits, is_deep, key_alpha, reading_of, span, unclear, values
from studio.data.folders import SUFFIXES, listing
from studio.data.kept import Decoded, Entry, cache_path, cached, keep

DECODER = 2  # the version of what `decode` makes of a file; 1 knew no EXIF, transparency, depth and profiles
MAX_PIXELS = 64_000_000


def images(
    *,
    path: str,
    size: int | None = None,
    channels: int | None = None,
    background: str | int | tuple[int, ...] = "white",
    bits: int | None = None,
    frames: Literal["first", "all"] = "first",
    held_out: float = 0.05,
    strict: bool = False,
    workers: int = 2,
    cache: bool = True,
) -> Data:
    """(C, H, W) pictures from a folder. ``size`` resizes the shorter side and crops the centre square; ``channels`` (1, 3, 4) converts.

    ``background`` stands behind what is transparent, unless four channels are asked for; ``bits`` (8, 10, 12, 14, 16) is the depth of files with more than eight, by default
    the smallest that holds the greatest number of them all; ``frames``: all pages of a TIFF and frames of an animation, or the first. Without size and channels all
    pictures must agree. A file that does not decode is skipped and told, as is a class without any that does; both are errors if ``strict``. Raises ``ValueError``.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"got image folder {root}, which does not exist or is not a folder; check the path")
    if channels not in (None, *MODES):
        raise ValueError(f"got data.channels={channels}, expected 1, 3 or 4")
    if bits not in (None, *BITS):
        raise ValueError(f"got data.bits={bits}, expected one of {', '.join(map(str, BITS))}")
    behind = background_of(background)
    files, labels, classes, origin = listing(root)
    store = cache_path(root, files, (DECODER, size, channels, behind, bits, frames))
    found = cached(store) if cache else None
    if found is None:
        found = _decode(root, files, size, channels, strict, workers, Reading(behind, bits), frames == "all")
        if cache:
            keep(store, found)
    if found.failed and strict:
        raise ValueError(f"{len(found.failed)} pictures of {root} do not decode, first {next(iter(found.failed))}; mend them or leave out strict")
    where = {f: i for i, f in enumerate(files)}
    file_of = np.array([where[found.entries[k][0]] for k in found.kept])
    numbers = None if labels is None else labels[file_of]
    chosen, left, lost = _present(numbers, classes)
    parts = None
    if frames == "all":  # pages of one file are alike: all of them are held out, or none
        aside = split(len(files), held_out)[1]
        held = np.isin(file_of, aside)
        parts = (np.flatnonzero(~held), np.flatnonzero(held)) if not held.all() else None
    data = from_arrays(
        root.name,
        found.values,
        chosen,
        left,
        held_out=held_out,
        task="image",
        codec={"name": "pixels"},
        skipped=len(found.failed),
        parts=parts,
        read_from=origin,
    )
    if lost:  # content is told by the numbers that the folders have, whichever of them can be read
        data = replace(data, hash=content_hash(found.values, numbers, np.zeros(0)))  # type: ignore[arg-type]
    told = [*notes.of_files(root, SUFFIXES), *notes.of_failed(root, found.failed, lost), *found.notes]
    beside = {notes.LEFT_OUT: notes.table(root, found.failed)} if found.failed else {}
    return replace(data, notes=tuple(told), beside=beside, decoder=DECODER, background=behind, bits=found.reading.bits)


def _present(numbers: np.ndarray | None, classes: list[str]) -> tuple[np.ndarray | None, list[str], list[str]]:
    """Class numbers and names without the classes of which nothing could be read, and those."""
    if numbers is None:
        return None, classes, []
    there = np.unique(numbers[numbers >= 0])
    lost = [c for i, c in enumerate(classes) if i not in there]
    return np.where(numbers < 0, -1, np.searchsorted(there, numbers)).astype(np.int64), [classes[i] for i in there], lost


def survey(files: Sequence[Path], reading: Reading, workers: int = 2, *, every: bool = False) -> tuple[Reading, list[int], list[Span]]:
    """What must be known of all files before any is decoded: the reading for all of them, how many pictures each gives (0: it cannot be opened), and the
    `Span` of every deep one: of the first of each file or, with ``every``, all. Raises `Misfit` for a file whose numbers are no picture's."""

    def look(file: Path) -> tuple[int, list[Span]]:
        try:
            with _open(file) as handle:
                count, deep = getattr(handle, "n_frames", 1) if every else 1, is_deep(handle)
            return count, [span(_values(file, k)) for k in range(count)] if deep else []
        except (Misfit, TooLarge):
            raise
        except Exception:  # it will fail again when it is decoded, and is told then
            return 0, []

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        seen = list(pool.map(look, files))
    whole = reading_of([s for _, some in seen for s in some], reading)
    above = max(((s.top, file, s) for file, (_, some) in zip(files, seen) for s in some if s.floats), key=lambda found: found[0], default=None)
    if above is not None and any(unclear(s, reading.bits, whole.unit) for _, some in seen for s in some):
        raise Misfit(f"{above[1]} {UNCLEAR.format(top=above[0])}")
    return whole, [count for count, _ in seen], [s for _, some in seen for s in some]


def _decode(
    root: Path, files: list[Path], size: int | None, channels: int | None, strict: bool, workers: int, reading: Reading, every: bool
) -> Decoded:
    """All entries that decode, and what there is to tell."""
    reading, counts, spans = survey(files, reading, workers, every=every)
    entries: list[Entry] = [(f, k) for f, count in zip(files, counts) for k in range(max(1, count))]
    told: list[dict[str, str]] = [{} for _ in entries]

    def one(i: int) -> np.ndarray | Exception:
        try:
            return decode(entries[i][0], size, channels, reading, entries[i][1], told[i])
        except (TooLarge, Misfit):
            raise
        except Exception as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        decoded = list(pool.map(one, range(len(entries))))
    kept = [i for i, d in enumerate(decoded) if isinstance(d, np.ndarray)]
    failed = {_name(e): str(d) or type(d).__name__ for e, d in zip(entries, decoded) if not isinstance(d, np.ndarray)}
    if failed and (strict or not kept):
        first, why = next(iter(failed.items()))
        raise ValueError(f"{first} does not decode ({why}); {len(failed)} of {len(entries)} pictures do not; mend or remove them")
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i in kept:
        shapes.setdefault(decoded[i].shape, []).append(i)  # type: ignore[union-attr]
    if len(shapes) > 1:
        (a, some), (b, few) = sorted(shapes.items(), key=lambda kv: -len(kv[1]))[:2]
        raise ValueError(
            f"{root} mixes pictures of (C, H, W) {a} ({len(some)}, e.g. {_short(entries[some[0]])}) and {b} ({len(few)}, e.g. {_short(entries[few[0]])}); "
            "set data.size=N to resize and data.channels=1|3 to convert"
        )
    those = [(_short(entries[i]), told[i]) for i in kept]
    lines = [*notes.of_depth(spans, reading), *([] if every else notes.of_frames(those)), *notes.of_pictures(those, reading.background)]
    return Decoded(np.stack([decoded[i] for i in kept]), np.array(kept, dtype=np.int64), entries, reading, failed, tuple(lines))  # type: ignore[misc]


def _name(entry: Entry) -> str:
    return str(entry[0]) + (f" (picture {entry[1] + 1})" if entry[1] else "")


def _short(entry: Entry) -> str:
    return _name((Path(entry[0].name), entry[1]))


class TooLarge(ValueError):
    """A picture with more pixels than is reasonable to decode."""


def _open(file: str | Path | Image.Image, frame: int = 0) -> Image.Image:
    if isinstance(file, Image.Image):
        return file.copy()
    try:
        picture = Image.open(file)
    except Image.DecompressionBombError as error:  # Pillow looks at the size before we can
        raise TooLarge(f"{file} has too many pixels ({error}), expected at most {MAX_PIXELS:,}; scale it down first") from None
    if picture.width * picture.height > MAX_PIXELS:
        picture.close()
        raise TooLarge(f"{file} has {picture.width}×{picture.height} pixels, expected at most {MAX_PIXELS:,}; scale it down first")
    if frame:
        picture.seek(frame)
    if getattr(picture, "tag_v2", {}).get(ORIENTATION, 1) > 4:
        picture.filename = ""  # Pillow maps such files into memory with their sides exchanged, unless it knows no name
    return picture


def _values(file: str | Path | Image.Image, frame: int) -> np.ndarray:
    opened: list[Image.Image] = []

    def reopen() -> Image.Image:
        opened.append(_open(file, frame))
        return opened[-1]

    try:
        return values(reopen)
    except Misfit as error:
        raise Misfit(f"{file} {error}") from None
    finally:
        for picture in opened:
            picture.close()


def decode(
    file: str | Path,
    size: int | None = None,
    channels: int | None = None,
    reading: Reading | None = None,
    frame: int = 0,
    told: dict[str, str] | None = None,
) -> np.ndarray:
    """One picture as uint8 (C, H, W), as it is seen: upright, in sRGB, in front of the background. Grey stays grey, all else is RGB, unless ``channels`` says otherwise.

    ``told`` gets what was done to it and what of the file was left out. Raises `TooLarge` above 64 million pixels, and `Misfit` for numbers that are no picture's.
    """
    reading, told = reading or Reading(), told if told is not None else {}
    with _open(file, frame) as handle:
        if frame == 0 and (count := getattr(handle, "n_frames", 1)) > 1:
            told["frames"] = str(count)
        if is_deep(handle):
            picture = _shallow(handle, file, frame, reading)
        else:
            handle.load()
            picture = handle
        picture = flattened(in_srgb(upright(picture, told), told), channels, reading.background, told)
    if size is not None:
        scale = size / min(picture.size)
        picture = picture.resize((max(size, round(picture.width * scale)), max(size, round(picture.height * scale))), Image.Resampling.LANCZOS)
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    array = np.asarray(picture)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def _shallow(handle: Image.Image, file: str | Path | Image.Image, frame: int, reading: Reading) -> Image.Image:
    """A deep picture with eight bits a channel, and what its file tells of its colours and how it stands."""
    array = _values(file, frame)
    try:
        made = eight_bits(array, reading)
    except Misfit as error:
        raise Misfit(f"{file} {error}") from None
    if getattr(handle, "tag_v2", {}).get(262) == 0:  # TIFF: white is zero, which Pillow only turns at eight bits
        made = 255 - made
    key = handle.info.get("transparency")
    alpha = None if key is None else key_alpha(array, key)
    if alpha is not None:
        made = np.concatenate([made[..., None] if made.ndim == 2 else made, alpha[..., None]], -1)
    picture = Image.fromarray(made)
    handle.load()
    picture.info = {k: v for k, v in handle.info.items() if k != "transparency"}
    picture.getexif().update(handle.getexif())
    return picture
