"""Where generated samples lie, one unit a file: a PNG for each picture, an .npy for each thousand points or graphs; in folders of a thousand samples.

A unit is trusted only if it is whole, has the right size and is the sample it claims to be, made as the set is (`identity`). Files are written under
another name and renamed.
"""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from studio import files
from studio.generation import identity
from studio.generation.plan import MANIFEST, Plan
from studio.samples import KEY, save_png
from studio.tasks.image import MODES

FOLDER = 1000
OURS = re.compile(r"\d{3,}")
SAMPLE = re.compile(r"\d{6,}\.png|\.\d{6,}\.png\.tmp")


class Store(Protocol):
    """``unit``: samples per file. ``write`` takes the values of whole units, ``read`` gives (n, ...) values as the npz holds them. ``older``: of a set
    that was begun before units said whose they are."""

    root: Path
    unit: int
    older: bool

    def path(self, first: int) -> Path: ...
    def write(self, first: int, values: Tensor, recipes: Sequence[dict[str, Any]]) -> None: ...
    def valid(self, first: int) -> bool: ...
    def read(self, first: int) -> np.ndarray: ...


class Pictures:
    """``NNN/NNNNNN.png``, each with its recipe inside."""

    unit, older = 1, False

    def __init__(self, root: Path, plan: Plan):
        self.root, self.plan, self.task = root, plan, plan.model.task
        self.size, self.mode = tuple(plan.model.sample_shape[:0:-1]), MODES[plan.model.sample_shape[0]]

    def path(self, first: int) -> Path:
        return self.root / f"{first // FOLDER:03d}" / f"{first:06d}.png"

    def write(self, first: int, values: Tensor, recipes: Sequence[dict[str, Any]]) -> None:
        path = self.path(first)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, self.task.pictures(values)[0], recipes[0], durable=False)

    @cached_property
    def pinned(self) -> dict[str, Any]:
        return self.plan.pinned()

    @cached_property
    def labels(self) -> Sequence[int | None]:
        found = self.plan.labels.of(range(self.plan.num), self.plan.seeds)
        return [None] * self.plan.num if found is None else found

    def valid(self, first: int) -> bool:
        from PIL import Image

        try:
            with Image.open(self.path(first)) as picture:
                recipe = json.loads(picture.info[KEY])
                fits = picture.format == "PNG" and picture.size == self.size and picture.mode == self.mode
                if not fits or recipe["seed"] != self.plan.seeds[first] or recipe.get("label") != self.labels[first]:
                    return False
                picture.verify()  # checksums, without decoding
                return not identity.differing(recipe, self.pinned)
        except Exception:  # whatever a damaged file makes PIL or json raise, the sample is made again
            return False

    def read(self, first: int) -> np.ndarray:
        from PIL import Image

        with Image.open(self.path(first)) as picture:
            array = np.asarray(picture)
        return array.reshape(1, *array.shape[:2], -1)


class Vectors:
    """``NNN.npy`` of up to a thousand rows (n, ...), of the task's dtype, with the set's ``digest`` behind them."""

    unit, older = FOLDER, False

    def __init__(self, root: Path, plan: Plan, digest: str):
        self.root, self.plan, self.digest = root, plan, digest
        self.shape, self.dtype = tuple(plan.model.info.shape), np.dtype(plan.model.task.dtype)

    def path(self, first: int) -> Path:
        return self.root / f"{first // FOLDER:03d}.npy"

    def write(self, first: int, values: Tensor, recipes: Sequence[dict[str, Any]]) -> None:
        path = self.path(first)
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as draft, open(draft, "wb") as handle:
            np.save(handle, values.to(getattr(torch, self.dtype.name)).numpy())
            handle.write(identity.line_of(self.digest, first))

    def valid(self, first: int) -> bool:
        try:
            rows = np.load(self.path(first), allow_pickle=False)
            mine = identity.is_of(self.path(first), self.digest, first, older=self.older)
        except (OSError, ValueError, EOFError):
            return False
        expected = (min(self.unit, self.plan.num - first), *self.shape)
        return mine and rows.shape == expected and rows.dtype == self.dtype and bool(np.isfinite(rows).all())

    def read(self, first: int) -> np.ndarray:
        return np.load(self.path(first), allow_pickle=False)


def store_of(root: Path, plan: Plan) -> Store:
    """The store of the plan's task."""
    return Pictures(root, plan) if plan.model.task.suffix == ".png" else Vectors(root, plan, identity.digest(plan.pinned()))


def units(plan: Plan, store: Store, shard: tuple[int, int] = (1, 1)) -> list[int]:
    """First indices of the units of shard k of n: blocks of 64 units are dealt out in turn."""
    k, n = shard
    return [u * store.unit for u in range(-(-plan.num // store.unit)) if u // 64 % n == k - 1]


def missing(store: Store, wanted: Sequence[int]) -> list[int]:
    """Those units that are not there or not to be trusted."""
    with ThreadPoolExecutor(4) as pool:
        return [first for first, good in zip(wanted, pool.map(store.valid, wanted, chunksize=64)) if not good]


def set_aside(store: Store, plan: Plan, home: Path) -> list[Path]:
    """Move files that are not the plan's out of the sample folders into ``home/foreign/``, so that nobody counts them as samples; returns where
    they are."""
    mine = {store.path(u) for u in range(0, plan.num, store.unit)}
    moved = []
    for folder in [p for p in store.root.iterdir() if p.is_dir() and OURS.fullmatch(p.name)] if store.root.is_dir() else []:
        for path in sorted(folder.iterdir()):
            draft = path.name.endswith(".tmp") and path.with_name(path.name[1:-4]) in mine
            if path in mine or draft:  # a draft is written over when its sample is made, or another machine is just writing it
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
    """Delete what generation wrote, by its names, and nothing else; the rest of the sample folders goes to ``foreign/``."""
    for root in (folder, folder / ".parts"):
        for path in sorted(root.iterdir()) if root.is_dir() else []:
            if path.is_dir() and OURS.fullmatch(path.name):
                for file in sorted(path.iterdir()):
                    if SAMPLE.fullmatch(file.name):
                        file.unlink()
                    else:
                        _moved(file, folder / "foreign" / path.name / file.name)
                path.rmdir()
            elif path.name in ("samples.npz", *listing) or re.fullmatch(r"\d{3,}\.npy", path.name):
                path.unlink()
    remove_parts(folder)
    (folder / MANIFEST).unlink(missing_ok=True)


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def write_npz(path: Path, store: Store, plan: Plan) -> None:
    """Stream all units into ``arr_0`` (uint8 NHWC, or rows of the task's dtype), ``labels`` and the task's legend; never more than one unit in memory."""
    shape, dtype = layout(plan)
    with files.replacing(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as out:
            out.write(_header(shape, dtype))
            for block in _read_all(store, plan):
                out.write(np.ascontiguousarray(block).tobytes())
        labels = plan.labels.of(range(plan.num), plan.seeds)
        if labels is not None:
            with archive.open("labels.npy", "w") as out:
                out.write(_header((plan.num,), "int64"))
                out.write(np.asarray(labels, dtype=np.int64).tobytes())
        about = {"identity": np.array(identity.digest(plan.pinned()))}
        about |= {"classes": np.array(plan.model.classes)} if labels is not None else {}
        for name, array in {**plan.model.task.legend, **about}.items():
            with archive.open(f"{name}.npy", "w") as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def layout(plan: Plan) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of all samples in one array: pictures stand as (N, H, W, C)."""
    task, (c, *rest) = plan.model.task, plan.model.sample_shape
    return (plan.num, *rest, c) if task.suffix == ".png" else (plan.num, c, *rest), task.dtype


def _read_all(store: Store, plan: Plan) -> Iterator[np.ndarray]:
    for first in range(0, plan.num, store.unit):
        yield store.read(first)


def npz_is_whole(path: Path, plan: Plan, *, older: bool = False) -> bool:
    """Whether a finished .npz of this set is there: opens, has the right shape, and its checksums hold. ``older``: see `Store`."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
            with archive.open("arr_0.npy") as handle:
                np.lib.format.read_magic(handle)  # type: ignore[arg-type]
                shape, _, dtype = np.lib.format.read_array_header_1_0(handle)  # type: ignore[arg-type]
            said = "identity.npy" in archive.namelist()
            mine = identity.of_npz(np.load(archive.open("identity.npy")) if said else None, identity.digest(plan.pinned()), older=older)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError):
        return False
    wanted, kind = layout(plan)
    return mine and shape == wanted and dtype == np.dtype(kind)


def remove_parts(folder: Path) -> None:
    """Delete the single files that only served to make ``samples.npz``."""
    shutil.rmtree(folder / ".parts", ignore_errors=True)
