"""The selective scan of `backbones.recurrences.scan` with its chunks side by side, in torch alone, for
devices where a loop over steps waits for every one of them.

Cut into K chunks of `CHUNK` steps, a scan is three short loops: all chunks at once from a state of zeros, the
states handed from chunk to chunk (a chunk keeps exp(A Σδ) of what enters it), and all chunks at once again
from the states that they really begin with. 2 `CHUNK` + K turns instead of L, each of them the recurrence
itself, so nothing overflows that does not overflow there. (Doubling within a chunk, log₂ `CHUNK` passes over
its states, reads and writes three times as much.)

Memory: forward (B, K, D, N), L / `CHUNK` steps of states; the gradient has those and at most 3/4 of
`TOGETHER` chunks of states at a time, where autograd would keep (B, L, D, N) several times over.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16  # steps
PIECE = (
    4  # steps of a chunk whose states the gradient has at once, and between those that it notes on its way
)
TOGETHER = 16  # chunks that the gradient goes through side by side

Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def scan_chunked(
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
    """As `backbones.recurrences.scan.scan_reference`: float64, differentiable twice, under ``vmap``, on any
    device."""
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    wide = u.to(kind)
    step = delta.to(kind) if delta_bias is None else delta.to(kind) + delta_bias.to(kind)[:, None]
    step = F.softplus(step) if delta_softplus else step
    begin = wide.new_zeros(*u.shape[:2], A.shape[1]) if state is None else state.to(kind)
    rows = [x.to(kind).transpose(1, 2) for x in (step, step * wide, B, C)]
    rows = [x.flip(1) for x in rows] if reverse else rows
    y, end = chunked_states(rows[0], rows[1], A.to(kind), rows[2], rows[3], begin)
    y = (y.flip(1) if reverse else y).transpose(1, 2)
    y = y if D is None else y + D.to(kind)[:, None] * wide
    y = y if z is None else y * F.silu(z.to(kind))
    return y.to(u.dtype), end


def chunked_states(
    step: Tensor, gained: Tensor, a: Tensor, into: Tensor, out_of: Tensor, begin: Tensor
) -> tuple[Tensor, Tensor]:
    """s_l = exp(step_l a) s_{l−1} + gained_l into_l, y_l = out_of_l · s_l: ``step``, ``gained`` (B, L, D);
    ``a`` (D, N), or (B, D, N) for one of each sample; ``into``, ``out_of`` (B, L, N); ``begin`` (B, D, N) → y
    (B, L, D) and the last state."""
    length = step.shape[1]
    # steps of zero at the end keep the state
    more = -length % CHUNK
    t, g, b, c = (
        _side_by_side(F.pad(x, (0, 0, 0, more)) if more else x) for x in (step, gained, into, out_of)
    )
    given = (t, g, a, b, c, begin)
    run = _forward if torch._C._are_functorch_transforms_active() else _chunks
    y, end, _ = run(*given)
    return y.permute(2, 1, 0, 3).flatten(1, 2)[:, :length], end  # (CHUNK, K, B, D) → (B, L, D)


def _side_by_side(x: Tensor) -> Tensor:
    """(B, L, M) → (CHUNK, K, B, M)."""
    return x.unflatten(1, (-1, CHUNK)).permute(2, 1, 0, 3).contiguous()


def _decay(t: Tensor, a: Tensor) -> Tensor:
    return torch.exp(t[..., None] * a)  # (K, B, D, N)


def _turn(s: Tensor, decay: Tensor, g: Tensor, b: Tensor) -> Tensor:
    return torch.addcmul(decay * s, g[..., None], b[..., None, :])


def _forward(
    t: Tensor, g: Tensor, a: Tensor, b: Tensor, c: Tensor, begin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``t``, ``g`` (CHUNK, K, B, D), ``b``, ``c`` (CHUNK, K, B, N) → y (CHUNK, K, B, D), the last state, and
    the states that the chunks begin with (K, B, D, N)."""
    s = g[0][..., None] * b[0][..., None, :]
    for i in range(1, CHUNK):
        s = _turn(s, _decay(t[i], a), g[i], b[i])
    starts = [begin]
    for own, kept in zip(s.unbind(0), _decay(t.sum(0), a).unbind(0)):
        starts.append(torch.addcmul(own, kept, starts[-1]))
    entered, made = torch.stack(starts[:-1]), []
    s = entered
    for i in range(CHUNK):
        s = _turn(s, _decay(t[i], a), g[i], b[i])
        made.append((s @ c[i][..., None]).squeeze(-1))
    return torch.stack(made), starts[-1], entered


@torch.library.custom_op("drift_studio::chunked_scan", mutates_args=())
def _chunks(
    t: Tensor, g: Tensor, a: Tensor, b: Tensor, c: Tensor, begin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`_forward` as one operator, which torch.compile takes as it is instead of unrolling the loops, with a
    gradient that makes the states again instead of keeping them."""
    return _forward(t, g, a, b, c, begin)


@torch.library.custom_op("drift_studio::chunked_scan_backward", mutates_args=())
def _chunks_back(
    grad: Tensor,
    grad_end: Tensor,
    t: Tensor,
    g: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    begin: Tensor,
    entered: Tensor,
) -> Six:
    return _backward(grad, grad_end, t, g, a, b, c, begin, entered)


@_chunks.register_fake
def _(t: Tensor, g: Tensor, a: Tensor, b: Tensor, c: Tensor, begin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(g), torch.empty_like(begin), begin.new_empty(t.shape[1], *begin.shape)


@_chunks_back.register_fake
def _(grad: Tensor, grad_end: Tensor, *given: Tensor) -> Six:
    made: Any = [x.new_empty(x.shape) for x in given[:6]]
    return tuple(made)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[2])


def _grads(ctx: Any, grad: Tensor, grad_end: Tensor, _: Any) -> Any:
    *given, entered = ctx.saved_tensors
    if not torch.is_grad_enabled():
        return _chunks_back(grad, grad_end, *given, entered)
    # to be differentiated again: autograd goes through the loops
    asked = [i for i, x in enumerate(given) if x.requires_grad]
    y, end, _ = _forward(*given)
    made = torch.autograd.grad((y, end), [given[i] for i in asked], (grad, grad_end), create_graph=True)
    return tuple(made[asked.index(i)] if i in asked else None for i in range(len(given)))


_chunks.register_autograd(_grads, setup_context=_keep)


def _backward(grad: Tensor, grad_end: Tensor, *saved: Tensor) -> Six:
    """Gradients of `_forward`'s inputs. With e_l the gradient of s_l after step l, e_{l−1} = exp(t_l a) e_l +
    grad_{l−1} c_{l−1}: the same three loops backwards, the last with the states beside it."""
    t, g, a, b, c, begin, entered = saved
    back = torch.zeros_like(entered)  # what a chunk alone sends to the state that it begins with
    for i in reversed(range(CHUNK)):
        back = _decay(t[i], a) * torch.addcmul(back, grad[i][..., None], c[i][..., None, :])
    left = [grad_end]
    for own, kept in zip(reversed(back.unbind(0)), reversed(_decay(t.sum(0), a).unbind(0))):
        left.append(torch.addcmul(own, kept, left[-1]))
    arriving = torch.stack(left[-2::-1])  # at every chunk's last state
    parts = []
    for i in range(0, len(entered), TOGETHER):
        some = slice(i, i + TOGETHER)
        rows = grad[:, some], t[:, some], g[:, some], b[:, some], c[:, some]
        parts.append(_part(*rows, entered[some], arriving[some], a))
    gt, gg, gb, gc = (torch.cat(x, dim=1) for x in list(zip(*parts))[:4])
    ga = torch.stack([x[4] for x in parts]).sum(0)
    return gt, gg, ga.sum_to_size(a.shape), gb, gc, left[-1]


def _part(
    grad: Tensor, t: Tensor, g: Tensor, b: Tensor, c: Tensor, s: Tensor, e: Tensor, a: Tensor
) -> tuple[Tensor, ...]:
    """Of chunks that begin with ``s`` and have ``e`` arriving at their ends: gradients of t, g, b and c, and
    of ``a`` by sample (B, D, N)."""
    noted = [s]
    for i in range(CHUNK - PIECE):
        s = _turn(s, _decay(t[i], a), g[i], b[i])
        if (i + 1) % PIECE == 0:
            noted.append(s)
    made: list[list[Tensor]] = [[], [], [], []]
    ga = torch.zeros_like(e)
    for first in reversed(range(0, CHUNK, PIECE)):
        states, decays = [noted.pop()], []
        for i in range(first, first + PIECE):
            decays.append(_decay(t[i], a))
            states.append(_turn(states[-1], decays[-1], g[i], b[i]))
        for i in reversed(range(first, first + PIECE)):
            e = torch.addcmul(e, grad[i][..., None], c[i][..., None, :])
            gc = (grad[i][..., None, :] @ states.pop()).squeeze(-2)
            gg, gb = (e @ b[i][..., None]).squeeze(-1), (g[i][..., None, :] @ e).squeeze(-2)
            e = decays.pop() * e
            kept = e * states[-1]  # of the logarithm of the decay
            ga = torch.addcmul(ga, kept, t[i][..., None])
            for rows, row in zip(made, ((kept * a).sum(-1), gg, gb, gc)):
                rows.append(row)
    return (*(torch.stack(rows[::-1]) for rows in made), ga.sum(0))
