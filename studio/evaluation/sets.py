"""What can be measured: a folder that `studio generate` made, a folder of pictures, an .npz or .npy of arrays, a file of molecules, or a data set. All are
opened as a `SampleSet`, whose values are read in blocks and never held whole."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from studio.data import REGISTRY, Arrays, load_data
from studio.data.arrays import content_hash
from studio.data.classes import class_numbers
from studio.data.folders import listing
from studio.data.images import decode
from studio.data.layout import layout_of
from studio.evaluation.decoded import Decoded
from studio.sampling import parse_seeds

BLOCK = 256
ALONE = ("fashion-mnist", "moses")  # data sets that need no more than their name
MOLECULES = (".smi", ".csv", ".tsv", ".sdf")


class Values(Protocol):
    """(N, C, H, W) uint8, (N, d) float32, (N, n, n + 1) uint8 graphs or (N,) SMILES, read by slices and arrays of indices."""

    shape: tuple[int, ...]
    dtype: Any

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> np.ndarray: ...


@dataclass(frozen=True)
class SampleSet:
    """``about`` is what its maker recorded (sampler, guidance, label rule ...); ``test`` further real samples that no model was trained on. ``atoms``: what the
    types of molecules are; ``numbers``: columns (N,) of known properties in their own units, ``asked``: of what the samples were asked to have (NaN: not)."""

    name: str
    values: Values
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    test: "SampleSet | None" = None
    folder: Path | None = None
    atoms: tuple[str, ...] = ()
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    asked: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @property
    def task(self) -> str:
        return "molecule" if self.atoms or self.values.dtype.kind == "U" else "image" if len(self.shape) == 3 else "points"

    @cached_property
    def hash(self) -> str:
        """16 hex digits of the content."""
        return content_hash(self.values, np.zeros(0) if self.labels is None else self.labels)  # type: ignore[arg-type]

    @cached_property
    def decoded(self) -> Decoded:
        """Of molecules: see `Decoded`. Raises ``ValueError`` for other samples."""
        if self.task != "molecule":
            raise ValueError(f"got {self.task} samples, expected molecules")
        return Decoded(np.asarray(self.values[:]), self.atoms, self.numbers, self.asked, self.hash)

    def batches(self, size: int = BLOCK) -> Iterator[Tensor]:
        """Values in order, (B, ...)."""
        for start in range(0, len(self), size):
            yield torch.from_numpy(np.ascontiguousarray(self.values[start : start + size]))

    def take(self, index: np.ndarray) -> "SampleSet":
        """These samples, in memory."""
        labels = None if self.labels is None else self.labels[index]
        numbers = {k: v[index] for k, v in self.numbers.items()}
        return SampleSet(self.name, self.values[index], labels, self.classes, self.about, atoms=self.atoms, numbers=numbers)


class Transposed:
    """(N, H, W[, C]) arrays as (N, C, H, W)."""

    def __init__(self, array: np.ndarray):
        self.array = array[..., None] if array.ndim == 3 else array
        n, h, w, c = self.array.shape
        self.shape, self.dtype = (n, c, h, w), array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.ascontiguousarray(self.array[index].transpose(0, 3, 1, 2))


class PictureFiles:
    """Pictures on disk, decoded when they are read."""

    dtype = np.dtype("uint8")

    def __init__(self, paths: Sequence[Path]):
        self.paths = np.array([str(p) for p in paths])
        self.one = decode(self.paths[0]).shape
        self.shape = (len(paths), *self.one)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> np.ndarray:
        with ThreadPoolExecutor(2) as pool:
            pictures = list(pool.map(decode, self.paths[index]))
        for path, picture in zip(self.paths[index], pictures):
            if picture.shape != self.one:
                raise ValueError(f"got {path} of (C, H, W) {picture.shape} among pictures of {self.one}, expected one size; resize them first")
        return np.stack(pictures) if pictures else np.zeros((0, *self.one), np.uint8)


def open_set(source: str | Path) -> SampleSet:
    """A set by its name: a folder of `studio generate` or of pictures, an .npz (``arr_0`` or ``images``) or .npy, a .smi, .csv or .sdf of molecules, ``images:DIR``, ``npz:FILE``,
    ``points:KIND``, ``molecules:FILE`` or a data set's name, with ``@held_out`` for the part that is kept from training. Raises ``ValueError`` with what was expected."""
    text = str(source)
    path = Path(text).expanduser()
    if path.is_dir():
        if (path / "manifest.json").is_file():
            return _generated(path)
        return _pictures(path)
    if path.is_file():
        return _arrays(path)
    return _data(text)


def is_data(text: str) -> bool:
    """Whether a text names a data set."""
    kind, _, rest = text.partition("@")[0].partition(":")
    return kind in REGISTRY and (bool(rest) or kind in ALONE)


def _data(text: str) -> SampleSet:
    name, _, part = text.partition("@")
    kind, _, rest = name.partition(":")
    if not is_data(text) or part not in ("", "train", "held_out"):
        raise ValueError(
            f"got {text!r}, expected a folder of samples or pictures, an .npz, .npy, .smi, .csv or .sdf file, images:DIR, npz:FILE, points:KIND, molecules:FILE, fashion-mnist or moses "
            "(with @held_out for the part kept from training)"
        )
    options = {"images": {"path": rest}, "npz": {"path": rest}, "points": {"kind": rest}, "molecules": {"path": rest}}.get(kind, {})
    whole = of_data({"name": kind, **options}, text)
    if part == "held_out":
        if whole.test is None:
            raise ValueError(f"{name} keeps no part from training; leave @held_out out")
        return whole.test
    return whole


def of_data(spec: Mapping[str, Any], name: str) -> SampleSet:
    """The training part of a config's ``data`` section, with the held-out part as its ``test``."""
    data = load_data(spec)

    def made(arrays: Any, part: str, test: SampleSet | None) -> SampleSet:
        if not isinstance(arrays, Arrays):
            raise ValueError(f"{name} has no {part} part")
        numbers = {n: arrays.numeric[:, k] * data.numeric_std[k] + data.numeric_mean[k] for k, n in enumerate(data.numeric)}
        atoms = tuple(data.codec.get("atoms", ()))
        return SampleSet(
            name, arrays.values, arrays.labels, tuple(data.classes), {"data": data.name, "part": part}, test, atoms=atoms, numbers=numbers
        )

    return made(data.train, "train", None if data.held_out is None else made(data.held_out, "held_out", None))


def _generated(folder: Path) -> SampleSet:
    from studio.generation.plan import read_manifest

    manifest = read_manifest(folder)
    pinned = manifest["pinned"]
    num = int(pinned["num"])
    about = {
        k: pinned.get(k) for k in ("sampler", "num_steps", "guidance", "labels", "seeds", "weights", "dtype", "model_hash", "conditions", "path")
    }
    about |= {"model": manifest.get("model"), "deterministic": pinned.get("deterministic") is not None}
    found = sorted(folder.glob("[0-9]*/[0-9]*.png"), key=lambda p: int(p.stem))
    if found:
        if len(found) != num:
            raise ValueError(f"{folder} holds {len(found)} of {num} samples; run the same studio generate again until it is complete")
        recipes = _recipes(found, pinned)
        labels = np.array([r["label"] for r in recipes]) if "label" in recipes[0] else None
        return SampleSet(str(folder), PictureFiles(found), labels, (), about, folder=folder)
    if not (folder / "samples.npz").is_file():
        raise ValueError(f"{folder} holds none of its {num} samples yet; run the same studio generate again")
    made = _arrays(folder / "samples.npz")
    if len(made) != num:
        raise ValueError(f"{folder / 'samples.npz'} holds {len(made)} of {num} samples; run the same studio generate again")
    asked = {k: np.full(num, float(v)) for k, v in (about["conditions"] or {}).items()} if made.atoms else {}
    return SampleSet(str(folder), made.values, made.labels, (), about, folder=folder, atoms=made.atoms, asked=asked)


def _recipes(found: Sequence[Path], pinned: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the pictures of a set. Raises ``ValueError`` for one that was made otherwise than its manifest says."""
    from studio.generation.identity import differing
    from studio.samples import read_recipe

    recipes, seeds = [read_recipe(p) for p in found], parse_seeds(pinned["seeds"])
    for path, recipe in zip(found, recipes):
        place = int(path.stem)
        wrong = ([] if place < len(seeds) and recipe.get("seed") == seeds[place] else ["seed"]) + differing(recipe, pinned)
        if wrong:
            raise ValueError(f"{path} is no sample of its set: it was made with another {wrong[0]}; run the same studio generate again")
    return recipes


def _pictures(folder: Path) -> SampleSet:
    """Classes as training reads them."""
    paths, labels, classes, _ = listing(folder)
    if labels is None:
        paths = [p for p in paths if p.name != "grid.png"] or paths  # the sheet of `studio sample` is no sample
    return SampleSet(str(folder), PictureFiles(paths), labels, tuple(classes))


def _molecules(path: Path) -> SampleSet:
    """Text as it stands; rows that are no molecule count as what they are. Columns ``asked_NAME`` are targets."""
    from studio.chem.collect import texts_of_file

    values, asked = texts_of_file(path)
    return SampleSet(str(path), values, asked=asked)


def _arrays(path: Path) -> SampleSet:
    if path.name.removesuffix(".gz").endswith(MOLECULES):
        return _molecules(path)
    if path.suffix == ".npy":
        try:
            return SampleSet(str(path), _laid_out(np.load(path, mmap_mode="r", allow_pickle=False), path))
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path} is not a readable .npy of samples: {error}") from None
    if path.suffix != ".npz":
        raise ValueError(f"got {path}, expected a folder, an .npz, an .npy, or a .smi, .csv or .sdf of molecules")
    members = npz_members(path)
    key = next((k for k in ("arr_0", "images") if k in members), None)
    if key is None:
        raise ValueError(f"{path} holds {', '.join(members) or 'nothing'}, expected samples under arr_0 or images")
    if "atoms" in members:
        graphs, atoms = npz_array(path, key), tuple(str(a) for a in npz_array(path, "atoms"))
        if graphs.dtype != np.uint8 or graphs.ndim != 3 or graphs.shape[2] != graphs.shape[1] + 1:
            raise ValueError(f"{path} holds {graphs.dtype} of shape {graphs.shape}, expected uint8 graphs (N, n, n + 1)")
        return SampleSet(str(path), graphs, atoms=atoms)
    values = _laid_out(npz_array(path, key), path)
    beside = next((k for k in ("labels", *(("arr_1",) if key == "arr_0" else ())) if k in members), None)
    labels = None if beside is None else class_numbers(npz_array(path, beside), f"{path} ({beside})", len(values))
    return SampleSet(str(path), values, labels)


def _laid_out(array: np.ndarray, path: Path) -> Values:
    if array.ndim == 2 and array.dtype.kind == "f":
        return array
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}, expected uint8 pictures (N, H, W[, C]) or float points (N, d)")
    return Transposed(array) if array.ndim == 3 or layout_of(array.shape[1:], str(path)) == "hwc" else array


def npz_members(path: Path) -> list[str]:
    """Names of the arrays. Raises ``ValueError`` for a file that is cut off or no .npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [n.removesuffix(".npy") for n in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} is not a readable .npz ({error}); it may be cut off: make it again") from None


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array; mapped from disk where it is stored without compression. Raises ``ValueError`` for one that is cut off or pickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type == zipfile.ZIP_STORED:
                with archive.open(info) as handle:
                    version = np.lib.format.read_magic(handle)  # type: ignore[arg-type]
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                    shape, fortran, dtype = read(handle)  # type: ignore[arg-type]
                    header = handle.tell()
                if not fortran and not dtype.hasobject and np.prod(shape) > 1 << 20:
                    with open(path, "rb") as raw:
                        raw.seek(info.header_offset + 26)
                        lengths = int.from_bytes(raw.read(2), "little") + int.from_bytes(raw.read(2), "little")
                    offset = info.header_offset + 30 + lengths + header
                    if offset + int(np.prod(shape)) * dtype.itemsize <= path.stat().st_size:
                        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
        with np.load(path, allow_pickle=False) as file:
            return file[name]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: {name} is not readable ({error}); the file may be cut off: make it again") from None
