"""Weights of diffusers' ``DiTTransformer2DModel``, both ways. Its time sinusoid has other frequencies than
the original DiT's."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backbones.dit import DiT
from backbones.encoders import sinusoid
from backbones.originals.dit import dit_to_original, load
from backbones.transformer import Block

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
