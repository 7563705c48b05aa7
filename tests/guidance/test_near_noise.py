"""At the end of pure noise rules compare what is read at one time, whichever branches predict the noise and
whichever the data; exact Gaussians."""

from typing import Any

import pytest
import torch
from mixture import gaussian, points
from thinned import thinned
from torch import Tensor

from backbones import Cond
from guidance import CFG, Guided, PriorSwap, Tangential
from guidance.autoguidance import Autoguidance
from guidance.dual import Dual
from guidance.rules import Rule
from samplers import FunctionDenoiser, LinearPath, Prediction, TrigPath, VPPath
from samplers.paths import Path

X, COND = points(16), Cond(label=torch.zeros(16, dtype=torch.int64))
PATHS: dict[str, Path] = {
    "linear": LinearPath(),
    "trig": TrigPath(),
    "cosine": VPPath(schedule="cosine"),
    "zero": VPPath(zero_snr=True),
}
THETA, PSI = gaussian(1.5, 0.3, 2), gaussian(0.5, 0.8, 2)


class In(CFG):
    """cfg in a space of choice."""

    def __init__(self, scale: float, space: str):
        super().__init__(scale)
        self.space = space


def near(path: Path) -> list[float]:
    """Times at which alpha is below 1e-3 and not 0."""
    return [
        t
        for a in (3e-4, 9e-4)
        if 0 < float(path.coefficients(t := float(path.time_of(2 * torch.tensor(a).log()))).alpha) < 1e-3
    ]


def want(path: Path, t: float, w: float) -> Tensor:
    c = path.coefficients(t)
    theta, psi = (m.denoise(X, c.alpha, c.sigma) for m in (THETA, PSI))
    return psi + w * (theta - psi)


KINDS = [("velocity", "noise"), ("noise", "velocity"), ("data", "score"), ("v", "noise")]


@pytest.mark.parametrize(
    "where, kinds, space",
    thinned(3, list(PATHS), KINDS, ["noise", "score", "v", "velocity", "data"]),
    ids=str,
)
def test_mixed_branches_are_read_at_one_time(where: str, kinds: tuple[str, str], space: str) -> None:
    path, w = PATHS[where], 3.0
    guided = Guided(THETA.denoiser(path, kinds[0]), [PriorSwap(PSI.denoiser(path, kinds[1])), In(w, space)])
    for t in near(path):
        torch.testing.assert_close(guided.predict(X, t, COND).to("data"), want(path, t, w), rtol=0, atol=2e-2)
        times = torch.full((16,), t, dtype=torch.float64)
        torch.testing.assert_close(
            guided.predict(X, times, COND).to("data"), want(path, t, w), rtol=0, atol=2e-2
        )


@pytest.mark.parametrize("where", ["linear", "trig", "zero"])
def test_the_first_step_of_a_flow_with_a_prior_of_noise(where: str) -> None:
    """Where alpha is 0 a noise says nothing of the data and counts as 0; what knows the data is not thrown
    off by it, nor by the state."""
    path, w = PATHS[where], 3.0
    for kinds, data in ((("velocity", "noise"), 1.5 * w), (("noise", "velocity"), 0.5 * (1 - w))):
        if where == "zero":
            kinds = tuple("v" if k == "velocity" else k for k in kinds)
        guided = Guided(THETA.denoiser(path, kinds[0]), [PriorSwap(PSI.denoiser(path, kinds[1])), CFG(w)])
        torch.testing.assert_close(
            guided.predict(X, path.t_start, COND).to("data"), torch.full_like(X, data), rtol=0, atol=5e-2
        )


@pytest.mark.parametrize("kinds", [("velocity", "noise"), ("noise", "velocity")], ids="-".join)
def test_other_rules_with_branches_of_two_kinds(kinds: tuple[str, str]) -> None:
    """Tangential damping in noise, a weaker model of another kind, two conditions; in the limit all are
    finite and of the data's size."""
    path = LinearPath()
    theta, psi = THETA.denoiser(path, kinds[0]), PSI.denoiser(path, kinds[1])
    sets: list[list[Rule]] = [
        [PriorSwap(psi), Tangential(), CFG(3.0)],
        [Autoguidance(3.0, model=psi)],
        [PriorSwap(psi), Dual(1.5, 3.0, keep="label")],
    ]
    for rules in sets:
        for t in (1e-5, 4e-4, 9.9e-4, 1.1e-3):
            out = Guided(theta, rules).predict(X, t, COND).to("data")
            assert bool(torch.isfinite(out).all()) and float(out.abs().max()) < 12, (rules, t)


def test_a_prior_on_a_table_asked_at_its_entries() -> None:
    """The prior swap as published (nearest entry) hands its noise on, which at the first step of a flow says
    nothing of the data."""
    theirs, ours, w = VPPath(), LinearPath(), 2.0
    guided = Guided(
        THETA.denoiser(ours, "velocity"),
        [PriorSwap(PSI.denoiser(theirs, "noise"), match="nearest"), In(w, "noise")],
    )
    torch.testing.assert_close(
        guided.predict(X, 0.0, COND).to("data"), torch.full_like(X, 1.5 * w), rtol=0, atol=2e-2
    )


def test_noise_alone_is_left_where_it_is() -> None:
    path, w = VPPath(schedule="cosine"), 3.0
    model = FunctionDenoiser(
        path,
        lambda x, t, cond: (
            (PSI if int(cond.label[0]) < 0 else THETA).denoiser(path, "noise").predict(x, t, cond)
        ),
    )
    out: Any = Guided(model, [CFG(w)]).predict(X, 0.0, COND)
    c, u = (
        THETA.denoiser(path, "noise").predict(X, 0.0, COND),
        PSI.denoiser(path, "noise").predict(X, 0.0, COND),
    )
    assert isinstance(out, Prediction) and out.space == "noise" and out.t == 0.0
    torch.testing.assert_close(out.value, u.value + w * (c.value - u.value), rtol=0, atol=1e-12)
