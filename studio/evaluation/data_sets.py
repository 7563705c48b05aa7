"""Data sets as sets of samples: by their name, or as a config's ``data`` section."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.registry import parameters, resolve
from studio.checkpoints.find import bundled
from studio.data import REGISTRY, Arrays, load_data
from studio.data.depth import Reading
from studio.evaluation.sample_files import molecules
from studio.evaluation.samples import SampleSet
from studio.tasks import build_task

ALONE = ("fashion-mnist", "moses")  # data sets that need no more than their name, and no model is called so
# sources that name a file or folder, of which nothing is kept aside unless a part is asked for
WHOLE = ("images", "npz")


def _parted(text: str) -> tuple[str, str]:
    """A data set and the part of it that is meant; ``@`` may stand in a path."""
    name, _, part = text.rpartition("@")
    place = text.partition(":")[2]
    there = bool(place) and Path(place).expanduser().exists()  # the path of nothing is the working directory
    return (name, part) if name and "/" not in part and not there else (text, "")


def is_data(text: str) -> bool:
    """Whether a text names a data set: ``KIND:REST``, or the name of one that needs no more."""
    kind, _, rest = _parted(text)[0].partition(":")
    return kind in REGISTRY and (bool(rest) or kind in ALONE or _alone(kind))


def _alone(kind: str) -> bool:
    """Whether all options have defaults; a model that comes with the studio is meant by its name first."""
    options = parameters(resolve(REGISTRY, kind, "data")).values()
    return kind not in bundled() and all(o.default is not o.empty for o in options)


def named(text: str, reading: Reading | None = None, fit: Mapping[str, Any] | None = None) -> SampleSet:
    """The set of a text; picture files as `studio.evaluation.sets.open_set` says."""
    name, part = _parted(text)
    kind, _, rest = name.partition(":")
    if not is_data(text) or part not in ("", "train", "held_out"):
        raise ValueError(
            f"got {text!r}, expected a folder of samples or pictures, an .npz, .npy, .smi, .txt, .csv or "
            ".sdf file, images:DIR, npz:FILE, points:KIND, molecules:FILE, fashion-mnist or moses "
            "(with @train or @held_out for the parts that training makes)"
        )
    if kind == "molecules" and not part:
        return replace(molecules(Path(rest).expanduser()), name=text, about={"data": kind, "part": "all"})
    known = list(parameters(resolve(REGISTRY, kind, "data")))
    options: dict[str, Any] = {known[0]: rest} if rest else {}  # what stands behind the colon
    if {"background", "bits"} <= set(known):
        options |= {} if reading is None else {"background": reading.background, "bits": reading.bits}
        options |= {k: v for k, v in (fit or {}).items() if v is not None}
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
    task = build_task(data.task, data.codec)

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
            legend=dict(task.legend),
            numbers=numbers,
            task=task.name,
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
