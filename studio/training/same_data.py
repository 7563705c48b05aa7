"""Whether the data of a resumed run is what it began with: the same content, wherever it lies now, under the
same names.

What the run recorded of it (codec, classes, standardisation) wins over what this version would compute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from studio.checkpoints.build import Info
from studio.data import Arrays, Data
from studio.data.own_items import Own
from studio.training.resume import meta_of, way_out


def same_data(folder: Path, data: Data, info: Info, *, moved: bool = False) -> tuple[Data, Info]:
    """The data and its info as the run recorded them: its codec, classes and standardisation win over what
    this version would compute. ``moved``: it is read from another path. Raises ``ValueError`` for other
    content, and for classes or numbers of other names."""
    meta = meta_of(folder)
    if not meta:
        return data, info
    was = Info.from_meta(meta)
    if (was.task, was.shape) != (info.task, info.shape):
        raise ValueError(
            f"the data differs from that of the run being resumed: got {info.task} of {info.shape}, it "
            f"had {was.task} of {was.shape}; {way_out(folder)}"
        )
    for kind, ours, theirs in (
        ("classes", info.classes, was.classes),
        ("numeric conditions", info.numeric, was.numeric),
        ("conditions", *(tuple(f"{f.name} ({f.kind})" for f in one.fields) for one in (info, was))),
    ):
        if theirs and ours != theirs:
            i = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            here, there = (repr(names[i]) if i < len(names) else "not there" for names in (ours, theirs))
            raise ValueError(
                f"the {kind} differ from those of the run being resumed: number {i} is {here}, in the run "
                f"{there} (got {len(ours)}, it has {len(theirs)}); "
                f"name them as they were, or {way_out(folder)}"
            )
    if was.data_hash and info.data_hash and was.data_hash != info.data_hash:
        raise ValueError(_other_content(folder, info, was, meta))
    if moved and not (was.data_hash and info.data_hash):
        raise ValueError(
            f"got another data.path, but {folder} recorded no hash to tell whether the data is the same; "
            f"{way_out(folder)}"
        )
    notes: tuple[str, ...] = ()
    if info.classes and not was.classes:
        notes = ("this run was begun without classes: the labels of its data are not used",)
    if (
        data.numeric
        and (was.numeric_mean, was.numeric_std) != (info.numeric_mean, info.numeric_std)
        and was.numeric_mean
    ):
        data = restandardised(data, was.numeric_mean, was.numeric_std)
    kept = {k: meta[k] for k in info.tree() if k in meta} | {"data_hash": was.data_hash or info.data_hash}
    final = Info.from_meta({**info.tree(), **kept})
    return replace(data, numeric_range=final.numeric_range, notes=(*data.notes, *notes)), final


def _other_content(folder: Path, info: Info, was: Info, meta: Mapping[str, Any]) -> str:
    text = (
        f"the data differs from that of the run being resumed (hash {info.data_hash}, it had {was.data_hash})"
    )
    read, reads = meta.get("decoder", 1), info.tree().get("decoder", 1)
    if read < reads:
        text += (
            f"; its files may be the same: the run read its pictures with decoder {read}, and this "
            f"version ({reads}) reads pictures differently. Go on with "
            f"drift-studio {meta.get('studio', 'of that time')}, or start a new run with --from {folder}"
        )
        return text
    return f"{text}; start a new run with --from {folder}"


def restandardised(data: Data, mean: Sequence[float], std: Sequence[float]) -> Data:
    """Data whose numeric conditions are standardised by other numbers. Raises ``ValueError`` for a data set
    that is not in memory."""
    was_mean, was_std = np.asarray(data.numeric_mean), np.asarray(data.numeric_std)

    def part(values: Any) -> Any:
        if values is None or isinstance(values, Arrays) and values.numeric is None:
            return values
        if isinstance(values, Own):
            return values.standardised(mean, std)
        if not isinstance(values, Arrays):
            raise ValueError(
                "got numeric conditions that are standardised otherwise than the run being resumed "
                "recorded; give the data set the recorded numbers"
            )
        return Arrays(
            values.values,
            values.labels,
            (values.numeric * was_std + was_mean - np.asarray(mean)) / np.asarray(std),
            values.named,
        )

    return replace(
        data,
        train=part(data.train),
        held_out=part(data.held_out),
        numeric_mean=tuple(map(float, mean)),
        numeric_std=tuple(map(float, std)),
    )
