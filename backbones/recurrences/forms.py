"""Which form of a recurrence runs: ``reference`` (torch alone, step by step: float64, double backward,
``vmap``, any device), ``chunked`` (the same with chunks of steps side by side, for devices where a short step
costs as much as a long one), ``fused`` (compiled loops on the CPU), or ``mamba`` (mamba-ssm's CUDA kernel,
for the scan only).

``auto`` takes what is fast there, ``double`` what is fast there and can be differentiated twice.
"""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from backbones.types import RunContext

# read where torch.compile traces, which cannot look for packages; `torch.compiler`'s own marks would load
# torch._dynamo, half of the time that an import takes
NUMBA, MAMBA = (find_spec(package) is not None for package in ("numba", "mamba_ssm"))
FORMS = ("auto", "double", "reference", "fused", "mamba", "chunked")
PLAIN = ("reference", "chunked")  # torch alone
_told: set[str] = set()


def supports(form: str, *tensors: Tensor) -> str:
    """Why a form cannot run on these tensors, or an empty text."""
    first = tensors[0]
    if form in PLAIN:
        return ""
    if torch._C._are_functorch_transforms_active():
        return "it cannot run under torch.func transforms"
    if form == "fused":
        if not NUMBA:
            return "it needs numba; pip install numba"
        if first.device.type != "cpu":
            return f"it runs on a CPU, not on {first.device.type}"
    elif not MAMBA or first.device.type != "cuda":
        return "it needs mamba-ssm and a CUDA device"
    if any(t.dtype == torch.float64 for t in tensors):
        return "it computes in float32, not in float64"
    return ""


def pick(form: str, kinds: tuple[str, ...], *tensors: Tensor) -> str:
    """The form to run: the asked one, or with ``auto`` and ``double`` the first of ``kinds`` that can (chunks
    not on the CPU, where they are the slower ones). Raises ``ValueError`` for a form that is not there, with
    the reason."""
    if form in ("auto", "double"):
        left_out = ("chunked",) if tensors[0].device.type in ("cpu", "meta") else ()
        able = (k for k in kinds if k not in left_out and (form == "auto" or k in PLAIN))
        return next((kind for kind in able if not supports(kind, *tensors)), "reference")
    if form not in (*kinds, "reference"):
        raise ValueError(f"got form={form!r}, expected auto, reference, {' or '.join(kinds)}")
    reason = supports(form, *tensors)
    if reason:
        raise ValueError(f"got form={form!r}, but {reason}; or choose form='auto'")
    return form


def form_of(ctx: RunContext | None) -> str:
    """What a network asks for."""
    return "double" if ctx is not None and ctx.double_backward else "auto"


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """Without autocast, on a device that knows it."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def compiled(form: str, *tensors: Tensor) -> bool:
    """While torch.compile traces: whether the recurrence is an operator of its own, opaque to the compiler (a
    loop of torch's would be unrolled)."""
    return (
        form in ("auto", "fused")
        and NUMBA
        and tensors[0].device.type == "cpu"
        and all(t.dtype != torch.float64 for t in tensors)
    )


class _Once(torch.autograd.Function):
    """Values that pass, and an error where a gradient is asked of them."""

    @staticmethod
    def forward(ctx: Any, text: str, anchor: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.text = text
        return tuple(v.view_as(v) for v in values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(ctx.text)


def once(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A backward pass in numpy and the like: torch would take its results for constants, so whoever
    differentiates them again is told the way."""
    text = (
        f"the fused {name} cannot be differentiated twice; take its plain form, form='reference', or for "
        "a whole network RunContext(double_backward=True), "
        "which asks for a plain form everywhere"
    )

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(backward)
        def run(ctx: Any, *grads: Any) -> Any:
            with torch.no_grad():
                made = backward(ctx, *grads)
            if not torch.is_grad_enabled():
                return made
            every = made if isinstance(made, tuple) else (made,)
            there = [i for i, v in enumerate(every) if v is not None]
            marked = _Once.apply(text, torch.empty(0, requires_grad=True), *(every[i] for i in there))
            return tuple(marked[there.index(i)] if i in there else None for i in range(len(every)))

        return run

    return decorate


def told(name: str, kernels: tuple[Any, ...], run: Callable[[], Any]) -> Any:
    """Run, and say once how long it took where something had to be compiled first."""
    if name in _told:
        return run()
    before = sum(sum(k.stats.cache_misses.values()) for k in kernels)
    started = time.perf_counter()
    result = run()
    if sum(sum(k.stats.cache_misses.values()) for k in kernels) > before:
        print(
            f"compiled the {name} kernel in {time.perf_counter() - started:.0f} s (once, then it is cached)",
            file=sys.stderr,
        )
    _told.add(name)
    return result
