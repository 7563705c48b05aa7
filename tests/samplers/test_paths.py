"""Paths: derivatives, log SNR and its inverse, tables at and between their entries, step grids."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from samplers import EDMPath, LinearPath, VPPath, beta_table
from samplers.paths import sigma_of

SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid")
PATHS = {"linear": LinearPath(), "edm": EDMPath()} | {f"vp-{s}": VPPath(schedule=s) for s in SCHEDULES}
PATHS["vp-zero"] = VPPath(schedule="scaled_linear", zero_snr=True)
every_path = pytest.mark.parametrize("path", list(PATHS.values()), ids=list(PATHS))


def interior(path: object, n: int = 97) -> Tensor:
    """Times inside the path that hit no table entry."""
    return torch.linspace(0.0137, 0.9871, n, dtype=torch.float64)


@every_path
def test_derivatives(path: object) -> None:
    t = interior(path).requires_grad_()
    c = path.coefficients(t)
    for value, slope in ((c.alpha, c.d_alpha), (c.sigma, c.d_sigma)):
        # a constant alpha
        auto = (
            torch.autograd.grad(value.sum(), t, retain_graph=True)[0]
            if value.requires_grad
            else torch.zeros_like(t)
        )
        torch.testing.assert_close(slope.detach(), auto, rtol=1e-9, atol=1e-9)
    h = 1e-6
    up, down = path.coefficients(t.detach() + h), path.coefficients(t.detach() - h)
    torch.testing.assert_close((up.alpha - down.alpha) / (2 * h), c.d_alpha.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((up.sigma - down.sigma) / (2 * h), c.d_sigma.detach(), rtol=1e-6, atol=1e-6)


@every_path
def test_log_snr_and_its_inverse(path: object) -> None:
    t = interior(path)
    c = path.coefficients(t)
    torch.testing.assert_close(path.log_snr(t), (c.alpha / c.sigma).square().log(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(path.time_of(path.log_snr(t)), t, rtol=0, atol=1e-9)
    assert bool((path.log_snr(t).diff() > 0).all())
    # plain numbers work as well
    levels = path.log_snr(t)[1:-1].tolist()
    one_by_one = [float(path.time_of(level)) for level in levels]
    assert one_by_one == pytest.approx(
        path.time_of(torch.tensor(levels, dtype=torch.float64)).tolist(), abs=1e-13
    )
    assert float(path.time_of(math.inf)) == pytest.approx(1.0, abs=1e-12)


@every_path
def test_ends(path: object) -> None:
    end = path.coefficients(1.0)
    assert float(end.alpha) == 1.0 and float(end.sigma) == 0.0
    start = path.coefficients(path.t_start)
    assert float(start.sigma) == pytest.approx(path.prior_scale, rel=3e-3)


def test_linear_and_edm_by_definition() -> None:
    t = interior(None)
    c = LinearPath().coefficients(t)
    assert torch.equal(c.alpha, t) and torch.equal(c.sigma, 1 - t)
    torch.testing.assert_close(LinearPath().log_snr(t), 2 * torch.logit(t))
    assert torch.equal(LinearPath().network_time(t), 1000 * t)
    sigma = torch.logspace(-2, 1.9, 40, dtype=torch.float64)
    edm = EDMPath()
    torch.testing.assert_close(edm.coefficients(1 / (1 + sigma)).sigma, sigma, rtol=1e-10, atol=0)
    torch.testing.assert_close(edm.network_time(1 / (1 + sigma)), sigma.log() / 4, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sigma_of(LinearPath(), 1 / (1 + sigma)), sigma, rtol=1e-10, atol=0)
    assert math.isinf(float(sigma_of(LinearPath(), 0.0)))


def test_edm_grid() -> None:
    """Karras et al., equation 5: evenly spaced in the seventh root, then 0."""
    sigmas = [(1 - t) / t for t in EDMPath().grid(18)]
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)] + [0.0]
    np.testing.assert_allclose(sigmas, expected, rtol=1e-9, atol=1e-12)
    assert LinearPath().grid(4) == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_table_is_exact_at_entries(schedule: str) -> None:
    path = VPPath(schedule=schedule)
    k = torch.arange(1000)
    bar = torch.cumprod(1 - beta_table(schedule), 0)
    # float32 times hit entries as well
    for t in (1 - (k.double() + 1) / 1000, (1 - (k.double() + 1) / 1000).float()):
        c = path.coefficients(t)
        torch.testing.assert_close(c.alpha**2, bar, rtol=1e-13, atol=0)
        torch.testing.assert_close(c.sigma**2, 1 - bar, rtol=1e-13, atol=1e-16)
        assert torch.equal(path.network_time(t), k.double())
    assert all(
        path.time(int(i)) == pytest.approx(1 - (int(i) + 1) / 1000, abs=1e-15) for i in (-1, 0, 37, 999)
    )
    assert path.time(-1) == 1.0


@every_path
def test_between_entries_the_noise_falls(path: object) -> None:
    """Monotone and continuous everywhere, hence between entries too: no overshoot where a table is steep."""
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64) * (1 - path.t_start) + path.t_start
    c = path.coefficients(t)
    assert bool((c.alpha.diff() >= 0).all()) and bool((c.sigma.diff() <= 0).all())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_slopes_are_continuous_at_entries(schedule: str) -> None:
    path = VPPath(schedule=schedule)
    entries = torch.arange(5, 990, 7).double() / 1000
    left, right = path.coefficients(entries - 2e-6), path.coefficients(entries + 2e-6)
    torch.testing.assert_close(left.d_alpha, right.d_alpha, rtol=1e-2, atol=1e-3)


def test_snap_takes_the_nearest_entry() -> None:
    path = VPPath()
    for k in (0, 1, 500, 998, 999):
        assert float(path.time_of(path.log_snr(path.time(k)), snap=True)) == pytest.approx(
            path.time(k), abs=1e-12
        )
    between = (path.alpha_bar[400] * 0.7 + path.alpha_bar[401] * 0.3).logit()
    assert float(path.time_of(between, snap=True)) == pytest.approx(path.time(400), abs=1e-12)
    assert path.time(401) < float(path.time_of(between)) < path.time(400)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_zero_snr(schedule: str) -> None:
    """The last entry is pure noise, the first is as before, and √ᾱ is an affine function of the old one."""
    old, new = VPPath(schedule=schedule), VPPath(schedule=schedule, zero_snr=True)
    assert float(new.coefficients(0.0).alpha) == 0.0 and float(new.coefficients(0.0).sigma) == 1.0
    a, b = old.alpha_bar.sqrt(), new.alpha_bar.sqrt()
    expected = (a - a[-1]) * a[0] / (a[0] - a[-1])
    torch.testing.assert_close(b, expected, rtol=0, atol=1e-9)
    assert float(new.time_of(-math.inf)) == 0.0


@pytest.mark.parametrize("num_steps", [1, 2, 7, 10, 33, 250, 999, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", None])
def test_vp_grids(num_steps: int, spacing: str | None) -> None:
    path = VPPath()
    entries = path.entries(num_steps, spacing)
    assert (
        len(entries) == num_steps
        and all(a > b for a, b in pairwise(entries))
        and entries[-1] >= 0
        and entries[0] <= 999
    )
    if spacing in ("trailing", None):
        assert entries[0] == 999
    if spacing == "leading":
        assert {a - b for a, b in pairwise(entries)} <= {1000 // num_steps} and entries[-1] == 0
    if spacing == "linspace" and num_steps > 1:
        assert (entries[0], entries[-1]) == (999, 0)
    assert path.grid(num_steps, spacing) == [path.time(k) for k in entries] + [1.0]


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("num_steps", [1, 2, 300, 999, 1000])
def test_the_extra_point_never_repeats_an_entry(spacing: str, num_steps: int) -> None:
    path = VPPath()
    if num_steps == 1000:
        with pytest.raises(ValueError, match="at most 999"):
            path.entries(num_steps, spacing, extra=1)
    else:
        entries = path.entries(num_steps, spacing, extra=1)
        assert len(entries) == num_steps and all(a > b for a, b in pairwise(entries))


def test_plain_numbers_keep_their_precision() -> None:
    """0.1 as a Python float is not rounded to float32 on its way."""
    for path in PATHS.values():
        exact, plain = path.coefficients(torch.tensor(0.1, dtype=torch.float64)), path.coefficients(0.1)
        assert (float(plain.alpha), float(plain.sigma), float(plain.d_sigma)) == (
            float(exact.alpha),
            float(exact.sigma),
            float(exact.d_sigma),
        )
    assert float(VPPath(betas=[0.1, 0.3]).alpha_bar[0]) == 0.9


def test_small_tables_and_own_betas() -> None:
    path = VPPath(betas=torch.tensor([0.1, 0.2, 0.5]))
    torch.testing.assert_close(
        path.alpha_bar, torch.tensor([0.9, 0.72, 0.36], dtype=torch.float64), rtol=1e-7, atol=0
    )
    assert path.entries(3) == [2, 1, 0] and path.entries(3, "leading") == [2, 1, 0]


def test_errors() -> None:
    for path, word in ((LinearPath(), "linear"), (EDMPath(), "EDM")):
        with pytest.raises(
            ValueError,
            match=f"spacing='leading', which applies to VP tables only; leave it out on the {word} path",
        ):
            path.grid(10, "leading")
        for bad in (0, -3, 2.5):
            with pytest.raises(ValueError, match=f"got {bad} steps, expected an integer of at least 1"):
                path.grid(bad)
    for call, message in (
        (lambda: VPPath().grid(0), "got 0 steps"),
        (lambda: VPPath().grid(1001), "1001 steps on a table of 1000; ask for at most 1000"),
        (lambda: VPPath().grid(10, "even"), "got spacing 'even', expected leading, trailing or linspace"),
        (
            lambda: VPPath(schedule="cosin"),
            "got schedule 'cosin', expected linear, scaled_linear, cosine or sigmoid",
        ),
        (lambda: VPPath(betas=torch.tensor([0.0, 0.1])), "0 < beta <= 1"),
        (lambda: VPPath(betas=torch.full((2, 2), 0.1)), "not one-dimensional"),
        (lambda: EDMPath(sigma_min=0.0), "expected 0 < sigma_min < sigma_max"),
        (lambda: EDMPath(sigma_min=2.0, sigma_max=1.0), "expected 0 < sigma_min < sigma_max"),
        (lambda: VPPath().respaced("ddim7x"), "got respacing 'ddim7x', expected"),
        (lambda: VPPath().respaced("ten"), "got respacing 'ten', expected"),
        (lambda: VPPath().respaced("ddim999"), "no integer stride visits exactly 999"),
        (lambda: VPPath().respaced("1001"), "got 1001 steps in a section of 1000"),
        (lambda: VPPath().respaced("10,0"), "got 0 steps in a section of 500"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
