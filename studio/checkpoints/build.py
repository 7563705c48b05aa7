"""From a config and what is known of its data to a network and a denoiser."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

import backbones
from backbones.registry import parameters, resolve
from guidance.grammar import CUSTOM
from samplers.denoiser import Denoiser
from samplers.objective import Objective, build_objective, objective_options
from samplers.paths import EVERY
from studio.checkpoints.networks import (
    Named,
    apart,
    build_networks,
    build_specs,
    is_custom,
    procedure_of,
    together,
)
from studio.codecs.codec import build_codec, has_channels, kind_of
from studio.config import Config
from studio.data import Data
from studio.data.conditions import Field, conditions_of, encoders_of, field_of
from studio.data.depth import Reading

FILLED = ("atoms", "joint", "vocab")  # options of paths that data fills in where a config is silent


@dataclass(frozen=True)
class Info:
    """What a model must know of its data to be used without it, and of the ``base`` it was fine-tuned from;
    part of ``meta.json``. ``decoder``, ``background`` and ``bits``: how picture files were read
    (`studio.data.images`), and are where the model starts from one. ``class_counts``: training samples of
    each class, the prior of its labels (empty: not known); ``stratified``: whether what it was not trained on
    shares every class alike. ``fields``: conditions of other kinds than the label and the numbers;
    ``conditions`` are all of them."""

    task: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    codec: dict[str, Any]
    data: str = ""
    data_hash: str = ""
    numeric: tuple[str, ...] = ()
    numeric_mean: tuple[float, ...] = ()
    numeric_std: tuple[float, ...] = ()
    starts_from: str = ""
    base: dict[str, str] = field(default_factory=dict)
    numeric_range: tuple[tuple[float, float], ...] = ()
    decoder: int = 1
    background: tuple[int, ...] = ()
    bits: int | None = None
    class_counts: tuple[int, ...] = ()
    stratified: bool = False
    fields: tuple[Field, ...] = ()

    @property
    def conditions(self) -> tuple[Field, ...]:
        return conditions_of(self)

    @staticmethod
    def of(data: Data) -> "Info":
        return Info(
            data.task,
            data.shape,
            data.classes,
            data.codec,
            data.name,
            data.hash,
            data.numeric,
            data.numeric_mean,
            data.numeric_std,
            data.source_name,
            numeric_range=data.numeric_range,
            decoder=data.decoder,
            background=data.background,
            bits=data.bits,
            class_counts=data.class_counts,
            stratified=data.stratified,
            fields=data.fields,
        )

    @staticmethod
    def from_meta(meta: dict[str, Any]) -> "Info":
        known: dict[str, Any] = {k: _tuples(v) for k, v in meta.items() if k in Info.__dataclass_fields__}
        missing = {"task", "shape", "classes", "codec"} - set(known)
        if missing:
            raise ValueError(
                f"meta.json lacks {', '.join(sorted(missing))}; this is not a model folder of drift-studio"
            )
        return Info(**{**known, "fields": _fields(meta.get("fields", ()))})

    @property
    def reading(self) -> Reading:
        """How the picture files became numbers."""
        return Reading(tuple(self.background) or Reading.background, self.bits)  # type: ignore[arg-type]

    def tree(self) -> dict[str, Any]:
        return asdict(self)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fields(entries: Any) -> tuple[Field, ...]:
    """Of ``meta.json``; an earlier version wrote shapes by name."""
    if isinstance(entries, Mapping):
        return tuple(
            Field(k, "image" if k == "image" else "array", tuple(shape)) for k, shape in entries.items()
        )
    return tuple(field_of(entry) for entry in entries)


SIZED = ("dim", "input_size", "max_atoms")  # options by which a backbone says which shapes it is for


def misfit(spec: Mapping[str, Any], info: Info) -> str:
    """Why the backbone of a section is not for such data: it asks for none of the sizes that they have; empty
    where it may be."""
    if spec.get("name") not in backbones.REGISTRY:
        return ""
    accepts = options_of(spec["name"])
    sizes = build_codec(info.codec).sizes(info.shape)
    theirs = [k for k in (*SIZED, "rows") if k in sizes]
    asked = [k for k in SIZED if k in accepts]
    if not asked or not theirs or set(theirs) & set(asked) and ("rows" not in sizes or "rows" in accepts):
        return ""
    wanted = [n for n in backbones.REGISTRY if set(theirs) <= set(options_of(n))]
    tip = f"try backbone.name={wanted[0]}, or its whole section" if wanted else "train a network of your own"
    return (
        f"got the backbone {spec['name']}, which is for shapes by {' and '.join(asked)}, for {info.task} of "
        f"shape {tuple(info.shape)}, expected one that takes {' and '.join(theirs)}; {tip}"
    )


def options_of(name: str) -> Mapping[str, Any]:
    """Of a backbone, by their names."""
    return parameters(resolve(backbones.REGISTRY, name, "backbone"))


def fill_backbone(
    spec: dict[str, Any], info: Info, head: Any = None, *, known: bool = False
) -> dict[str, Any]:
    """The ``backbone`` section with sizes and class counts taken from the data where the constructor asks for
    them and the config is silent. ``head``: the objective's parameterisation, which may ask for more channels
    in or out; ``known``: it is trained with entries that are given."""
    if "name" not in spec:
        raise ValueError(f"backbone has no name, expected one of {', '.join(backbones.REGISTRY)}")
    accepts = options_of(spec["name"])
    if why := misfit(spec, info):
        raise ValueError(why)
    filling: dict[str, Any] = {"num_classes": len(info.classes), "num_numeric": len(info.numeric)}
    if encoders := encoders_of(info):
        filling["fields"] = encoders
    if known:
        filling["known"] = True
    codec = build_codec(info.codec)
    filling |= codec.sizes(info.shape)
    if getattr(head, "cond_source", False):
        if not has_channels(codec, info.shape):
            raise ValueError(
                f"got cond_source=true for {info.task}, which have no channels, expected data such as "
                "pictures (C, H, W); leave it out"
            )
        filling |= {"in_channels": 2 * info.shape[0], "out_channels": info.shape[0]}
    if getattr(head, "channels", 1) == 2:
        filling["learn_sigma"] = True
    filled = {**{k: v for k, v in filling.items() if k in accepts}, **spec}
    if filled.get("num_classes", len(info.classes)) < len(info.classes):
        raise ValueError(
            f"backbone.num_classes is {filled['num_classes']}, expected at least the data's "
            f"{len(info.classes)} classes"
        )
    return filled


def fill_path(objective: dict[str, Any], data: Data) -> dict[str, Any]:
    """The ``objective`` section; where the config is silent, a path gets from the data what its constructor
    asks for: sizes that the codec knows, and statistics of graphs."""
    path = objective.get("path")
    path = {"name": path} if isinstance(path, str) else path
    if not isinstance(path, Mapping) or path.get("name") not in EVERY:
        return objective
    kind = resolve(EVERY, path["name"], "path")
    asked = parameters(kind)
    sizes = build_codec(data.codec).sizes(data.shape)
    told = {k: v for k, v in sizes.items() if k in asked and k not in path}
    if "joint" in asked and "atoms" not in path:
        if kind_of(data.codec).space != kind.space:
            raise ValueError(
                f"got the path {path['name']} for data of {data.task}, expected molecules; choose another "
                "objective.path"
            )
        from studio.chem.statistics import count

        found = count(data.train.values, len(data.codec["atoms"]))
        told |= {"atoms": found.atoms.tolist(), "joint": found.pairs.tolist()}
    return {**objective, "path": {**path, **told}} if told else objective


def unfilled(recorded: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded section as it was before `fill_path`, where the one that is asked for is silent too."""
    path, wanted = recorded.get("path"), asked.get("path")
    if (
        not isinstance(path, dict)
        or not any(k in path for k in FILLED)
        or isinstance(wanted, dict)
        and any(k in wanted for k in FILLED)
    ):
        return recorded
    bare = {k: v for k, v in path.items() if k not in FILLED}
    return {**recorded, "path": bare["name"] if wanted == bare["name"] and len(bare) == 1 else bare}


def build_network(config: Config, procedure: Any = None, own: nn.Module | None = None) -> nn.Module:
    """Freshly initialised networks as one module, see `studio.checkpoints.networks`; ``procedure`` and
    ``own`` are objects that a config cannot name."""
    return together(build_networks(config, procedure_of(config, procedure), own))


def built_buffers(config: Config, procedure: Named) -> dict[str, torch.Tensor]:
    """``network.buffer`` as the config builds it, for networks that it builds."""
    described = {
        name: spec
        for name, spec in procedure.networks(config).items()
        if isinstance(spec.backbone, Mapping) and not is_custom(spec)
    }
    if not described:
        return {}
    return {
        f"{name}.{key}": value
        for name, module in build_specs(described, config.seed).items()
        for key, value in module.named_buffers()
    }


def objective_of(config: Config, parts: Mapping[str, Any] | None = None) -> Objective:
    """The objective of a config. ``parts``: objects in the place of some names; a part that was one and is
    not given, which only training asks, is the usual one."""
    tree = {k: v for k, v in config.objective.items() if v != CUSTOM and k not in (parts or {})}
    return build_objective(**objective_options(tree), **(parts or {}))


def starts_of(objective: Objective, *, source: bool = False) -> str:
    """Where samples start: from ``noise`` or from a ``source``, which the data brings or the path goes
    from."""
    return "source" if source else objective.path.starts


def known_trained(config: Config, starts: str) -> bool:
    """Whether a model's network saw known entries clean: bridges do, others where training drew some."""
    return starts == "source" or bool(config.train.known)


def denoiser_of(
    config: Config,
    net: nn.Module,
    *,
    dtype: torch.dtype | None = None,
    source: bool = False,
    procedure: Any = None,
) -> Denoiser:
    """The queryable form of a trained model, of all its networks as one module. ``source``: it starts from
    data of its own; ``procedure``: one that the config cannot name."""
    objective, how = objective_of(config), procedure_of(config, procedure)
    asked = how.denoiser(apart(net, how, config), objective)
    starts = starts_of(objective, source=source)
    return Denoiser(
        asked.net,
        asked.path,
        asked.parameterization,
        dtype=dtype,
        starts=starts,
        known_trained=known_trained(config, starts),
    )
