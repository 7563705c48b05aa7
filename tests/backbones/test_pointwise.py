"""What lies between products, in one pass: held to torch's own in float64, in values and gradients, twice
where asked, and plain wherever the loops cannot run."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones import pointwise
from backbones.kernels import gelu as kernel
from backbones.kernels.threads import flat
from backbones.pointwise import gated, gelu, norm_modulated

SIZES = [(4, 64, 128), (1, 700, 64), (3, 37, 304), (64, 49, 192)]
LIMITS = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture(autouse=True)
def all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors as well."""
    monkeypatch.setattr(pointwise, "LEAST", 1)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def agree(
    ours: Callable[..., Tensor], theirs: Callable[..., Tensor], inputs: list[Tensor], limit: float
) -> None:
    """Values and gradients, relative to the largest of each."""
    here = [t.detach().clone().requires_grad_() for t in inputs]
    there = [t.detach().double().requires_grad_() for t in inputs]
    made, expected = ours(*here), theirs(*there)
    weight = numbers(*expected.shape, seed=9)
    grads = torch.autograd.grad(made, here, weight.to(made.dtype))
    wanted = torch.autograd.grad(expected, there, weight.double())
    for one, other in zip((made, *grads), (expected, *wanted), strict=True):
        away = (one.double() - other).detach().abs().max() / other.detach().abs().max()
        assert float(away) < limit


@every_dtype
@pytest.mark.parametrize("shape", SIZES)
def test_gelu(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = numbers(*shape, scale=3.0).to(dtype)
    agree(gelu, lambda x: F.gelu(x, approximate="tanh"), [x], LIMITS[dtype])


@every_dtype
@pytest.mark.parametrize("shape", SIZES)
def test_norm_and_modulation(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Of a stream in float32, modulated in the products' dtype by parts of one vector."""
    vectors = numbers(shape[0], 6 * shape[2], seed=1).to(dtype)
    shift, scale = vectors[:, : shape[2]], vectors[:, shape[2] : 2 * shape[2]]
    x = 5 * numbers(*shape) + 2
    agree(lambda x, a, b: norm_modulated(x, a, b, 1e-6), plain_norm, [x, shift, scale], LIMITS[dtype])
    assert norm_modulated(x, shift, scale, 1e-6).dtype == dtype
    slices = norm_modulated(x, shift, scale, 1e-6)
    assert torch.equal(slices, norm_modulated(x, shift.contiguous(), scale.contiguous(), 1e-6))


@every_dtype
@pytest.mark.parametrize("shape", SIZES)
def test_gate_and_residual(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    h, gate, x = numbers(*shape), numbers(shape[0], shape[2], seed=1), numbers(*shape, seed=2)
    inputs = [h, gate.to(dtype), x.to(dtype)]
    agree(gated, lambda h, g, x: h + g[:, None] * x, inputs, LIMITS[dtype])
    assert gated(*inputs).dtype == torch.float32


@pytest.mark.parametrize("count", [16, 17, 31, 100, 4096])
def test_gelu_of_any_number_of_numbers(count: int) -> None:
    x = numbers(count, scale=4.0)
    out = torch.full((count + 8,), torch.nan)
    kernel.forward(0, -(-count // 16), flat(x), flat(out), count)
    torch.testing.assert_close(out[:count], F.gelu(x, approximate="tanh"), rtol=1e-5, atol=1e-6)
    assert out[count:].isnan().all()


def test_gelu_far_out() -> None:
    values = [0.0, -0.0, 9.4, -9.4, 9.6, -9.6, 50.0, -50.0, 1e30, -1e30, torch.inf, 1e-30, -1e-30, torch.nan]
    x = torch.tensor([*values, 1.0, -1.0]).requires_grad_()
    made = gelu(x)
    (slope,) = torch.autograd.grad(made.sum(), x)
    assert made[13].isnan() and slope[13].isnan() and made[10] == torch.inf
    kept = [i for i in range(16) if i not in (10, 13)]
    torch.testing.assert_close(made[kept], F.gelu(x[kept], approximate="tanh"), rtol=1e-5, atol=1e-20)
    assert slope[[4, 6, 8, 10]].tolist() == [1.0] * 4 and slope[[5, 7, 9]].abs().max() < 1e-25


def test_they_can_be_differentiated_twice() -> None:
    shape = (2, 8, 32)
    x, shift, scale = numbers(*shape), numbers(2, 32, seed=1), numbers(2, 32, seed=2)
    for ours, theirs, inputs in (
        (gelu, lambda x: F.gelu(x, approximate="tanh"), [x]),
        (lambda x, a, b: norm_modulated(x, a, b, 1e-6), plain_norm, [x, shift, scale]),
        (gated, lambda h, g, x: h + g[:, None] * x, [x, shift, numbers(*shape, seed=3)]),
    ):

        def second(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
            first = torch.autograd.grad(function(*inputs).square().sum(), inputs, create_graph=True)
            return list(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))

        here = second(ours, [t.clone().requires_grad_() for t in inputs])
        there = second(theirs, [t.double().requires_grad_() for t in inputs])
        for one, other in zip(here, there, strict=True):
            assert float((one.double() - other).abs().max() / other.abs().max()) < 1e-4


def test_where_the_loops_cannot_run_it_is_torch() -> None:
    """float64, channels that are no multiple of sixteen, function transforms, tensors without numbers."""
    x, v = numbers(2, 8, 24).double(), numbers(2, 24).double()
    assert torch.equal(gelu(x), F.gelu(x, approximate="tanh"))
    torch.testing.assert_close(norm_modulated(x, v, v, 1e-6), plain_norm(x, v, v))
    narrow = numbers(2, 8, 20)
    assert torch.equal(gelu(narrow), F.gelu(narrow, approximate="tanh"))
    x = numbers(2, 8, 32)
    torch.testing.assert_close(torch.func.vmap(gelu)(x), F.gelu(x, approximate="tanh"))
    assert gelu(torch.empty(4, 64, device="meta")).shape == (4, 64)


def test_any_number_of_threads_gives_the_same_values() -> None:
    shape = (1, 100, 64)
    x, shift, scale = numbers(*shape), numbers(1, 64, seed=1), numbers(1, 64, seed=2)
    before = torch.get_num_threads()
    try:
        made = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append((gelu(x), norm_modulated(x, shift, scale, 1e-6), gated(x, shift, x)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))
