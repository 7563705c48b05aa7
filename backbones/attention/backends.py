"""Backends by name: whether one can serve a call, and what runs it.

What a kernel says of itself is not enough (some call themselves available where they cannot run): one that is
not torch's own products is tried once a process on a few numbers and held to the formula.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from backbones.attention import packed, products
from backbones.attention.specs import Bias, BlockDiagonal, Full, GridWindow, Spec, Window

Attends = Callable[[Tensor, Tensor, Tensor, Spec], Tensor]
EVERY = (Full, Window, GridWindow, BlockDiagonal, Bias)
HALVES = (torch.float16, torch.bfloat16)
NEAR = 3e-2  # of the formula, in the dtype of the trial


def _xformers(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    import xformers.ops as ops

    return packed.xformers(q, k, v, spec, ops.memory_efficient_attention, ops.fmha.attn_bias)


def _flex(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    import torch.nn.attention.flex_attention as masks

    return packed.flex(q, k, v, spec, _compiled_flex(), masks)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _varlen(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    kernel: Any = varlen_attn  # which returns more where it is asked for more
    return packed.varlen(q, k, v, spec, kernel)


@dataclass(frozen=True)
class Backend:
    """``run`` attends; ``specs`` it knows; ``devices`` and ``dtypes`` it runs on (empty: all); ``module``
    that has to be there, and a ``hint`` where it is not; ``twice``: whether it can be differentiated twice on
    CPUs; ``trusted``: torch's own products, which need no trial."""

    run: Attends
    specs: tuple[type, ...] = EVERY
    devices: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()
    module: str = ""
    hint: str = ""
    twice: bool = True
    trusted: bool = False


BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(products.sdpa, twice=False, trusted=True),
    "explicit": Backend(products.explicit, trusted=True),
    "blocks": Backend(products.blocks, trusted=True),
    "recomputed": Backend(
        products.recomputed, (Full, Window, GridWindow, BlockDiagonal), twice=False, trusted=True
    ),
    "xformers": Backend(
        _xformers,
        devices=("cuda",),
        module="xformers.ops",
        hint="pip install --no-deps xformers",
        twice=False,
    ),
    "flex": Backend(
        _flex, devices=("cuda",), module="torch.nn.attention.flex_attention", hint="torch 2.5", twice=False
    ),
    "varlen": Backend(
        _varlen,
        (Full, Window, BlockDiagonal),
        devices=("cuda",),
        dtypes=HALVES,
        module="torch.nn.attention.varlen",
        hint="torch 2.10",
        twice=False,
    ),
}


def supports(name: str, q: Tensor, spec: Spec, *, double_backward: bool = False) -> str | None:
    """None when backend ``name`` can serve this call, else the reason in words."""
    if name not in BACKENDS:
        return f"there is no attention backend {name!r}; choose one of auto, {', '.join(BACKENDS)}"
    backend, kind = BACKENDS[name], q.device.type
    if backend.devices and kind not in backend.devices:
        return f"{name} attention runs on {' and '.join(backend.devices)}, got {kind}; choose 'auto'"
    if not isinstance(spec, backend.specs):
        known = ", ".join(s.__name__ for s in backend.specs)
        return f"{name} attention knows {known}, got {type(spec).__name__}; choose 'auto'"
    if backend.dtypes and q.dtype not in backend.dtypes:
        names = " and ".join(str(d).removeprefix("torch.") for d in backend.dtypes)
        return f"{name} attention takes {names}, got {str(q.dtype).removeprefix('torch.')}; choose 'auto'"
    if double_backward and not backend.twice and (kind == "cpu" or not backend.trusted):
        called = "SDPA on the CPU" if name == "sdpa" else f"{name} attention"
        return f"{called} has no double backward; choose 'explicit'"
    if backend.module and not _there(backend.module):
        return f"{name} attention needs {backend.module}, which is not installed; {backend.hint}"
    if backend.trusted:
        return None
    return _tried(name, q.device, q.dtype, q.shape[-1], type(spec).__name__)


@cache
def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@lru_cache(maxsize=256)
def _tried(name: str, device: torch.device, dtype: torch.dtype, d: int, kind: str) -> str | None:
    """What is wrong with a backend on a few numbers, beside the formula."""
    n = 48
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, d, generator=g).to(device=device, dtype=dtype) for _ in range(3))
    table = torch.linspace(-1, 1, n * n).view(1, 1, n, n).to(device=device, dtype=dtype)
    specs: list[Spec] = [
        Full(),
        Window(5, 3),
        GridWindow((6, 8), (1, 2)),
        BlockDiagonal((20, 28)),
        Bias(table),
    ]
    spec = next(s for s in specs if type(s).__name__ == kind)
    try:
        with torch.no_grad():
            made = BACKENDS[name].run(q, k, v, spec).float()
        wanted = products.explicit(q.double(), k.double(), v.double(), spec).float()
    except Exception as error:  # whatever a package makes of a machine that it does not fit
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"{name} attention does not run here ({lines[0][:120]}); choose 'auto'"
    away = float((made - wanted).abs().max() / wanted.abs().max())
    if not away < NEAR:
        return f"{name} attention is wrong here, by {away:.1%} of the largest value; choose 'auto'"
    return None
