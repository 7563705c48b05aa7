"""Measures by name. Each takes two `Side`s, what an extractor saw of the samples and of the reference, and
gives numbers; the same function on two disjoint real sets gives the floor."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.plugins import Registry
from backbones.registry import resolve
from studio.evaluation.classes import onto
from studio.metrics import distances, manifold, memorisation
from studio.metrics.distances import Moments
from studio.metrics.features import Extractor

K_PRECISION, K_DENSITY, KID_SUBSET, KID_SUBSETS = 3, 5, 1000, 100


@dataclass(frozen=True, eq=False)
class Side:
    """One set as an extractor sees it: moments of all ``n`` samples (None where a file of others does not
    tell how many); features (n, d), logits (n, K) and labels (n,) of all or, in a reference file, of some of
    them, numbers among ``classes`` (names); moments of the spatial tap (sFID). ``test``: features of real
    samples that no model was trained on, beside ``train``, those that training would take (None:
    ``features``)."""

    n: int | None
    moments: Moments
    features: Tensor | None = None
    logits: Tensor | None = None
    labels: np.ndarray | None = None
    spatial: Moments | None = None
    test: Tensor | None = None
    train: Tensor | None = None
    classes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes; numbers where they have none."""
        return self.classes or tuple(
            map(str, range(0 if self.labels is None else int(self.labels.max(initial=-1)) + 1))
        )

    def need(self, what: str) -> Tensor:
        """Features or logits. Raises ``ValueError`` where there are none."""
        value: Tensor | None = getattr(self, what)
        if value is None:
            raise ValueError(
                f"{what} are missing: the extractor or the reference file has none; choose other features "
                "or make the reference again"
            )
        return value

    def part(self, index: np.ndarray) -> "Side":
        """These rows as a set of their own."""
        rows = torch.from_numpy(index)
        features = self.need("features")[rows]
        logits = None if self.logits is None else self.logits[rows]
        labels = None if self.labels is None else self.labels[index]
        return Side(len(index), Moments.of(features), features, logits, labels, classes=self.classes)


@dataclass(frozen=True)
class Options:
    """``allow_small``: Fréchet distances of fewer samples than dimensions. ``extractor``: its name,
    ``classes``: those of its logits. ``memo``: what two measures of one evaluation share. ``notes``: what the
    protocol has to tell of a measure."""

    allow_small: bool = False
    extractor: str = ""
    classes: tuple[str, ...] = ()
    memo: dict[tuple[int, int], manifold.Manifold] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def smaller(a: Side, b: Side) -> int:
    """Samples of the smaller set, of those whose number is known."""
    return min(side.n for side in (a, b) if side.n is not None)


def _can_fd(a: Side, b: Side, options: Options) -> None:
    distances.refuse_small(smaller(a, b), a.moments.dim, options.allow_small)


def fd(a: Side, b: Side, options: Options) -> dict[str, float]:
    """Fréchet distance of the features."""
    _can_fd(a, b, options)
    return {"fd": distances.frechet(a.moments, b.moments)}


def _can_fid(a: Side, b: Side, options: Options) -> None:
    if options.extractor != "inception":
        raise ValueError(
            f"FID is the distance in Inception features, these are {options.extractor}'s; give the "
            "weights with --inception or STUDIO_INCEPTION, or use fd"
        )
    _can_fd(a, b, options)


def fid(a: Side, b: Side, options: Options) -> dict[str, float]:
    """The same under the name it has with the Inception network's features, and only with them."""
    _can_fid(a, b, options)
    return {"fid": fd(a, b, options)["fd"]}


def _can_sfid(a: Side, b: Side, options: Options) -> None:
    if a.spatial is None or b.spatial is None:
        raise ValueError(
            "spatial features are missing, expected the Inception network on both sides (or mu_s and "
            "sigma_s in the reference file)"
        )
    distances.refuse_small(smaller(a, b), a.spatial.dim, options.allow_small)


def sfid(a: Side, b: Side, options: Options) -> dict[str, float]:
    """Fréchet distance of the spatial tap (Nash et al. 2103.03841)."""
    _can_sfid(a, b, options)
    assert a.spatial is not None and b.spatial is not None
    return {"sfid": distances.frechet(a.spatial, b.spatial)}


def _by_class(a: Side, b: Side, options: Options) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes of the samples as the reference numbers them (−1: none), rows of the reference that have one of
    them, and their classes."""
    if a.labels is None or b.labels is None:
        raise ValueError(
            "labels are missing on one side, expected them on both; generate with labels, and give a "
            "reference that has classes"
        )
    mine = onto(a.labels, a.classes, b.names, "the reference")
    had, rows = mine >= 0, np.isin(b.labels, np.unique(mine[mine >= 0]))
    theirs = b.labels[rows]
    if not had.any() or not rows.any():
        raise ValueError(
            "no class has samples on both sides, expected some; generate with labels, and give a "
            "reference that has these classes"
        )
    smallest = min(int(np.unique(labels, return_counts=True)[1].min()) for labels in (mine[had], theirs))
    distances.refuse_small(smallest, a.moments.dim, options.allow_small)
    return mine, rows, theirs


def fd_class(a: Side, b: Side, options: Options) -> dict[str, float]:
    """Mean of the Fréchet distance within each class that the samples have; classes are the same by name."""
    mine, rows, theirs = _by_class(a, b, options)
    assert b.labels is not None
    had = mine >= 0
    own, every = len(np.unique(mine[had])), len(np.unique(b.labels[b.labels >= 0]))
    if own < every or not had.all():
        options.notes["fd_class"] = (
            f"{own} of the reference's {every} classes, {int(had.sum()):,} of {len(mine):,} samples"
        )
    found = distances.class_frechet(
        a.need("features")[torch.from_numpy(had)],
        mine[had],
        b.need("features")[torch.from_numpy(rows)],
        theirs,
    )
    return {"fd_class": found[0]}


def kid(a: Side, b: Side, options: Options) -> dict[str, float]:
    """Kernel distance, mean and standard deviation over subsets; without the deviation where a subset is all
    that a side has, as it would only tell of the other one."""
    size = min(KID_SUBSET, len(a.need("features")), len(b.need("features")))
    drawn = [len(side.need("features")) > size for side in (a, b)]
    count = KID_SUBSETS if any(drawn) else 1
    mean, std = distances.kernel_distance(
        a.need("features"), b.need("features"), subsets=count, subset_size=size
    )
    options.notes["kid"] = f"{count} subsets of {size:,}" if any(drawn) else f"one subset of {size:,}: all"
    return {"kid": mean, "kid_std": std} if all(drawn) else {"kid": mean}


def inception_score(a: Side, b: Side, options: Options) -> dict[str, float]:
    """exp E KL(p(y|x) ‖ p(y)) of the extractor's own classes."""
    mean, std = distances.inception_score(a.need("logits"), splits=10)
    return {"is": mean, "is_std": std}


def _balls(a: Side, b: Side, options: Options) -> manifold.Manifold:
    """Both pairs of numbers come from one pass."""
    key = id(a), id(b)
    if key not in options.memo:
        options.memo[key] = manifold.manifold(
            a.need("features"), b.need("features"), k=K_PRECISION, density_k=K_DENSITY
        )
    return options.memo[key]


def precision_recall(a: Side, b: Side, options: Options) -> dict[str, float]:
    """Improved precision and recall."""
    found = _balls(a, b, options)
    return {"precision": found.precision, "recall": found.recall}


def density_coverage(a: Side, b: Side, options: Options) -> dict[str, float]:
    """Density and coverage."""
    found = _balls(a, b, options)
    return {"density": found.density, "coverage": found.coverage}


def _asked(a: Side, b: Side, options: Options) -> np.ndarray:
    """Classes of the samples as the extractor's classifier numbers them."""
    if a.labels is None or not (a.labels >= 0).any():
        raise ValueError("the samples have no labels, expected those they were generated with")
    a.need("logits")
    return onto(a.labels, a.classes, options.classes, f"the classifier of {options.extractor}")


def accuracy(a: Side, b: Side, options: Options) -> dict[str, float]:
    """Share of samples that the extractor's classifier gives the class they were asked for, by its name."""
    mine = _asked(a, b, options)
    had = mine >= 0
    if not had.all():
        options.notes["acc"] = f"of the {int(had.sum()):,} of {len(mine):,} samples that have a label"
    return {"acc": float((a.need("logits").argmax(1).numpy() == mine)[had].mean())}


def _held_out(a: Side, b: Side, options: Options) -> Tensor:
    if b.test is None:
        raise ValueError(
            "the reference has no held-out samples, expected a data set with a part kept from training "
            "(images:DIR, npz:FILE)"
        )
    return b.test


def memorised(a: Side, b: Side, options: Options) -> dict[str, float]:
    """Share of samples nearer to the training set than 99 % of held-out real samples are, the same of the
    held-out samples, and both shares of authentic ones (Alaa et al. 2102.08921)."""
    test = _held_out(a, b, options)
    train = b.need("features") if b.train is None else b.train
    found = memorisation.memorisation(a.need("features"), train, test)
    options.notes["nn"] = (
        f"against {len(train):,} real samples that training takes, beside {len(test):,} that it keeps aside"
    )
    return {
        "nn": found.near,
        "nn_test": found.near_held_out,
        "authentic": found.authentic,
        "authentic_test": found.authentic_held_out,
    }


MEASURES = Registry(
    "measures",
    {
        "fid": "studio.evaluation.measures:fid",
        "sfid": "studio.evaluation.measures:sfid",
        "fd": "studio.evaluation.measures:fd",
        "fd_class": "studio.evaluation.measures:fd_class",
        "kid": "studio.evaluation.measures:kid",
        "is": "studio.evaluation.measures:inception_score",
        "pr": "studio.evaluation.measures:precision_recall",
        "dc": "studio.evaluation.measures:density_coverage",
        "acc": "studio.evaluation.measures:accuracy",
        "nn": "studio.evaluation.measures:memorised",
    },
)
CONDITIONS: dict[str, Callable[[Side, Side, Options], Any]] = {
    "fid": _can_fid,
    "sfid": _can_sfid,
    "fd": _can_fd,
    "fd_class": _by_class,
    "is": lambda a, b, options: a.need("logits"),
    "acc": _asked,
    "nn": _held_out,
    **{name: lambda a, b, options: b.need("features") for name in ("kid", "pr", "dc")},
}
OF_REAL = ("is", "acc")  # their floor is the value of one real set, not of a pair
BY_CLASS = ("fd_class", "acc")
# depend on how many samples there are to a reference, the others on how few there are of either
BY_RATIO = ("pr", "dc")
NO_FLOOR = ("nn",)  # carries its own


def options_of(extractor: Extractor, allow_small: bool) -> Options:
    """For what an extractor has seen."""
    return Options(allow_small, extractor.name, tuple(getattr(extractor, "classes", ())))


def refused(names: Sequence[str], samples: Side, reference: Side, options: Options) -> dict[str, str]:
    """Measures that cannot be computed whatever the samples will be, and why; of ``samples`` their number,
    labels and what an extractor sees counts."""
    found = {}
    for name in names:
        try:
            if name in CONDITIONS:
                CONDITIONS[name](samples, reference, options)
        except ValueError as error:
            found[name] = str(error)
    return found


def measured(
    names: Sequence[str], samples: Side, reference: Side, options: Options
) -> tuple[dict[str, float], dict[str, str]]:
    """Values, and the reasons of those that could not be computed."""
    values: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            found = resolve(MEASURES, name, "metric")(samples, reference, options)
            if not all(math.isfinite(v) for v in found.values()):
                raise ValueError(f"the result is {found}, expected finite numbers")
            values |= found
        except ValueError as error:
            failed[name] = str(error)
    return values, failed
