"""Files of samples: arrays, molecules as text, folders of pictures."""

from pathlib import Path

import numpy as np

from backbones.registry import resolve
from studio.data.classes import labelled
from studio.data.depth import Reading
from studio.data.folders import listing
from studio.data.images import survey
from studio.data.layout import layout_of, unflattened
from studio.data.notes import of_left
from studio.evaluation.picture_files import PictureFiles, Transposed, decoded
from studio.evaluation.samples import SampleSet, Values
from studio.runtime.npz import npz_array, npz_members
from studio.tasks import REGISTRY as TASKS
from studio.tasks import guessed

MOLECULES = (".smi", ".smiles", ".txt", ".csv", ".tsv", ".sdf")
# arrays of a file that are no legend
OURS = ("arr_0", "arr_1", "images", "values", "labels", "classes", "seeds", "identity", "task")


def pictures(folder: Path, reading: Reading | None = None) -> SampleSet:
    """Classes as training reads them, and numbers in the depth of all files together."""
    found = listing(folder)
    paths, labels, classes = found.files, found.labels, found.classes
    if labels is None:
        # the sheet of `studio sample` is no sample
        paths = [p for p in paths if p.name != "grid.png"] or paths
    whole, counts, _ = survey(paths, reading or Reading())
    for path in (p for p, count in zip(paths, counts) if not count):  # told now, not when its turn comes
        decoded(str(path))
    about = {"left_out": "; ".join(told)} if (told := [*found.notes, *of_left(folder, found.left)]) else {}
    return SampleSet(str(folder), PictureFiles(paths, whole), labels, tuple(classes), about)


def molecules(path: Path) -> SampleSet:
    """Text as it stands; rows that are no molecule count as what they are. Columns ``asked_NAME`` are
    targets."""
    from studio.chem.samples import texts_of_file

    values, asked = texts_of_file(path)
    return SampleSet(str(path), values, asked=asked)


def arrays(path: Path, task: str = "") -> SampleSet:
    """Of a file: ``task`` where it was recorded beside it; an .npz can hold it too."""
    if path.name.lower().removesuffix(".gz").endswith(MOLECULES):
        return molecules(path)
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
    task = task or (str(npz_array(path, "task")) if "task" in members else "")
    usual = (resolve(TASKS, task, "task").array,) if task else ()
    key = next((k for k in (*usual, "arr_0", "images", "values") if k in members), None)
    if key is None:
        raise ValueError(
            f"{path} holds {', '.join(members) or 'nothing'}, expected samples under arr_0, images or values"
        )
    array = npz_array(path, key)
    legend = {k: npz_array(path, k) for k in members if k not in OURS} if task or "atoms" in members else {}
    kind = resolve(TASKS, task or guessed(array, legend), "task")
    if expected := kind.misfit(array):
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}, expected {expected}")
    # a reference file, ours or ADM's: always (N, H, W, C), however small the pictures
    statistics = {"mu", "sigma"} <= set(members)
    if task or legend:
        values: Values = Transposed(array) if kind.channels_last else array
    elif statistics and array.dtype == np.uint8 and array.ndim == 4:
        values = Transposed(array)
    else:
        values = _laid_out(array, path)
    beside = next((k for k in ("labels", *(("arr_1",) if key == "arr_0" else ())) if k in members), None)
    names = tuple(str(c) for c in npz_array(path, "classes")) if "classes" in members else None
    labels = None
    if beside is not None:
        labels, names = labelled(npz_array(path, beside), names, f"{path} ({beside})", len(values))
    return SampleSet(str(path), values, labels, names or (), legend=legend, task=task)


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
