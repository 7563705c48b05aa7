"""Objects in the place of names: what a config records of them.

One whose class a registry has, with its options as attributes, is recorded as the name and options that make
it again. Of another coupling, time sampler or loss weight, which only training asks, ``custom`` is recorded,
and a user is told.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from backbones.registry import described
from guidance import describe
from guidance.grammar import CUSTOM
from samplers import times
from samplers.couplings import coupling
from samplers.names import ours
from samplers.paths import EVERY, bridge, gaussian, graph
from studio.config import Config
from studio.sampling import sampler_spec
from studio.sampling.forms import Guidance, Solver

REGISTRIES: dict[str, Mapping[str, str]] = {
    "path": EVERY,
    "parameterization": {**gaussian.HEADS, **bridge.HEADS, **graph.HEADS},
    "coupling": coupling.REGISTRY,
    "times": times.REGISTRY,
    "weight": {**gaussian.WEIGHTS, **bridge.WEIGHTS, **graph.WEIGHTS},
}
OF_SAMPLING = ("path", "parameterization")  # a model that is loaded must be told of these


def sampled(sampler: Solver, guidance: Guidance) -> list[str]:
    """What a run samples with unless told otherwise, as overrides. Raises ``ValueError`` for what no line
    describes."""
    lines = {
        "sampler": None if sampler is None else sampler_spec.said(sampler),
        "guidance": None if guidance is None else describe(guidance),
    }
    for key, line in lines.items():
        if line == CUSTOM:
            raise ValueError(
                f"got a {key} that no line describes for a run, expected one that a config holds; give it "
                f"to model.sample({key}=...), or make it a plug-in's"
            )
    return [f"sample.{key}={line}" for key, line in lines.items() if line is not None]


def recorded(config: Config, parts: Mapping[str, Any]) -> tuple[Config, dict[str, Any], tuple[str, ...]]:
    """The config with ``parts`` (names, trees or objects by their key in the ``objective`` section), those of
    them that are objects, and what is to be told. Raises ``ValueError`` for an object that a model could not
    be loaded without, and for a part that was an object and is not given again."""
    objective, objects, told = dict(config.objective), {}, []
    for key, part in parts.items():
        if part is None:
            continue
        if isinstance(part, str | Mapping):
            objective[key] = part
            continue
        if isinstance(part, type):
            raise ValueError(
                f"got the class {part.__name__} as the {key}, expected an object; try {part.__name__}()"
            )
        spec, why = described(REGISTRIES[key], part)
        if spec is None and key in OF_SAMPLING:
            raise ValueError(
                f"got a {type(part).__name__} as the {key}, expected one that a config can name"
                f"{f' ({why})' if why else ''}; make it a plug-in's (drift_studio.{key}s)"
            )
        if spec is None:
            reason = f" ({why})" if why else ""
            told.append(f"the {key} is recorded as custom{reason}: to go on, pass it again")
        objective[key], objects[key] = spec or CUSTOM, part
    lost = next((k for k, v in objective.items() if v == CUSTOM and k not in objects), None)
    if lost is not None:
        raise ValueError(
            f"this run trains with a {lost} that was an object in Python; pass it again: {lost}=..."
        )
    return replace(config, objective=ours(objective)), objects, tuple(told)
