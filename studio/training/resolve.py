"""From a config that leaves things open, and the data, to what a run consists of. Whatever does not fit
together is refused here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

import guidance
from samplers.heads.gradient import check_forms
from samplers.known import Known
from samplers.objective import Objective
from samplers.spaces import name_of
from studio.checkpoints.build import Info, fill_backbone, fill_path, objective_of
from studio.checkpoints.networks import CUSTOM, build_networks, procedure_of
from studio.codecs.codec import build_codec, kind_of
from studio.config import Config, SampleConfig
from studio.data import Data
from studio.sampling import sampler_spec
from studio.tasks import REGISTRY as TASKS
from studio.tasks import build_task
from studio.tasks.base import Task
from studio.training.procedure import Procedure


@dataclass(frozen=True)
class Resolved:
    """A config with nothing left open, and what it says. ``own``: a network that was given as a module;
    ``own_task``: whether the task is an object that no name stands for."""

    config: Config
    data: Data
    info: Info
    objective: Objective
    procedure: Procedure
    task: Task
    own: nn.Module | None = None

    @property
    def own_task(self) -> bool:
        return self.info.task not in TASKS

    @property
    def custom(self) -> bool:
        """Whether the procedure is an object that no config describes."""
        return self.config.procedure.get("name") == CUSTOM

    def networks(self) -> dict[str, nn.Module]:
        """The networks as a run begins them: new ones, and the own."""
        return build_networks(self.config, self.procedure, self.own)


def resolve(
    config: Config,
    data: Data,
    info: Info | None = None,
    *,
    own: nn.Module | None = None,
    section: Mapping[str, Any] | None = None,
    procedure: Procedure | None = None,
    task: Task | None = None,
    recorded: Config | None = None,
    overrides: Sequence[str] = (),
    parts: Mapping[str, Any] | None = None,
) -> Resolved:
    """A config filled from its data: statistics of the path, sizes of the backbone, the sampler.

    - ``info``: what a model will know of the data, by default all that it tells.
    - ``own``: a network in the backbone's place, which the config records as ``section``.
    - ``procedure``: an object in place of the config's; ``task``: one in place of the data's.
    - ``recorded``: of the run that goes on, whose sampler stays unless ``overrides`` of this call ask for
      another.
    - ``parts``: of the objective, those that are objects.

    Raises ``ValueError`` for parts that do not fit one another.
    """
    info = Info.of(data) if info is None else info
    config, objective = filled(config, info, data, own=section, parts=parts)
    if recorded is not None and section is not None and config.backbone != recorded.backbone:
        raise ValueError(
            f"got the network {config.backbone} for a run that trains {recorded.backbone}, expected the "
            "same; pass it as it was, or start another run"
        )
    if procedure is not None:
        if config.procedure.get("name", CUSTOM) != CUSTOM:
            raise ValueError(
                f"got a procedure of your own beside procedure.name={config.procedure['name']}, expected one "
                "of them; leave the other out"
            )
        config = replace(config, procedure={"name": CUSTOM})
    found: Procedure = procedure_of(config, procedure)
    shown = build_task(info.task, info.codec, task)
    _check(config, data, info, objective, task, own=own is not None)
    found.check(objective, data)
    if (
        recorded is None
        or config.sample.sampler != recorded.sample.sampler
        or any(o.startswith("sample.sampler=") for o in overrides)
    ):  # what a run has recorded stays as it is
        config = replace(config, sample=replace(config.sample, sampler=sampler_spec.of_new(config, info)))
    config = replace(config, sample=_checked_sample(config, info, objective, shown, overrides))
    return Resolved(config, data, info, objective, found, shown, own)


def filled(
    config: Config,
    info: Info,
    data: Data | None = None,
    *,
    own: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> tuple[Config, Objective]:
    """A config with the path and the backbone that its data asks for (a path that needs no data without it),
    and its objective. ``own``: the section of a network that was given; ``parts``: of the objective, those
    that are objects."""
    if data is not None:
        config = replace(config, objective=fill_path(config.objective, data))
    if config.train.known:
        known = Known(config.train.known, build_codec(info.codec).places(info.shape))
        parts = {**(parts or {}), "known": known}
    objective = objective_of(config, parts)
    head, given = objective.parameterization, bool(config.train.known)
    backbone = dict(own or fill_backbone(config.backbone, info, head, known=given))
    return replace(config, backbone=backbone), objective


def _check(
    config: Config, data: Data, info: Info, objective: Objective, task: Task | None, *, own: bool
) -> None:
    encoded = [entry["name"] for entry in config.backbone.get("fields", ())]
    unheard = [f.name for f in info.fields if f.name not in encoded]
    if unheard and not own:
        raise ValueError(
            f"got items with {' and '.join(unheard)}, which the backbone "
            f"{config.backbone.get('name')} is not asked by, expected labels and numbers; leave it out, or "
            "train a network of your own: backbone=NET"
        )
    if objective.fills in [f.name for f in info.fields]:
        raise ValueError(
            f"got cond_source=true, which gives the network its source as the {objective.fills}, and items "
            "with one of their own; call theirs by another name"
        )
    if (needed := kind_of(data.codec).space) not in ("euclid", theirs := name_of(objective.path.space)):
        raise ValueError(
            f"got the path {type(objective.path).__name__}, whose law is on {theirs}, for data of {needed}; "
            "choose an objective.path of that space"
        )
    shown = build_task(data.task, data.codec, task)
    for name in config.train.augmentations:
        shown.augment(name)  # refuses what such samples do not have
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.train.dtype)
    check_forms(objective.parameterization, dtype=low, compiled=config.train.compile)
    if data.source is None and getattr(objective.coupling, "needs_source", False):
        raise ValueError(
            "objective.coupling is paired, but this data brings no sources; use data with pairs, or the "
            "coupling independent"
        )


def _checked_sample(
    config: Config, info: Info, objective: Objective, task: Task, overrides: Sequence[str]
) -> SampleConfig:
    """The ``sample`` section after checking that previews can follow it. Guidance that a config brings along
    is left out where the data has no conditions, or samples that bear none; one that was asked for in this
    call raises."""
    sampler_spec.build_sampler(config.sample.sampler).times(objective.path, config.sample.num_steps)
    rules = guidance.parse(config.sample.guidance)
    if not rules or not task.unguided and (info.conditions or not any(r.needs for r in rules)):
        return config.sample
    why = task.unguided or "this data has no conditions to guide towards"
    if any(o.startswith("sample.guidance=") for o in overrides):
        raise ValueError(f"got sample.guidance={config.sample.guidance!r}, but {why}; leave it out")
    return replace(config.sample, guidance="")
