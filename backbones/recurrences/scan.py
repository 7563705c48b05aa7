"""The selective scan of state-space models (Mamba, Gu & Dao 2312.00752, algorithm 2),

    δ_l = softplus(delta_l + delta_bias),   s_l = exp(δ_l A) s_{l−1} + δ_l B_l u_l,   y_l = C_l · s_l + D u_l,
                                            out = y · SiLU(z)

with a state of N numbers per channel. B is not held over a step (it is δB, not its zero-order hold). The
recurrence runs in float32, in float64 for float64 inputs.
"""

import torch
from torch import Tensor

from backbones.recurrences.forms import compiled, pick
from backbones.recurrences.scan_chunked import scan_chunked
from backbones.recurrences.scan_plain import scan_reference as scan_reference


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    *,
    reverse: bool = False,
    state: Tensor | None = None,
    return_state: bool = False,
    form: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """``u``, ``delta``, ``z`` (B, D, L); ``A`` (D, N), negative; ``B``, ``C`` (B, N, L); ``D``,
    ``delta_bias`` (D,) → (B, D, L) in u's dtype.

    ``reverse`` runs from the last step to the first. ``state`` (B, D, N) is where to begin, and with
    ``return_state`` the last one is returned beside: a sequence may be cut anywhere. ``form`` as in
    `backbones.recurrences.forms`; ``reference`` and ``chunked`` can be differentiated twice. Under
    torch.compile these forms are operators of their own. Any memory layout. Raises ``ValueError`` for shapes
    that do not fit, integer tensors and a form that is not there.
    """
    check_scan(u, delta, A, B, C, D, z, delta_bias, state)
    if torch.compiler.is_compiling() and compiled(form, u, A):
        from backbones.recurrences.compiled import scan

        out, last = scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse=reverse, state=state)
        return (out, last) if return_state else out
    chosen = pick(form, ("fused", "mamba", "chunked"), u, A)
    # the fused loops know decays only, and would hide a NaN
    if chosen == "fused" and not bool((A.detach() <= 0).all()):
        chosen = "reference"
    if chosen == "mamba" and (state is not None or delta_softplus is False):
        chosen = "chunked"
    if chosen == "fused":
        from backbones.recurrences.scan_fused import fused_scan as run
    else:
        run = {"mamba": scan_mamba, "chunked": scan_chunked, "reference": scan_reference}[chosen]
    out, last = run(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse=reverse, state=state)
    return (out, last) if return_state else out


def scan_mamba(
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
    """mamba-ssm's CUDA kernel, from a state of zeros (not run where this was written: a test marked ``gpu``
    will)."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    if reverse:
        u, delta, B, C = (x.flip(2) for x in (u, delta, B, C))
        z = None if z is None else z.flip(2)
    y, end = selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=True)
    return (y.flip(2) if reverse else y), end


def check_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    state: Tensor | None,
) -> None:
    """Raises ``ValueError`` naming the first tensor that does not fit."""
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(
            f"got u of shape {tuple(u.shape)} and A of {tuple(A.shape)}, expected (batch, channels, "
            "length) and (channels, states)"
        )
    batch, channels, length = u.shape
    expected = {
        "delta": (delta, (batch, channels, length)),
        "A": (A, (channels, A.shape[1])),
        "B": (B, (batch, A.shape[1], length)),
        "C": (C, (batch, A.shape[1], length)),
        "D": (D, (channels,)),
        "z": (z, (batch, channels, length)),
        "delta_bias": (delta_bias, (channels,)),
        "state": (state, (batch, channels, A.shape[1])),
        "u": (u, tuple(u.shape)),
    }
    for name, (value, shape) in expected.items():
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(
                f"got {name} of shape {tuple(value.shape)}, expected {shape} beside u of {tuple(u.shape)}"
            )
        if value is not None and not value.is_floating_point():
            raise ValueError(f"got {name} of {value.dtype}, expected a floating-point tensor")
    if length == 0:
        raise ValueError("got a sequence of length 0, expected at least one step")
