"""Weights of others: the original DiT's key names and diffusers' ``DiTTransformer2DModel``, both ways.

Ours keeps the original names but for the adaLN projections: ``blocks.i.adaLN_modulation.1`` and
``final_layer.adaLN_modulation.1`` are rows of one matrix, ``modulation``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from backbones.dit import Block, DiT
from backbones.encoders import sinusoid

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
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("modulation.")}
    names = [f"blocks.{i}.adaLN_modulation.1" for i in range(len(net.blocks))] + [
        "final_layer.adaLN_modulation.1"
    ]
    for part in ("weight", "bias"):
        for name, rows in zip(names, getattr(net.modulation, part).detach().split(net.splits)):
            state[f"{name}.{part}"] = rows.clone()
    return state


_TO_DIFFUSERS = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.linear": "proj_out_2",
    "final_layer.adaLN_modulation.1": "proj_out_1",
}
_BLOCK = {
    "adaLN_modulation.1": "norm1.linear",
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
_EMBED = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}


def dit_to_diffusers(net: DiT) -> nn.Module:
    """A diffusers ``DiTTransformer2DModel`` with the same function. Needs ``frequency_shift=1`` (its time
    sinusoid) and a square grid.

    Raises ``ValueError`` for what diffusers cannot express.
    """
    from diffusers import DiTTransformer2DModel

    if (
        net.t_embedder.shift != 1
        or net.grid[0] != net.grid[1]
        or net.y_embedder is None
        or not net.y_embedder.null
    ):
        raise ValueError(
            "diffusers' DiT needs frequency_shift=1, a square grid and a null class; got "
            f"frequency_shift={net.t_embedder.shift}, grid {net.grid}; "
            "train with frequency_shift=1 or export to the original format"
        )
    state, first, width = dit_to_original(net), net.blocks[0], net.pos_embed.shape[-1]
    assert isinstance(first, Block)
    heads, hidden = first.attn.heads, first.mlp.fc1.out_features
    if hidden != 4 * width:
        raise ValueError(f"diffusers' DiT has an MLP ratio of 4, got {hidden / width:g}")
    with torch.random.fork_rng(devices=[]):
        model: Any = DiTTransformer2DModel(
            num_attention_heads=heads,
            attention_head_dim=width // heads,
            in_channels=net.in_channels,
            out_channels=net.out_channels,
            num_layers=len(net.blocks),
            sample_size=net.grid[0] * net.patch_size,
            patch_size=net.patch_size,
            num_embeds_ada_norm=net.num_classes,
            norm_eps=first.norm2.eps,
        )
    if not torch.allclose(model.pos_embed.pos_embed, net.pos_embed.cpu(), atol=1e-4):
        raise ValueError(
            "diffusers' DiT has fixed sin-cos positions, this model's are others; it cannot be written as one"
        )
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        stem, _, part = key.rpartition(".")
        if stem in _TO_DIFFUSERS:
            out[f"{_TO_DIFFUSERS[stem]}.{part}"] = value
        elif stem in _EMBED:
            out.update(
                {
                    f"transformer_blocks.{i}.norm1.emb.{_EMBED[stem]}.{part}": value
                    for i in range(len(net.blocks))
                }
            )
        elif stem.startswith("blocks."):
            _, i, name = stem.split(".", 2)
            if name == "attn.qkv":
                out.update(
                    {f"transformer_blocks.{i}.attn1.to_{n}.{part}": v for n, v in zip("qkv", value.chunk(3))}
                )
            else:
                out[f"transformer_blocks.{i}.{_BLOCK[name]}.{part}"] = value
    return load(model, out, "diffusers' DiTTransformer2DModel")


def diffusers_options(config: Any) -> dict[str, Any]:
    """Constructor options of our DiT from a ``DiTTransformer2DModel``'s config. Raises ``ValueError`` for
    parts that ours does not have."""
    for key, value in (
        ("norm_type", "ada_norm_zero"),
        ("activation_fn", "gelu-approximate"),
        ("attention_bias", True),
        ("norm_elementwise_affine", False),
    ):
        if getattr(config, key) != value:
            raise ValueError(
                f"got a diffusers DiT with {key}={getattr(config, key)!r}, ours has {value!r}; it "
                "cannot be read"
            )
    channels, out = config.in_channels, config.out_channels or config.in_channels
    if out not in (channels, 2 * channels):
        raise ValueError(
            f"got a diffusers DiT with {out} output channels for {channels}, expected as many or "
            "twice as many"
        )
    return dict(
        input_size=config.sample_size,
        patch_size=config.patch_size,
        in_channels=channels,
        hidden_size=config.num_attention_heads * config.attention_head_dim,
        depth=config.num_layers,
        num_heads=config.num_attention_heads,
        num_classes=config.num_embeds_ada_norm,
        learn_sigma=out == 2 * channels,
        frequency_shift=1,
        mlp_norm_eps=config.norm_eps,
    )


def dit_from_diffusers(model: Any) -> DiT:
    """Our DiT with the function of a diffusers ``DiTTransformer2DModel``. diffusers repeats the embedders in
    every block; they must agree."""
    config, theirs = model.config, model.state_dict()
    with torch.random.fork_rng(devices=[]):
        net = DiT(**diffusers_options(config))
    state = {"pos_embed": model.pos_embed.pos_embed}
    for part in ("weight", "bias"):
        for ours, name in (("x_embedder.proj", "pos_embed.proj"), ("final_layer.linear", "proj_out_2")):
            state[f"{ours}.{part}"] = theirs[f"{name}.{part}"]
        for ours, name in _EMBED.items():
            if part == "bias" and "embedding_table" in ours:
                continue
            copies = [
                theirs[f"transformer_blocks.{i}.norm1.emb.{name}.{part}"] for i in range(config.num_layers)
            ]
            if any(not torch.equal(copies[0], c) for c in copies[1:]):
                raise ValueError(
                    f"the blocks' copies of {name} differ, expected one shared embedder; this model was "
                    "trained with an embedder per block"
                )
            state[f"{ours}.{part}"] = copies[0]
        for i in range(config.num_layers):
            block = f"transformer_blocks.{i}"
            state[f"blocks.{i}.attn.qkv.{part}"] = torch.cat(
                [theirs[f"{block}.attn1.to_{n}.{part}"] for n in "qkv"]
            )
            for ours, name in _BLOCK.items():
                if ours != "adaLN_modulation.1":
                    state[f"blocks.{i}.{ours}.{part}"] = theirs[f"{block}.{name}.{part}"]
        rows = [theirs[f"transformer_blocks.{i}.norm1.linear.{part}"] for i in range(config.num_layers)]
        state[f"modulation.{part}"] = torch.cat([*rows, theirs[f"proj_out_1.{part}"]])
    return load(net, state, "our DiT")


def shifted_time_embedding(
    weight: Tensor, bias: Tensor, exact: Sequence[int], count: int = 1000
) -> tuple[Tensor, Tensor, float]:
    """The time MLP's first layer (D, 256), (D,) rewritten from ``frequency_shift=0`` to 1 for integer times
    below ``count``: the same at the times ``exact``, close at the others; and the largest error at ``exact``,
    relative to the layer's largest output.

    With S0, S1 (count, 256) the sinusoids, W1 = W0 M, where M minimises ‖ω([S1, 1] M − S0)‖² + ‖M − I‖², ω =
    1e5 at ``exact`` and 1 elsewhere. M has 257 rows, of which neighbouring times share many, so some 60 times
    of 1,000 can be met.
    """
    t, width = torch.arange(count, dtype=torch.float64), weight.shape[1]
    ours, theirs = (sinusoid(t, width, shift=shift).double() for shift in (0, 1))
    theirs, eye = (
        torch.cat([theirs, torch.ones(count, 1, dtype=torch.float64)], dim=1),
        torch.eye(width + 1, dtype=torch.float64),
    )
    omega = torch.ones(count, 1, dtype=torch.float64)
    omega[list(exact)] = 1e5
    # (257, 256)
    fold = torch.linalg.lstsq(
        torch.cat([omega * theirs, eye]), torch.cat([omega * ours, eye[:, :width]])
    ).solution
    both = weight.double() @ fold.T  # (D, 257)
    new_weight, new_bias = both[:, :width].to(weight), (bias.double() + both[:, width]).to(bias)
    want, got = (
        s[list(exact)] @ w.double().T + b.double()
        for s, w, b in ((ours, weight, bias), (theirs[:, :width], new_weight, new_bias))
    )
    return new_weight, new_bias, float((got - want).abs().max() / want.abs().max())
