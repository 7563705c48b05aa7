"""Layouts and masks of kernels that run on GPUs, with references of the same signatures in their place."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones import Bias, BlockDiagonal, Full, RunContext, Window, attend
from backbones.attention import BACKENDS, GridWindow, packed, supports
from backbones.attention.specs import Spec

B, H, N, D = 2, 3, 24, 8
SPECS: dict[str, Spec] = {
    "full": Full(),
    "window": Window(5, 2),
    "wide": Window(100, 100),
    "grid": GridWindow((4, 6), (1, 2)),
    "pieces": BlockDiagonal((10, 0, 3, 11)),
    "bias": Bias(torch.linspace(-3, 3, H * N * N, dtype=torch.float64).view(1, H, N, N)),
}
every_spec = pytest.mark.parametrize("name", list(SPECS))


def qkv(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(B, H, N, D, generator=g, dtype=torch.float64).to(dtype) for _ in range(3)]


def plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """(..., N, D) by the formula."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores if mask is None else scores + mask).softmax(-1) @ v


class Masks:
    """As `xformers.ops.fmha.attn_bias`, which can tell its masks as tensors."""

    class LocalAttentionFromBottomRightMask:
        def __init__(self, *, window_left: int, window_right: int):
            self.left, self.right = window_left, window_right

        def mask(self, n: int) -> Tensor:
            i = torch.arange(n)
            off = i - i[:, None]
            return torch.zeros(n, n).masked_fill((off < -self.left) | (off > self.right), -math.inf)

    class BlockDiagonalMask:
        def __init__(self, lengths: list[int]):
            self.lengths = lengths

        @staticmethod
        def from_seqlens(lengths: list[int]) -> "Masks.BlockDiagonalMask":
            assert all(lengths)
            return Masks.BlockDiagonalMask(lengths)

        def mask(self, n: int) -> Tensor:
            assert sum(self.lengths) == n
            owner = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))
            return torch.zeros(n, n).masked_fill(owner != owner[:, None], -math.inf)


def memory_efficient_attention(q: Tensor, k: Tensor, v: Tensor, *, attn_bias: Any) -> Tensor:
    """(B, M, H, K), as xformers' own."""
    assert q.shape[2] == H and q.ndim == 4
    mask = attn_bias
    if isinstance(mask, Tensor):
        assert mask.shape == (q.shape[0], H, q.shape[1], k.shape[1]) and mask.stride(2) % 8 == 0
    elif mask is not None:
        mask = mask.mask(q.shape[1])
    return plain(*(t.transpose(1, 2) for t in (q, k, v)), mask).transpose(1, 2)


def varlen_attn(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, *, window_size: Any
) -> Tensor:
    """(T, H, D), as torch's own."""
    assert cu_q.dtype == cu_k.dtype == torch.int32 and cu_q[-1] == len(q) and cu_k[-1] == len(k)
    assert max_q >= int(cu_q.diff().max()) and max_k >= int(cu_k.diff().max())
    out = torch.empty_like(q)
    for (a, b), (c, d) in zip(zip(cu_q, cu_q[1:]), zip(cu_k, cu_k[1:])):
        i, j = torch.arange(b - a)[:, None], torch.arange(d - c)
        left, right = (size if size >= 0 else 10**6 for size in window_size)
        mask = torch.zeros(len(i), len(j)).masked_fill((j - i < -left) | (j - i > right), -math.inf)
        out[a:b] = plain(*(t.transpose(0, 1) for t in (q[a:b], k[c:d], v[c:d])), mask).transpose(0, 1)
    return out


def create_block_mask(sees: Any, *, B: Any, H: Any, Q_LEN: int, KV_LEN: int, device: Any) -> Tensor:
    i, j = torch.arange(Q_LEN)[:, None], torch.arange(KV_LEN)[None]
    return sees(None, None, i, j).expand(Q_LEN, KV_LEN)


def flex_attention(q: Tensor, k: Tensor, v: Tensor, score_mod: Any = None, block_mask: Any = None) -> Tensor:
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if score_mod is not None:
        at = torch.meshgrid(*(torch.arange(n) for n in scores.shape), indexing="ij")
        scores = score_mod(scores, *at)
    if block_mask is not None:
        scores = scores.masked_fill(~block_mask, -math.inf)
    return scores.softmax(-1) @ v


def expected(name: str) -> Tensor:
    return attend(*qkv(), SPECS[name], RunContext(attention="explicit"))


@every_spec
def test_xformers_layout(name: str) -> None:
    made = packed.xformers(*qkv(), SPECS[name], memory_efficient_attention, Masks)
    torch.testing.assert_close(made, expected(name), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["full", "window", "wide", "pieces"])
def test_varlen_layout(name: str) -> None:
    made = packed.varlen(*qkv(), SPECS[name], varlen_attn)
    torch.testing.assert_close(made, expected(name), rtol=0, atol=1e-12)


@every_spec
def test_flex_layout(name: str) -> None:
    masks = SimpleNamespace(create_block_mask=create_block_mask)
    made = packed.flex(*qkv(), SPECS[name], flex_attention, masks)
    torch.testing.assert_close(made, expected(name), rtol=0, atol=1e-12)


def test_more_keys_than_queries() -> None:
    g = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(B, H, n, D, generator=g, dtype=torch.float64) for n in (5, 9, 9))
    there = plain(q, k, v, None)
    assert torch.allclose(packed.varlen(q, k, v, Full(), varlen_attn), there)
    assert torch.allclose(packed.xformers(q, k, v, Full(), memory_efficient_attention, Masks), there)


def test_what_flex_says_of_windows_is_the_mask() -> None:
    """torch's own block mask, made on the CPU, holds the same entries."""
    from torch.nn.attention.flex_attention import create_mask

    from backbones.attention.specs import mask_of

    like = torch.zeros((), dtype=torch.float64)
    for name in ("window", "grid", "pieces"):
        seen = create_mask(packed.sees(SPECS[name], torch.device("cpu")), 1, 1, N, N, device="cpu")[0, 0]
        mask = mask_of(SPECS[name], N, N, like)
        assert mask is not None and torch.equal(seen, mask == 0)


@pytest.mark.parametrize("name", ["xformers", "flex", "varlen"])
def test_on_a_cpu_they_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} attention runs on cuda, got cpu; choose 'auto'"):
        attend(*qkv(), Full(), RunContext(attention=name))


def test_a_kernel_that_is_wrong_or_fails_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held to the formula once a process, whatever it says of itself."""
    from dataclasses import replace

    from backbones.attention import backends

    def broken(*inputs: Any) -> Tensor:
        raise RuntimeError("No operator found for this device\nand more")

    q = qkv()[0].float()
    wrong = replace(BACKENDS["sdpa"], run=lambda q, k, v, spec: 2 * v, trusted=False)
    monkeypatch.setitem(BACKENDS, "wrong", wrong)
    monkeypatch.setitem(BACKENDS, "broken", replace(wrong, run=broken))
    monkeypatch.setitem(BACKENDS, "right", replace(BACKENDS["sdpa"], trusted=False))
    backends._tried.cache_clear()
    assert "wrong attention is wrong here, by" in str(supports("wrong", q, Full()))
    assert "does not run here (No operator found for this device)" in str(supports("broken", q, Full()))
    assert all(supports("right", q, spec) is None for spec in SPECS.values())
    backends._tried.cache_clear()


@pytest.mark.gpu
@every_spec
@pytest.mark.parametrize("backend", ["xformers", "flex", "varlen"])
def test_on_a_gpu_they_are_the_formula(backend: str, name: str) -> None:
    q, k, v = (t.cuda().half() for t in qkv())
    spec = SPECS[name]
    spec = Bias(spec.bias.cuda().half()) if isinstance(spec, Bias) else spec
    if reason := supports(backend, q, spec):
        pytest.skip(reason)
    made = attend(q, k, v, spec, RunContext(attention=backend)).cpu().double()
    torch.testing.assert_close(made, expected(name), rtol=0, atol=2e-2)
