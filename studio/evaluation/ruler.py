"""Who measures samples: the task says by what, everything is checked before the first sample of a model is
made."""

from collections.abc import Mapping
from typing import Any

from backbones.registry import resolve
from studio.evaluation.array_judge import ArrayJudge
from studio.evaluation.judges import Asked, Judge, Ruler
from studio.evaluation.sets import SampleSet
from studio.tasks import REGISTRY

OF = {  # whose samples an option is for
    "features": "pictures",
    "inception": "pictures",
    "filters": "molecules",
    "test_scaffolds": "molecules",
}


def judge_of(samples: SampleSet) -> Judge:
    """What measures these samples. Raises ``ValueError`` for samples that nothing measures."""
    measures = resolve(REGISTRY, samples.task, "task").measures
    if isinstance(measures, str) and measures:
        measures = resolve({"measures": measures}, "measures", "measures")
    if not measures:
        raise ValueError(
            f"got {samples.task} samples ({samples.values.dtype} of {samples.shape}), expected samples of a "
            "task with measures, such as pictures (uint8), points or molecules; measure them yourself"
        )
    return ArrayJudge(measures) if isinstance(measures, Mapping) else measures


def ruler_for(samples: SampleSet, ref: Any, asked: Asked) -> Ruler:
    """The `Ruler` of these samples, or of samples that are still to be made. Raises what `Judge.ruler`
    raises."""
    judge = judge_of(samples)
    for name, whose in OF.items():
        if name not in judge.takes and getattr(asked, name) is not None:
            raise ValueError(
                f"got {name}={getattr(asked, name)} for {samples.task}, expected {whose}; leave it out"
            )
    return judge.ruler(samples, ref, asked)
