"""Configs: one YAML tree, typed, with ``key=value`` overrides; an unknown key is an error with a suggestion.

``data``, ``backbone``, ``objective`` and ``procedure`` sections name a registry entry and its options, which
are checked against the entry's own signature; ``train`` and ``sample`` are the dataclasses below. The
resolved tree is what a run folder records.
"""

import dataclasses
import functools
import json
import math
import os
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import OmegaConf

from backbones.registry import coerce, plain, suggest
from samplers.names import ours
from studio.config.decay import check_profile

SCHEMA = 1
AUTO: Literal["auto"] = "auto"


@dataclass
class DDPConfig:
    """Options of torch's DistributedDataParallel, by its names; they matter on several processes.
    ``bucket_cap_mb`` in megabytes."""

    find_unused_parameters: bool = False
    gradient_as_bucket_view: bool = False
    bucket_cap_mb: int = 25


@dataclass
class TrainConfig:
    """How long, how fast, how often. ``steps`` or ``minutes`` (wall clock) ends the run. ``batch_size`` is
    the effective one: split over processes and over ``accumulate`` micro-batches. Intervals are in steps; 0
    switches off, as it does for ``warmup`` and ``clip``, the greatest norm of a gradient. ``final_lr`` is a
    share of ``lr``. ``warmup`` `AUTO`: a twentieth of the run, at most 200 steps; a number is steps, however
    short the run. ``augment``: further augmentations that the data's task has, by name. ``known``: which
    entries the network is given clean, by patterns (`samplers.known`): a name, ``{name: ..., options}``, or a
    list of them."""

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    accumulate: int = 1
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    muon_lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float | None = 1.0
    warmup: int | Literal["auto"] = AUTO
    schedule: Literal["cosine", "constant"] = "cosine"
    final_lr: float = 0.0
    ema: tuple[str, ...] = ("power-12",)
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    flip: bool = False
    reorder: bool = False
    augment: tuple[str, ...] = ()
    known: Any = None
    workers: int = 0
    log_every: int = 50
    eval_every: int = 1000
    eval_samples: int = 512
    save_every: int = 1000
    keep_last: int = 3
    keep_every: int = 0
    weak_snapshot: bool = True
    preview: bool = True
    trackers: tuple[str, ...] = ()
    ddp: DDPConfig = field(default_factory=DDPConfig)

    @property
    def augmentations(self) -> tuple[str, ...]:
        """What training does to samples, by the names of the task."""
        return tuple(name for name in ("reorder", "flip") if getattr(self, name)) + self.augment


@dataclass
class SampleConfig:
    """What `sample`, previews and the page use unless told otherwise. ``sampler`` `AUTO`: the one that fits
    what the network predicts."""

    sampler: str = AUTO
    num_steps: int = 20
    guidance: str = ""


@dataclass
class Config:
    """A whole run. See the module."""

    name: str = "run"
    seed: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    backbone: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    procedure: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    schema: int = SCHEMA

    def tree(self) -> dict[str, Any]:
        """Plain containers, as YAML holds them."""
        return contained(dataclasses.asdict(self))

    def yaml(self) -> str:
        """Read again it is the same: ``${`` in a text of ours refers to nothing."""
        return "".join(_section(json.dumps({key: value})) for key, value in _escaped(self.tree()).items())


@functools.lru_cache(maxsize=256)
def _section(text: str) -> str:
    """The YAML of a section in JSON: runs that follow one another share most of them."""
    return OmegaConf.to_yaml(OmegaConf.create(json.loads(text)))


def contained(value: Any) -> Any:
    """Plain containers of text, numbers, true, false and null; others as they are."""
    if isinstance(value, Mapping):
        return {str(k): contained(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [contained(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return plain(value)


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _escaped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _one_or_many(value: Any, hint: Any) -> Any:
    """A tuple of a list; of one value where several may stand; numbers as text where that is expected (an
    average is called by its decay)."""
    if (
        typing.get_origin(hint) is tuple
        and typing.get_args(hint)[1:] == (...,)
        and isinstance(value, str | int | float)
    ):
        value = [value]
    if not isinstance(value, list):
        return value
    numbers = hint == tuple[str, ...]
    return tuple(
        f"{v}" if numbers and isinstance(v, int | float) and not isinstance(v, bool) else v for v in value
    )


def _typed(cls: type, tree: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a tree; unknown keys and wrong types raise ``ValueError``."""
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in tree.items():
        if key not in hints:
            raise ValueError(
                f"{where} has the unknown key {key!r}, expected one of "
                f"{', '.join(hints)}{suggest(str(key), hints)}"
            )
        name = f"{where}.{key}" if where != "config" else str(key)
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ValueError(f"{name} got {value!r}, expected a section of keys")
            values[key] = _typed(hints[key], value, name)
        elif typing.get_origin(hints[key]) is dict:
            if not isinstance(value, Mapping):
                raise ValueError(
                    f"{name} got {value!r}, expected a section such as {{name: ..., option: ...}}"
                )
            values[key] = {str(k): tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        else:
            values[key] = coerce(_one_or_many(value, hints[key]), hints[key], name)
    return cls(**values)


def _checked(config: Config) -> Config:
    train = config.train
    if train.steps is not None and train.minutes is not None:
        raise ValueError("train got both steps and minutes, expected one of them; set the other to null")
    for key in ("steps", "minutes", "batch_size", "accumulate", "lr", "muon_lr", "keep_last", "eval_samples"):
        value = getattr(train, key)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"train.{key} got {value}, expected a positive number")
    for key in (
        "warmup",
        "workers",
        "log_every",
        "eval_every",
        "save_every",
        "keep_every",
        "weight_decay",
        "clip",
    ):
        value = getattr(train, key)
        if value is not None and value != AUTO and not 0 <= value < math.inf:
            raise ValueError(f"train.{key} got {value}, expected 0 (off) or more")
    if not 0 <= train.final_lr <= 1:
        raise ValueError(f"train.final_lr got {train.final_lr}, expected a share of train.lr from 0 to 1")
    if not all(0 <= beta < 1 for beta in train.betas):
        raise ValueError(
            f"train.betas got {list(train.betas)}, expected two numbers from 0 to below 1, such as "
            "[0.9, 0.999]"
        )
    if len(set(train.ema)) < len(train.ema):
        raise ValueError(f"train.ema got {list(train.ema)}, expected different averages; name each once")
    for profile in train.ema:
        check_profile(profile)
    if train.ddp.bucket_cap_mb < 1:
        raise ValueError(f"train.ddp.bucket_cap_mb got {train.ddp.bucket_cap_mb}, expected at least 1")
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"seed got {config.seed}, expected a whole number from 0 to below 2^63")
    if train.batch_size % train.accumulate:
        raise ValueError(
            f"train.batch_size={train.batch_size} is not divisible by accumulate={train.accumulate}"
        )
    if config.sample.num_steps < 1:
        raise ValueError(f"sample.num_steps got {config.sample.num_steps}, expected at least 1")
    return config


def migrate(tree: dict[str, Any]) -> dict[str, Any]:
    """An older tree in today's schema. Raises ``ValueError`` for one written by a newer version."""
    version = tree.get("schema", 0)
    if not isinstance(version, int) or version > SCHEMA:
        raise ValueError(
            f"this model was written with schema {version}, this version reads up to {SCHEMA}; upgrade "
            "drift-studio"
        )
    # schema 0, before the first release: `model` was the backbone, `loss` the objective
    if version < 1 and "model" in tree:
        tree = {
            ("backbone" if k == "model" else "objective" if k == "loss" else k): v for k, v in tree.items()
        }
    return {**tree, "schema": SCHEMA}


def from_tree(tree: Mapping[str, Any]) -> Config:
    """A checked `Config` from plain containers of any known schema."""
    config = _typed(Config, migrate(dict(tree)), "config")
    return _checked(dataclasses.replace(config, objective=ours(config.objective)))
