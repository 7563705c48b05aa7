"""The original DiT's outputs and gradients, recorded from its own code, through `from_original` and
`Guided`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backbones
from backbones import Cond
from guidance import CFG, Guided
from samplers import Denoiser, VPPath
from samplers.heads.parameterization import noise as noise_output

LIMITS = [(torch.float32, 1e-5, ""), (torch.float64, 1e-8, "_f64")]


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return golden("dit_a")


def original(
    recorded: tuple[dict[str, Tensor], dict[str, Any]], dtype: torch.dtype = torch.float32
) -> nn.Module:
    tensors, notes = recorded
    state = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    return backbones.from_original("dit", state, notes["config"]).to(dtype)


def worst(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize("dtype, limit, suffix", LIMITS)
def test_output(
    recorded: Any, strict: Callable[[float], float], dtype: torch.dtype, limit: float, suffix: str
) -> None:
    g, net = recorded[0], original(recorded, dtype)
    assert not net.training
    with torch.no_grad():
        out = net(g["input.x"].to(dtype), g["input.t"], Cond(label=g["input.y"]))
    assert out.dtype == dtype and worst(out, g[f"output.y{suffix}"]) <= strict(limit)


def test_every_stage(recorded: Any) -> None:
    g, net = recorded[0], original(recorded)
    seen: dict[str, Tensor] = {}
    stages = {
        "x_embedder": net.x_embedder.proj,
        "t_embedder": net.t_embedder,
        "y_embedder": net.y_embedder,
        "block0_attn": net.blocks[0].attn,
        "block0": net.blocks[0],
        "final_layer": net.final_layer.linear,
    }
    for name, module in stages.items():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
    with torch.no_grad():
        net(g["input.x"], g["input.t"], Cond(label=g["input.y"]))
    seen["x_embedder"] = seen["x_embedder"].flatten(2).transpose(1, 2)
    for name in stages:
        assert worst(seen[name], g[f"output.inter.{name}"]) <= 1e-5, name


@pytest.mark.parametrize("dtype, limit, suffix", LIMITS)
def test_guided_output(
    recorded: Any, strict: Callable[[float], float], dtype: torch.dtype, limit: float, suffix: str
) -> None:
    """The original's `forward_with_cfg` guides three of the four latent channels; its first half is our
    guided prediction."""
    g, notes = recorded
    path, half = VPPath(), len(g["input.cfg.x"]) // 2
    guided = Guided(
        Denoiser(original(recorded, dtype), path, noise_output(variance="learned_range")),
        [CFG(notes["cfg_scale"], channels=3)],
    )
    t = 1 - (g["input.cfg.t"][:half].double() + 1) / path.size
    with torch.no_grad():
        p = guided.predict(g["input.cfg.x"][:half].to(dtype), t, Cond(label=g["input.cfg.y"][:half]))
    assert worst(
        torch.cat([p.to("noise"), p.head("variance")], dim=1), g[f"output.cfg{suffix}"][:half]
    ) <= strict(limit)


def test_gradients(recorded: Any, strict: Callable[[float], float]) -> None:
    g, net = recorded[0], original(recorded, torch.float64)
    x = g["input.x"].double().requires_grad_()
    net.requires_grad_(True)
    (net(x, g["input.t"], Cond(label=g["input.y"])) * g["input.grad_out"].double()).sum().backward()
    width = net.pos_embed.shape[-1]
    assert worst(x.grad, g["output.grad_x_f64"]) <= strict(1e-8)
    assert worst(net.blocks[0].attn.qkv.weight.grad, g["output.grad_f64.blocks.0.attn.qkv.weight"]) <= strict(
        1e-8
    )
    assert worst(
        net.modulation.bias.grad[: 6 * width], g["output.grad_f64.blocks.0.adaLN_modulation.1.bias"]
    ) <= strict(1e-8)


@pytest.mark.parametrize("null", ["minus one", "num_classes"])
def test_forced_drop(recorded: Any, null: str) -> None:
    g, net = recorded[0], original(recorded)
    label = torch.where(
        g["input.force_drop_ids"] == 1, -1 if null == "minus one" else net.num_classes, g["input.y"]
    )
    assert torch.equal(net.y_embedder(label), g["output.y_embedder_forced_drop"])


def test_missing_label_is_the_null_class(recorded: Any) -> None:
    g, net = recorded[0], original(recorded)
    forms = [
        Cond(),
        Cond(label=torch.full((3,), -1)),
        Cond(label=torch.full((3,), net.num_classes)),
        Cond(label=g["input.y"]).null(),
    ]
    with torch.no_grad():
        outs = [net(g["input.x"], g["input.t"], c) for c in forms]
        labelled = net(g["input.x"], g["input.t"], Cond(label=g["input.y"]))
    for out in outs[1:]:
        assert torch.equal(out, outs[0])
    assert worst(outs[0], labelled) > 1e-2


def test_positions_are_the_originals(recorded: Any) -> None:
    """The frozen table is a function of the sizes: a fresh network has the recorded one."""
    g, notes = recorded
    c = notes["config"]
    fresh = backbones.DiT(
        input_size=c["input_size"],
        patch_size=c["patch_size"],
        hidden_size=c["hidden_size"],
        depth=1,
        num_heads=c["num_heads"],
    )
    assert worst(fresh.pos_embed, g["weights.pos_embed"]) <= 1e-6
