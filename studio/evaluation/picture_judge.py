"""Pictures are measured in the features of an extractor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.registry import suggest
from studio.evaluation import measures
from studio.evaluation.classes import among
from studio.evaluation.floors import floors
from studio.evaluation.judges import Asked, Found, Judge, Ruler, maker_of, same_kind
from studio.evaluation.measures import MEASURES, Side
from studio.evaluation.picture_files import typed
from studio.evaluation.reference import Reference, located, maker, open_reference, side_of
from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet, open_set
from studio.metrics.distances import Moments
from studio.metrics.features import Extractor, build_extractor, with_channels
from studio.metrics.inception_extractor import find_inception
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
class PictureRuler(Ruler):
    """Against features of a reference, seen by its ``extractor``."""

    metrics: Sequence[str] | None
    reference: Reference
    extractor: Extractor
    allow_small: bool = False
    slow, whole = frozenset({"kid", "pr", "dc", "nn"}), frozenset({"sfid"})
    once = frozenset({"kid", "pr", "dc"})

    @property
    def digest(self) -> str:
        return str(self.reference.about["reference_hash"])

    @property
    def seen_by(self) -> str:  # type: ignore[override]
        return self.extractor.hash

    @property
    def about(self) -> dict[str, Any]:
        return {
            "extractor": self.extractor.name,
            "extractor_hash": self.extractor.hash,
            **self.reference.about,
        }

    @property
    def options(self) -> measures.Options:
        return measures.options_of(self.extractor, self.allow_small)

    def measure(self, samples: SampleSet) -> Result:
        wanted = parse_metrics(self.metrics, self.extractor)
        side, options = side_of(samples, self.extractor), self.options
        values, failed = measures.measured(wanted, side, self.reference.side, options)
        floor, told = floors([m for m in wanted if m not in failed], self.reference, side, self.extractor)
        protocol = protocol_of(samples, self.reference, self.extractor, side, told)
        return Result(samples.name, values, floor, failed, {**protocol, **options.notes})

    def names(self, sets: Sequence[SampleSet]) -> tuple[list[str], dict[str, str]]:
        wanted = parse_metrics(self.metrics, self.extractor)
        seen = _seen(sets[0], self.extractor)
        kept = [n for n in wanted if n not in self.whole]
        failed: dict[str, str] = {}
        for one in sets:
            failed |= measures.refused(kept, promised(one, seen), self.reference.side, self.options)
        return wanted, failed

    def by_rows(self, samples: SampleSet) -> Callable[[Sequence[str], np.ndarray], Found]:
        side = side_of(samples, self.extractor)
        return lambda names, rows: measures.measured(
            names, side.part(rows), self.reference.side, self.options
        )


class PictureJudge(Judge):
    """What costs nothing is checked first, then the reference's features are found, then what needs them is
    checked."""

    takes = ("features", "inception")

    def ruler(self, samples: SampleSet, ref: Any, asked: Asked) -> Ruler:
        if asked.metrics is not None:
            _known(asked.metrics)
        source = ref if isinstance(ref, Reference) else located(ref, samples.reading)
        real = source.real if isinstance(source, Reference) else source
        if isinstance(real, SampleSet):
            same_kind(samples, real, asked.made)
        shown = open_set(real) if isinstance(real, Path) and "arr_0" in npz_members(real) else real
        if isinstance(shown, SampleSet) and shown.shape != samples.shape:
            raise ValueError(
                f"got samples of {samples.shape} and a reference of {shown.shape} (C, H, W), expected the "
                f"same; choose another --ref, or fit both: --size {typed(samples.shape[1:])} --channels 1 or "
                "3, or resize it first"
            )
        extractor = choose_extractor(asked.features, samples, asked.inception, real)
        wanted = parse_metrics(asked.metrics, extractor)
        seen = _seen(samples, extractor)  # refuses sizes and channels
        reference = source if isinstance(source, Reference) else open_reference(source, extractor)
        ruler = PictureRuler(asked.metrics, reference, extractor, asked.allow_small)
        if not asked.made:
            failed = measures.refused(wanted, promised(samples, seen), reference.side, ruler.options)
            if failed and (asked.metrics is not None or len(failed) == len(wanted)):
                name, why = next(iter(failed.items()))
                raise ValueError(f"{name} cannot be computed: {why}; or leave it out of the metrics")
        return ruler


JUDGE = PictureJudge()


def _seen(samples: SampleSet, extractor: Extractor) -> dict[str, Tensor]:
    """What an extractor gives for one black picture of these sides."""
    return extractor(with_channels(torch.zeros((1, *samples.shape), dtype=torch.uint8), extractor))


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
        **maker_of(samples),
        **({"fitted": samples.about["fitted"]} if "fitted" in samples.about else {}),
        "precision_recall_k": measures.K_PRECISION,
        "density_coverage_k": measures.K_DENSITY,
        "studio": __version__,
    }
