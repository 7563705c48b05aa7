"""The token shift of Diffusion-RWKV (Fei et al. 2404.04478, after Vision-RWKV 2403.02308): a patch beside its
four neighbours, and mixes of the two."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.kernels.threads import flat, share
from backbones.recurrences.forms import pick, told

Modulation = tuple[nn.LayerNorm, Tensor, Tensor]  # the norm before it; shift and scale, (B, 1, C) each


def q_shift(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, H·W, C): quarters of the channels from the left, right, upper and lower neighbour, zeros from
    outside, what is left over from the patch itself."""
    rows, columns = grid
    image, quarter = x.view(len(x), rows, columns, -1), x.shape[-1] // 4
    left, right, up, down, rest = image.split([quarter] * 4 + [x.shape[-1] - 4 * quarter], dim=-1)
    moved = [
        F.pad(left, (0, 0, 1, 0))[:, :, :-1],
        F.pad(right, (0, 0, 0, 1))[:, :, 1:],
        F.pad(up, (0, 0, 0, 0, 1, 0))[:, :-1],
        F.pad(down, (0, 0, 0, 0, 0, 1))[:, 1:],
    ]
    return torch.cat([*moved, rest], dim=-1).flatten(1, 2)


def modulated(h: Tensor, modulation: Modulation | None) -> Tensor:
    """norm(h) (1 + scale) + shift; h itself where there is none."""
    if modulation is None:
        return h
    norm, shift, scale = modulation
    x = norm(h)
    return torch.addcmul(shift.to(x.dtype), x, 1 + scale.to(x.dtype))


def shifted_mixes(
    h: Tensor,
    grid: tuple[int, int],
    mixes: Sequence[Tensor],
    modulation: Modulation | None,
    *,
    form: str = "auto",
    valid: Tensor | None = None,
) -> list[Tensor]:
    """near + mix (x − near) for every mix (1, 1, C), where x = norm(h) (1 + scale) + shift and near =
    `q_shift` of x; (B, T, C) each. Without gradients one fused loop on the CPU, which under autocast writes
    what the next product reads. ``form`` as in `backbones.recurrences.forms`. Where x is not ``valid`` (B, T,
    1) it is 0, as beyond the edges."""
    if valid is not None:
        h, modulation = modulated(h, modulation).masked_fill(~valid, 0), None
    norm, shift, scale = modulation if modulation is not None else (None, None, None)
    own = [] if norm is None else list(norm.parameters())
    watched = (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        and any(v is not None and v.requires_grad for v in (h, *mixes, shift, scale, *own))
    )
    if h.shape[-1] % 64 == 0 and not watched and pick(form, ("fused",), h, *mixes) == "fused":
        return _fused(h, grid, mixes, modulation)
    x = modulated(h, modulation)
    near = q_shift(x, grid)
    return [torch.lerp(near, x, mix.to(x.dtype)) for mix in mixes]


def _fused(
    h: Tensor, grid: tuple[int, int], mixes: Sequence[Tensor], modulation: Modulation | None
) -> list[Tensor]:
    """`backbones.kernels.shift` on tensors."""
    from backbones.kernels import shift as shift_kernel

    kernel: Any = shift_kernel  # numba's functions have no types of their own
    batch, length, channels = h.shape
    given = h.detach().contiguous()
    given = given if given.dtype in (torch.float32, torch.bfloat16) else given.float()
    low = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    outs = torch.empty(len(mixes), *h.shape, dtype=torch.bfloat16 if low else given.dtype)
    factor, middle = torch.ones(batch * length), torch.zeros(batch * length)
    gain, offset = torch.ones(batch, channels), torch.zeros(batch, channels)
    x = flat(given)
    if modulation is not None:
        norm, shift, scale = modulation
        more = 1 + scale.detach().float()[:, 0]  # (B, C)
        gain, offset = (
            more * norm.weight.detach().float(),
            more * norm.bias.detach().float() + shift.detach().float()[:, 0],
        )
        tokens, eps = (factor.numpy(), middle.numpy()), np.float32(norm.eps)
        told(
            "norm",
            (kernel.moments,),
            lambda: share(
                batch * length, lambda first, last: kernel.moments(first, last, x, *tokens, channels, eps)
            ),
        )
    arrays = [
        flat(v.contiguous())
        for v in (factor, middle, gain, offset, torch.cat([m.detach().float() for m in mixes]), outs)
    ]
    shape = (len(mixes), batch, *grid, channels)
    told(
        "shift",
        (kernel.forward,),
        lambda: share(batch * grid[0], lambda first, last: kernel.forward(first, last, x, *arrays, shape)),
    )
    return list((outs if low else outs.to(h.dtype)).unbind())
