"""`studio evaluate`: samples against a reference, every measure with its floor and the protocol; what cannot be computed is named, the rest is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.registry import suggest
from studio import __version__
from studio.evaluation import measures, molecules, points
from studio.evaluation.classes import among
from studio.evaluation.floors import floors
from studio.evaluation.measures import MEASURES, Side
from studio.evaluation.reference import Reference, located, maker, open_reference, side_of
from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet, is_data, open_set
from studio.metrics.features import Extractor, build_extractor
from studio.metrics.inception import find_inception
from studio.metrics.lenet import class_names
from studio.model import Model, load

DEFAULT = {"inception": ("fid", "sfid", "is", "pr", "dc", "kid", "nn"), "lenet": ("fd", "fd_class", "pr", "dc", "kid", "is", "acc", "nn")}
OTHERS = ("fd", "fd_class", "pr", "dc", "kid", "nn")
FASHION = ("fashion-mnist", "fashion-restore")  # data of Fashion-MNIST, also without its classes


def evaluate(
    samples: str | Path | Model | SampleSet, ref: str | Path | SampleSet | Reference, *, metrics: str | Sequence[str] | None = None, features: str | Extractor | None = None,
    inception: str | Path | None = None, allow_small: bool = False, batch: int | str = "auto", on_progress: Callable[[int, int], Any] | None = None,
    filters: str | None = None, test_scaffolds: str | None = None, **sampling: Any,
) -> Result:  # fmt: skip
    """Measure a set of samples, or a MODEL (``num=``, ``seeds=``, ``labels=``, ``guidance=`` ... as in `generate`; no pictures are written).

    ``ref``: a reference file of `studio.evaluation.make_reference`, an ADM .npz, a folder or a data set. ``features``: inception, lenet,
    efficientnet or an `Extractor`; by default inception where its weights are given, lenet for 1×28×28. ``filters`` and ``test_scaffolds`` of molecules: MOSES's rule lists
    and scaffold split, or the wheel of molsets that holds them. Raises ``ValueError`` for what does not fit together;
    a single measure that cannot be computed is listed in ``failed``.
    """
    chosen = opened(samples, batch=batch, on_progress=on_progress, **sampling)
    if chosen.task == "arrays":
        raise ValueError(
            f"got samples that are {chosen.values.dtype} of {chosen.shape}, expected pictures (uint8), points or molecules: others have no measures"
        )
    if chosen.task != "image":
        if isinstance(ref, Reference):
            raise ValueError(f"got a reference of features for {chosen.task}, expected a set of {chosen.task} samples")
        real = ref if isinstance(ref, SampleSet) else open_set(ref)
        if chosen.task == "molecule":
            return molecules.evaluate(chosen, real, metrics, filters=filters, test_scaffolds=test_scaffolds)
        only_molecules(filters, test_scaffolds, chosen.task)
        return points.evaluate(chosen, real, metrics)
    only_molecules(filters, test_scaffolds, chosen.task)
    source = ref if isinstance(ref, Reference) else located(ref, chosen.reading)
    extractor = choose_extractor(features, chosen, inception, source.real if isinstance(source, Reference) else source)
    wanted = parse_metrics(metrics, extractor)
    reference = source if isinstance(source, Reference) else open_reference(source, extractor)
    if reference.real is not None and reference.real.shape != chosen.shape:
        raise ValueError(
            f"got samples of {chosen.shape} and a reference of {reference.real.shape} (C, H, W), expected the same; resize one of them first"
        )
    side, options = side_of(chosen, extractor), measures.options_of(extractor, allow_small)
    values, failed = measures.measured(wanted, side, reference.side, options)
    floor, told = floors([m for m in wanted if m not in failed], reference, side, extractor)
    return Result(chosen.name, values, floor, failed, {**protocol_of(chosen, reference, extractor, side, told), **options.notes})


def only_molecules(filters: str | None, test_scaffolds: str | None, task: str) -> None:
    if filters is not None or test_scaffolds is not None:
        raise ValueError(f"got {'filters' if filters is not None else 'test_scaffolds'} for {task}, expected molecules; leave it out")


def opened(samples: Any, *, batch: int | str = "auto", on_progress: Callable[[int, int], Any] | None = None, **sampling: Any) -> SampleSet:
    """The samples as a set; a model makes them in memory first."""
    if isinstance(samples, SampleSet):
        return samples
    if not isinstance(samples, Model):
        path = Path(samples).expanduser()
        there = path.exists() and not (path / "config.yaml").is_file()
        if there or is_data(str(samples)):
            given = [k for k, v in sampling.items() if v not in (None, "default", False, "ema", "auto", {})]
            if given:
                raise ValueError(f"got {given[0]}={sampling[given[0]]!r} for samples that are made already; leave it out, or give a MODEL")
            return open_set(samples)
    return generated(samples, batch=batch, on_progress=on_progress, **sampling)


def family_of(model: Model) -> str:
    """The measures that a model's samples have: of pictures, points or molecules. Raises ``ValueError`` for samples that have none."""
    family = model.task.judged
    if not family or (family == "image" and model.codec.name == "scale"):  # arrays of one's own, which no extractor sees
        raise ValueError(
            f"{model.name} makes {model.task.name} samples that are arrays of {model.sample_shape}, for which there are no measures; "
            "generate them and measure them yourself"
        )
    return family


def generated(
    model: str | Path | Model, *, num: int | None = None, weights: str = "auto", device: str = "auto", dtype: str = "auto", batch: int | str = "auto",
    on_progress: Callable[[int, int], Any] | None = None, **options: Any,
) -> SampleSet:  # fmt: skip
    """A model's samples in memory, with what made them in ``about``."""
    from studio.generation.engine import compute
    from studio.generation.plan import make_plan
    from studio.generation.run import parse_batch

    loaded = model if isinstance(model, Model) else load(str(model), weights=weights, device=device, dtype=dtype)
    family_of(loaded)
    if num is None and options.get("seeds") is None:
        num = 10000
    plan = make_plan(loaded, num=num, batch=parse_batch(batch, loaded), **options)
    c, *rest = loaded.sample_shape
    values = np.empty((plan.num, c, *rest), loaded.task.dtype)
    done = 0
    for index, made in compute(plan, range(plan.num)):
        values[index] = made.numpy()
        done += len(index)
        if on_progress is not None:
            on_progress(done, plan.num)
    labels = plan.labels.of(range(plan.num), plan.seeds)
    pinned = plan.pinned()
    about = {k: pinned[k] for k in ("sampler", "num_steps", "guidance", "labels", "seeds", "weights", "dtype", "model_hash", "conditions", "path")}
    about |= {"model": loaded.name, "data": loaded.info.data, "deterministic": pinned["deterministic"] is not None}
    atoms = tuple(loaded.info.codec.get("atoms", ()))
    asked = {k: np.full(plan.num, float(v)) for k, v in (about["conditions"] or {}).items()} if atoms else {}
    return SampleSet(
        loaded.name, values, None if labels is None else np.array(labels), loaded.classes, about, atoms=atoms, asked=asked, reading=loaded.reading
    )


def choose_extractor(
    name: str | Extractor | None, samples: SampleSet | tuple[int, ...], inception: str | Path | None = None, real: SampleSet | Path | None = None,
) -> Extractor:  # fmt: skip
    """The extractor asked for, by name or as it is; otherwise the one that the reference file was made with, the one that papers use where its weights are there,
    and where not lenet for Fashion-MNIST, efficientnet for other pictures. ``samples``: the set, or the shape of its pictures."""
    if name is not None and not isinstance(name, str):
        return name
    if name is None and isinstance(real, Path):
        name = maker(real)
    if name is None:
        try:
            find_inception(inception)
            name = "inception"
        except ValueError:
            if inception is not None:
                raise
            name = "lenet" if is_fashion(samples, real) else "efficientnet"
    return build_extractor(name, inception=inception if name == "inception" else None)


def is_fashion(samples: SampleSet | tuple[int, ...], real: SampleSet | Path | None) -> bool:
    """Whether grey 28 × 28 pictures are those that lenet was made for: by the name of the data set, or the names of the reference's classes, or the samples'."""
    if (samples.shape if isinstance(samples, SampleSet) else samples) != (1, 28, 28):
        return False
    for one in (real, samples):
        if isinstance(one, SampleSet) and (one.about.get("data") in FASHION or one.classes):
            return one.about.get("data") in FASHION or among(one.classes, class_names())
    return False


def parse_metrics(metrics: str | Sequence[str] | None, extractor: Extractor) -> list[str]:
    """Names from ``"fd,acc"`` or a list. Raises ``ValueError`` for unknown names and an empty list."""
    names = list(DEFAULT.get(extractor.name, OTHERS)) if metrics is None else metrics.split(",") if isinstance(metrics, str) else list(metrics)
    names = [n.strip() for n in names]
    if not [n for n in names if n]:
        raise ValueError(f"got an empty list of metrics, expected some of {', '.join(MEASURES)}")
    for n in names:
        if n not in MEASURES:
            raise ValueError(f"got metric {n!r}, expected some of {', '.join(MEASURES)}{suggest(n, MEASURES)}")
    return list(dict.fromkeys(names))


def protocol_of(samples: SampleSet, reference: Reference, extractor: Extractor, side: Side, floor: str) -> dict[str, Any]:
    """Everything a reader needs to know before comparing a number with another."""
    about: Mapping[str, Any] = samples.about
    return {
        "extractor": extractor.name, "extractor_hash": extractor.hash, "dimensions": side.moments.dim, "resize": getattr(extractor, "resize", "none"), "samples": len(samples),
        "sample_hash": samples.hash, "sample_dtype": "uint8", **reference.about, "floor": floor,
        **{k: about.get(k) for k in ("model", "model_hash", "weights", "sampler", "num_steps", "guidance", "labels", "seeds", "dtype", "conditions", "path")},
        "precision_recall_k": measures.K_PRECISION, "density_coverage_k": measures.K_DENSITY, "studio": __version__,
    }  # fmt: skip
