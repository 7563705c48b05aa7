"""What can be measured: a folder that `studio generate` made, a folder of pictures, an .npz or .npy of
arrays, a file of molecules, or a data set. All are opened as a `SampleSet`, whose values are read in blocks
and never held whole."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from studio.data import REGISTRY, Arrays, load_data
from studio.data.arrays import content_hash
from studio.data.classes import labelled
from studio.data.depth import Misfit, Reading
from studio.data.folders import listing
from studio.data.images import decode, survey
from studio.data.layout import layout_of, unflattened
from studio.data.notes import of_left
from studio.evaluation.decoded import Decoded
from studio.runtime.files import sha256
from studio.runtime.npz import npz_array, npz_members
from studio.runtime.seeds import parse_seeds

if TYPE_CHECKING:
    from studio.checkpoints.build import Info

BLOCK = 256
ALONE = ("fashion-mnist", "moses")  # data sets that need no more than their name
# sources that name a file or folder, of which nothing is kept aside unless a part is asked for
WHOLE = ("images", "npz")
MOLECULES = (".smi", ".smiles", ".txt", ".csv", ".tsv", ".sdf")
# how `studio sample` lists molecules, the one with targets first
SAMPLED = ("samples.csv", "samples.smi", "samples.sdf")


class Values(Protocol):
    """(N, C, H, W) uint8, (N, d) float32, (N, n, n + 1) uint8 graphs or (N,) SMILES, read by slices and
    arrays of indices."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> np.ndarray: ...


@dataclass(frozen=True)
class SampleSet:
    """``about`` is what its maker recorded (sampler, guidance, label rule ...), and of a data set ``part``
    and ``left_out``; ``test`` further real samples that no model was trained on; ``rows``: which of the
    values training would take, and which it would keep from it; ``reading``: how the maker's own picture
    files were read. ``atoms``: what the types of molecules are; ``numbers``: columns (N,) of known properties
    in their own units, ``asked``: of what the samples were asked to have (NaN: not)."""

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
    rows: tuple[np.ndarray, np.ndarray] | None = None
    reading: Reading | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @property
    def task(self) -> str:
        if self.atoms or self.values.dtype.kind == "U":
            return "molecule"
        if len(self.shape) == 1:
            return "points"
        return "image" if len(self.shape) == 3 and self.values.dtype == np.uint8 else "arrays"

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
        return SampleSet(
            self.name, self.values[index], labels, self.classes, self.about, atoms=self.atoms, numbers=numbers
        )


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
    """Pictures on disk, decoded when they are read, all in one way; to ``size`` and ``channels`` where these
    are given."""

    dtype = np.dtype("uint8")

    def __init__(
        self,
        paths: Sequence[Path | str],
        reading: Reading | None = None,
        size: int | None = None,
        channels: int | None = None,
    ):
        self.paths, self.reading, self.size, self.channels = (
            np.array([str(p) for p in paths]),
            reading,
            size,
            channels,
        )
        self.one = self._one(self.paths[0]).shape
        self.shape = (len(paths), *self.one)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> np.ndarray:
        with ThreadPoolExecutor(2) as pool:
            pictures = list(pool.map(self._one, self.paths[index]))
        for path, picture in zip(self.paths[index], pictures):
            if picture.shape != self.one:
                raise ValueError(_unlike(str(path), picture.shape, str(self.paths[0]), self.one))
        return np.stack(pictures) if pictures else np.zeros((0, *self.one), np.uint8)

    def _one(self, path: str) -> np.ndarray:
        return _decoded(path, self.size, self.channels, self.reading)


def _decoded(
    path: str, size: int | None = None, channels: int | None = None, reading: Reading | None = None
) -> np.ndarray:
    try:
        return decode(path, size, channels, reading)
    except Misfit:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow raise
        why = str(error).replace(path, "it") or "cut off"
        raise ValueError(
            f"{path} is not a readable picture ({why}), expected all of a set to be; mend it or take it out"
        ) from None


def _unlike(path: str, got: tuple[int, ...], first: str, wanted: tuple[int, ...]) -> str:
    """What is wrong with a picture among others."""
    parts = []
    if got[0] != wanted[0]:
        kinds = {1: "grey", 3: "RGB", 4: "RGBA"}
        named = [f"{kinds.get(c, 'with')} ({c} channel{'' if c == 1 else 's'})" for c in (got[0], wanted[0])]
        parts.append((f"{path} is {named[0]}, {first} is {named[1]}", "--channels 1 or --channels 3"))
    if got[1:] != wanted[1:]:
        parts.append((f"{path} is {got[2]}×{got[1]} pixels, {first} is {wanted[2]}×{wanted[1]}", "--size N"))
    return (
        f"got pictures of several kinds: {'; '.join(what for what, _ in parts)}; expected one; try "
        f"{' '.join(way for _, way in parts)}"
    )


def open_set(source: str | Path, reading: Reading | None = None) -> SampleSet:
    """A set by its name: a folder of `studio generate` or of pictures, an .npz (``arr_0`` or ``images``) or
    .npy, a .smi, .csv or .sdf of molecules, ``images:DIR``, ``npz:FILE``, ``molecules:FILE``, ``points:KIND``
    or a data set's name. Files and folders are taken whole, data sets their training part; ``@train`` and
    ``@held_out`` are the parts that training would make. ``reading``: how a model's own picture files were
    read (`Model.reading`), for folders of pictures; on white without one, in the depth that the whole folder
    has. Raises ``ValueError`` with what was expected."""
    text = str(source)
    path = Path(text).expanduser()
    if path.is_dir():
        if (path / "manifest.json").is_file():
            return _generated(path)
        if (listed := next((path / name for name in SAMPLED if (path / name).is_file()), None)) is not None:
            return replace(_molecules(listed), name=str(path))
        return _pictures(path, reading)
    if path.is_file():
        return _arrays(path)
    return _data(text, reading)


def _parted(text: str) -> tuple[str, str]:
    """A data set and the part of it that is meant; ``@`` may stand in a path."""
    name, _, part = text.rpartition("@")
    place = text.partition(":")[2]
    there = bool(place) and Path(place).expanduser().exists()  # the path of nothing is the working directory
    return (name, part) if name and "/" not in part and not there else (text, "")


def is_data(text: str) -> bool:
    """Whether a text names a data set."""
    kind, _, rest = _parted(text)[0].partition(":")
    return kind in REGISTRY and (bool(rest) or kind in ALONE)


def _data(text: str, reading: Reading | None = None) -> SampleSet:
    name, part = _parted(text)
    kind, _, rest = name.partition(":")
    if not is_data(text) or part not in ("", "train", "held_out"):
        raise ValueError(
            f"got {text!r}, expected a folder of samples or pictures, an .npz, .npy, .smi, .txt, .csv or "
            ".sdf file, images:DIR, npz:FILE, points:KIND, molecules:FILE, fashion-mnist or moses "
            "(with @train or @held_out for the parts that training makes)"
        )
    if kind == "molecules" and not part:
        return replace(_molecules(Path(rest).expanduser()), name=text, about={"data": kind, "part": "all"})
    pictures: dict[str, Any] = (
        {} if reading is None else {"background": reading.background, "bits": reading.bits}
    )
    options: dict[str, Any] = {
        "images": {"path": rest, **pictures},
        "npz": {"path": rest},
        "points": {"kind": rest},
        "molecules": {"path": rest},
    }.get(kind, {})
    found = of_data({"name": kind, **options}, text, whole=kind in WHOLE and not part)
    if part == "held_out":
        if found.test is None:
            raise ValueError(f"{name} keeps no part from training; leave @held_out out")
        return found.test
    return found


def of_data(spec: Mapping[str, Any], name: str, *, whole: bool = False) -> SampleSet:
    """The training part of a config's ``data`` section, with the held-out part as its ``test``; or,
    ``whole``, both as one set that knows its ``rows``."""
    data = load_data(spec)
    told = [f"{data.skipped:,} files do not decode"] if data.skipped else []
    told += data.notes

    def made(arrays: Any, part: str, test: SampleSet | None, left_out: list[str]) -> SampleSet:
        if not isinstance(arrays, Arrays):
            raise ValueError(f"{name} has no {part} part")
        numbers = {}
        for k, n in enumerate(data.numeric):
            assert arrays.numeric is not None
            numbers[n] = arrays.numeric[:, k] * data.numeric_std[k] + data.numeric_mean[k]
        about = {"data": data.name, "part": part, "left_out": "; ".join(left_out)}
        return SampleSet(
            name,
            arrays.values,
            arrays.labels,
            tuple(data.classes),
            about,
            test,
            atoms=tuple(data.codec.get("atoms", ())),
            numbers=numbers,
        )

    if whole and (data.held_out is None or data.rows is not None):
        joined = (
            data.train
            if data.held_out is None or data.rows is None
            else _joined(data.train, data.held_out, data.rows)
        )
        return replace(made(joined, "all", None, told), rows=None if data.held_out is None else data.rows)
    if data.held_out is None:
        return made(data.train, "train", None, told)
    apart = [
        f"the {len(part):,} {what}"
        for part, what in ((data.held_out, "that are held out"), (data.train, "that are trained on"))
    ]
    return made(
        data.train, "train", made(data.held_out, "held_out", None, [apart[1], *told]), [apart[0], *told]
    )


def _joined(train: Arrays, rest: Arrays, rows: tuple[np.ndarray, np.ndarray]) -> Arrays:
    """Both parts in the order of the file."""

    def one(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
        if a is None or b is None:
            return None
        out = np.empty((len(a) + len(b), *a.shape[1:]), a.dtype)
        out[rows[0]], out[rows[1]] = a, b
        return out

    values = one(train.values, rest.values)
    assert values is not None
    return Arrays(values, one(train.labels, rest.labels), one(train.numeric, rest.numeric))


def _generated(folder: Path) -> SampleSet:
    from studio.generation.plan import read_manifest

    manifest = read_manifest(folder)
    pinned = manifest["pinned"]
    num = int(pinned["num"])
    about = {
        k: pinned.get(k)
        for k in (
            "sampler",
            "num_steps",
            "guidance",
            "labels",
            "seeds",
            "weights",
            "dtype",
            "model_hash",
            "conditions",
            "path",
        )
    }
    about |= {"model": manifest.get("model"), "deterministic": pinned.get("deterministic") is not None}
    found = sorted(folder.glob("[0-9]*/[0-9]*.png"), key=lambda p: int(p.stem))
    if found:
        if len(found) != num:
            raise ValueError(
                f"{folder} holds {len(found)} of {num} samples; run the same studio generate again until "
                "it is complete"
            )
        recipes = _recipes(found, pinned)
        labels = np.array([r["label"] for r in recipes]) if "label" in recipes[0] else None
        model = _model(manifest)
        names = _names(manifest, recipes, model)
        return SampleSet(
            str(folder),
            PictureFiles(found),
            labels,
            names,
            about,
            folder=folder,
            reading=None if model is None else model.reading,
        )
    if any(folder.glob("[0-9]*.tar")):
        return _archives(folder, manifest, about)
    if not (folder / "samples.npz").is_file():
        raise ValueError(f"{folder} holds none of its {num} samples yet; run the same studio generate again")
    made = _arrays(folder / "samples.npz")
    if len(made) != num:
        raise ValueError(
            f"{folder / 'samples.npz'} holds {len(made)} of {num} samples; run the same studio generate again"
        )
    asked = {k: np.full(num, float(v)) for k, v in (about["conditions"] or {}).items()} if made.atoms else {}
    return SampleSet(
        str(folder),
        made.values,
        made.labels,
        made.classes or _names(manifest, (), _model(manifest)),
        about,
        folder=folder,
        atoms=made.atoms,
        asked=asked,
    )


def _archives(folder: Path, manifest: Mapping[str, Any], about: dict[str, Any]) -> SampleSet:
    from studio.generation.identity import differing
    from studio.generation.tar import Shards

    pinned, values = manifest["pinned"], Shards(folder)
    if len(values) != pinned["num"]:
        raise ValueError(
            f"{folder} holds {len(values)} of {pinned['num']} samples; run the same studio generate again "
            "until it is complete"
        )
    recipes, seeds = [values.recipe(i) for i in range(len(values))], parse_seeds(pinned["seeds"])
    for i, recipe in enumerate(recipes):
        wrong = ([] if values.numbers[i] == i and recipe.get("seed") == seeds[i] else ["seed"]) + differing(
            recipe, pinned
        )
        if wrong:
            raise ValueError(
                f"sample {i} of {folder} is none of its set: it was made with another {wrong[0]}; run the "
                "same studio generate again"
            )
    labels, model = (
        np.array([r["label"] for r in recipes]) if "label" in recipes[0] else None,
        _model(manifest),
    )
    reading = None if model is None else model.reading
    return SampleSet(
        str(folder), values, labels, _names(manifest, recipes, model), about, folder=folder, reading=reading
    )


def _model(manifest: Mapping[str, Any]) -> "Info | None":
    """What is known of the model that made a set, where it is still here."""
    from studio.checkpoints import checkpoint
    from studio.checkpoints.build import Info
    from studio.checkpoints.find import choose_weights, locate, spot_of

    try:
        folder, step = locate(str(manifest.get("model")))
        _, weights = choose_weights(spot_of(folder, step), manifest["pinned"]["weights"])
        same = sha256(weights)[:16] == manifest["pinned"]["model_hash"]
        return Info.from_meta(checkpoint.read_meta(folder)) if same else None
    except (ValueError, OSError, KeyError):
        return None


def _names(
    manifest: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]], model: "Info | None"
) -> tuple[str, ...]:
    """Names of the classes: as the manifest has them; for an older one as the recipes do, or the model where
    it is still there."""
    if manifest.get("classes"):
        return tuple(map(str, manifest["classes"]))
    named = {r["label"]: str(r["class"]) for r in recipes if r.get("label", -1) >= 0 and "class" in r}
    if named:
        return tuple(named.get(k, str(k)) for k in range(max(named) + 1))
    return () if model is None else model.classes


def _recipes(found: Sequence[Path], pinned: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the pictures of a set. Raises ``ValueError`` for one that was made otherwise than its manifest
    says."""
    from studio.generation.identity import differing
    from studio.runtime.recipes import read_recipe

    recipes, seeds = [read_recipe(p) for p in found], parse_seeds(pinned["seeds"])
    for path, recipe in zip(found, recipes):
        place = int(path.stem)
        wrong = ([] if place < len(seeds) and recipe.get("seed") == seeds[place] else ["seed"]) + differing(
            recipe, pinned
        )
        if wrong:
            raise ValueError(
                f"{path} is no sample of its set: it was made with another {wrong[0]}; run the same "
                "studio generate again"
            )
    return recipes


def _pictures(folder: Path, reading: Reading | None = None) -> SampleSet:
    """Classes as training reads them, and numbers in the depth of all files together."""
    found = listing(folder)
    paths, labels, classes = found.files, found.labels, found.classes
    if labels is None:
        # the sheet of `studio sample` is no sample
        paths = [p for p in paths if p.name != "grid.png"] or paths
    whole, counts, _ = survey(paths, reading or Reading())
    for path in (p for p, count in zip(paths, counts) if not count):  # told now, not when its turn comes
        _decoded(str(path))
    about = {"left_out": "; ".join(told)} if (told := [*found.notes, *of_left(folder, found.left)]) else {}
    return SampleSet(str(folder), PictureFiles(paths, whole), labels, tuple(classes), about)


def _molecules(path: Path) -> SampleSet:
    """Text as it stands; rows that are no molecule count as what they are. Columns ``asked_NAME`` are
    targets."""
    from studio.chem.collect import texts_of_file

    values, asked = texts_of_file(path)
    return SampleSet(str(path), values, asked=asked)


def _arrays(path: Path) -> SampleSet:
    if path.name.lower().removesuffix(".gz").endswith(MOLECULES):
        return _molecules(path)
    if path.suffix == ".npy":
        try:
            return SampleSet(str(path), _laid_out(np.load(path, mmap_mode="r", allow_pickle=False), path))
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path} is not a readable .npy of samples: {error}") from None
    if path.suffix != ".npz":
        raise ValueError(
            f"got {path}, expected a folder, an .npz, an .npy, or a .smi, .csv or .sdf of molecules"
        )
    members = npz_members(path)
    key = next((k for k in ("arr_0", "images") if k in members), None)
    if key is None:
        raise ValueError(
            f"{path} holds {', '.join(members) or 'nothing'}, expected samples under arr_0 or images"
        )
    if "atoms" in members:
        graphs, atoms = npz_array(path, key), tuple(str(a) for a in npz_array(path, "atoms"))
        if graphs.dtype != np.uint8 or graphs.ndim != 3 or graphs.shape[2] != graphs.shape[1] + 1:
            raise ValueError(
                f"{path} holds {graphs.dtype} of shape {graphs.shape}, expected uint8 graphs (N, n, n + 1)"
            )
        return SampleSet(str(path), graphs, atoms=atoms)
    array = npz_array(path, key)
    # a reference file, ours or ADM's: always (N, H, W, C), however small the pictures
    statistics = {"mu", "sigma"} <= set(members)
    values = (
        Transposed(array)
        if statistics and array.dtype == np.uint8 and array.ndim == 4
        else _laid_out(array, path)
    )
    beside = next((k for k in ("labels", *(("arr_1",) if key == "arr_0" else ())) if k in members), None)
    names = tuple(str(c) for c in npz_array(path, "classes")) if "classes" in members else None
    labels = None
    if beside is not None:
        labels, names = labelled(npz_array(path, beside), names, f"{path} ({beside})", len(values))
    return SampleSet(str(path), values, labels, names or ())


def _laid_out(array: np.ndarray, path: Path) -> Values:
    if array.ndim == 2:
        array = unflattened(array, str(path))
    if array.ndim == 2 and array.dtype.kind == "f":
        return array
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise ValueError(
            f"{path} holds {array.dtype} of shape {array.shape}, expected uint8 pictures (N, H, W[, C]) "
            "or float points (N, d)"
        )
    return Transposed(array) if array.ndim == 3 or layout_of(array.shape[1:], str(path)) == "hwc" else array
