"""The two short convolutions of a Mamba layer: each direction is a causal convolution of its own, fused and
plain are one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.recurrences.conv import conv_reference, two_way_conv


def given(
    batch: int, length: int, channels: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(length + channels)
    shapes = ((batch, length, channels), (2, channels, 4), (2, channels))
    x, w, b = (torch.randn(*s, generator=g, dtype=torch.float64).to(dtype) for s in shapes)
    return x, w, b


def test_directions() -> None:
    """SiLU of a causal convolution; the other one is the same on the turned sequence."""
    x, w, b = given(2, 9, 5, torch.float64)
    ahead, back = two_way_conv(x, w, b)
    for got, values, side in ((ahead, x, 0), (back.flip(1), x.flip(1), 1)):
        padded = torch.cat([torch.zeros(2, 3, 5, dtype=x.dtype), values], 1)
        want = b[side] + sum(w[side, :, j] * padded[:, j : j + 9] for j in range(4))
        torch.testing.assert_close(got, F.silu(want))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 33])
@pytest.mark.parametrize("channels", [16, 37])
def test_the_fused_form_is_the_plain_one(length: int, channels: int) -> None:
    """Values and gradients, also of a slice of a wider tensor."""
    x, w, b = given(2, length, channels)
    wide = torch.zeros(2, length, 2 * channels)
    wide[..., channels:] = x
    results = []
    for values, dtype, form in (
        (wide[..., channels:], torch.float32, "fused"),
        (x, torch.float64, "reference"),
    ):
        leaves = [v.to(dtype).detach().requires_grad_() for v in (values, w, b)]
        ahead, back = two_way_conv(*leaves, form=form)  # type: ignore[misc]
        weights = torch.linspace(-1, 1, ahead.numel(), dtype=torch.float64).view(ahead.shape).to(dtype)
        results.append(
            [ahead, back, *torch.autograd.grad((weights * ahead).sum() + (back * back).sum(), leaves)]
        )
    for got, want in zip(*results):
        torch.testing.assert_close(
            got.double(), want, rtol=1e-5, atol=1e-5 * float(want.detach().abs().max())
        )


def test_gradients_in_float64_and_low_precision() -> None:
    leaves = [v.requires_grad_() for v in given(1, 5, 2, torch.float64)]
    assert torch.autograd.gradcheck(two_way_conv, leaves) and torch.autograd.gradgradcheck(
        two_way_conv, leaves
    )
    x, w, b = given(2, 20, 16)
    low = two_way_conv(x.bfloat16(), w, b)
    for got, want in zip(low, conv_reference(x.bfloat16().double(), w.double(), b.double())):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=1e-2)
