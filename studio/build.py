"""From a config and what is known of its data to a network and a denoiser."""

import inspect
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

import backbones
from backbones.registry import resolve
from samplers.denoiser import Denoiser
from samplers.objective import Objective, build_objective, objective_options
from studio.config import Config
from studio.data import Data


@dataclass(frozen=True)
class Info:
    """What a model must know of its data to be used without it; part of ``meta.json``."""

    task: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    codec: dict[str, Any]
    data: str = ""
    data_hash: str = ""
    numeric: tuple[str, ...] = ()
    numeric_mean: tuple[float, ...] = ()
    numeric_std: tuple[float, ...] = ()

    @staticmethod
    def of(data: Data) -> "Info":
        return Info(data.task, data.shape, data.classes, data.codec, data.name, data.hash, data.numeric, data.numeric_mean, data.numeric_std)

    @staticmethod
    def from_meta(meta: dict[str, Any]) -> "Info":
        known = {k: tuple(v) if isinstance(v, list) else v for k, v in meta.items() if k in Info.__dataclass_fields__}
        missing = {"task", "shape", "classes", "codec"} - set(known)
        if missing:
            raise ValueError(f"meta.json lacks {', '.join(sorted(missing))}; this is not a model folder of drift-studio")
        return Info(**known)

    def tree(self) -> dict[str, Any]:
        return asdict(self)


def fill_backbone(spec: dict[str, Any], info: Info) -> dict[str, Any]:
    """The ``backbone`` section with sizes and class counts taken from the data where the constructor asks for them and the config is silent."""
    if "name" not in spec:
        raise ValueError(f"backbone has no name, expected one of {', '.join(backbones.REGISTRY)}")
    accepts = inspect.signature(resolve(backbones.REGISTRY, spec["name"], "backbone")).parameters
    known: dict[str, Any] = {"num_classes": len(info.classes), "num_numeric": len(info.numeric)}
    if len(info.shape) == 3:
        known |= {"in_channels": info.shape[0], "input_size": info.shape[1] if info.shape[1] == info.shape[2] else info.shape[1:]}
    else:
        known |= {"dim": info.shape[0]}
    filled = {**{k: v for k, v in known.items() if k in accepts}, **spec}
    if filled.get("num_classes", len(info.classes)) < len(info.classes):
        raise ValueError(f"backbone.num_classes is {filled['num_classes']}, expected at least the data's {len(info.classes)} classes")
    return filled


def build_network(config: Config) -> nn.Module:
    """A freshly initialised backbone; the same seed gives the same weights and the global generator is left alone."""
    options = dict(config.backbone)
    name = options.pop("name")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return backbones.build(name, **options)


def objective_of(config: Config) -> Objective:
    return build_objective(**objective_options(config.objective))


def denoiser_of(config: Config, net: nn.Module, *, dtype: torch.dtype | None = None) -> Denoiser:
    """The queryable form of a trained network."""
    objective = objective_of(config)
    return Denoiser(net, objective.path, objective.parameterization, dtype=dtype)
