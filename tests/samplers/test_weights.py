"""Loss weights by their definitions in every space; networks that are not told the time."""

from typing import Any

import pytest
import torch
from mixture import points
from torch import Tensor

from backbones import Cond, NoiseSource
from samplers import Batch, EDMPath, LinearPath, Objective, TrigPath, VPPath, build_objective
from samplers.batch import Error
from samplers.heads.parameterization import EDM, Direct
from samplers.paths import sigma_of
from samplers.weights import MinSNR

PATHS = {"linear": LinearPath(), "vp": VPPath(), "edm": EDMPath(), "trig": TrigPath(sigma=0.1)}
KINDS = ["noise", "data", "v", "velocity", "edm"]
every_path = pytest.mark.parametrize("path", list(PATHS.values()), ids=list(PATHS))


def made(kind: str, **options: Any) -> Any:
    return EDM(sigma_data=0.7, **options) if kind == "edm" else Direct(kind, **options)


class Fixed(torch.nn.Module):
    def __init__(self, out: Tensor):
        super().__init__()
        self.out = out

    def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        self.clock = t
        return self.out


@every_path
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", ["min_snr", "edm", "velocity"])
def test_a_weight_is_one_of_data_errors(path: Any, kind: str, weight: str) -> None:
    """weight · (data error)², whatever the network emits."""
    n = 64
    data, noise = points(n, 3), NoiseSource(range(n))
    t = path.time_of(torch.linspace(-4, 4, n, dtype=torch.float64))
    objective = Objective(path, made(kind), weight=weight)
    net = Fixed(points(n, 3, 7))
    loss = objective.loss(net, Batch(data), noise, t=t)
    pairs = objective.sample_pairs(Batch(data), noise)
    guess = objective.predict(net, objective.state(pairs, t, noise)).to("data")
    c = path.coefficients(t)
    snr = (c.alpha / c.sigma) ** 2
    expected = {
        "min_snr": snr.clamp_max(5),
        "edm": (1 / snr + 0.25) / (0.25 / snr),
        "velocity": (c.d_alpha - c.d_sigma * c.alpha / c.sigma.clamp_min(0.05)) ** 2,
    }[weight]
    # the error is against the pair's velocity there, not the path's
    if getattr(path, "sigma", 0) and kind == "velocity":
        error = (net.out - path.velocity(pairs, t)).square().mean(1) / objective.parameterization.factor(c)
    else:
        error = (guess - data).square().mean(1)
    torch.testing.assert_close(loss.per_sample, expected * error, rtol=1e-7, atol=1e-10)


def weighted(objective: Objective, t: torch.Tensor) -> torch.Tensor:
    """What becomes of errors of 1 in the network's own space."""
    factor = objective.parameterization.factor(objective.path.coefficients(t))
    return objective.weight(Error("error", torch.ones_like(t), factor), objective.path, t)


def test_min_snr_as_published() -> None:
    """min(SNR, γ)/SNR on noise, min(SNR, γ)/(SNR + 1) on v (Hang et al., section 3.4)."""
    path, n = VPPath(), 50
    data, noise, net = points(n, 3), NoiseSource(range(n)), Fixed(points(n, 3, 7))
    t = torch.tensor([path.time(int(k)) for k in torch.linspace(0, 999, n)], dtype=torch.float64)
    snr = path.log_snr(t).exp()
    for kind, factor in (("noise", snr), ("v", snr + 1), ("data", torch.ones(n, dtype=torch.float64))):
        for gamma in (1.0, 5.0):
            plain = Objective(path, Direct(kind)).loss(net, Batch(data), noise, t=t).per_sample
            weighted = (
                Objective(path, Direct(kind), weight=MinSNR(gamma=gamma))
                .loss(net, Batch(data), noise, t=t)
                .per_sample
            )
            torch.testing.assert_close(weighted, plain * snr.clamp_max(gamma) / factor, rtol=1e-7, atol=1e-12)


def test_edm_as_published() -> None:
    """On F the weight λ·c_out² is 1 (Karras et al., appendix B.6); on the data it is λ."""
    path, n = EDMPath(), 40
    data, noise, net = points(n, 2), NoiseSource(range(n)), Fixed(points(n, 2, 7))
    for kind, expected in (("edm", None), ("data", "lambda")):
        objective = Objective(path, made(kind), weight={"name": "edm", "sigma_data": 0.7})
        plain = Objective(path, made(kind)).loss(net, Batch(data), noise)
        weighted = objective.loss(net, Batch(data), noise)
        sigma = sigma_of(path, plain.t)
        factor = 1.0 if expected is None else (sigma**2 + 0.49) / (0.7 * sigma) ** 2
        torch.testing.assert_close(weighted.per_sample, plain.per_sample * factor, rtol=1e-9, atol=0)


@every_path
def test_weights_are_finite_at_the_ends(path: Any) -> None:
    for weight in ("min_snr", "edm", "velocity", "uniform"):
        for kind in KINDS:
            objective = Objective(path, made(kind), weight=weight)
            last = path.time(0) if isinstance(path, VPPath) else 1 / 1.002
            t = torch.tensor([path.t_start, last], dtype=torch.float64)
            found = weighted(objective, t)
            assert bool(torch.isfinite(found).all()) and float(found.min()) >= 0, (weight, kind)


def test_zero_snr_keeps_a_weight() -> None:
    """At pure noise min(SNR, γ)/SNR on the noise is 1, not 0/0."""
    path = VPPath(zero_snr=True)
    objective = Objective(path, Direct("noise"), weight="min_snr")
    assert float(weighted(objective, torch.tensor([0.0], dtype=torch.float64))) == pytest.approx(1.0)


@every_path
@pytest.mark.parametrize("kind", KINDS)
def test_networks_that_are_not_told_the_time(path: Any, kind: str) -> None:
    """Their clock stands at 0; everything else is as before, scales that depend on the time included."""
    data, noise = points(32, 3), NoiseSource(range(32))
    nets = [Fixed(points(32, 3, 7)), Fixed(points(32, 3, 7))]
    told, blind = (
        Objective(path, made(kind, conditioning=c)).loss(net, Batch(data), noise)
        for c, net in zip(("time", "none"), nets)
    )
    torch.testing.assert_close(told.per_sample, blind.per_sample, rtol=0, atol=0)
    assert (
        bool((nets[1].clock == 0).all())
        and nets[1].clock.dtype == torch.float32
        and not bool((nets[0].clock == 0).all())
    )


def test_built_from_configs() -> None:
    assert build_objective(weight={"name": "min_snr", "gamma": 3}).weight.gamma == 3.0
    assert not build_objective(
        parameterization={"name": "edm", "conditioning": "none"}
    ).parameterization.timed
    for name in ("noise", "data", "v", "velocity"):
        assert not build_objective(
            parameterization={"name": name, "conditioning": "none"}
        ).parameterization.timed
    for bad, message in (
        ({"weight": {"name": "min_snr", "gama": 3.0}}, "unknown option 'gama'.*did you mean 'gamma'"),
        ({"weight": {"name": "min_snr", "gamma": 0.0}}, "got gamma=0.0, expected a positive number"),
        ({"weight": {"name": "edm", "sigma_data": -1.0}}, "got sigma_data=-1.0, expected a positive number"),
        (
            {"parameterization": {"name": "v", "conditioning": "off"}},
            "got conditioning 'off', expected 'time' or 'none'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            build_objective(**bad)
