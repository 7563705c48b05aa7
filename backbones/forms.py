"""Which form of a recurrence runs: ``reference`` (torch alone: float64, double backward, ``vmap``, any device), ``fused`` (compiled loops on the CPU), or
``mamba`` (mamba-ssm's CUDA kernel, for the scan only)."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from backbones.types import RunContext

FORMS = ("auto", "reference", "fused", "mamba")
_told: set[str] = set()


@cache
def installed(package: str) -> bool:
    return find_spec(package) is not None


def supports(form: str, *tensors: Tensor) -> str:
    """Why a form cannot run on these tensors, or an empty text."""
    first = tensors[0]
    if form == "reference":
        return ""
    if torch._C._are_functorch_transforms_active():
        return "it cannot run under torch.func transforms"
    if form == "fused":
        if not installed("numba"):
            return "it needs numba; pip install numba"
        if first.device.type != "cpu":
            return f"it runs on a CPU, not on {first.device.type}"
    elif not installed("mamba_ssm") or first.device.type != "cuda":
        return "it needs mamba-ssm and a CUDA device"
    if any(t.dtype == torch.float64 for t in tensors):
        return "it computes in float32, not in float64"
    return ""


def pick(form: str, kinds: tuple[str, ...], *tensors: Tensor) -> str:
    """The form to run: the asked one, or with ``auto`` the first of ``kinds`` that can. Raises ``ValueError`` for a form that is not there, with the reason."""
    if form == "auto":
        return next((kind for kind in kinds if not supports(kind, *tensors)), "reference")
    if form not in (*kinds, "reference"):
        raise ValueError(f"got form={form!r}, expected auto, reference, {' or '.join(kinds)}")
    reason = supports(form, *tensors)
    if reason:
        raise ValueError(f"got form={form!r}, but {reason}; or choose form='auto'")
    return form


def form_of(ctx: RunContext | None) -> str:
    """What a network asks for: the reference where a run wants to differentiate twice."""
    return "reference" if ctx is not None and ctx.double_backward else "auto"


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """Without autocast, on a device that knows it."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def told(name: str, kernels: tuple[Any, ...], run: Callable[[], Any]) -> Any:
    """Run, and say once how long it took where something had to be compiled first."""
    if name in _told:
        return run()
    before = sum(sum(k.stats.cache_misses.values()) for k in kernels)
    started = time.perf_counter()
    result = run()
    if sum(sum(k.stats.cache_misses.values()) for k in kernels) > before:
        print(f"compiled the {name} kernel in {time.perf_counter() - started:.0f} s (once, then it is cached)", file=sys.stderr)
    _told.add(name)
    return result
