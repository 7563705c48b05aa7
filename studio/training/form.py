"""The form of a network for pictures of a size: the one that trained best on small pictures, a convolutional
stem and head around a transformer over some sixty to a hundred and fifty tokens."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import backbones
from studio.checkpoints.build import Info, misfit, options_of
from studio.codecs.codec import build_codec
from studio.config import Config, files_of, load_config, shipped

WIDTHS = {128: (4, 2), 192: (4, 3), 256: (6, 4), 384: (8, 6)}  # depth and heads
STEMS = {1: (32,), 2: (24, 64), 3: (24, 48, 96), 4: (16, 32, 64, 128), 5: (16, 32, 64, 96, 128)}
TOKENS, MOST_TOKENS = 12, 24  # along a side: what is aimed at, and what one step of a stem may leave


def levels_of(sides: Sequence[int]) -> int:
    """Halvings of a stem that bring pictures to about `TOKENS` tokens along a side, of unequal ones on
    average; 0 where they cannot be halved."""
    level = 0
    while (
        all(s % 2 ** (level + 1) == 0 and s // 2 ** (level + 1) >= 4 for s in sides)
        and math.prod(sides) > (TOKENS * 2**level) ** len(sides)
        and level < max(STEMS)
    ):
        level += 1
    return level


def network(name: str, sides: Sequence[int], width: int) -> dict[str, Any]:
    """A backbone section for pictures of these sides."""
    depth, heads = WIDTHS[width]
    level, form = levels_of(sides), {"name": name, "hidden_size": width, "depth": depth, "num_heads": heads}
    if level and math.prod(s // 2**level for s in sides) <= MOST_TOKENS ** len(sides):
        return {**form, "stem_channels": list(STEMS[level]), "stem_blocks": 2}
    return {**form, "patch_size": _patch(sides)}


def _patch(sides: Sequence[int]) -> int:
    """The least that divides the sides into no more than `MOST_TOKENS`, else 1."""
    able = (p for p in range(1, max(sides) + 1) if all(s % p == 0 for s in sides))
    return next((p for p in able if max(sides) // p <= MOST_TOKENS), 1)


OTHERS: Mapping[
    str, dict[str, Any]
] = {  # by what the data says of its size, where a shipped config's misfits
    "dim": {"name": "mlp", "width": 256, "depth": 4},
    "rows": {"name": "dit", "hidden_size": 128, "depth": 4, "num_heads": 4},
}


def fitting(
    config: Config, source: Any, overrides: Sequence[str], info: Info
) -> tuple[Config, tuple[str, ...]]:
    """A shipped config with a network for what the data is, where its own is for other shapes and no other
    was asked for, and what is to be told of that; where another was, without the options that only its own
    has. Options that were typed stay."""
    ours = files_of(source) is not None or isinstance(source, str) and source in shipped()
    typed = {o.partition("=")[0].strip() for o in overrides}
    if not ours:
        return config, ()
    if typed & {"backbone", "backbone.name"}:
        return _named(config, source, overrides)
    sizes = build_codec(info.codec).sizes(info.shape)
    section = next((form for size, form in OTHERS.items() if size in sizes), None)
    if section is not None and misfit(config.backbone, info):
        told = f"{section['name']}, as {info.task} of {info.shape} are not for {config.backbone['name']}"
    elif typed & {"backbone.stem_channels", "backbone.patch_size"} or not _too_coarse(config, sizes):
        return config, ()
    else:
        section = _finer(config.backbone, _sides(sizes))
        how = section.get("patch_size") or f"a stem of {2 ** len(section['stem_channels'])}"
        told = f"patches of {how}, as {info.task} of {info.shape} do not divide into the config's own"
    return load_config({**config.tree(), "backbone": section}, overrides), (f"backbone {told}",)


def _named(config: Config, source: Any, overrides: Sequence[str]) -> tuple[Config, tuple[str, ...]]:
    """A network that was asked for by name, without what the shipped section says and it does not take."""
    name = str(config.backbone.get("name"))
    if name not in backbones.REGISTRY:
        return config, ()
    lacks = {*load_config(source).backbone} - {*options_of(name), "name"}
    if not lacks:
        return config, ()
    section = {k: v for k, v in config.backbone.items() if k not in lacks}
    told = f"backbone {name} has no {', '.join(sorted(lacks))}: left out"
    return load_config({**config.tree(), "backbone": section}, overrides), (told,)


def _sides(sizes: Mapping[str, Any]) -> tuple[int, ...]:
    """Of a picture, or of the frames of clips."""
    size = sizes.get("input_size", ())
    return (size,) if isinstance(size, int) else tuple(size)[-2:]


def _too_coarse(config: Config, sizes: Mapping[str, Any]) -> bool:
    """Whether the stem of a config does not divide the sides of the data."""
    patch = 2 ** len(config.backbone.get("stem_channels") or ())
    return any(side % patch for side in _sides(sizes))


def _finer(backbone: Mapping[str, Any], sides: Sequence[int]) -> dict[str, Any]:
    """The section with as much of its stem as these sides take, or with plain patches."""
    stem = list(backbone["stem_channels"])
    while stem and any(side % 2 ** len(stem) for side in sides):
        stem.pop()
    rest = {k: v for k, v in backbone.items() if not k.startswith("stem_")}
    if stem:
        return {**rest, "stem_channels": stem, "stem_blocks": backbone.get("stem_blocks", 2)}
    return {**rest, "patch_size": _patch(sides)}
