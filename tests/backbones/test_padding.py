"""Rows with padding in the networks without attention: what stands there is neither seen nor counted, in
whatever form a recurrence runs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import Cond, build
from backbones.dis import NEVER, Mixer
from backbones.recurrences.two_way import two_way_scan
from backbones.recurrences.wkv import bi_wkv

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("dis", {"num_classes": 3}),
    ("dis", {"num_classes": 0, "rms_norm": False}),
    ("rwkv", {"num_classes": 3}),
    ("rwkv", {"num_classes": 0, "wkv": "kernel", "key_norm": True, "post_norm": True}),
]
TIMES, KEPT = torch.tensor([100.0, 700.0]), 3
VALID = torch.tensor([[True] * KEPT + [False] * 2, [True] * 5])


def made(name: str, count: int, **options: Any) -> Any:
    """A small network with all weights away from zero."""
    form = {"input_size": (count,), "in_channels": 3, "patch_size": 1, "rows": True, "hidden_size": 64}
    net = build(name, **{**form, "depth": 2 + (name == "rwkv"), **options})
    torch.manual_seed(1)
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    return net.eval().requires_grad_(False)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_what_stands_on_padding_changes_nothing(name: str, options: dict[str, Any]) -> None:
    """In the plain form (float64) not a bit, in the fused one no more than rounding; the output there is 0,
    and no gradient comes from there or goes there."""
    net, cond, grads = made(name, 5, known=True, **options), Cond(valid=VALID), []
    x = normal(2, 5, 3)
    moved = torch.where(VALID[..., None], x, 10 * normal(2, 5, 3, seed=1))
    for kind, rtol in ((torch.float64, 0.0), (torch.float32, 1e-6)):
        net, t = net.to(kind), TIMES.to(kind)
        for watched in (False, True):  # with and without gradients the fused loops are others
            given, else_ = (v.clone().to(kind).requires_grad_(watched) for v in (x, moved))
            out, other = net(given, t, cond), net(else_, t, cond)
            torch.testing.assert_close(other[VALID], out[VALID], rtol=rtol, atol=rtol * 1e-2)
        assert not out[~VALID].any() and bool(out[VALID].all())
        out.square().sum().backward()
        assert given.grad is not None and not given.grad[~VALID].any() and bool(given.grad[VALID].all())
        grads.append(given.grad.double())
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-4)
    every = torch.ones_like(VALID)
    torch.testing.assert_close(net(x.float(), TIMES, Cond(valid=every)), net(x.float(), TIMES))
    assert float((net(x.float(), TIMES) - net(x.float(), TIMES, cond))[0, :KEPT].abs().max()) > 1e-3


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_rows_with_padding_are_those_rows_alone(name: str, options: dict[str, Any]) -> None:
    """Of a network of so many rows, with the same positions and, as RWKV's decays are shares of the length,
    the same decays."""
    net, alone = made(name, 5, **options), made(name, KEPT, **options)
    state = {**net.state_dict()}
    state["pos_embed"] = state["pos_embed"][:, : alone.pos_embed.shape[1]]
    for key in state:
        if key.endswith(("spatial_decay", "spatial_first")):
            state[key] = state[key] * KEPT / 5
    alone.load_state_dict(state)
    x = normal(2, 5, 3)
    for kind, rtol in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        net, alone, t = net.to(kind), alone.to(kind), TIMES.to(kind)
        padded = net(x.to(kind), t, Cond(valid=VALID))[:1, :KEPT]
        torch.testing.assert_close(padded, alone(x[:1, :KEPT].to(kind), t[:1]), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("form", ["reference", "chunked", "fused"])
def test_no_time_passes_on_padding(form: str) -> None:
    """A scan over rows with padding among them is the scan without those; a key there has no weight."""
    torch.manual_seed(0)
    mixer, u, z = (
        Mixer(16).requires_grad_(False),
        normal(2, 40, 32).float(),
        normal(2, 40, 32, seed=1).float(),
    )
    real = torch.arange(40) % 3 != 1
    real[30:] = False
    valid = real[:, None].expand(2, 40, 1)

    def scan(u: Tensor, z: Tensor, valid: Tensor | None) -> Tensor:
        return two_way_scan(mixer.way(u, "", valid), mixer.way(u, "_b", valid), z, form=form)

    torch.testing.assert_close(scan(u, z, valid)[:, real], scan(u[:, real], z[:, real], None))
    w, first, k = torch.rand(32), torch.rand(32), normal(2, 40, 32, seed=2).float()
    y = bi_wkv(w, first, torch.where(torch.arange(40)[:, None] < 30, k, NEVER), u, form=form)
    torch.testing.assert_close(y[:, :30], bi_wkv(w, first, k[:, :30], u[:, :30], form=form))


@pytest.mark.parametrize("name", ["dis", "rwkv"])
def test_rows_are_curves_turned_and_angles_circles(name: str) -> None:
    """(B, n, d) is as (B, d, n) of a network of curves with the same weights; a whole turn changes
    nothing; a learned variance is as many rows more."""
    options: dict[str, Any] = {"num_classes": 0, "known": True, "periodic": True, "learn_sigma": True}
    net, curves = made(name, 5, **options), made(name, 5, **options, rows=False)
    curves.load_state_dict(net.state_dict())
    x, known = normal(2, 5, 3).float(), torch.arange(5)[None, :, None].expand(2, 5, 1) < 2
    out = net(x, TIMES, Cond(known=known))
    turned = curves(x.mT, TIMES, Cond(known=known.mT)).mT  # (2, 5, 6)
    assert net.tokens((5, 3)) == 5
    torch.testing.assert_close(out, torch.cat(turned.chunk(2, dim=2), dim=1))
    whole = x + 2 * math.pi * torch.tensor([-1.0, 0.0, 2.0])
    torch.testing.assert_close(net(whole, TIMES, Cond(known=known)), out, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"got samples of shape \(2, 3\), expected rows \(B, n, d\)"):
        net(x[:, 0], TIMES)
    with pytest.raises(
        ValueError, match="got rows=true with patches of 2 and sides .5,., expected patch_size=1"
    ):
        made(name, 5, patch_size=2)
