"""The token shift of Diffusion-RWKV (Fei et al. 2404.04478, after Vision-RWKV 2403.02308): a patch beside its four neighbours, and mixes of the two."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.forms import pick, told
from backbones.threads import flat, share

Modulation = tuple[Tensor, Tensor]  # shift and scale, (B, 1, C) each


def q_shift(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, H·W, C): quarters of the channels from the left, right, upper and lower neighbour, zeros from outside, what is left over from the patch itself."""
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


def shifted_mixes(x: Tensor, grid: tuple[int, int], mixes: Sequence[Tensor], modulation: Modulation | None, *, form: str = "auto") -> list[Tensor]:
    """near + mix (y − near) for every mix (1, 1, C), where y = x (1 + scale) + shift and near = `q_shift` of y; (B, T, C) each. Without gradients one fused loop on the CPU, which
    under autocast writes what the next product reads. ``form`` as in `backbones.forms`."""
    watched = torch.is_grad_enabled() and any(v.requires_grad for v in (x, *mixes, *(modulation or ())))
    if x.shape[-1] % 64 == 0 and not watched and pick(form, ("fused",), x, *mixes) == "fused":
        return _fused(x, grid, mixes, modulation)
    if modulation is not None:
        x = torch.addcmul(modulation[0].to(x.dtype), x, 1 + modulation[1].to(x.dtype))
    near = q_shift(x, grid)
    return [torch.lerp(near, x, mix.to(x.dtype)) for mix in mixes]


def _fused(x: Tensor, grid: tuple[int, int], mixes: Sequence[Tensor], modulation: Modulation | None) -> list[Tensor]:
    """`backbones.shift_kernel` on tensors."""
    from backbones import shift_kernel

    kernel: Any = shift_kernel  # numba's functions have no types of their own
    batch, _, channels = x.shape
    x = x.detach().contiguous()
    given = x if x.dtype in (torch.float32, torch.bfloat16) else x.float()
    low = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    outs = torch.empty(len(mixes), *x.shape, dtype=torch.bfloat16 if low else given.dtype)
    shift, scale = modulation if modulation is not None else (x.new_zeros(batch, 1, channels), x.new_zeros(batch, 1, channels))
    inputs = [
        (1 + scale.detach().float()).expand(batch, 1, channels),
        shift.detach().float().expand(batch, 1, channels),
        torch.cat([m.detach().float() for m in mixes]),
    ]
    arrays = [flat(v.contiguous()) for v in (given, *inputs, outs)]
    shape = (len(mixes), batch, *grid, channels)
    told("shift", (kernel.forward,), lambda: share(batch * grid[0], lambda first, last: kernel.forward(first, last, *arrays, shape)))
    return list((outs if low else outs.to(x.dtype)).unbind())
