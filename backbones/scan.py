"""The selective scan of state-space models (Mamba, Gu & Dao 2312.00752, algorithm 2),

    δ_l = softplus(delta_l + delta_bias),   s_l = exp(δ_l A) s_{l−1} + δ_l B_l u_l,   y_l = C_l · s_l + D u_l,   out = y · SiLU(z)

with a state of N numbers per channel. B is not held over a step (it is δB, not its zero-order hold). The recurrence runs in float32, in float64 for float64 inputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.forms import compiled, pick


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, z: Tensor | None = None, delta_bias: Tensor | None = None,
    delta_softplus: bool = True, *, reverse: bool = False, state: Tensor | None = None, return_state: bool = False, form: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
    """``u``, ``delta``, ``z`` (B, D, L); ``A`` (D, N), negative; ``B``, ``C`` (B, N, L); ``D``, ``delta_bias`` (D,) → (B, D, L) in u's dtype.

    ``reverse`` runs from the last step to the first. ``state`` (B, D, N) is where to begin, and with ``return_state`` the last one is returned beside: a sequence
    may be cut anywhere. ``form`` as in `backbones.forms`; ``reference`` can be differentiated twice. Under torch.compile the fused
    form is an operator of its own. Any memory layout. Raises ``ValueError`` for shapes that do not fit, integer tensors and a form that is not there.
    """
    check_scan(u, delta, A, B, C, D, z, delta_bias, state)
    if torch.compiler.is_compiling() and compiled(form, u, A):
        from backbones.compiled import scan

        out, last = scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse=reverse, state=state)
        return (out, last) if return_state else out
    chosen = pick(form, ("fused", "mamba"), u, A)
    if chosen == "fused" and not bool((A.detach() <= 0).all()):  # the fused loops know decays only, and would hide a NaN
        chosen = "reference"
    if chosen == "mamba" and (reverse or state is not None or delta_softplus is False):
        chosen = "reference"
    if chosen == "fused":
        from backbones.scan_fused import fused_scan as run
    else:
        run = scan_mamba if chosen == "mamba" else scan_reference
    out, last = run(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse=reverse, state=state)
    return (out, last) if return_state else out


def scan_mamba(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None, delta_softplus: bool,
    *, reverse: bool = False, state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """mamba-ssm's CUDA kernel, forward from a state of zeros (not run where this was written: a test marked ``gpu`` will)."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=True)


def scan_reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None, delta_softplus: bool,
    *, reverse: bool = False, state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The recurrence step by step, in torch alone: differentiable twice, under ``vmap``, on any device; no (B, D, L, N) tensor."""
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    wide = u.to(kind)
    step = delta.to(kind) if delta_bias is None else delta.to(kind) + delta_bias.to(kind)[:, None]
    step = F.softplus(step) if delta_softplus else step
    a = A.to(kind)
    steps, gained = step.permute(2, 0, 1).contiguous(), (step * wide).permute(2, 0, 1).contiguous()  # (L, B, D)
    into, out_of = B.to(kind).permute(2, 0, 1)[:, :, None], C.to(kind).permute(2, 0, 1)[..., None]  # (L, B, 1, N), (L, B, N, 1)
    s = torch.zeros(*u.shape[:2], A.shape[1], dtype=kind, device=u.device) if state is None else state.to(kind)
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


def check_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None, state: Tensor | None
) -> None:
    """Raises ``ValueError`` naming the first tensor that does not fit."""
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(f"got u of shape {tuple(u.shape)} and A of {tuple(A.shape)}, expected (batch, channels, length) and (channels, states)")
    batch, channels, length = u.shape
    expected = {
        "delta": (delta, (batch, channels, length)), "A": (A, (channels, A.shape[1])), "B": (B, (batch, A.shape[1], length)),
        "C": (C, (batch, A.shape[1], length)), "D": (D, (channels,)), "z": (z, (batch, channels, length)), "delta_bias": (delta_bias, (channels,)),
        "state": (state, (batch, channels, A.shape[1])), "u": (u, tuple(u.shape)),
    }  # fmt: skip
    for name, (value, shape) in expected.items():
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(f"got {name} of shape {tuple(value.shape)}, expected {shape} beside u of {tuple(u.shape)}")
        if value is not None and not value.is_floating_point():
            raise ValueError(f"got {name} of {value.dtype}, expected a floating-point tensor")
    if length == 0:
        raise ValueError("got a sequence of length 0, expected at least one step")
