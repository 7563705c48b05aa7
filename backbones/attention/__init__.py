"""One function for attention: ``attend(q, k, v, spec, ctx)``; softmax(q kᵀ / √d + mask) v.

`auto` picks by what was measured on this machine (`backbones.attention.measured`) and never drops a mask; an
explicit choice that cannot be honoured raises.
"""

from torch import Tensor

from backbones.attention.backends import BACKENDS, supports
from backbones.attention.measured import fastest
from backbones.attention.specs import Bias, BlockDiagonal, Full, GridWindow, Local, Spec, Window
from backbones.types import RunContext

__all__ = [
    "BACKENDS",
    "Bias",
    "BlockDiagonal",
    "Full",
    "GridWindow",
    "Window",
    "attend",
    "choose",
    "supports",
]


FEW = 128  # tokens, of which a block of queries sees nearly all in any window


def choose(q: Tensor, spec: Spec, *, double_backward: bool = False) -> str:
    """The backend of `auto`. On CPUs blocks for windows and pieces of more than `FEW` tokens, for all else
    what was measured to be the fastest here. On other devices SDPA, and for windows and pieces the first of
    varlen, xformers and flex that can serve them."""
    if double_backward:
        return "blocks" if isinstance(spec, Local) else "explicit"
    if q.device.type == "cpu":
        if isinstance(spec, Local) and q.shape[-2] > FEW:
            return "blocks"
        return fastest(q, biased=not isinstance(spec, Full))
    if isinstance(spec, Local) and q.device.type == "cuda":
        able = (n for n in ("varlen", "xformers", "flex") if supports(n, q, spec) is None)
        return next(able, "blocks")
    return "sdpa"


def attend(q: Tensor, k: Tensor, v: Tensor, spec: Spec = Full(), ctx: RunContext | None = None) -> Tensor:
    """Attention of (B, H, N, D) queries over (B, H, M, D) keys and values; returns (B, H, N, D).

    Raises ``ValueError`` when ``ctx.attention`` names a backend that does not exist or cannot serve the call.
    """
    name = "auto" if ctx is None else ctx.attention
    twice = ctx is not None and ctx.double_backward
    if name == "auto":
        name = choose(q, spec, double_backward=twice)
    elif reason := supports(name, q, spec, double_backward=twice):
        raise ValueError(reason)
    return BACKENDS[name].run(q, k, v, spec)
