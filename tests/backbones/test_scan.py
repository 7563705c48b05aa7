"""The selective scan: recorded values and gradients, a chain cut anywhere, both directions, the fused form
against the reference, awkward input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.kernels.scan import CHUNK, LANES
from backbones.recurrences import forms
from backbones.recurrences.scan import scan_reference, selective_scan

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def given(
    batch: int = 2,
    channels: int = 20,
    length: int = 9,
    states: int = 16,
    *,
    dtype: torch.dtype = torch.float64,
    last: bool = False,
) -> list[Tensor]:
    """Inputs in the order of `NAMES`; ``last``: channels beside each other in memory."""
    g = torch.Generator().manual_seed(1000 * channels + length)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    long = [r(batch, channels, length) for _ in range(3)]
    if last:
        long = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in long]
    u, delta, z = long
    return [
        u,
        delta - 1,
        -torch.exp(0.5 * r(channels, states)),
        r(batch, states, length),
        r(batch, states, length),
        r(channels),
        z,
        0.1 * r(channels),
    ]


def near(got: Tensor, want: Tensor, tolerance: float) -> bool:
    return float((got.double() - want.double()).detach().abs().max()) <= tolerance * float(
        want.detach().abs().max().clamp_min(1e-12)
    )


@pytest.mark.parametrize("length", [1, 7, 64])
def test_recorded(golden: Callable[[str], Any], length: int) -> None:
    """mamba's own reference: values, last state and every gradient in float64; the fused form in float32."""
    g, _ = golden(f"op_selective_scan_L{length}")
    inputs = [g[f"input.{n}"].double().requires_grad_() for n in NAMES]
    y, state = selective_scan(*inputs, return_state=True)  # type: ignore[misc]
    assert near(y, g["output.y_f64"], 1e-12) and near(state, g["output.last_state_f64"], 1e-12)
    for name, grad in zip(NAMES, torch.autograd.grad((y * g["input.grad_out"].double()).sum(), inputs)):
        assert near(grad, g[f"output.grad_f64.{name}"], 1e-11) or not g[f"output.grad_f64.{name}"].any(), name
    u, delta, *rest = (g[f"input.{n}"].double() for n in NAMES[:5])
    plain = selective_scan(u, torch.nn.functional.softplus(delta), *rest, delta_softplus=False)
    assert near(plain, g["output.y_plain_f64"], 1e-7)  # type: ignore[arg-type]
    single = [g[f"input.{n}"].requires_grad_() for n in NAMES]
    for form in ("reference", "fused"):
        y, state = selective_scan(*single, return_state=True, form=form)  # type: ignore[misc]
        assert near(y, g["output.y_f64"], 2e-6) and near(state, g["output.last_state_f64"], 2e-6)
        for name, grad in zip(NAMES, torch.autograd.grad((y * g["input.grad_out"]).sum(), single)):
            assert near(grad, g[f"output.grad_f64.{name}"], 1e-5) or not g[f"output.grad_f64.{name}"].any(), (
                form,
                name,
            )


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 257, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("last", [False, True])
def test_the_fused_form_is_the_reference(length: int, last: bool) -> None:
    """Values, last state and all gradients, both directions, channels that do not fill the lanes, with and
    without what is optional."""
    for channels, reverse, kept in (
        (20, False, set(NAMES)),
        (16, True, set(NAMES)),
        (37, True, set(NAMES) - {"z"}),
        (16, False, set(NAMES) - {"D", "delta_bias"}),
    ):
        single = [
            x if n in kept else None
            for n, x in zip(NAMES, given(2, channels, length, dtype=torch.float32, last=last))
        ]
        state = torch.randn(2, channels, 16, generator=torch.Generator().manual_seed(length))
        double = [None if x is None else x.double() for x in single]
        results = []
        for values, begin, form in ((single, state, "fused"), (double, state.double(), "reference")):
            inputs = [
                None if x is None else x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
                for x in values
            ]
            begin = begin.clone().requires_grad_()
            y, end = selective_scan(*inputs, reverse=reverse, state=begin, return_state=True, form=form)
            weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y.dtype)
            grads = torch.autograd.grad(
                (y * weights).sum() + (end * end).sum(), [x for x in [*inputs, begin] if x is not None]
            )
            results.append([y, end, *grads])
        for i, (got, want) in enumerate(zip(*results)):
            assert near(got, want, 3e-5), (channels, reverse, i)


@pytest.mark.parametrize("form, dtype", [("reference", torch.float64), ("fused", torch.float32)])
def test_a_sequence_may_be_cut_anywhere(form: str, dtype: torch.dtype) -> None:
    inputs = given(length=2 * CHUNK + 5, dtype=dtype)
    whole, end = selective_scan(*inputs, return_state=True, form=form)  # type: ignore[misc]
    for cut in (1, CHUNK, CHUNK + 3):
        parts: list[Tensor] = []
        state = None
        for piece in (slice(None, cut), slice(cut, None)):
            row = [x[..., piece] if n in ("u", "delta", "B", "C", "z") else x for n, x in zip(NAMES, inputs)]
            y, state = selective_scan(*row, state=state, return_state=True, form=form)  # type: ignore[misc]
            parts.append(y)
        assert near(torch.cat(parts, -1), whole, 1e-6) and near(state, end, 1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("form, dtype", [("reference", torch.float64), ("fused", torch.float32)])
def test_the_reverse_of_the_reversed(form: str, dtype: torch.dtype) -> None:
    inputs = given(length=CHUNK + 3, dtype=dtype)
    turned = [x.flip(-1) if n in ("u", "delta", "B", "C", "z") else x for n, x in zip(NAMES, inputs)]
    assert near(
        selective_scan(*turned, reverse=True, form=form).flip(-1), selective_scan(*inputs, form=form), 1e-6
    )  # type: ignore[union-attr, arg-type]


def test_gradients_in_float64() -> None:
    inputs = [x.requires_grad_() for x in given(1, 2, 4, 3)]
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x), inputs)  # type: ignore[arg-type]
    assert torch.autograd.gradgradcheck(lambda *x: selective_scan(*x), inputs)  # type: ignore[arg-type]


def test_memory_layouts_and_dtypes() -> None:
    """The same numbers from any strides; bf16 in and out with the recurrence in float32; batch of one as in a
    batch."""
    inputs = given(3, 2 * LANES, 50, dtype=torch.float32)
    plain = selective_scan(*inputs)
    assert isinstance(plain, Tensor)
    wide = torch.zeros(3, 50, 5 * LANES)
    wide[..., LANES : 3 * LANES] = inputs[0].transpose(1, 2)
    odd = torch.zeros(3, 2 * LANES, 100)
    odd[..., ::2] = inputs[6]
    other = [
        wide[..., LANES : 3 * LANES].transpose(1, 2),
        inputs[1].transpose(0, 1).contiguous().transpose(0, 1),
        *inputs[2:6],
        odd[..., ::2],
        inputs[7],
    ]
    assert torch.equal(selective_scan(*other), plain)  # type: ignore[arg-type]
    one = [x[1:2] if n in ("u", "delta", "B", "C", "z") else x for n, x in zip(NAMES, inputs)]
    assert torch.equal(selective_scan(*one), plain[1:2])  # type: ignore[arg-type]
    low = [x.bfloat16() if n in ("u", "delta", "B", "C", "z") else x for n, x in zip(NAMES, inputs)]
    out = selective_scan(*low)
    assert isinstance(out, Tensor) and out.dtype == torch.bfloat16
    assert near(out, scan_reference(*[x.double() for x in low], True)[0], 8e-3)  # type: ignore[arg-type]


def test_threads_change_nothing() -> None:
    inputs = [x.requires_grad_() for x in given(1, 80, 70, dtype=torch.float32)]
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y = selective_scan(*inputs, form="fused")
        found.append([y, *torch.autograd.grad(y.sum(), inputs)])  # type: ignore[union-attr, arg-type]
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))


def test_extreme_numbers_pass() -> None:
    """Large steps forget, steps of zero keep, nothing overflows; a NaN is passed on and stays in its
    sample."""
    u, delta, A, B, C, D, z, bias = given(2, 16, 40, dtype=torch.float32)
    for form in ("reference", "fused"):
        y = selective_scan(u, delta * 1e4, A * 100, B, C, D, z, bias, form=form)
        assert isinstance(y, Tensor) and bool(y.isfinite().all())
        still, state = selective_scan(
            u,
            torch.full_like(delta, -200.0),
            A,
            B,
            C,
            None,
            None,
            None,
            state=torch.ones(2, 16, 16),
            return_state=True,
            form=form,
        )
        assert near(state, torch.ones(2, 16, 16), 1e-6) and near(
            still, C.sum(1)[:, None].expand(2, 16, 40), 1e-5
        )
        bad = u.clone()
        bad[1, 3, 20] = torch.nan
        out = selective_scan(bad, delta, A, B, C, D, z, bias, form=form)
        assert isinstance(out, Tensor)
        assert (
            bool(out[0].isfinite().all())
            and bool(out[1, 3, 20:].isnan().all())
            and bool(out[1, 3, :20].isfinite().all())
            and bool(out[1, 4].isfinite().all())
        )
    growing = selective_scan(u, delta, -A, B, C, D, z, bias)  # not a decay: the reference runs
    assert near(
        growing,
        scan_reference(
            u.double(),
            delta.double(),
            -A.double(),
            B.double(),
            C.double(),
            D.double(),
            z.double(),
            bias.double(),
            True,
        )[0],
        1e-4,
    )  # type: ignore[arg-type]
    poisoned = A.clone()
    poisoned[2, 1] = torch.nan
    assert bool(selective_scan(u, delta, poisoned, B, C, D, z, bias)[:, 2].isnan().all())


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = given(dtype=torch.float32)
    for i, name in enumerate(NAMES):
        if name == "u":
            continue
        wrong = [x[:-1] if j == i else x for j, x in enumerate(inputs)]
        with pytest.raises(ValueError, match="expected"):
            selective_scan(*wrong)
        whole = [x.int() if j == i else x for j, x in enumerate(inputs)]
        with pytest.raises(ValueError, match=f"got {name} of torch.int32, expected a floating-point tensor"):
            selective_scan(*whole)
    with pytest.raises(ValueError, match="got form='quick', expected auto, reference, fused or mamba"):
        selective_scan(*inputs, form="quick")
    with pytest.raises(ValueError, match="it computes in float32, not in float64"):
        selective_scan(*[x.double() for x in inputs], form="fused")
    with pytest.raises(ValueError, match="needs mamba-ssm and a CUDA device"):
        selective_scan(*inputs, form="mamba")
    monkeypatch.setattr(forms, "NUMBA", False)
    with pytest.raises(ValueError, match="it needs numba"):
        selective_scan(*inputs, form="fused")
    assert near(selective_scan(*inputs), scan_reference(*inputs, True)[0], 1e-6)  # type: ignore[arg-type]


def test_under_vmap_the_reference_runs() -> None:
    inputs = given(2, 4, 5, dtype=torch.float32)
    stacked = torch.stack([inputs[0], 2 * inputs[0]])
    both = torch.func.vmap(lambda u: selective_scan(u, *inputs[1:]))(stacked)
    for got, u in zip(both, stacked):
        assert near(got, selective_scan(u, *inputs[1:]), 1e-5)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_mamba_ssm() -> None:
    pytest.importorskip("mamba_ssm")
    inputs = [x.cuda() for x in given(2, 32, 50, dtype=torch.float32)]
    for reverse in (False, True):
        got, want = (
            selective_scan(*inputs, reverse=reverse, return_state=True, form=form)
            for form in ("mamba", "reference")
        )
        assert all(near(a, b, 1e-4) for a, b in zip(got, want))
