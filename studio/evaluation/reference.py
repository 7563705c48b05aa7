"""The real side of a comparison: a data set's features, or a reference file made once from them and used ever
after.

``ref.npz`` holds mu, sigma (and mu_s, sigma_s of the spatial tap), features, logits and labels of up to
``keep`` real samples and of the held-out ones (``test_...``), or, where those are among the samples, which
they are (``held_out``), the pictures themselves under ``arr_0`` and a JSON text ``meta``. ADM's reference
files (mu, sigma, mu_s, sigma_s, arr_0) are read too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.data.depth import Reading
from studio.evaluation.measures import Side
from studio.evaluation.sets import ALONE, SampleSet, open_set
from studio.metrics.distances import Moments
from studio.metrics.features import Extractor, Features, cached, extract
from studio.runtime import files
from studio.runtime.npz import npz_array, npz_members
from studio.runtime.strict_json import to_json
from studio.runtime.version import __version__
from studio.tasks import kind_of

KEEP = 10000


@dataclass(frozen=True)
class Reference:
    """``about``: name, hash, number of samples; ``real``: the samples themselves, or as many as a file keeps,
    where there are any; ``fresh``: further real samples, none of which is in the reference."""

    side: Side
    about: dict[str, Any]
    real: SampleSet | None
    fresh: Side | None = None


def features_of(samples: SampleSet, extractor: Extractor) -> Features:
    """Of all samples; kept in the user's cache by the hashes of content and extractor."""
    return cached(
        f"{samples.hash} {extractor.name} {extractor.hash} kept",
        lambda: extract(samples.batches(), extractor, keep=True),
    )


def side_of(samples: SampleSet, extractor: Extractor, *, test: SampleSet | None = None) -> Side:
    """What an extractor sees of a set; features are cached by content."""
    seen = features_of(samples, extractor)
    held_out = None if test is None else features_of(test, extractor).values
    train = None
    if samples.rows is not None and seen.values is not None:
        train, held_out = (seen.values[torch.from_numpy(rows)] for rows in samples.rows)
    return Side(
        len(samples),
        seen.moments,
        seen.values,
        seen.logits,
        samples.labels,
        seen.spatial,
        held_out,
        train,
        samples.classes,
    )


def located(
    source: str | Path | SampleSet, reading: Reading | None = None, fit: Mapping[str, Any] | None = None
) -> SampleSet | Path:
    """A set, or a file of statistics that is read with the extractor that made it."""
    path = Path("" if isinstance(source, SampleSet) else source).expanduser()
    if path.suffix == ".npz" and path.is_file() and {"mu", "sigma"} <= set(npz_members(path)):
        return path
    return source if isinstance(source, SampleSet) else open_set(source, reading, fit)


def maker(path: Path) -> str | None:
    """The name of the extractor that a file of statistics says it was made with."""
    return _meta(path).get("extractor")


def _meta(path: Path) -> dict[str, Any]:
    return json.loads(str(npz_array(path, "meta"))) if "meta" in npz_members(path) else {}


def open_reference(source: str | Path | SampleSet, extractor: Extractor) -> Reference:
    """A set, a data set, a folder, or a reference file. Raises ``ValueError`` for a file that another
    extractor made."""
    real = located(source)
    if isinstance(real, Path):
        return _from_file(real, extractor)
    about = {"reference": real.name, "reference_hash": real.hash, "reference_n": len(real), **parts_of(real)}
    about |= {"test_hash": real.test.hash} if real.test is not None else {}
    fresh = None if real.test is None else side_of(real.test, extractor)
    return Reference(side_of(real, extractor, test=real.test), about, real, fresh)


def parts_of(real: SampleSet) -> dict[str, Any]:
    """Which part of a data set this is, and what of it was left out."""
    found = {f"reference_{k}": real.about.get(k) for k in ("part", "left_out", "fitted")}
    return {k: v for k, v in found.items() if v}


def _from_file(path: Path, extractor: Extractor) -> Reference:
    there, meta = npz_members(path), _meta(path)
    digest = files.sha256(path)[:16]
    if meta and meta.get("extractor_hash") != extractor.hash:
        raise ValueError(
            f"{path} was made with {meta.get('extractor')} ({meta.get('extractor_hash')}), this call uses "
            f"{extractor.name} ({extractor.hash}); "
            "choose the same --features or make the reference again"
        )
    if not meta and extractor.name != "inception":
        raise ValueError(
            f"{path} holds Inception statistics (it was not made by studio reference), this call uses "
            f"{extractor.name}; use --features inception"
        )
    mu, sigma = npz_array(path, "mu"), npz_array(path, "sigma")
    if extractor.dim and mu.shape != (extractor.dim,):
        raise ValueError(
            f"{path} holds a mean of shape {mu.shape}, expected ({extractor.dim},) of {extractor.name}"
        )
    real = open_set(path) if "arr_0" in there else None
    # ADM's files do not tell how many samples are behind their statistics
    told = int(meta["n"]) if "n" in meta else None
    count = told or 2
    spatial = None
    if {"mu_s", "sigma_s"} <= set(there):
        spatial = Moments.given(count, npz_array(path, "mu_s"), npz_array(path, "sigma_s"))
    names = ("features", "logits", "labels", "test_features", "test_logits", "test_labels", "held_out")
    features, logits, labels, test, test_logits, test_labels, held_out = (
        npz_array(path, k) if k in there else None for k in names
    )
    if features is None and real is not None:  # ADM's files: statistics of all, pictures of ten thousand
        seen = features_of(real, extractor)
        features = None if seen.values is None else seen.values.numpy()
        logits = None if seen.logits is None else seen.logits.numpy()
    train = features[~held_out.astype(bool)] if held_out is not None and features is not None else None
    tensors = [
        None if v is None else torch.from_numpy(np.ascontiguousarray(v))
        for v in (features, logits, test, train, test_logits)
    ]
    classes = tuple(meta.get("classes", ()))
    # a file made before they were kept
    if labels is not None and "classes" not in meta and meta.get("data") in ALONE:
        classes = open_set(meta["data"]).classes
    labels, test_labels = (None if v is None else v.astype(np.int64) for v in (labels, test_labels))
    side = Side(
        told,
        Moments.given(count, mu, sigma),
        tensors[0],
        tensors[1],
        labels,
        spatial,
        tensors[2],
        tensors[3],
        classes,
    )
    about = {"reference": meta.get("data", path.name), "reference_hash": digest, "reference_n": told}
    about |= {k: meta[k] for k in ("test_hash", "reference_part", "reference_left_out") if k in meta}
    fresh = None
    if tensors[2] is not None and held_out is None:
        fresh = Side(
            len(tensors[2]), Moments.of(tensors[2]), tensors[2], tensors[4], test_labels, classes=classes
        )
    return Reference(side, about, real, fresh)


def check_reference(out: str | Path, *, keep: int = KEEP, overwrite: bool = False) -> Path:
    """The reference file, before anything is read or computed; raises what `make_reference` raises for it."""
    path = Path(out)
    if path.suffix != ".npz":
        raise ValueError(f"got {path}, expected a name that ends in .npz")
    if keep < 1:
        raise ValueError(
            f"got keep={keep}, expected at least 1: how many real samples and features the file keeps"
        )
    files.check_file(path, overwrite=overwrite)
    return path


def make_reference(
    source: str | SampleSet,
    out: str | Path,
    extractor: Extractor,
    *,
    keep: int = KEEP,
    overwrite: bool = False,
) -> Path:
    """Write ``out`` (.npz) from a data set or folder. Raises ``FileExistsError`` for a file that is there,
    unless ``overwrite``."""
    path = check_reference(out, keep=keep, overwrite=overwrite)
    real = source if isinstance(source, SampleSet) else open_set(source)
    if not kind_of(real.task).one_each:
        raise ValueError(
            f"got {real.task} samples, expected pictures: others are measured against the set itself, as "
            f"in --ref {source}"
        )
    side = side_of(real, extractor, test=real.test)
    index = np.sort(np.random.Generator(np.random.Philox(key=0)).permutation(len(real))[:keep])
    files.check_writable(
        path.parent,
        need=len(index) * (int(np.prod(real.shape)) + 4 * side.moments.dim) + 16 * side.moments.dim**2,
    )
    pictures = real.values[index]
    arrays: dict[str, np.ndarray] = {
        "mu": side.moments.mean.numpy(),
        "sigma": side.moments.covariance.numpy(),
        "features": side.need("features")[torch.from_numpy(index)].numpy(),
        "arr_0": pictures.transpose(0, 2, 3, 1) if pictures.ndim == 4 else pictures,
    }
    if side.logits is not None:
        arrays["logits"] = side.logits[torch.from_numpy(index)].numpy()
    if side.labels is not None:
        arrays["labels"] = side.labels[index]
    if side.spatial is not None:
        arrays |= {"mu_s": side.spatial.mean.numpy(), "sigma_s": side.spatial.covariance.numpy()}
    if side.test is not None:
        arrays["test_features"] = side.test.numpy()
    if real.test is not None:
        test = side_of(real.test, extractor)
        arrays |= {
            f"test_{k}": np.asarray(v)
            for k, v in (("logits", test.logits), ("labels", test.labels))
            if v is not None
        }
    if real.rows is not None:
        arrays["held_out"] = np.isin(index, real.rows[1])
    meta = {
        "data": real.name,
        "data_hash": real.hash,
        "classes": list(real.classes),
        **parts_of(real),
        "n": len(real),
        "extractor": extractor.name,
        "extractor_hash": extractor.hash,
        "studio": __version__,
    }
    meta |= {"test_hash": real.test.hash} if real.test is not None else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as draft, open(draft, "wb") as handle:
        np.savez(handle, meta=np.array(to_json(meta)), **arrays)  # type: ignore[arg-type]
    return path
