"""The selective scan of `backbones.recurrences.scan` step by step, in torch alone."""

import torch
import torch.nn.functional as F
from torch import Tensor


def scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    *,
    reverse: bool = False,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The recurrence: differentiable twice, under ``vmap``, on any device; no (B, D, L, N) tensor."""
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    wide = u.to(kind)
    step = delta.to(kind) if delta_bias is None else delta.to(kind) + delta_bias.to(kind)[:, None]
    step = F.softplus(step) if delta_softplus else step
    a = A.to(kind)
    # (L, B, D)
    steps, gained = step.permute(2, 0, 1).contiguous(), (step * wide).permute(2, 0, 1).contiguous()
    # (L, B, 1, N), (L, B, N, 1)
    into, out_of = B.to(kind).permute(2, 0, 1)[:, :, None], C.to(kind).permute(2, 0, 1)[..., None]
    s = (
        torch.zeros(*u.shape[:2], A.shape[1], dtype=kind, device=u.device)
        if state is None
        else state.to(kind)
    )
    order = range(u.shape[2] - 1, -1, -1) if reverse else range(u.shape[2])
    rows = list(zip(steps.unbind(0), gained.unbind(0), into.unbind(0), out_of.unbind(0)))
    made: list[Tensor | None] = [None] * u.shape[2]
    for i in order:
        t, g, b, c = rows[i]
        s = torch.exp(t[..., None] * a) * s + g[..., None] * b  # (B, D, N)
        made[i] = (s @ c).squeeze(-1)  # (B, D)
    y = torch.stack([m for m in made if m is not None], dim=2)  # (B, D, L)
    y = y if D is None else y + D.to(kind)[:, None] * wide
    y = y if z is None else y * F.silu(z.to(kind))
    return y.to(u.dtype), s
