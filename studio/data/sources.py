"""Arrays from files: the bundled Fashion-MNIST and any .npz."""

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from studio.data.arrays import Arrays, Data, content_hash, from_arrays
from studio.data.finite import check_values
from studio.data.layout import channels_first, unflattened
from studio.data.npz_files import array_of, beside, named_array, opened
from studio.data.parts import HELD_OUT, parted


def fashion_mnist(*, classes: tuple[int, ...] = (), count: int | None = None) -> Data:
    """The bundled balanced subset of Fashion-MNIST (Zalando SE, MIT): 12,000 training and 2,000 test
    pictures, 1×28×28, ten classes.

    ``classes``: only these, in this order, which then count from 0; ``count``: so many training pictures, as
    many of each class. Raises ``ValueError`` for a class that does not exist or more pictures than there are.
    """
    with (
        resources.as_file(resources.files("studio") / "bundled" / "data" / "fashion_mnist_12k.npz") as path,
        np.load(path, allow_pickle=False) as file,
    ):
        train, test = file["train_images"][:, None], file["test_images"][:, None]
        labels, test_labels = file["train_labels"].astype(np.int64), file["test_labels"].astype(np.int64)
        names = tuple(str(c) for c in file["classes"])
    if classes or count is not None:
        chosen = tuple(classes) or tuple(range(len(names)))
        if len(set(chosen)) < len(chosen) or not all(0 <= c < len(names) for c in chosen):
            raise ValueError(
                f"got data.classes={list(chosen)}, expected different numbers from 0 to {len(names) - 1}"
            )
        most = min(int((labels == c).sum()) for c in chosen)
        each = most if count is None else count // len(chosen)
        if not 1 <= each <= most:
            raise ValueError(
                f"got data.count={count}, expected {len(chosen)} to {most * len(chosen)} for "
                f"{len(chosen)} classes"
            )
        rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in chosen]))
        kept = np.flatnonzero(np.isin(test_labels, chosen))
        number = np.full(len(names), -1)
        number[list(chosen)] = np.arange(len(chosen))
        train, labels, test, test_labels = (
            train[rows],
            number[labels[rows]],
            test[kept],
            number[test_labels[kept]],
        )
        names = tuple(names[c] for c in chosen)
    return Data(
        "fashion-mnist",
        "image",
        tuple(train.shape[1:]),
        Arrays(train, labels),
        Arrays(test, test_labels),
        names,
        {"name": "pixels"},
        content_hash(train, labels),
    )


def npz(
    *,
    path: str,
    images: str | None = None,
    labels: str | None = None,
    layout: Literal["chw", "hwc"] | None = None,
    conditions: tuple[str, ...] = (),
    held_out: float = HELD_OUT,
    stratify: bool = True,
) -> Data:
    """An .npz with uint8 pictures (N, H, W), (N, H, W, C) or (N, C, H, W), also flat ones (N, H·W), or float
    vectors (N, d) under ``images``, by default ``images`` or ``arr_0``, class numbers or names (N,) under
    ``labels``, by default ``labels`` or, beside ``arr_0``, ``arr_1`` (none where it says ``none``), names
    ``classes``, numeric conditions ``numeric`` (N, K; NaN = missing) with ``numeric_names``, and texts (N,)
    ``captions``, which are the condition ``caption``, if there are any. ``conditions``: further ones, each
    ``NAME:KIND`` of an array and of `studio.data.conditions.KINDS`. ``layout``: where the channels are, for
    shapes that do not tell. ``held_out``: the share kept from training, of each class (of all together
    without ``stratify``). Pickled arrays are refused.
    """
    where = Path(path).expanduser()
    with opened(where) as file:
        key = named_array(list(file), images, ("images", "arr_0"), "images", where)
        if key is None:
            raise ValueError(
                f"{where} holds {', '.join(file)}, expected an array named 'images' or arr_0; set "
                "data.images=NAME"
            )
        values = array_of(file, key, where, "a float array of points, or uint8 pictures of one size")
        if values.ndim == 0 or len(values) == 0:
            raise ValueError(f"{where} holds no samples")
        usual = ("labels", "arr_1") if key == "arr_0" else ("labels",)
        extra = beside(file, where, len(values), labels=labels, usual=usual, conditions=conditions)
    y, classes = extra.pop("labels"), extra.pop("classes")
    if values.ndim == 2:
        values = unflattened(values, f"{where} ({key})", layout)
    if layout is not None and values.ndim != 4:
        raise ValueError(
            f"{where}: got data.layout={layout} for an array of shape {values.shape}, expected (N, H, W, "
            "C) or (N, C, H, W); leave it out"
        )
    check_values(values, f"{where} ({key})")
    extra["parts"] = parted(len(values), y, held_out, stratify)
    if values.ndim == 2:
        values = values.astype(np.float32)
        codec = {"name": "scale", "std": float(values.std()) or 1.0}
        data = from_arrays(
            where.stem, values, y, classes, held_out=held_out, task="points", codec=codec, **extra
        )
        return replace(data, stratified=stratify)
    if values.dtype != np.uint8 or values.ndim not in (3, 4):
        raise ValueError(
            f"{where}: got {values.dtype} of shape {values.shape}, expected uint8 pictures (N, H, W[, C]) "
            "or float vectors (N, d)"
        )
    values = channels_first(values, str(where), layout)
    data = from_arrays(
        where.stem, values, y, classes, held_out=held_out, task="image", codec={"name": "pixels"}, **extra
    )
    return replace(data, stratified=stratify)
