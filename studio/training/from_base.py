"""Beginning with the weights of a model: what its config, its reading of data and its network give a run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from studio.checkpoints.build import Info
from studio.codecs.codec import are_numbers, build_codec, makes_pictures
from studio.config import Config, files_of, load_config
from studio.data import Data
from studio.data.floats import taken
from studio.data.sides import said
from studio.model import finetune
from studio.model.model import Model
from studio.tasks import parts_of
from studio.training.same_data import restandardised


def adapted(config: Config, net: nn.Module, info: Info, base: Model | None) -> Config:
    """Give a network the weights of its base, and adapters where the config says so; the config, which then
    names the tables that are new."""
    if base is not None:
        fresh = finetune.tables(net, info, base.info)
        finetune.begin(net, base, fresh)
        if config.lora:
            config = replace(config, lora={**config.lora, "tables": list(fresh)})
    if config.lora:
        if not info.base:
            raise ValueError("got a lora section without a base; pass --from MODEL, or leave it out")
        finetune.adapt(net, config.lora, seed=config.seed)
    return config


def as_base(
    data: Data, info: Info, base: Model, backbone: Mapping[str, Any]
) -> tuple[Data, Info, tuple[str, ...]]:
    """Data as a base reads it, what is then known of it, and what a user should be told. ``backbone``: the
    section of the new run, which may ask for the base's network on pictures of another size."""
    # it learned from such floats as they are
    own = taken(data) and are_numbers(base.info.codec, pictures=False)
    size = base.config.backbone.get("input_size")
    stretched = size is not None and backbone.get("input_size") == size
    info = _after_base(replace(info, codec=base.info.codec) if own else info, base, stretched=stretched)
    if info.numeric != base.info.numeric or (info.numeric_mean, info.numeric_std) == (
        base.info.numeric_mean,
        base.info.numeric_std,
    ):
        return data, info, ()
    told = (
        f"{', '.join(info.numeric)}: standardised as {base.name} has them, so that numbers keep their meaning"
    )
    return (
        restandardised(data, base.info.numeric_mean, base.info.numeric_std),
        replace(info, numeric_mean=base.info.numeric_mean, numeric_std=base.info.numeric_std),
        (told,),
    )


def config_of(source: Any, base: Model) -> Any:
    """Data without a config of its own takes the base's network and objective."""
    if files_of(source) is None:
        return source
    given = base.config
    backbone = {k: v for k, v in given.backbone.items() if k not in ("num_classes", "num_numeric", "fields")}
    return replace(
        load_config(source), backbone=backbone, objective=dict(given.objective), sample=given.sample
    )


def _after_base(info: Info, base: Model, *, stretched: bool) -> Info:
    """The data's info with the base's name and codec; ``stretched``: pictures of another size were asked for.
    Raises ``ValueError`` where the base works on something else."""
    pictures = info.task == base.info.task and makes_pictures(info.codec)
    resized = pictures and stretched and info.shape[0] == base.info.shape[0]
    as_it_is = info.task == base.info.task and (info.shape == base.info.shape or resized)
    whole = parts_of(info.task) == base.info.task and info.shape[1:] == base.info.shape
    if not as_it_is and not whole:
        size = base.config.backbone.get("input_size")
        hint = f"; set data.size={said(base.info.shape[1:])}" if pictures else ""
        if hint and size is not None:
            hint += f", or backbone.input_size={said(size)} to stretch its positions"
        raise ValueError(
            f"got {info.task} of shape {info.shape} to fine-tune {base.name}, which works on "
            f"{base.info.task} of {base.info.shape}{hint}"
        )
    if info.codec.get("name") != base.info.codec.get("name"):
        raise ValueError(
            f"got data for the codec {info.codec.get('name')}, {base.name} uses "
            f"{base.info.codec.get('name')}; choose another base"
        )
    if why := base.codec.misread(build_codec(info.codec), base.name):
        raise ValueError(why)
    return replace(info, codec=base.info.codec, base=finetune.entry_of(base))
