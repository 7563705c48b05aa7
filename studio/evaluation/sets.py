"""What can be measured: a folder that `studio generate` made, a folder of pictures, an .npz or .npy of
arrays, a file of molecules, or a data set. All are opened as a `SampleSet`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.data.depth import Reading
from studio.evaluation.data_sets import ALONE, is_data, named, of_data
from studio.evaluation.made import generated
from studio.evaluation.sample_files import arrays, molecules, pictures
from studio.evaluation.samples import SampleSet

__all__ = ["ALONE", "SampleSet", "is_data", "of_data", "open_set"]

# how `studio sample` lists molecules, the one with targets first
SAMPLED = ("samples.csv", "samples.smi", "samples.sdf")


def open_set(
    source: str | Path, reading: Reading | None = None, fit: Mapping[str, Any] | None = None
) -> SampleSet:
    """A set by its name: a folder of `studio generate` or of pictures, an .npz (``arr_0`` or ``images``) or
    .npy, a .smi, .csv or .sdf of molecules, ``images:DIR``, ``npz:FILE``, ``molecules:FILE``, ``points:KIND``
    or a data set's name. Files and folders are taken whole, data sets their training part; ``@train`` and
    ``@held_out`` are the parts that training would make. ``reading``: how a model's own picture files were
    read (`Model.reading`), for folders of pictures; on white without one, in the depth that the whole folder
    has. ``fit``: the ``size`` and ``channels`` that ``images:DIR`` is read at, whose pictures may be of many.
    Raises ``ValueError`` with what was expected."""
    text = str(source)
    path = Path(text).expanduser()
    if path.is_dir():
        if (path / "manifest.json").is_file():
            return generated(path)
        if (listed := next((path / name for name in SAMPLED if (path / name).is_file()), None)) is not None:
            return replace(molecules(listed), name=str(path))
        return pictures(path, reading)
    if path.is_file():
        return arrays(path)
    return named(text, reading, fit)
