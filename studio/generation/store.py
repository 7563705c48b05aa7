"""Where generated samples lie: a PNG for each picture, in folders of a thousand, or files of a thousand
samples each (`blocks`).

A file is trusted only if it is whole, has the right size and is the sample it claims to be, made as the set
is (`identity`). Files are written under another name and renamed.
"""

import io
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from studio.generation import identity
from studio.generation.blocks import FOLDER as PIECES
from studio.generation.blocks import Vectors
from studio.generation.pictures import FOLDER, Pictures
from studio.generation.plan import MANIFEST, Plan
from studio.generation.tar import Tar
from studio.runtime import files
from studio.runtime.npz import npz_array

OURS = re.compile(r"\d{3,}")
SAMPLE = re.compile(r"\d{6,}\.png|\.\d{6,}\.png\.tmp")


class Store(Protocol):
    """``unit``: samples of a file, ``step``: of what is dealt out and written at once. ``write`` takes the
    values of such a part, ``read`` gives (n, ...) values of a file as the npz holds them. ``hear`` is told
    the manifest; ``older``: of a set that was begun before files said whose they are; ``earlier``: digests
    that it had before it grew. ``grown``, ``join``: see `Blocks`."""

    root: Path
    unit: int
    step: int
    told: bool
    older: bool
    earlier: tuple[str, ...]

    def hear(self, manifest: Mapping[str, Any]) -> None: ...
    def path(self, first: int) -> Path: ...
    def write(self, first: int, values: Tensor, recipes: Sequence[dict[str, Any]]) -> None: ...
    def valid(self, first: int) -> bool: ...
    def absent(self, wanted: Sequence[int]) -> list[int]: ...
    def lacking(self, wanted: Sequence[int]) -> list[int]: ...
    def read(self, first: int) -> np.ndarray: ...
    def grown(self) -> None: ...
    def join(self) -> None: ...
    def run(self, total: int, count: int) -> int: ...
    def share(self, total: int, count: int) -> int: ...


def store_of(root: Path, plan: Plan, form: str = "") -> Store:
    """The store of the plan's task; of the form ``tar``, archives of its pictures."""
    if form == "tar":
        return Tar(root, plan, identity.digest(plan.pinned()))
    return (
        Pictures(root, plan)
        if plan.model.task.one_each
        else Vectors(root, plan, identity.digest(plan.pinned()))
    )


def deal(parts: Sequence[int], count: int, run: int) -> list[list[int]]:
    """Parts dealt out to ``count`` processes in turn, ``run`` in a row, so that everybody ends at about the
    same time."""
    return [
        [first for a in range(k * run, len(parts), run * count) for first in parts[a : a + run]]
        for k in range(count)
    ]


def units(plan: Plan, store: Store, shard: tuple[int, int] = (1, 1)) -> Sequence[int]:
    """First samples of the parts of shard k of n, dealt out in turn."""
    k, n = shard
    every = range(0, plan.num, store.step)
    return every if n == 1 else deal(every, n, store.share(len(every), n))[k - 1]


def in_archives(folder: Path) -> bool:
    """Whether the samples of a folder lie in archives."""
    return any(
        True for place in (folder, folder / PIECES) if place.is_dir() for _ in place.glob("[0-9]*.tar")
    )


def without(every: Sequence[int], some: Sequence[int]) -> list[int]:
    """Parts of ``every`` that are not among ``some``."""
    known = set(some)
    return [first for first in every if first not in known]


def size_of(first: int, store: Store, plan: Plan) -> int:
    """Samples of the part that begins with ``first``."""
    return min(store.step, plan.num - first)


def set_aside(store: Store, plan: Plan, home: Path) -> list[Path]:
    """Move files that are not the plan's out of the sample folders into ``home/foreign/``, so that nobody
    counts them as samples; returns where they are."""
    moved = []
    for folder in (
        [p for p in store.root.iterdir() if p.is_dir() and OURS.fullmatch(p.name)]
        if store.root.is_dir()
        else []
    ):
        for path in sorted(folder.iterdir()):
            # a draft is written over when its sample is made, or another machine is just writing it
            found = SAMPLE.fullmatch(path.name)
            first = int(re.sub(r"\D", "", path.name.partition(".png")[0])) if found else plan.num
            if store.unit == 1 and first < plan.num and store.path(first).parent == folder:
                continue
            moved.append(_moved(path, home / "foreign" / folder.name / path.name))
    return moved


def _moved(path: Path, target: Path) -> Path:
    while target.exists():
        target = target.with_name(f"{target.name}~")
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return target


def write_listing(folder: Path, store: Store, plan: Plan) -> None:
    """The task's further files of the whole set."""
    values = torch.from_numpy(np.concatenate(list(_read_all(store, plan))))
    plan.model.task.write(folder, values, plan.model.recipes(plan.batch(range(plan.num))))


def remove(folder: Path, listing: Sequence[str] = ()) -> None:
    """Delete what generation wrote, by its names, and nothing else; the rest of the sample folders goes to
    ``foreign/``."""
    for root in (folder, folder / ".parts"):
        for path in sorted(root.iterdir()) if root.is_dir() else []:
            if path.is_dir() and OURS.fullmatch(path.name):
                for file in sorted(path.iterdir()):
                    if SAMPLE.fullmatch(file.name):
                        file.unlink()
                    else:
                        _moved(file, folder / "foreign" / path.name / file.name)
                path.rmdir()
            elif path.name in ("samples.npz", *listing) or re.fullmatch(
                r"\d{3,}\.(npy|tar|tar\.sha256)", path.name
            ):
                path.unlink()
    shutil.rmtree(folder / PIECES, ignore_errors=True)
    remove_parts(folder)
    (folder / MANIFEST).unlink(missing_ok=True)


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer,
        {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape},
    )
    return buffer.getvalue()


def write_npz(path: Path, store: Store, plan: Plan) -> None:
    """Stream all units into the task's ``array`` (uint8 NHWC, or rows of its dtype), ``labels`` and its
    legend; never more than one unit in memory."""
    shape, dtype = layout(plan)
    with (
        files.replacing(path) as draft,
        zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        with archive.open(f"{plan.model.task.array}.npy", "w", force_zip64=True) as out:
            out.write(_header(shape, dtype))
            for block in _read_all(store, plan):
                out.write(np.ascontiguousarray(block).tobytes())
        labels = plan.labels.of(range(plan.num), plan.seeds)
        if labels is not None:
            with archive.open("labels.npy", "w") as out:
                out.write(_header((plan.num,), "int64"))
                out.write(np.asarray(labels, dtype=np.int64).tobytes())
        about = {"identity": np.array(identity.digest(plan.pinned()))}
        about |= {"task": np.array(plan.model.task.name)}
        about |= {"classes": np.array(plan.model.classes)} if labels is not None else {}
        for name, array in {**plan.model.task.legend, **about}.items():
            with archive.open(f"{name}.npy", "w") as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def unpack(path: Path, store: Store, plan: Plan) -> None:
    """Make files of the samples in an .npz that the set had before it grew, so that none is made again."""
    try:
        with zipfile.ZipFile(path) as archive:
            said = np.load(archive.open("identity.npy")) if "identity.npy" in archive.namelist() else None
            if archive.testzip() is not None or not any(
                identity.of_npz(said, d, older=store.older) for d in store.earlier
            ):
                return
    except (OSError, ValueError, zipfile.BadZipFile):
        return
    (num, *rest), dtype = layout(plan)
    rows = npz_array(path, plan.model.task.array)
    if len(rows) >= num or list(rows.shape[1:]) != rest or rows.dtype != np.dtype(dtype):
        return
    for a in range(0, len(rows), FOLDER):
        index = list(range(a, min(a + FOLDER, len(rows))))
        block = np.ascontiguousarray(rows[a : a + FOLDER])
        values = torch.from_numpy(block.transpose(0, 3, 1, 2) if plan.model.task.channels_last else block)
        recipes = plan.model.recipes(plan.batch(index)) if store.unit == 1 else ()
        if store.unit > 1 and store.absent(index[:: store.step]):
            store.write(a, values, recipes)
        for i, value, recipe in zip(index, values, recipes):
            if not store.path(i).is_file():
                store.write(i, value[None], [recipe])


def layout(plan: Plan) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of all samples in one array: pictures stand as (N, H, W, C)."""
    task, (c, *rest) = plan.model.task, plan.model.sample_shape
    return (plan.num, *rest, c) if task.channels_last else (plan.num, c, *rest), task.dtype


def _read_all(store: Store, plan: Plan) -> Iterator[np.ndarray]:
    for first in range(0, plan.num, store.unit):
        yield store.read(first)


def npz_is_whole(path: Path, plan: Plan, *, older: bool = False) -> bool:
    """Whether a finished .npz of this set is there: opens, has the right shape, and its checksums hold.
    ``older``: see `Store`."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
            with archive.open(f"{plan.model.task.array}.npy") as handle:
                np.lib.format.read_magic(handle)
                shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
            said = "identity.npy" in archive.namelist()
            mine = identity.of_npz(
                np.load(archive.open("identity.npy")) if said else None,
                identity.digest(plan.pinned()),
                older=older,
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError):
        return False
    wanted, kind = layout(plan)
    return mine and shape == wanted and dtype == np.dtype(kind)


def remove_parts(folder: Path) -> None:
    """Delete the single files that only served to make ``samples.npz``."""
    shutil.rmtree(folder / ".parts", ignore_errors=True)
