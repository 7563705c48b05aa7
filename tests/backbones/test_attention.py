"""`attend`: every backend against the formula written out, fully masked rows, second derivatives, and how a
backend is chosen."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones import Bias, BlockDiagonal, DiT, Full, RunContext, Window, attend
from backbones import attention as module
from backbones.attention import BACKENDS, GridWindow, choose, specs, supports
from backbones.attention.backends import Backend

Golden = tuple[dict[str, Tensor], dict[str, Any]]
B, H, N, D = 2, 3, 7, 4


def qkv(
    m: int = N, *, dtype: torch.dtype = torch.float64, grad: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(B, H, n, D, generator=g, dtype=torch.float64).to(dtype).requires_grad_(grad)
        for n in (N, m, m)
    )


def by_hand(q: Tensor, k: Tensor, v: Tensor, bias: Callable[[int, int, int, int], float]) -> Tensor:
    """softmax(q·k/√d + bias) v one query at a time; a query with no key gives zeros."""
    out = torch.zeros_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                extra = [bias(b, h, i, j) for j in range(k.shape[2])]
                seen = [j for j, e in enumerate(extra) if e > -math.inf]
                if seen:
                    scores = torch.stack(
                        [q[b, h, i] @ k[b, h, j] / math.sqrt(q.shape[-1]) + extra[j] for j in seen]
                    )
                    weights = (scores - scores.max()).exp()
                    out[b, h, i] = (weights / weights.sum()) @ v[b, h, seen]
    return out


TABLE = torch.randn(B, 1, N, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
TABLE[1, 0, :, 4] = -math.inf
SPECS = {
    "full": (Full(), lambda b, h, i, j: 0.0),
    "window": (Window(2, 1), lambda b, h, i, j: 0.0 if i - 2 <= j <= i + 1 else -math.inf),
    "blocks": (
        BlockDiagonal((3, 1, 3)),
        lambda b, h, i, j: 0.0 if (i < 3) == (j < 3) and (i == 3) == (j == 3) else -math.inf,
    ),
    "row": (GridWindow((N,), (2,)), lambda b, h, i, j: 0.0 if abs(i - j) <= 2 else -math.inf),
    "bias": (Bias(TABLE), lambda b, h, i, j: float(TABLE[b, 0, i, j])),
}
HERE = sorted(name for name, backend in BACKENDS.items() if not backend.devices)
every_backend = pytest.mark.parametrize("backend", HERE)


@every_backend
@pytest.mark.parametrize("spec", sorted(SPECS))
def test_against_the_formula(backend: str, spec: str) -> None:
    q, k, v = qkv()
    chosen, bias = SPECS[spec]
    if reason := supports(backend, q, chosen):
        assert (backend, spec) == ("recomputed", "bias") and "knows Full, Window" in reason
        return
    torch.testing.assert_close(
        attend(q, k, v, chosen, RunContext(attention=backend)), by_hand(q, k, v, bias), rtol=0, atol=1e-12
    )


GRIDS = [((9, 11), (2, 3)), ((70, 3), (1, 1)), ((3, 70), (0, 5)), ((5, 6, 7), (1, 2, 9)), ((130,), (64,))]


@every_backend
@pytest.mark.parametrize("grid, radius", GRIDS, ids=str)
def test_windows_on_grids(backend: str, grid: tuple[int, ...], radius: tuple[int, ...]) -> None:
    """Each axis by itself, odd sizes, blocks that end inside a row."""
    n, g = math.prod(grid), torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(1, 2, n, D, generator=g, dtype=torch.float64) for _ in range(3))
    places = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), -1).reshape(n, -1)
    far = (places[:, None] - places[None]).abs()
    bias = torch.zeros(n, n, dtype=torch.float64).masked_fill((far > torch.tensor(radius)).any(-1), -math.inf)
    want = ((q @ k.transpose(2, 3)) / math.sqrt(D) + bias).softmax(-1) @ v
    got = attend(q, k, v, GridWindow(grid, radius), RunContext(attention=backend))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@every_backend
@pytest.mark.parametrize("n", [65, 128, 200])
def test_windows_of_many_blocks(backend: str, n: int) -> None:
    g = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(2, 2, n, D, generator=g, dtype=torch.float64) for _ in range(3))
    place = torch.arange(n)
    for spec, seen in (
        (Window(5, 70), (place - place[:, None] >= -5) & (place - place[:, None] <= 70)),
        (Window(n, n), torch.ones(n, n, dtype=torch.bool)),
        (BlockDiagonal((n - 7, 3, 4)), None),
        (Full(), torch.ones(n, n, dtype=torch.bool)),
    ):
        if seen is None:
            owner = torch.repeat_interleave(torch.arange(3), torch.tensor([n - 7, 3, 4]))
            seen = owner[:, None] == owner
        scores = ((q @ k.transpose(2, 3)) / math.sqrt(D)).masked_fill(~seen, -math.inf)
        got = attend(q, k, v, spec, RunContext(attention=backend))
        torch.testing.assert_close(got, scores.softmax(-1) @ v, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "spec, text",
    [
        (GridWindow((3, 3), (1, 1)), r"got the grid \(3, 3\) for 7 queries and 7 keys"),
        (GridWindow((7,), (1, 1)), "expected one radius of at least 0 for each axis"),
        (GridWindow((7,), (-1,)), "expected one radius of at least 0 for each axis"),
    ],
)
@every_backend
def test_grids_that_do_not_fit(backend: str, spec: GridWindow, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        attend(*qkv(), spec, RunContext(attention=backend))


@every_backend
def test_more_keys_than_queries(backend: str) -> None:
    q, k, v = qkv(11)
    ctx = RunContext(attention=backend)
    torch.testing.assert_close(
        attend(q, k, v, Full(), ctx), by_hand(q, k, v, lambda b, h, i, j: 0.0), rtol=0, atol=1e-12
    )
    expected = by_hand(q, k, v, lambda b, h, i, j: 0.0 if i <= j <= i + 2 else -math.inf)
    torch.testing.assert_close(attend(q, k, v, Window(0, 2), ctx), expected, rtol=0, atol=1e-12)


@every_backend
@pytest.mark.parametrize("dtype, atol", [(torch.float32, 2e-6), (torch.bfloat16, 3e-2)])
def test_low_precision(backend: str, dtype: torch.dtype, atol: float) -> None:
    q, k, v = qkv(dtype=dtype)
    out = attend(q, k, v, Window(2, 1), RunContext(attention=backend))
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.double(), by_hand(q.double(), k.double(), v.double(), SPECS["window"][1]), rtol=0, atol=atol
    )


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_that_sees_nothing_gives_zeros(backend: str, dtype: torch.dtype) -> None:
    """Zeros exactly, no NaN in any gradient, and the other rows as without it."""
    if backend == "recomputed":
        return  # it takes no bias
    q, k, v = qkv(dtype=dtype, grad=True)
    bias = torch.zeros(N, N, dtype=dtype)
    bias[2] = -math.inf
    out = attend(q, k, v, Bias(bias), RunContext(attention=backend))
    free = attend(q, k, v, Full(), RunContext(attention=backend))
    others = [i for i in range(N) if i != 2]
    assert torch.equal(out[:, :, 2], torch.zeros(B, H, D, dtype=dtype))
    torch.testing.assert_close(out[:, :, others], free[:, :, others])
    grads = torch.autograd.grad(out.square().sum(), (q, k, v))
    expected = torch.autograd.grad(free[:, :, others].square().sum(), (q, k, v))
    for a, b in zip(grads, expected):
        torch.testing.assert_close(a, b)


ONE_BLIND = torch.tensor([[0.0, -math.inf, 0.5], [-math.inf] * 3, [0.0, 0.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("spec", [Full(), Window(1, 1), Bias(ONE_BLIND)], ids=["full", "window", "bias"])
def test_explicit_form_differentiates_twice(spec: module.Spec) -> None:
    g = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, 2, 3, 1, generator=g, dtype=torch.float64).requires_grad_() for _ in range(3))
    run = lambda q, k, v: attend(q, k, v, spec, RunContext(attention="explicit"))  # noqa: E731
    assert torch.autograd.gradcheck(run, (q, k, v)) and torch.autograd.gradgradcheck(run, (q, k, v))


def test_backends_agree_on_gradients() -> None:
    q, k, v = qkv(grad=True)
    for spec, _ in SPECS.values():
        grads = [
            torch.autograd.grad(attend(q, k, v, spec, RunContext(attention=b)).cos().sum(), (q, k, v))
            for b in HERE
            if supports(b, q, spec) is None
        ]
        for other in grads[1:]:
            for a, b in zip(grads[0], other):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_context_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def recorder(name: str) -> Backend:
        real = BACKENDS[name]
        return replace(real, run=lambda *a: (calls.append(name), real.run(*a))[1])

    for name in list(BACKENDS):
        monkeypatch.setitem(BACKENDS, name, recorder(name))
    q, k, v = qkv()
    for name in HERE:
        attend(q, k, v, Full(), RunContext(attention=name))
    attend(q, k, v, Full(), RunContext(double_backward=True))
    attend(q, k, v)
    assert calls == ["blocks", "explicit", "recomputed", "sdpa", "explicit", "sdpa"]
    calls.clear()
    net = DiT(input_size=4, in_channels=1, hidden_size=8, depth=3, num_heads=2, num_classes=0)
    net(torch.zeros(1, 1, 4, 4), torch.zeros(1), None, RunContext(attention="explicit"))
    assert calls == ["explicit"] * 3


def test_auto_of_small_calls_goes_by_rules() -> None:
    """In bf16 explicit up to 1,024 tokens in training and 512 without gradient, SDPA beyond, and in
    float32."""
    q = torch.zeros(1, 1, 1024, 2, dtype=torch.bfloat16)
    assert choose(q[:, :, :512], Full()) == "explicit" and choose(q[:, :, :513], Full()) == "sdpa"
    assert choose(q.requires_grad_(), Full()) == "explicit" and choose(q.float(), Full()) == "sdpa"
    with torch.no_grad():
        assert choose(q, Full()) == "sdpa"


def test_double_backward_through_a_network() -> None:
    """The Hessian of a DiT in its input, asked for by the context, against central differences of its
    gradient."""
    torch.manual_seed(0)
    net = DiT(input_size=4, in_channels=1, hidden_size=8, depth=2, num_heads=2, num_classes=0).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x, d = torch.randn(2, 1, 1, 4, 4, dtype=torch.float64).unbind()
    t = torch.tensor([300.0])

    def gradient(x: Tensor, *, graph: bool) -> Tensor:
        out = net(x, t, None, RunContext(double_backward=graph))
        return torch.autograd.grad(out.square().sum(), x, create_graph=graph)[0]

    x.requires_grad_()
    product = torch.autograd.grad((gradient(x, graph=True) * d).sum(), x)[0]
    h = 1e-5
    ahead, behind = (gradient((x + side * h * d).detach().requires_grad_(), graph=False) for side in (1, -1))
    difference = (ahead - behind) / (2 * h)
    torch.testing.assert_close(product, difference, rtol=1e-6, atol=1e-7)


def test_what_cannot_be_honoured_raises() -> None:
    q, k, v = qkv()
    there = "no attention backend 'flash9'; choose one of auto, sdpa, explicit, blocks, recomputed"
    with pytest.raises(ValueError, match=there):
        attend(q, k, v, Full(), RunContext(attention="flash9"))
    with pytest.raises(ValueError, match="no double backward; choose 'explicit'"):
        attend(q, k, v, Full(), RunContext(attention="sdpa", double_backward=True))
    assert supports("explicit", q, Full(), double_backward=True) is None
    with pytest.raises(ValueError, match="block lengths sum to 6, expected 7 tokens"):
        attend(q, k, v, BlockDiagonal((3, 3)))


def test_large_masks_are_not_kept() -> None:
    """A mask of all tokens takes as much memory as the scores; what is kept serves the blocks of a window."""
    specs._kept.cache_clear()
    like = torch.zeros(())
    assert (
        specs.mask_of(Window(3, 3), 1024, 1024, like) is not None and specs._kept.cache_info().currsize == 0
    )
    q, k, v = (torch.randn(1, 1, 1024, D, generator=torch.Generator().manual_seed(6)) for _ in range(3))
    attend(q, k, v, Window(3, 3))
    attend(q, k, v, GridWindow((32, 32), (1, 1)))
    assert specs._kept.cache_info().currsize == 6  # the first block, those in the middle, the last one
    assert specs.part_of(BlockDiagonal((5, 2)), (0, 5), (0, 5), like) is None
    assert specs.mask_of(Window(9, 9), 9, 9, like) is None


RECORDED: dict[str, specs.Spec] = {
    "full": Full(),
    "window_l4_r4": Window(4, 4),
    "window_l8_r8": Window(8, 8),
    "window_l8_r0": Window(8, 0),
    "window_l0_r8": Window(0, 8),
    "window2d_r2_grid8": GridWindow((8, 8), (2, 2)),
}


@every_backend
@pytest.mark.parametrize("name", list(RECORDED))
def test_recorded_windows(golden: Callable[[str], Golden], name: str, backend: str) -> None:
    """Of the original's attention, one-sided ones and one over a grid."""
    tensors, _ = golden("attention_misc")
    q, k, v = (tensors[f"attn/{part}"] for part in "qkv")
    made = attend(q, k, v, RECORDED[name], RunContext(attention=backend))
    torch.testing.assert_close(made, tensors[f"attn/{name}"], rtol=1e-5, atol=2e-6)
