"""`studio evaluate`: samples against a reference, every measure with its floor and the protocol; what cannot
be computed is named, the rest is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.data.sides import Size
from studio.evaluation.fitting import fitted
from studio.evaluation.judges import Asked, names_of
from studio.evaluation.made import asked_of
from studio.evaluation.picture_judge import choose_extractor, parse_metrics
from studio.evaluation.reference import Reference, located
from studio.evaluation.results import Result
from studio.evaluation.ruler import ruler_for
from studio.evaluation.sets import SampleSet, is_data, open_set
from studio.metrics.features import Extractor
from studio.model.loading import load
from studio.model.model import Model
from studio.runtime.progress import notebook_bar
from studio.sampling.forms import Conditions, Guidance, Labels, Seeds, Solver

if TYPE_CHECKING:
    from studio.generation.plan import Plan

__all__ = ["choose_extractor", "evaluate", "generated", "parse_metrics"]


def evaluate(
    samples: str | Path | Model | SampleSet,
    ref: str | Path | SampleSet | Reference,
    *,
    metrics: str | Sequence[str] | None = None,
    features: str | Extractor | None = None,
    inception: str | Path | None = None,
    allow_small: bool = False,
    batch: int | str = "auto",
    on_progress: Callable[[int, int], Any] | None = None,
    filters: str | None = None,
    test_scaffolds: str | None = None,
    size: Size | None = None,
    channels: int | None = None,
    num: int | None = None,
    seeds: Seeds = None,
    labels: Labels = None,
    conditions: Conditions = None,
    num_steps: int | None = None,
    guidance: Guidance = "default",
    sampler: Solver = None,
    deterministic: bool = False,
    threads: int | None = None,
    plan: str = "none",
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
) -> Result:
    """Measure a set of samples, or a MODEL, of which no pictures are written.

    - ``samples``: a folder, an .npz, a data set such as ``images:DIR``, a MODEL.
    - ``ref``: a reference file of `studio.evaluation.make_reference`, an ADM .npz, a folder or a data set.
    - ``metrics``: names of measures, "fd,kid"; by default all that these samples have.
    - ``features``: inception, lenet, efficientnet or an `Extractor`; by default inception where its weights
      are given, lenet for 1×28×28.
    - ``inception``: the file with FID's weights.
    - ``allow_small``: Fréchet distances of fewer samples than dimensions.
    - ``batch``: samples of a model computed at once, "auto" or a number.
    - ``on_progress``: called with how many samples are made, and of how many.
    - ``filters``, ``test_scaffolds``: of molecules, MOSES's rule lists and scaffold split, or the wheel of
      molsets that holds them.
    - ``size`` (of a square, or height and width), ``channels`` (1 or 3): fit pictures of both sides first
      (`studio.evaluation.fitting`).
    - ``num``, ``seeds``, ``labels``, ``conditions``, ``num_steps``, ``guidance``, ``sampler``,
      ``deterministic``, ``threads``, ``plan``, ``weights``, ``device``, ``dtype``: of a MODEL, as in
      `studio.generate`; 10,000 samples unless told otherwise.

    Raises ``ValueError`` for what does not fit together; a single measure that cannot be computed is listed
    in ``failed``.
    """
    sampling: dict[str, Any] = dict(
        num=num,
        seeds=seeds,
        labels=labels,
        conditions=conditions,
        num_steps=num_steps,
        guidance=guidance,
        sampler=sampler,
        deterministic=deterministic,
        threads=threads,
        plan=plan,
        weights=weights,
        device=device,
        dtype=dtype,
    )
    asked = Asked(names_of(metrics), features, inception, allow_small, filters, test_scaffolds)
    there = opened(samples, sampling, {"size": size, "channels": channels})
    if there is not None:
        there = fitted(there, size, channels)
        return ruler_for(there, _fitted_ref(ref, there, size, channels), asked).measure(there)
    assert not isinstance(samples, SampleSet)  # which would be there
    coming, made = planned(samples, batch=batch, **sampling)
    shown = fitted(coming, size, channels)
    measure = ruler_for(
        shown, _fitted_ref(ref, shown, size, channels), replace(asked, made=False)
    ).measure  # everything is refused here, before a sample is made
    return measure(fitted(generated(coming, made, on_progress), size, channels))


def _fitted_ref(ref: Any, samples: SampleSet, size: Size | None, channels: int | None) -> Any:
    """The reference with pictures that are fitted as the samples are; a file of statistics as it is."""
    if isinstance(ref, Reference) or size is None and channels is None:
        return ref
    found = located(ref, samples.reading, {"size": size, "channels": channels})
    return fitted(found, size, channels) if isinstance(found, SampleSet) else found


def opened(samples: Any, sampling: dict[str, Any], fit: Mapping[str, Any] | None = None) -> SampleSet | None:
    """Samples that are there already, ``fit`` as in `open_set`; None for a model. Raises ``ValueError`` where
    such samples are to be made otherwise."""
    if isinstance(samples, SampleSet):
        return samples
    if isinstance(samples, Model):
        return None
    path = Path(samples).expanduser()
    if not (path.exists() and not (path / "config.yaml").is_file() or is_data(str(samples))):
        return None
    given = [k for k, v in sampling.items() if v not in (None, "default", False, "ema", "auto", "none", {})]
    if given:
        raise ValueError(
            f"got {given[0]}={sampling[given[0]]!r} for samples that are made already; leave it out, or "
            "give a MODEL"
        )
    return open_set(samples, None, fit)


def check_measured(model: Model) -> None:
    """Raises ``ValueError`` for a model whose samples have no measures."""
    if not model.task.measures:
        raise ValueError(
            f"{model.name} makes {model.task.name} samples that are arrays of {model.sample_shape}, for "
            "which there are no measures; "
            "generate them and measure them yourself"
        )


def planned(
    model: str | Path | Model,
    *,
    num: int | None = None,
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    batch: int | str = "auto",
    plan: str = "none",
    **options: Any,
) -> tuple[SampleSet, "Plan"]:
    """The set that a model's samples will be, all but its values (which take no memory yet), with what makes
    them in ``about``; and the checked plan."""
    from studio.generation.plan import make_plan, settings_of
    from studio.generation.prepare import parse_batch

    loaded = (
        model if isinstance(model, Model) else load(str(model), weights=weights, device=device, dtype=dtype)
    )
    loaded = loaded if plan == "none" else loaded.planned(plan)
    check_measured(loaded)
    if num is None and options.get("seeds") is None:
        num = 10000
    made = make_plan(loaded, num=num, batch=parse_batch(batch, loaded), **options)
    labels, pinned = made.labels.of(range(made.num), made.seeds), made.pinned()
    about = settings_of(pinned)
    about |= {
        "model": loaded.name,
        "data": loaded.info.data,
        "deterministic": pinned["deterministic"] is not None,
    }
    values = np.broadcast_to(np.zeros((), loaded.task.dtype), (made.num, *loaded.sample_shape))
    known = None if labels is None else np.array(labels)
    coming = SampleSet(
        loaded.name,
        values,
        known,
        loaded.classes,
        about,
        legend=dict(loaded.task.legend),
        asked=asked_of(about["conditions"], made.num),
        reading=loaded.reading,
        task=loaded.task.name,
    )
    return coming, made


def generated(
    coming: SampleSet, plan: "Plan", on_progress: Callable[[int, int], Any] | None = None
) -> SampleSet:
    """The samples of `planned`, in memory."""
    from studio.generation.engine import compute

    values = np.empty(coming.values.shape, coming.values.dtype)
    done = 0
    with notebook_bar("sampling", shown=None if on_progress is None else False) as bar:
        for index, made in compute(plan, range(plan.num)):
            values[index] = made.numpy()
            done += len(index)
            (on_progress or bar)(done, plan.num)
    return replace(coming, values=values)
