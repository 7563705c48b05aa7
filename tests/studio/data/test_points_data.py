"""Points in the plane: each kind's geometry and moments, and the mixture's exact denoiser against the tests'
own formula."""

import math

import pytest
import torch
from mixture import Mixture
from torch import Tensor

from backbones import Cond, NoiseSource
from samplers import EDMPath, LinearPath, VPPath
from studio.data import load_data
from studio.data.toy import KINDS, draw
from studio.tasks.points import exact_mixture

N = 20000


def drawn(kind: str, n: int = N, seed: int = 1) -> tuple[Tensor, Tensor]:
    points, labels = draw(kind, NoiseSource([seed] * n, index=range(n)))
    return points.double(), labels


def test_eight_gaussians() -> None:
    points, labels = drawn("eight_gaussians")
    for k in range(8):
        mine = points[labels == k]
        assert len(mine) / N == pytest.approx(1 / 8, abs=0.012)
        centre = [5 * math.cos(k * math.pi / 4), 5 * math.sin(k * math.pi / 4)]
        assert mine.mean(0).tolist() == pytest.approx(centre, abs=0.06)
        torch.testing.assert_close(
            mine.T.cov(), 0.1**0.5 * torch.eye(2, dtype=torch.float64), atol=0.03, rtol=0
        )


def test_moons() -> None:
    """Before scaling: half circles of radius 1 about (0, 0) and (1, 1/2), jitter 0.2 — in units of 3, shifted
    by −1."""
    points, labels = drawn("moons")
    raw = (points + 1) / 3
    for k, centre, sign in ((0, (0.0, 0.0), 1), (1, (1.0, 0.5), -1)):
        off = raw[labels == k] - torch.tensor(centre, dtype=torch.float64)
        assert len(off) / N == pytest.approx(0.5, abs=0.02)
        assert off.mean(0).tolist() == pytest.approx([0, sign * 2 / math.pi], abs=0.02)
        assert float((off**2).sum(1).mean()) == pytest.approx(1 + 2 * 0.2**2, abs=0.02)  # |unit + jitter|²


def test_spiral() -> None:
    """Radius = angle / 2 on one and a half turns, jitter 0.1, points spread evenly over angle²."""
    points, labels = drawn("spiral")
    assert set(labels.tolist()) == {0}
    radius = points.norm(dim=1)
    turn = torch.atan2(points[:, 1], points[:, 0]) % (2 * math.pi)
    nearest = torch.stack([(radius - (turn + 2 * math.pi * k) / 2).abs() for k in range(2)]).min(0).values
    outer = radius > 1
    assert float((nearest[outer] ** 2).mean().sqrt()) == pytest.approx(0.1, abs=0.02)
    # mean of angle²/4 is (3π)²/8
    assert float((points**2).sum(1).mean()) == pytest.approx((3 * math.pi) ** 2 / 8 + 2 * 0.1**2, rel=0.02)


def test_checkerboard() -> None:
    points, labels = drawn("checkerboard")
    cells = points.div(2, rounding_mode="floor").long()
    assert cells.min() == -2 and cells.max() == 1 and bool(((cells[:, 0] + cells[:, 1]) % 2 == 0).all())
    assert len({tuple(c) for c in cells.tolist()}) == 8
    for k in range(8):
        mine = points[labels == k]
        assert len(mine) / N == pytest.approx(1 / 8, abs=0.012)
        inside = mine - 2 * mine.div(2, rounding_mode="floor")
        assert inside.mean(0).tolist() == pytest.approx([1, 1], abs=0.05) and inside.var(
            0
        ).tolist() == pytest.approx([1 / 3] * 2, abs=0.03)


def test_mixture() -> None:
    points, labels = drawn("mixture")
    for k, (weight, mean, std) in enumerate(((0.4, (-1.5, 0.5), 0.35), (0.6, (1.0, -1.0), 0.6))):
        mine = points[labels == k]
        assert len(mine) / N == pytest.approx(weight, abs=0.02)
        assert mine.mean(0).tolist() == pytest.approx(mean, abs=0.04)
        torch.testing.assert_close(
            mine.T.cov(), std**2 * torch.eye(2, dtype=torch.float64), atol=0.02, rtol=0
        )


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_a_function_of_seed_and_index(kind: str) -> None:
    many, _ = drawn(kind, 50)
    few, _ = draw(kind, NoiseSource([1] * 3, index=[7, 0, 49]))
    assert torch.equal(few.double(), many[[7, 0, 49]])
    other, _ = drawn(kind, 50, seed=2)
    assert not torch.equal(many, other)


def test_the_source_and_its_codec() -> None:
    data = load_data(
        {"name": "points", "kind": "checkerboard", "count": 1000, "labels": True, "held_out": 0.2}
    )
    assert (data.shape, len(data.train), len(data.held_out), data.classes) == (
        (2,),
        800,
        200,
        tuple("01234567"),
    )
    everything = torch.cat([torch.as_tensor(p.values) for p in (data.train, data.held_out)])
    assert data.codec["std"] == pytest.approx(float(everything.std()), abs=1e-3)
    again, other = (
        load_data(
            {
                "name": "points",
                "kind": "checkerboard",
                "count": 1000,
                "labels": True,
                "held_out": 0.2,
                "seed": s,
            }
        )
        for s in (0, 1)
    )
    assert data.hash == again.hash != other.hash
    with pytest.raises(ValueError, match="points kind 'squares', expected one of"):
        load_data({"name": "points", "kind": "squares"})


@pytest.mark.parametrize("path", [LinearPath(), VPPath(), EDMPath()], ids=["linear", "vp", "edm"])
@pytest.mark.parametrize("std", [1.0, 1.7])
def test_the_exact_denoiser(path: object, std: float) -> None:
    """Against the tests' own mixture, scaled: data/std has means m/std and deviations s/std."""
    from studio.data.toy import MIXTURE

    ours = exact_mixture(path, std=std)  # type: ignore[arg-type]
    scaled = Mixture(
        MIXTURE["weights"],
        tuple(tuple(v / std for v in m) for m in MIXTURE["means"]),
        tuple(s / std for s in MIXTURE["stds"]),
    )
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    for t in (0.05, 0.5, 0.93):
        c = path.coefficients(t)  # type: ignore[attr-defined]
        got = ours.predict(x, t, Cond()).to("data")
        torch.testing.assert_close(got, scaled.denoise(x, c.alpha, c.sigma), rtol=1e-10, atol=1e-10)
    times = torch.rand(64, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.9 + 0.05
    if not isinstance(path, VPPath):
        c = path.coefficients(times)  # type: ignore[attr-defined]
        torch.testing.assert_close(
            ours.predict(x, times, Cond()).to("data"),
            scaled.denoise(x, c.alpha, c.sigma),
            rtol=1e-10,
            atol=1e-10,
        )
