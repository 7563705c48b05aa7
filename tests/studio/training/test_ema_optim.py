"""Averages, optimisers and schedules against their formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from studio.config import TrainConfig
from studio.config.decay import decay_at
from studio.training.ema import EMA
from studio.training.optim import Muon, build_optimizers, lr_factor, orthogonalise


def walk(profile: str, values: list[float]) -> float:
    """The average after a parameter went through ``values[1:]``, from ``values[0]``."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, values[0])
    ema = EMA({"net": net}, [profile])
    for n, v in enumerate(values[1:], 1):
        nn.init.constant_(net.weight, v)
        ema.update(n)
    assert net.weight.item() == pytest.approx(values[-1])  # never written into the live network
    return float(ema.tensors(profile)["net.weight"])


def test_a_constant_decay_with_its_warm_up() -> None:
    values, decay = [2.0, -1.0, 0.5, 3.0, 1.5], 0.3
    want = values[0]
    for n, v in enumerate(values[1:], 1):
        d = min(decay, (1 + n) / (10 + n))
        want = d * want + (1 - d) * v
    assert walk("0.3", values) == pytest.approx(want, rel=1e-6)
    assert decay_at("0.9999", 1) == 2 / 11 and decay_at("0.9999", 10**7) == 0.9999


def test_the_power_profile_is_a_weighted_mean() -> None:
    """β_n = (1 − 1/n)^(γ+1) leaves value k the weight (k/n)^(γ+1) − ((k−1)/n)^(γ+1); the start is forgotten
    at n = 1."""
    rng, gamma = np.random.default_rng(0), 6.0
    values = [100.0, *rng.normal(size=30)]
    n = len(values) - 1
    weights = [(k / n) ** (gamma + 1) - ((k - 1) / n) ** (gamma + 1) for k in range(1, n + 1)]
    assert sum(weights) == pytest.approx(1)
    assert walk("power-6", values) == pytest.approx(float(np.dot(weights, values[1:])), rel=1e-5)


@pytest.mark.parametrize("name", ["1.0", "-0.1", "fast", "power-x"])
def test_names_that_are_no_average(name: str) -> None:
    with pytest.raises(ValueError, match="expected a decay such as '0.9999' or 'power-12'"):
        EMA({"net": nn.Linear(1, 1)}, [name])


def test_averages_are_kept_in_float32_and_copied_elsewhere_only() -> None:
    live, shown = nn.Linear(4, 4).bfloat16(), nn.Linear(4, 4)
    ema = EMA({"net": live}, ["0.5"])
    assert all(t.dtype == torch.float32 for t in ema.shadow["0.5"])
    before = [p.clone() for p in live.parameters()]
    ema.copy_to("0.5", {"net": shown})
    assert all(torch.equal(a, b) for a, b in zip(before, live.parameters()))
    assert torch.equal(shown.weight, live.weight.float())


@pytest.mark.parametrize("shape", [(12, 12), (8, 24), (24, 8)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape: tuple[int, int]) -> None:
    """U S Vᵀ → U S' Vᵀ with S' near 1."""
    rng = torch.Generator().manual_seed(0)
    g = torch.randn(3, *shape, generator=rng)
    u, s, vt = torch.linalg.svd(g, full_matrices=False)
    out = u.mT @ orthogonalise(g).float() @ vt.mT  # diagonal if the vectors stay
    diagonal = out.diagonal(dim1=1, dim2=2)
    well = s > 0.1 * s[:, :1]  # the very small ones have not arrived after five steps
    assert 0.6 < float(diagonal[well].min()) and float(diagonal[well].max()) < 1.3
    assert float((out - torch.diag_embed(diagonal)).abs().max()) < 0.1


def test_muon_moves_by_momentum_nesterov_and_the_scaled_factor() -> None:
    p = nn.Parameter(torch.eye(4))
    muon = Muon([p], lr=0.1, momentum=0.9, weight_decay=0.5)
    rng = torch.Generator().manual_seed(1)
    buffer, want = torch.zeros(4, 4), torch.eye(4)
    for _ in range(3):
        g = torch.randn(4, 4, generator=rng)
        p.grad = g.clone()
        muon.step()
        buffer = 0.9 * buffer + 0.1 * g
        update = orthogonalise((0.1 * g + 0.9 * buffer)[None])[0].float()
        want = want * (1 - 0.1 * 0.5) - 0.1 * 0.2 * math.sqrt(4) * update
        torch.testing.assert_close(p.data, want, rtol=1e-2, atol=1e-3)  # bf16 products


def test_muon_takes_the_matrices_of_blocks_and_adamw_the_rest() -> None:
    net = nn.Module()
    net.inp, net.blocks = nn.Linear(3, 8), nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
    adamw, muon = build_optimizers({"net": net}, TrainConfig(optimizer="muon"))
    assert {id(p) for ps in muon.groups.values() for p in ps} == {id(b.weight) for b in net.blocks}
    assert {id(p) for p in adamw.param_groups[0]["params"]} == {
        id(p) for p in (*net.inp.parameters(), *(b.bias for b in net.blocks))
    }
    (only,) = build_optimizers({"net": net}, TrainConfig(optimizer="adamw"))
    assert len(only.param_groups[0]["params"]) == 6


def test_warm_up_and_cosine() -> None:
    cfg = TrainConfig(steps=100, warmup=10, final_lr=0.1)
    assert lr_factor(cfg, 0, 0.0) == pytest.approx(0.1)
    assert lr_factor(cfg, 4, 0.0) == pytest.approx(0.5)
    assert lr_factor(cfg, 50, 0.5) == pytest.approx(0.1 + 0.9 * 0.5)
    assert lr_factor(cfg, 99, 1.0) == pytest.approx(0.1)
    assert lr_factor(cfg, 25, 0.25) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    flat = TrainConfig(steps=100, warmup=0, schedule="constant")
    assert [lr_factor(flat, s, s / 100) for s in (0, 50, 99)] == [1.0, 1.0, 1.0]


def test_muon_leaves_a_network_alone_that_is_not_trained() -> None:
    """Two networks of one shape, one with gradients: the other and its momentum stay; the trained one moves
    as it does by itself."""

    def layers(seed: int) -> nn.ModuleDict:
        torch.manual_seed(seed)
        return nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(6, 6, bias=False) for _ in range(2))})

    a, b, alone = layers(0), layers(1), layers(0)
    (both,) = build_optimizers({"a": a, "b": b}, TrainConfig(optimizer="muon"))
    (single,) = build_optimizers({"a": alone}, TrainConfig(optimizer="muon"))
    kept = [p.clone() for p in b.parameters()]
    for _ in range(3):
        for net, optimizer in ((a, both), (alone, single)):
            sum(layer(torch.ones(1, 6)).square().sum() for layer in net["blocks"]).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert (
        all(torch.equal(p, q) for p, q in zip(b.parameters(), kept))
        and float(both.buffers[6, 6][2:].abs().max()) == 0
    )
    for p, q in zip(a.parameters(), alone.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-2, atol=1e-4)  # bf16 products of batches of two and four
