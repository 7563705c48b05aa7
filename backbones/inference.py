"""A network's twin for runs in which its weights do not change: what autocast would cast at every call is
cast, and on a CPU packed, once.

Packing stores a weight in the blocked order in which oneDNN's bf16 product reads it; the product then also
applies what follows it before it writes.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.pointwise import gelu


class PackedLinear(nn.Module):
    """A linear layer with its bf16 weight packed for the CPU. Where gradients or function transforms are
    asked for, the layer itself runs."""

    def __init__(self, plain: nn.Linear):
        super().__init__()
        self.plain = plain
        weight = plain.weight.detach().to(torch.bfloat16)
        # the hint of rows makes no difference
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self.bias = None if plain.bias is None else plain.bias.detach().to(torch.bfloat16)

    @property
    def weight(self) -> Tensor:
        return self.plain.weight

    def forward(self, x: Tensor, activation: str = "none", form: str = "") -> Tensor:
        """(..., D_in) → (..., D_out); ``activation`` and ``form`` as in `activated`, or ``none``."""
        if (torch.is_grad_enabled() and x.requires_grad) or torch._C._are_functorch_transforms_active():
            return self.plain(x) if activation == "none" else activated(x, self.plain, activation, form)
        return torch.ops.mkldnn._linear_pointwise(
            x.to(torch.bfloat16), self.packed, self.bias, activation, [], form
        )


def activated(x: Tensor, linear: nn.Module, activation: str, form: str = "") -> Tensor:
    """f(x Wᵀ + b), (..., D_in) → (..., D_out), in one pass where the layer is packed. f is relu, sigmoid, or
    gelu in its ``form`` tanh or none (exact)."""
    if isinstance(linear, PackedLinear):
        return linear(x, activation, form)
    out = linear(x)
    if activation == "gelu" and form == "tanh":
        return gelu(out)
    return (
        F.gelu(out, approximate=form)
        if activation == "gelu"
        else torch.sigmoid(out)
        if activation == "sigmoid"
        else F.relu(out)
    )


def can_pack() -> bool:
    """Whether this torch has oneDNN's packed linear product and the CPU has bf16 instructions for it."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def lowered(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A twin of ``net`` in the parts that ``net.low_precision`` names: linear layers packed (bf16 on a CPU),
    other weights of products stored in ``dtype``. It is run under the same autocast, shares everything else
    with ``net`` and gives the same results up to that dtype's rounding."""
    if isinstance(net, nn.ModuleDict):
        return nn.ModuleDict({name: lowered(part, dtype) for name, part in net.items()})
    parts = [getattr(net, name, None) for name in getattr(net, "low_precision", ())]
    modules = [m for part in parts if part is not None for m in part.modules()]
    if any(isinstance(m, PackedLinear) for m in modules):
        return net  # a twin already
    linear, conv = [m for m in modules if type(m) is nn.Linear], [m for m in modules if type(m) is nn.Conv2d]
    packed: dict[int, nn.Module] = {}
    if dtype == torch.bfloat16 and can_pack():
        packed = {id(m): PackedLinear(m) for m in linear if m.weight.device.type == "cpu"}
    cast = [p for m in (*linear, *conv) if id(m) not in packed for p in m.parameters() if p.dtype != dtype]
    low = {id(p): nn.Parameter(p.detach().to(dtype), requires_grad=False) for p in cast}
    kept = {id(v): v for v in [*net.parameters(), *net.buffers()] if id(v) not in low}
    return copy.deepcopy(net, {**kept, **low, **packed}) if low or packed else net
