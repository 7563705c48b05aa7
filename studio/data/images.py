"""A folder of pictures: the class is the sub-folder, or stands in ``labels.csv`` (file,label).

Pictures are decoded once, in parallel, into a uint8 cache that is keyed by every file's name, size and time; later runs map it from disk.
"""

import csv
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from studio.data.arrays import Data, from_arrays
from studio.files import cache_home

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MAX_PIXELS = 64_000_000
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def images(
    *,
    path: str,
    size: int | None = None,
    channels: int | None = None,
    held_out: float = 0.05,
    strict: bool = False,
    workers: int = 2,
    cache: bool = True,
) -> Data:
    """(C, H, W) pictures from a folder. ``size`` resizes the shorter side and crops the centre square; ``channels`` (1, 3, 4) converts.

    Without them all pictures must agree. A file that does not decode is skipped and counted, or an error if ``strict``. Raises ``ValueError``.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"got image folder {root}, which does not exist or is not a folder; check the path")
    if channels not in (None, *MODES):
        raise ValueError(f"got data.channels={channels}, expected 1, 3 or 4")
    files, labels, classes = listing(root)
    store = _cache_path(root, files, size, channels)
    if cache and store.with_suffix(".npy").exists():
        values, kept = np.load(store.with_suffix(".npy"), mmap_mode="r"), np.load(store.with_suffix(".kept.npy"))
    else:
        values, kept = _decode(root, files, size, channels, strict, workers)
        if cache:
            _write(store, values, kept)
    skipped = len(files) - len(kept)
    if skipped and strict:
        raise ValueError(
            f"{skipped} pictures of {root} do not decode, first {files[sorted(set(range(len(files))) - set(kept.tolist()))[0]]}; mend them or leave out strict"
        )
    chosen = None if labels is None else labels[kept]
    return from_arrays(root.name, values, chosen, classes, held_out=held_out, task="image", codec={"name": "pixels"}, skipped=skipped)


def listing(root: Path) -> tuple[list[Path], np.ndarray | None, list[str]]:
    """Files, class numbers and class names of a folder of pictures. Raises ``ValueError`` for none, for a label that is missing, and for a mixture."""
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise ValueError(f"{root} holds no pictures ({', '.join(sorted(SUFFIXES))}); check the path")
    table = root / "labels.csv"
    if table.is_file():
        with open(table, newline="") as handle:
            rows = [r for r in csv.reader(handle) if len(r) >= 2]
        named = {r[0]: r[1] for r in rows}
        missing = [p for p in files if str(p.relative_to(root)) not in named]
        if missing:
            raise ValueError(f"{table} has no label for {missing[0].relative_to(root)} ({len(missing)} are missing); expected lines file,label")
        names = [named[str(p.relative_to(root))] for p in files]
    elif all(p.parent == root for p in files):
        return files, None, []
    else:
        loose = [p for p in files if p.parent == root]
        if loose:
            raise ValueError(f"{root} holds both folders and loose pictures such as {loose[0].name}; move them into a class folder")
        names = [p.relative_to(root).parts[0] for p in files]
    classes = sorted(set(names), key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n))
    return files, np.array([classes.index(n) for n in names], dtype=np.int64), classes


def _cache_path(root: Path, files: list[Path], size: int | None, channels: int | None) -> Path:
    digest = hashlib.sha256(f"{root.resolve()}|{size}|{channels}".encode())
    for p in files:
        stat = p.stat()
        digest.update(f"{p.relative_to(root)}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return cache_home() / digest.hexdigest()[:24]


def _write(store: Path, values: np.ndarray, kept: np.ndarray) -> None:
    """Best effort: a cache that cannot be written costs time, never the run."""
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        for suffix, array in ((".kept.npy", kept), (".npy", values)):
            draft = store.with_suffix(f".{os.getpid()}.tmp")
            with open(draft, "wb") as handle:
                np.save(handle, array)
            draft.replace(store.with_suffix(suffix))
    except OSError:
        pass


def _decode(root: Path, files: list[Path], size: int | None, channels: int | None, strict: bool, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, H, W) uint8 and the indices of the files that decoded."""

    def one(file: Path) -> np.ndarray | Exception:
        try:
            return decode(file, size, channels)
        except TooLarge:
            raise
        except Exception as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        decoded = list(pool.map(one, files))
    kept = [i for i, d in enumerate(decoded) if isinstance(d, np.ndarray)]
    bad = [(f, d) for f, d in zip(files, decoded) if not isinstance(d, np.ndarray)]
    if bad and (strict or not kept):
        raise ValueError(f"{bad[0][0]} does not decode ({bad[0][1]}); {len(bad)} of {len(files)} pictures do not; mend or remove them")
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i in kept:
        shapes.setdefault(decoded[i].shape, []).append(i)
    if len(shapes) > 1:
        (a, some), (b, few) = sorted(shapes.items(), key=lambda kv: -len(kv[1]))[:2]
        raise ValueError(
            f"{root} mixes pictures of (C, H, W) {a} ({len(some)}, e.g. {files[some[0]].name}) and {b} ({len(few)}, e.g. {files[few[0]].name}); "
            "set data.size=N to resize and data.channels=1|3 to convert"
        )
    return np.stack([decoded[i] for i in kept]), np.array(kept, dtype=np.int64)


class TooLarge(ValueError):
    """A picture with more pixels than is reasonable to decode."""


def _open(file: str | Path) -> Image.Image:
    try:
        return Image.open(file)
    except Image.DecompressionBombError as error:  # Pillow looks at the size before we can
        raise TooLarge(f"{file} has too many pixels ({error}), expected at most {MAX_PIXELS:,}; scale it down first") from None


def decode(file: str | Path, size: int | None = None, channels: int | None = None) -> np.ndarray:
    """One picture as uint8 (C, H, W). Palette and 16-bit pictures become grey or RGB. Raises `TooLarge` above 64 million pixels."""
    with _open(file) as handle:
        if handle.width * handle.height > MAX_PIXELS:
            raise TooLarge(f"{file} has {handle.width}×{handle.height} pixels, expected at most {MAX_PIXELS:,}; scale it down first")
        picture: Image.Image = handle
        if picture.mode == "I" or picture.mode.startswith("I;16"):  # 16 bits, which Pillow would cut off at 255
            picture = Image.fromarray((np.asarray(picture).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
        own = picture.mode if picture.mode in MODES.values() else "L" if picture.mode in ("1", "F", "LA") else "RGB"
        picture = picture.convert(MODES[channels] if channels else own)
        if size is not None:
            scale = size / min(picture.size)
            picture = picture.resize((max(size, round(picture.width * scale)), max(size, round(picture.height * scale))), Image.Resampling.LANCZOS)
            left, top = (picture.width - size) // 2, (picture.height - size) // 2
            picture = picture.crop((left, top, left + size, top + size))
        array = np.asarray(picture)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
