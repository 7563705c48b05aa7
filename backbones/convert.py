"""Weights of others: the original DiT's key names and diffusers' ``DiTTransformer2DModel``, both ways.

Ours keeps the original names but for the adaLN projections: ``blocks.i.adaLN_modulation.1`` and ``final_layer.adaLN_modulation.1`` are rows
of one matrix, ``modulation``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backbones.dit import DiT

FAMILIES = {"dit": "backbones.convert:dit_from_original"}


def _load(net: nn.Module, state: Mapping[str, Tensor], what: str) -> nn.Module:
    try:
        missing, unexpected = net.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:  # a size that differs
        raise ValueError(f"the weights do not fit {what}: {error}; check the config") from None
    if missing or unexpected:
        raise ValueError(f"the weights do not fit {what}: missing {sorted(missing)[:4]}, unexpected {sorted(unexpected)[:4]}; check the config")
    return net.eval()


def dit_from_original(state_dict: Mapping[str, Tensor], config: Mapping[str, Any], compat: bool = True) -> DiT:
    """Original DiT constructor arguments and state-dict to our module in eval mode. ``compat`` changes nothing here: the forms agree."""
    dropout = config.get("class_dropout_prob", 0.1)
    keys = ("input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio", "num_classes")
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
        raise ValueError(f"got the unknown DiT arguments {sorted(unknown)}, expected {', '.join(keys)}, class_dropout_prob, learn_sigma")
    options = {k: config.get(k, original[k]) for k in keys}
    net = DiT(**options, null_class=dropout > 0, learn_sigma=config.get("learn_sigma", True))
    state = dict(state_dict)
    names = [f"blocks.{i}.adaLN_modulation.1" for i in range(options["depth"])] + ["final_layer.adaLN_modulation.1"]
    for part in ("weight", "bias"):
        rows = [state.pop(f"{n}.{part}", None) for n in names]
        if any(r is None for r in rows):
            raise ValueError(
                f"the weights lack {next(n for n, r in zip(names, rows) if r is None)}.{part}; expected an adaLN-Zero DiT of depth {options['depth']}"
            )
        state[f"modulation.{part}"] = torch.cat(rows)
    return _load(net, state, f"DiT {options}")


def dit_to_original(net: DiT) -> dict[str, Tensor]:
    """The original DiT's state-dict. Raises ``ValueError`` for parts the original does not have."""
    if net.stem is not None or net.n_embedder is not None or net.y_embedder is None:
        raise ValueError(
            "the original DiT has neither a convolutional stem nor numeric conditions and always has labels; this model cannot be written as one"
        )
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("modulation.")}
    names = [f"blocks.{i}.adaLN_modulation.1" for i in range(len(net.blocks))] + ["final_layer.adaLN_modulation.1"]
    for part in ("weight", "bias"):
        for name, rows in zip(names, getattr(net.modulation, part).detach().split(net.splits)):
            state[f"{name}.{part}"] = rows.clone()
    return state


_TO_DIFFUSERS = {"x_embedder.proj": "pos_embed.proj", "final_layer.linear": "proj_out_2", "final_layer.adaLN_modulation.1": "proj_out_1"}
_BLOCK = {"adaLN_modulation.1": "norm1.linear", "attn.proj": "attn1.to_out.0", "mlp.fc1": "ff.net.0.proj", "mlp.fc2": "ff.net.2"}
_EMBED = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1", "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}  # fmt: skip


def dit_to_diffusers(net: DiT) -> nn.Module:
    """A diffusers ``DiTTransformer2DModel`` with the same function. Needs ``frequency_shift=1`` (its time sinusoid) and a square grid.

    Raises ``ValueError`` for what diffusers cannot express.
    """
    from diffusers import DiTTransformer2DModel

    if net.t_embedder.shift != 1 or net.grid[0] != net.grid[1] or net.y_embedder is None or not net.y_embedder.null:
        raise ValueError(
            f"diffusers' DiT needs frequency_shift=1, a square grid and a null class; got frequency_shift={net.t_embedder.shift}, grid {net.grid}; "
            "train with frequency_shift=1 or export to the original format"
        )
    state, heads = dit_to_original(net), net.blocks[0].attn.heads
    width = net.pos_embed.shape[-1]
    if net.blocks[0].mlp.fc1.out_features != 4 * width:
        raise ValueError(f"diffusers' DiT has an MLP ratio of 4, got {net.blocks[0].mlp.fc1.out_features / width:g}")
    model = DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=width // heads, in_channels=net.in_channels, out_channels=net.out_channels,
        num_layers=len(net.blocks), sample_size=net.grid[0] * net.patch_size, patch_size=net.patch_size,
        num_embeds_ada_norm=net.num_classes, norm_eps=net.blocks[0].norm2.eps,
    )  # fmt: skip
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        stem, _, part = key.rpartition(".")
        if stem in _TO_DIFFUSERS:
            out[f"{_TO_DIFFUSERS[stem]}.{part}"] = value
        elif stem in _EMBED:
            out.update({f"transformer_blocks.{i}.norm1.emb.{_EMBED[stem]}.{part}": value for i in range(len(net.blocks))})
        elif stem.startswith("blocks."):
            _, i, name = stem.split(".", 2)
            if name == "attn.qkv":
                out.update({f"transformer_blocks.{i}.attn1.to_{n}.{part}": v for n, v in zip("qkv", value.chunk(3))})
            else:
                out[f"transformer_blocks.{i}.{_BLOCK[name]}.{part}"] = value
    return _load(model, out, "diffusers' DiTTransformer2DModel")


def dit_from_diffusers(model: nn.Module) -> DiT:
    """Our DiT with the function of a diffusers ``DiTTransformer2DModel``. diffusers repeats the embedders in every block; they must agree."""
    config, theirs = model.config, model.state_dict()
    width = config.num_attention_heads * config.attention_head_dim
    options = dict(
        input_size=config.sample_size, patch_size=config.patch_size, in_channels=config.in_channels, hidden_size=width,
        depth=config.num_layers, num_heads=config.num_attention_heads, num_classes=config.num_embeds_ada_norm,
        learn_sigma=model.out_channels == 2 * config.in_channels, frequency_shift=1, mlp_norm_eps=config.norm_eps,
    )  # fmt: skip
    net = DiT(**options)
    state = {"pos_embed": model.pos_embed.pos_embed}
    for part in ("weight", "bias"):
        for ours, name in (("x_embedder.proj", "pos_embed.proj"), ("final_layer.linear", "proj_out_2")):
            state[f"{ours}.{part}"] = theirs[f"{name}.{part}"]
        for ours, name in _EMBED.items():
            if part == "bias" and "embedding_table" in ours:
                continue
            copies = [theirs[f"transformer_blocks.{i}.norm1.emb.{name}.{part}"] for i in range(config.num_layers)]
            if any(not torch.equal(copies[0], c) for c in copies[1:]):
                raise ValueError(
                    f"the blocks' copies of {name} differ, expected one shared embedder; this model was trained with an embedder per block"
                )
            state[f"{ours}.{part}"] = copies[0]
        for i in range(config.num_layers):
            block = f"transformer_blocks.{i}"
            state[f"blocks.{i}.attn.qkv.{part}"] = torch.cat([theirs[f"{block}.attn1.to_{n}.{part}"] for n in "qkv"])
            for ours, name in _BLOCK.items():
                if ours != "adaLN_modulation.1":
                    state[f"blocks.{i}.{ours}.{part}"] = theirs[f"{block}.{name}.{part}"]
        rows = [theirs[f"transformer_blocks.{i}.norm1.linear.{part}"] for i in range(config.num_layers)]
        state[f"modulation.{part}"] = torch.cat([*rows, theirs[f"proj_out_1.{part}"]])
    return _load(net, state, "our DiT")  # type: ignore[return-value]
