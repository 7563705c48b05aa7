"""Bidirectional WKV in both modes: recorded values and gradients, the dense sum, the fused form, extremes,
refusals."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.recurrences import forms
from backbones.recurrences.wkv import MODES, SEGMENTS, bi_wkv, wkv_reference

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def given(
    batch: int,
    length: int,
    channels: int,
    *,
    keys: float = 1.0,
    decay: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Inputs:
    g = torch.Generator().manual_seed(length + channels)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    return decay * r(channels), r(channels), keys * r(batch, length, channels), r(batch, length, channels)


def near(got: Tensor, want: Tensor, tolerance: float) -> bool:
    return float((got.double() - want.double()).detach().abs().max()) <= tolerance * float(
        want.detach().abs().max().clamp_min(1e-12)
    )


def dense(w: Tensor, u: Tensor, k: Tensor, v: Tensor, mode: str) -> Tensor:
    """All pairs, from the formula."""
    length = k.shape[1]
    t, i = torch.arange(length)[:, None], torch.arange(length)[None]
    gap = (t - i).abs()[..., None].to(k)  # (T, T, 1)
    size = -(-length // SEGMENTS)
    later = (i > t) | ((i < t) & (i // size != t // size)) if mode == "kernel" else torch.zeros_like(i > t)
    weights = torch.exp(-(gap - 1 + later[..., None].to(k)) * w)[None] * torch.exp(k)[:, None]  # (B, T, T, C)
    weights = torch.where((i == t)[..., None], torch.exp(u + k)[:, None], weights)
    if mode == "kernel":
        inside = (i // size == t // size) & (i <= t) & (i > (t // size) * size)
        weights = weights + torch.where(
            inside[..., None], (1 - torch.exp(w)) * torch.exp(gap * w) * torch.exp(k)[:, None], 0.0
        )
    return (weights * v[:, None]).sum(2) / weights.sum(2)


@pytest.mark.parametrize("length", [1, 7, 33, 64])
def test_recorded(golden: Callable[[str], Any], length: int) -> None:
    """The paper's formula and the released kernel, values and gradients; the kernel's own small constant in
    its denominator is ours, too."""
    g, _ = golden(f"op_biwkv_L{length}")
    inputs = [g[f"input.{n}"].double().requires_grad_() for n in "wukv"]
    for mode, value, grads, tolerance in (
        ("paper", "y_paper", "paper_autograd", 1e-12),
        ("kernel", "y_closed", "closed_autograd", 2e-6),
    ):
        y = bi_wkv(*inputs, mode=mode)
        assert near(y, g[f"output.{value}_f64"], tolerance)
        for name, grad in zip(
            "wukv", torch.autograd.grad((y * g["input.grad_out"].double()).sum(), inputs, allow_unused=True)
        ):
            want = g[f"output.{grads}_f64.{name}"]
            assert not want.any() or length == 1 or near(grad, want, 10 * tolerance), (mode, name)
    assert near(bi_wkv(*inputs, mode="kernel"), g["output.y_kernel_f64"], 1e-5 if length == 1 else 1e-6)
    y = bi_wkv(*(g[f"input.{n}"] for n in "wukv"), mode="kernel", form="fused")
    assert near(y, g["output.y_kernel_f64"], 1e-5 if length == 1 else 4e-6)
    single = [g[f"input.{n}"].requires_grad_() for n in "wukv"]
    y = bi_wkv(*single, form="fused")
    assert near(y, g["output.y_paper_f64"], 2e-6)
    for name, grad in zip("wukv", torch.autograd.grad((y * g["input.grad_out"]).sum(), single)):
        want = g[f"output.paper_autograd_f64.{name}"]
        assert not want.any() or near(grad, want, 1e-5), name


@pytest.mark.parametrize("mode", ["paper", "kernel"])
@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 70])
def test_the_scans_are_the_dense_sum(mode: str, length: int) -> None:
    inputs = given(2, length, 3, decay=0.3)
    assert near(bi_wkv(*inputs, mode=mode), dense(*inputs, mode), 1e-12 if mode == "paper" else 2e-6)


@pytest.mark.parametrize("length", [1, 2, 32, 33, 257, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_fused_form_is_the_reference(length: int) -> None:
    """Values and gradients, channels that do not fill the lanes, decays of both signs."""
    for channels, keys, decay in (
        (16, 1.0, 3 / length),
        (37, 1.0, 0.05),
        (20, 10.0, 1 / length),
        (16, 30.0, 0.01),
    ):
        results = []
        for dtype, form in ((torch.float32, "fused"), (torch.float64, "reference")):
            inputs = [
                x.float().to(dtype).requires_grad_()
                for x in given(2, length, channels, keys=keys, decay=decay)
            ]
            y = bi_wkv(*inputs, form=form)
            weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(dtype)
            grads = torch.autograd.grad((y * weights).sum(), inputs, allow_unused=True)
            results.append([y, *(torch.zeros_like(x) if g is None else g for g, x in zip(grads, inputs))])
        scale = float(results[1][4].abs().max())
        for i, (got, want) in enumerate(zip(*results)):
            assert float((got.double() - want).detach().abs().max()) <= 3e-4 * max(
                float(want.detach().abs().max()), 0.1 * scale
            ), (channels, keys, i)


@pytest.mark.parametrize("length", [1, 2, 32, 33, 257, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_released_formula_fused(length: int) -> None:
    """Without gradients; with them the reference runs. No further from float64 than the reference in float32
    is."""
    for channels, keys, decay in (
        (16, 1.0, 3 / length),
        (37, 1.0, -0.05),
        (20, 10.0, 1 / length),
        (16, 30.0, 0.01),
    ):
        inputs = [x.float() for x in given(2, length, channels, keys=keys, decay=decay)]
        exact, plain = (
            bi_wkv(*[x.double() for x in inputs], mode="kernel"),
            bi_wkv(*inputs, mode="kernel", form="reference"),
        )
        got = bi_wkv(*inputs, mode="kernel")
        assert torch.equal(got, bi_wkv(*inputs, mode="kernel", form="fused"))
        assert near(got, exact, max(1e-5, float((plain - exact).abs().max() / exact.abs().max()))), (
            channels,
            keys,
        )
    leaves = [x.requires_grad_() for x in inputs]
    assert near(bi_wkv(*leaves, mode="kernel"), exact, 1e-3) and bi_wkv(*leaves, mode="kernel").requires_grad


def test_gradients_in_float64() -> None:
    inputs = [x.requires_grad_() for x in given(1, 5, 2)]
    for mode in ("paper", "kernel"):
        assert torch.autograd.gradcheck(lambda *x, mode=mode: bi_wkv(*x, mode=mode), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: bi_wkv(*x), inputs)


def test_turned_round_it_is_the_same() -> None:
    w, u, k, v = given(2, 50, 16, dtype=torch.float32)
    assert near(bi_wkv(w, u, k.flip(1), v.flip(1)).flip(1), bi_wkv(w, u, k, v), 1e-5)


def test_of_equal_values_it_is_the_value_and_of_small_decay_the_mean() -> None:
    w, u, k, v = given(2, 40, 16, dtype=torch.float32)
    for form in ("reference", "fused"):
        assert near(bi_wkv(w, u, k, torch.full_like(v, 3.0), form=form), torch.full_like(v, 3.0), 1e-6)
        none = torch.zeros(16)
        assert near(
            bi_wkv(none, none, torch.zeros_like(k), v, form=form), v.mean(1, keepdim=True).expand_as(v), 1e-5
        )


def test_extreme_numbers_pass() -> None:
    """Large decays of either sign and keys at scale 30 overflow nothing; a NaN is passed on and stays in its
    channel and sample."""
    for form in ("reference", "fused"):
        for keys, decay in ((30.0, 1.0), (1.0, 80.0), (1.0, -80.0), (0.0, 0.0)):
            w, u, k, v = given(2, 60, 16, keys=keys, dtype=torch.float32)
            inputs = [torch.full_like(w, decay), u, k, v]
            y = bi_wkv(*inputs, form=form)  # type: ignore[arg-type]
            assert bool(y.isfinite().all()) and float(y.abs().max()) <= float(v.abs().max()) * (1 + 1e-4)
            assert near(y, wkv_reference(*[x.double() for x in inputs]), 1e-4)  # type: ignore[arg-type]
        w, u, k, v = given(2, 20, 16, dtype=torch.float32)
        for bad in (k, v):
            changed = bad.clone()
            changed[1, 5, 3] = torch.nan
            out = bi_wkv(w, u, *((changed, v) if bad is k else (k, changed)), form=form)
            assert (
                bool(out[1, :, 3].isnan().any())
                and bool(out[0].isfinite().all())
                and bool(out[1, :, 4:].isfinite().all())
            ), form


def test_batches_layouts_threads_and_dtypes() -> None:
    w, u, k, v = given(3, 70, 48, dtype=torch.float32)
    for mode in ("paper", "kernel"):
        whole = bi_wkv(w, u, k, v, mode)
        assert torch.equal(bi_wkv(w, u, k[1:2], v[1:2], mode), whole[1:2])
        assert torch.equal(
            bi_wkv(w, u, k.transpose(0, 1).contiguous().transpose(0, 1), v.mT.contiguous().mT, mode), whole
        )
        before = torch.get_num_threads()
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(bi_wkv(w, u, k, v, mode), whole)
        torch.set_num_threads(before)
        low, exact = (
            bi_wkv(w, u, k.bfloat16(), v.bfloat16(), mode),
            [x.double() for x in (w, u, k.bfloat16(), v.bfloat16())],
        )
        assert low.dtype == torch.bfloat16 and near(low, bi_wkv(*exact, mode), 8e-3)  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    w, u, k, v = given(2, 5, 16, dtype=torch.float32)
    for wrong in ((w[:-1], u, k, v), (w, u[:-1], k, v), (w, u, k[:, :-1], v), (w, u, k[0], v[0])):
        with pytest.raises(
            ValueError, match="expected .channels,. twice and .batch, length, channels. twice"
        ):
            bi_wkv(*wrong)
    with pytest.raises(ValueError, match="got the wkv mode 'cuda', expected one of paper, kernel"):
        bi_wkv(w, u, k, v, "cuda")
    with pytest.raises(ValueError, match="got k of torch.int64, expected a floating-point tensor"):
        bi_wkv(w, u, k.long(), v)
    with pytest.raises(ValueError, match="which only its plain forms have"):
        bi_wkv(w, u, k.clone().requires_grad_(), v, "kernel", form="fused")
    for mode in ("paper", "kernel"):
        with pytest.raises(ValueError, match="got form='mamba', expected auto, reference, fused"):
            bi_wkv(w, u, k, v, mode, form="mamba")
    monkeypatch.setattr(forms, "NUMBA", False)
    assert near(bi_wkv(w, u, k, v), wkv_reference(w, u, k, v), 1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_keys_and_values_are_read_as_they_are(mode: str) -> None:
    """The same numbers as from float32 copies, rounded once at the end; also where the channels do not fill
    the lanes."""
    g = torch.Generator().manual_seed(3)
    for channels in (32, 24):
        w, u = torch.randn(channels, generator=g), torch.randn(channels, generator=g)
        k, v = (torch.randn(2, 70, channels, generator=g).bfloat16() for _ in range(2))
        with torch.no_grad():
            got = bi_wkv(w, u, k, v, mode)
            assert got.dtype == torch.bfloat16 and torch.equal(
                got, bi_wkv(w, u, k.float(), v.float(), mode).bfloat16()
            )
