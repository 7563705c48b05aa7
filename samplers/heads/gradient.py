"""Heads whose answer is itself a gradient of the network in x, such as energies with score = −∇E(x).

A head says which gradient it needs by ``grad``:

    none     no gradient (what a head that says nothing has)
    input    its answer takes the network's gradient in x, and nobody differentiates that again
    double   the same, and training does: through the gradient to the weights

Either way runs take the network as it is: autocast, weights stored low and compiled forms have no such
gradients, or not exact ones.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backbones.types import RunContext

GRADIENTS = ("none", "input", "double")


def grad_of(head: Any) -> str:
    """Which gradient a head needs. Raises ``ValueError`` for a word that is none of `GRADIENTS`."""
    grad = getattr(head, "grad", "none")
    if grad not in GRADIENTS:
        raise ValueError(
            f"got grad={grad!r} of the head {type(head).__name__}, expected one of {', '.join(GRADIENTS)}"
        )
    return grad


def check_forms(head: Any, *, dtype: torch.dtype | None = None, compiled: bool = False) -> None:
    """Raises ``ValueError`` for a form of the network that does not give the gradients a head needs."""
    if grad_of(head) == "none":
        return
    low = dtype not in (None, torch.float32, torch.float64)
    if low or compiled:
        form = str(dtype).removeprefix("torch.") if low else "a compiled network"
        raise ValueError(
            f"got {form} for the head {type(head).__name__}, which takes gradients of its network, expected "
            f"the network as it is in float32; set {'dtype: fp32' if low else 'compile: false'}"
        )


def told(head: Any, ctx: RunContext | None) -> RunContext | None:
    """The context in which a head asks its network: with forms that can be differentiated twice where its
    answer is going to be."""
    if grad_of(head) != "double" or not torch.is_grad_enabled():
        return ctx
    return replace(ctx or RunContext(), double_backward=True)


def slope(energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B, ...) gradient of the energies (B,) of the states x (B, ...), each of its own state only. It works
    where gradients are off; where they are on, it can be differentiated again."""
    again = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        at = x.clone() if x.is_inference() else x
        at = at if again and at.requires_grad else at.detach().requires_grad_()
        (found,) = torch.autograd.grad(energy(at).sum(), at, create_graph=again)
    return found
