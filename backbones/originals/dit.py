"""Weights of others: the original DiT's key names, both ways (diffusers': `backbones.originals.diffusers`).

Ours keeps the original names but for the adaLN projections: ``blocks.i.adaLN_modulation.1`` and
``final_layer.adaLN_modulation.1`` are rows of one matrix, ``modulation``.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from backbones.dit import DiT

FAMILIES = {
    "dit": "backbones.originals.dit:dit_from_original",
    "dis": "backbones.originals.linear:dis_from_original",
    "rwkv": "backbones.originals.linear:rwkv_from_original",
    "graph_dit": "backbones.originals.graph_dit:graph_dit_from_original",
}


Net = TypeVar("Net", bound=nn.Module)


def load(net: Net, state: Mapping[str, Tensor], what: str) -> Net:
    """The network with these weights, in eval mode. Raises ``ValueError`` where they do not fit ``what``."""
    try:
        missing, unexpected = net.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:  # a size that differs
        raise ValueError(f"the weights do not fit {what}: {error}; check the config") from None
    if missing or unexpected:
        raise ValueError(
            f"the weights do not fit {what}: missing {sorted(missing)[:4]}, unexpected "
            f"{sorted(unexpected)[:4]}; check the config"
        )
    return net.eval()


def dit_from_original(
    state_dict: Mapping[str, Tensor], config: Mapping[str, Any], compat: bool = True
) -> DiT:
    """Original DiT constructor arguments and state-dict to our module in eval mode. ``compat`` changes
    nothing here: the forms agree."""
    dropout = config.get("class_dropout_prob", 0.1)
    keys = (
        "input_size",
        "patch_size",
        "in_channels",
        "hidden_size",
        "depth",
        "num_heads",
        "mlp_ratio",
        "num_classes",
    )
    original = {
        "input_size": 32,
        "patch_size": 2,
        "in_channels": 4,
        "hidden_size": 1152,
        "depth": 28,
        "num_heads": 16,
        "mlp_ratio": 4.0,
        "num_classes": 1000,
    }
    unknown = set(config) - set(keys) - {"class_dropout_prob", "learn_sigma"}
    if unknown:
        raise ValueError(
            f"got the unknown DiT arguments {sorted(unknown)}, expected {', '.join(keys)}, "
            "class_dropout_prob, learn_sigma"
        )
    options = {k: config.get(k, original[k]) for k in keys}
    net = DiT(**options, null_class=dropout > 0, learn_sigma=config.get("learn_sigma", True))
    state = {"pos_embed": net.pos_embed, **state_dict}  # fixed, and left out of some checkpoints
    return load(net, original_state(state, options["depth"]), f"DiT {options}")


def original_state(state_dict: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Our state-dict from an original one: its adaLN projections become one matrix. Raises ``ValueError``
    naming the first that is missing."""
    state = dict(state_dict)
    names = [f"blocks.{i}.adaLN_modulation.1" for i in range(depth)] + ["final_layer.adaLN_modulation.1"]
    for part in ("weight", "bias"):
        keys = [f"{name}.{part}" for name in names]
        if missing := next((key for key in keys if key not in state), ""):
            raise ValueError(f"the weights lack {missing}; expected an adaLN-Zero DiT of depth {depth}")
        state[f"modulation.{part}"] = torch.cat([state.pop(key) for key in keys])
    return state


def first_half(state: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """A state-dict whose output has only the first ``channels`` of twice as many: the rows of the rest are
    left out (in each patch the channel is fastest)."""
    parts = {f"final_layer.linear.{part}" for part in ("weight", "bias")}
    return {
        k: v.unflatten(0, (-1, 2 * channels))[:, :channels].flatten(0, 1) if k in parts else v
        for k, v in state.items()
    }


def original_shapes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Constructor options of our DiT that the shapes of an original state-dict tell: all but the number of
    heads. A label table is taken to end in the null class, the grid to be square.

    Raises ``ValueError`` naming the first key that is missing, or the tensor whose shape is no DiT's.
    """
    ranks = {
        "x_embedder.proj.weight": 4,
        "pos_embed": 3,
        "t_embedder.mlp.0.weight": 2,
        "y_embedder.embedding_table.weight": 2,
        "blocks.0.attn.qkv.weight": 2,
        "blocks.0.mlp.fc1.weight": 2,
        "final_layer.linear.weight": 2,
    }
    for key, rank in ranks.items():
        if key not in state:
            raise ValueError(f"the weights lack {key}, expected a DiT in its original layout")
        if state[key].ndim != rank:
            raise ValueError(
                f"{key} has shape {tuple(state[key].shape)}, expected {rank} dimensions, as an "
                "original DiT has"
            )
    width, channels, patch, _ = state["x_embedder.proj.weight"].shape
    depth = 0
    while f"blocks.{depth}.attn.qkv.weight" in state:
        depth += 1
    tokens, out = state["pos_embed"].shape[1], state["final_layer.linear.weight"].shape[0]
    if out not in (patch * patch * channels, 2 * patch * patch * channels):
        raise ValueError(
            f"final_layer.linear.weight has {out} rows, expected {patch * patch * channels} for "
            f"{channels} channels, or twice as many"
        )
    return {
        "input_size": patch * math.isqrt(tokens),
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": depth,
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "num_classes": state["y_embedder.embedding_table.weight"].shape[0] - 1,
        "learn_sigma": out != patch * patch * channels,
    }


def dit_to_original(net: DiT) -> dict[str, Tensor]:
    """The original DiT's state-dict. Raises ``ValueError`` for parts the original does not have."""
    if net.stem is not None or net.n_embedder is not None or net.y_embedder is None:
        raise ValueError(
            "the original DiT has neither a convolutional stem nor numeric conditions and always has "
            "labels; this model cannot be written as one"
        )
    if net.axes.count != 2 or net.vocab or net.periodic or net.known_embedder is not None:
        raise ValueError(
            "the original DiT is of pictures and has neither tokens nor angles nor known entries; this model "
            "cannot be written as one"
        )
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("modulation.")}
    names = [f"blocks.{i}.adaLN_modulation.1" for i in range(len(net.blocks))] + [
        "final_layer.adaLN_modulation.1"
    ]
    for part in ("weight", "bias"):
        for name, rows in zip(names, getattr(net.modulation, part).detach().split(net.splits)):
            state[f"{name}.{part}"] = rows.clone()
    return state
