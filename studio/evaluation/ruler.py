"""What measures a set of samples: the names of the measures, the reference and the extractor, everything
checked before the first sample of a model is made. `evaluate` and `sweep` measure by one and the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.registry import suggest
from studio.evaluation import measures, molecule_measures, point_measures
from studio.evaluation.classes import among
from studio.evaluation.floors import floors
from studio.evaluation.measures import MEASURES, Side
from studio.evaluation.reference import Reference, located, maker, open_reference, side_of
from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet, open_set
from studio.metrics.distances import Moments
from studio.metrics.features import Extractor, build_extractor, with_channels
from studio.metrics.inception import find_inception
from studio.metrics.lenet import class_names
from studio.runtime.npz import npz_members
from studio.runtime.version import __version__

DEFAULT = {
    "inception": ("fid", "sfid", "is", "pr", "dc", "kid", "nn"),
    "lenet": ("fd", "fd_class", "pr", "dc", "kid", "is", "acc", "nn"),
}
OTHERS = ("fd", "fd_class", "pr", "dc", "kid", "nn")
FASHION = ("fashion-mnist", "fashion-restore")  # data of Fashion-MNIST, also without its classes


@dataclass(frozen=True)
class Ruler:
    """See `ruler_for`. ``reference``: features of pictures with their ``extractor``, or the set itself that
    points and molecules are compared with."""

    metrics: Sequence[str] | None
    reference: Reference | SampleSet
    extractor: Extractor | None = None
    allow_small: bool = False
    filters: str | None = None
    test_scaffolds: str | None = None

    @property
    def digest(self) -> str:
        """Of the reference."""
        return str(
            self.reference.about["reference_hash"]
            if isinstance(self.reference, Reference)
            else self.reference.hash
        )

    def measure(self, samples: SampleSet) -> Result:
        """A single measure that cannot be computed is listed in ``failed``."""
        if not isinstance(self.reference, Reference) or self.extractor is None:
            assert isinstance(self.reference, SampleSet)
            if samples.task == "points":
                return point_measures.evaluate(samples, self.reference, self.metrics)
            return molecule_measures.evaluate(
                samples,
                self.reference,
                self.metrics,
                filters=self.filters,
                test_scaffolds=self.test_scaffolds,
            )
        wanted = parse_metrics(self.metrics, self.extractor)
        side, options = (
            side_of(samples, self.extractor),
            measures.options_of(self.extractor, self.allow_small),
        )
        values, failed = measures.measured(wanted, side, self.reference.side, options)
        floor, told = floors([m for m in wanted if m not in failed], self.reference, side, self.extractor)
        protocol = protocol_of(samples, self.reference, self.extractor, side, told)
        return Result(samples.name, values, floor, failed, {**protocol, **options.notes})


def ruler_for(
    samples: SampleSet,
    ref: str | Path | SampleSet | Reference,
    *,
    metrics: str | Sequence[str] | None = None,
    features: str | Extractor | None = None,
    inception: str | Path | None = None,
    allow_small: bool = False,
    filters: str | None = None,
    test_scaffolds: str | None = None,
    made: bool = True,
) -> Ruler:
    """The `Ruler` of these samples, or of samples that are still to be made (not ``made``: of ``samples`` all
    but the values counts, and a measure asked for by name that they cannot have is refused). Raises
    ``ValueError`` for whatever does not fit together, ``ImportError`` for a measure whose library is
    missing."""
    kind = samples.task
    if kind == "arrays":
        raise ValueError(
            f"got samples that are {samples.values.dtype} of {samples.shape}, expected pictures (uint8), "
            "points or molecules: others have no measures"
        )
    if kind != "molecule" and (filters is not None or test_scaffolds is not None):
        raise ValueError(
            f"got {'filters' if filters is not None else 'test_scaffolds'} for {kind}, expected "
            "molecules; leave it out"
        )
    for name, value in (("features", features), ("inception", inception)):
        if kind != "image" and value is not None:
            raise ValueError(f"got {name}={value} for {kind}, which have measures of their own; leave it out")
    if kind == "image":
        return _of_pictures(samples, ref, _names(metrics), features, inception, allow_small, made)
    if kind == "points":
        wanted = point_measures.parse_metrics(metrics)
    else:
        wanted = molecule_measures.parse_metrics(metrics, samples, filters)
        molecule_measures.check(wanted, filters, test_scaffolds)
        if not made and metrics is not None and "targets" in wanted:
            molecule_measures.asked_for(samples.asked)
    real = ref if isinstance(ref, Reference) else located(ref)
    if not isinstance(real, SampleSet):
        raise ValueError(
            f"got a reference of features for {kind}, expected a set of {kind} samples; choose another --ref"
        )
    _same_kind(kind, real.task, made)
    if kind == "points":
        point_measures.check(samples, real)
        if not made and metrics is not None and "modes" in wanted:
            point_measures.check_modes(real)
    return Ruler(_names(metrics), real, None, allow_small, filters, test_scaffolds)


def _names(metrics: str | Sequence[str] | None) -> Sequence[str] | None:
    return metrics.split(",") if isinstance(metrics, str) else metrics


def _same_kind(kind: str, real: str, made: bool) -> None:
    if kind != real and kind == "molecule":
        raise ValueError(
            f"got molecules and a reference of {real}, expected molecules such as moses or molecules:FILE"
        )
    if kind != real:
        raise ValueError(
            f"got a reference of {real} for {'samples' if made else 'a model'} of {kind}; choose "
            "another --ref"
        )


def _of_pictures(
    samples: SampleSet,
    ref: str | Path | SampleSet | Reference,
    metrics: Sequence[str] | None,
    features: Any,
    inception: Any,
    allow_small: bool,
    made: bool,
) -> Ruler:
    """What costs nothing is checked first, then the reference's features are found, then what needs them is
    checked."""
    if metrics is not None:
        _known(metrics)
    source = ref if isinstance(ref, Reference) else located(ref, samples.reading)
    real = source.real if isinstance(source, Reference) else source
    if isinstance(real, SampleSet):
        _same_kind("image", real.task, made)
    shown = open_set(real) if isinstance(real, Path) and "arr_0" in npz_members(real) else real
    if isinstance(shown, SampleSet) and shown.shape != samples.shape:
        raise ValueError(
            f"got samples of {samples.shape} and a reference of {shown.shape} (C, H, W), expected the "
            "same; choose another --ref, or fit both: --size N --channels 1 or 3, or resize it first"
        )
    extractor = choose_extractor(features, samples, inception, real)
    wanted = parse_metrics(metrics, extractor)
    # refuses sizes and channels
    seen = extractor(with_channels(torch.zeros((1, *samples.shape), dtype=torch.uint8), extractor))
    reference = source if isinstance(source, Reference) else open_reference(source, extractor)
    if not made:
        failed = measures.refused(
            wanted, promised(samples, seen), reference.side, measures.options_of(extractor, allow_small)
        )
        if failed and (metrics is not None or len(failed) == len(wanted)):
            name, why = next(iter(failed.items()))
            raise ValueError(f"{name} cannot be computed: {why}; or leave it out of the metrics")
    return Ruler(metrics, reference, extractor, allow_small)


def promised(samples: SampleSet, seen: dict[str, Tensor]) -> Side:
    """What is known of a set's side before it is made; ``seen``: what the extractor gives for one picture."""
    spatial = Moments(seen["spatial"].flatten(1).shape[1]) if "spatial" in seen else None
    return Side(
        len(samples),
        Moments(seen["features"].shape[1]),
        None,
        seen.get("logits"),
        samples.labels,
        spatial,
        classes=samples.classes,
    )


def choose_extractor(
    name: str | Extractor | None,
    samples: SampleSet | tuple[int, ...],
    inception: str | Path | None = None,
    real: SampleSet | Path | None = None,
) -> Extractor:
    """The extractor asked for, by name or as it is; otherwise the one that the reference file was made with,
    the one that papers use where its weights are there, and where not lenet for Fashion-MNIST, efficientnet
    for other pictures. ``samples``: the set, or the shape of its pictures."""
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
    """Whether grey 28 × 28 pictures are those that lenet was made for: by the name of the data set, or the
    names of the reference's classes, or the samples'."""
    if (samples.shape if isinstance(samples, SampleSet) else samples) != (1, 28, 28):
        return False
    for one in (real, samples):
        if isinstance(one, SampleSet) and (one.about.get("data") in FASHION or one.classes):
            return one.about.get("data") in FASHION or among(one.classes, class_names())
    return False


def parse_metrics(metrics: str | Sequence[str] | None, extractor: Extractor) -> list[str]:
    """Names from ``"fd,acc"`` or a list. Raises ``ValueError`` for unknown names and an empty list."""
    return list(DEFAULT.get(extractor.name, OTHERS)) if metrics is None else _known(metrics)


def _known(metrics: str | Sequence[str]) -> list[str]:
    names = [n.strip() for n in (metrics.split(",") if isinstance(metrics, str) else metrics)]
    if not [n for n in names if n]:
        raise ValueError(f"got an empty list of metrics, expected some of {', '.join(MEASURES)}")
    for n in names:
        if n not in MEASURES:
            raise ValueError(
                f"got metric {n!r}, expected some of {', '.join(MEASURES)}{suggest(n, MEASURES)}"
            )
    return list(dict.fromkeys(names))


def protocol_of(
    samples: SampleSet, reference: Reference, extractor: Extractor, side: Side, floor: str
) -> dict[str, Any]:
    """Everything a reader needs to know before comparing a number with another."""
    about = samples.about
    return {
        "extractor": extractor.name,
        "extractor_hash": extractor.hash,
        "dimensions": side.moments.dim,
        "resize": getattr(extractor, "resize", "none"),
        "samples": len(samples),
        "sample_hash": samples.hash,
        "sample_dtype": "uint8",
        **reference.about,
        "floor": floor,
        **{
            k: about.get(k)
            for k in (
                "model",
                "model_hash",
                "weights",
                "sampler",
                "num_steps",
                "guidance",
                "labels",
                "seeds",
                "dtype",
                "conditions",
                "path",
            )
        },
        **({"fitted": about["fitted"]} if "fitted" in about else {}),
        "precision_recall_k": measures.K_PRECISION,
        "density_coverage_k": measures.K_DENSITY,
        "studio": __version__,
    }
