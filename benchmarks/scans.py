"""The recurrences of DiS and Diffusion-RWKV on the CPU: our fused loops against the usual forms, two threads,
one run.

    python -m benchmarks.scans [--quick]

Selective scan, B = 4, D = 768, N = 16, L = 1,024 (without ``--quick`` 256 and 4,096 beside it):
``selective_scan_speedup`` against the usual reference (the full exp(δA) and δBu, then a loop),
``selective_scan_backward_speedup`` forward and backward against the same with ``unbind``,
``selective_scan_vs_lean`` against a lean torch loop, ``selective_scan_vs_torch_exp`` our whole forward over
``torch.exp`` of B·D·L·N numbers. Bidirectional WKV, B = 4, C = 384, T = 1,024: ``wkv_speedup`` and
``wkv_backward_speedup`` against the two-scan torch loop. ``scan_memory_ratio``: growth of the peak memory in
forward and backward over inputs and outputs. Errors are against float64, relative to the largest value. Every
form runs in a process of its own, so none sees what another did to the memory allocator.
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.recurrences.scan import scan_reference, selective_scan
from backbones.recurrences.wkv import bi_wkv, wkv_reference
from benchmarks.common import Side, finish, parser_of, peak_mb, serve, table, take_turns

BATCH, CHANNELS, STATES, WIDTH = 4, 768, 16, 384


def scan_inputs(length: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(length)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    long = (BATCH, CHANNELS, length)
    a = -torch.arange(1, STATES + 1, dtype=torch.float32).repeat(CHANNELS, 1)
    return [
        r(*long),
        r(*long) - 4,
        a,
        r(BATCH, STATES, length),
        r(BATCH, STATES, length),
        torch.ones(CHANNELS),
        r(*long),
        0.1 * r(CHANNELS),
    ]


def usual_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    bias: Tensor,
    *,
    unbind: bool = False,
) -> Tensor:
    """The form that other libraries fall back to: two tensors of (B, D, L, N), then a loop over their
    slices."""
    step = F.softplus(delta + bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", step, A))
    gain = torch.einsum("bdl,bnl,bdl->bdln", step, B, u)
    state, made = torch.zeros(*u.shape[:2], A.shape[1]), []
    rows = (
        zip(decay.unbind(2), gain.unbind(2), C.unbind(2))
        if unbind
        else ((decay[:, :, i], gain[:, :, i], C[:, :, i]) for i in range(u.shape[2]))
    )
    for d, g, c in rows:
        state = d * state + g
        made.append(torch.einsum("bdn,bn->bd", state, c))
    return (torch.stack(made, 2) + u * D[:, None]) * F.silu(z)


def wkv_inputs(length: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(length)
    channel = torch.arange(WIDTH) / (WIDTH - 1)
    first = torch.log(torch.tensor(0.3)) + 0.5 * ((torch.arange(WIDTH) + 1) % 3 - 1)
    return [
        (-5 + 8 * channel) / length,
        first / length,
        torch.randn(BATCH, length, WIDTH, generator=g),
        torch.randn(BATCH, length, WIDTH, generator=g),
    ]


def ours_scan(*x: Tensor) -> Tensor:
    out = selective_scan(*x, form="fused")  # type: ignore[misc]
    assert isinstance(out, Tensor)
    return out


Form = Callable[..., Any]
USUAL, LEAN, OURS, EXP = "usual reference", "lean torch loop", "ours", "torch.exp of B·D·L·N numbers"
CHUNKED = "ours in chunks (the form of GPUs)"
# of each recurrence: the form to time forward, and with gradients
FORMS: dict[str, dict[str, tuple[Form, Form]]] = {
    "scan": {
        USUAL: (usual_scan, lambda *x: usual_scan(*x, unbind=True)),
        LEAN: (lambda *x: scan_reference(*x, True)[0],) * 2,
        OURS: (ours_scan, ours_scan),
        CHUNKED: (lambda *x: selective_scan(*x, form="chunked"),) * 2,
        EXP: (lambda *x: torch.exp(x[0]), lambda *x: torch.exp(x[0])),
    },
    "wkv": {
        USUAL: (wkv_reference, wkv_reference),
        OURS: (lambda *x: bi_wkv(*x, form="fused"),) * 2,
        CHUNKED: (lambda *x: bi_wkv(*x, form="chunked"),) * 2,
    },
}
TITLES = {"scan": "Selective scan, L", "wkv": "Bidirectional WKV (two-scan torch loop as reference), T"}


def inputs_of(op: str, form: str, length: int) -> list[Tensor]:
    if form == EXP:
        return [-torch.rand(BATCH, CHANNELS, length, STATES)]
    return scan_inputs(length) if op == "scan" else wkv_inputs(length)


def job_of(form: str, text: str) -> Callable[[], Any]:
    """``text``: recurrence, length, and whether with gradients."""
    op, length, what = text.split()
    forward, both = FORMS[op][form]
    inputs = inputs_of(op, form, int(length))
    return without(forward, inputs) if what == "forward" else trained(both, inputs)


def without(fn: Form, inputs: list[Tensor]) -> Callable[[], Any]:
    """A function without gradients."""

    def run() -> Any:
        with torch.no_grad():
            return fn(*inputs)

    return run


def trained(fn: Form, inputs: list[Tensor]) -> Callable[[], Any]:
    """Forward and backward of a function to all inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]

    def run() -> Any:
        return torch.autograd.grad(fn(*leaves).sum(), leaves)

    return run


def error(got: Any, want: Any) -> float:
    pairs = zip(got, want) if isinstance(got, tuple | list) else [(got, want)]
    return max(float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs)


def compare(op: str, length: int, sides: dict[str, Side], rounds: int) -> dict[str, float]:
    """Medians of all forms, printed; those with gradients under ``NAME both``."""
    forward = take_turns(
        {k: v for k, v in sides.items() if k in FORMS[op]}, f"{op} {length} forward", rounds=rounds
    )
    table(f"{TITLES[op]} = {length}: forward", forward)
    timed = {k: sides[k] for k in (USUAL, OURS, CHUNKED)}
    both = take_turns(timed, f"{op} {length} both", rounds=max(2, rounds - 2))
    table(f"{TITLES[op]} = {length}: forward + backward", both)
    return {**forward, **{f"{k} both": v for k, v in both.items()}}


def print_errors(op: str, length: int) -> None:
    """Of ours, against the plain form in float64."""
    inputs, ours = inputs_of(op, OURS, length), FORMS[op][OURS][0]
    exact, plain = [x.double() for x in inputs], FORMS[op][LEAN if op == "scan" else USUAL][0]
    print(f"  error of ours {error(without(ours, inputs)(), without(plain, exact)()):.1e}")
    print(f"  error of its gradients {error(trained(ours, inputs)(), trained(plain, exact)()):.1e}")


def memory() -> float:
    """In a process of its own: the growth of the peak in forward and backward at L = 1,024, over the bytes of
    inputs and output."""
    trained(ours_scan, scan_inputs(64))()  # compiled and loaded
    before = peak_mb()
    inputs = scan_inputs(1024)
    trained(ours_scan, inputs)()
    size = sum(x.numel() for x in [*inputs, inputs[0]]) * 4 / 2**20
    copies = sum(x.numel() for x in inputs) * 4 / 2**20  # the leaves are clones of the inputs
    return (peak_mb() - before - copies) / size


def main() -> None:
    parser = parser_of(__doc__ or "")
    parser.add_argument(
        "--memory", action="store_true", help="only the memory ratio, for a process of its own"
    )
    parser.add_argument("--side", help="answer as one form, for a process of its own")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        return print(memory())
    if options.side:
        return serve(lambda job: job_of(options.side, job))
    sides = {name: Side("benchmarks.scans", name) for name in FORMS["scan"]}
    rounds, found = 4 if options.quick else 9, {}
    for op in FORMS:
        found[op] = compare(op, 1024, sides, rounds)
        print_errors(op, 1024)
    if not options.quick:
        for length in (256, 4096):
            for op in FORMS:
                compare(op, length, sides, 4)
    for side in sides.values():
        side.close()
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.scans", "--memory", "--threads", str(options.threads)],
        capture_output=True,
        text=True,
        check=True,
    )
    ratio = float(child.stdout.strip().splitlines()[-1])
    print(f"\nPeak memory of forward + backward over inputs and output, L = 1024: {ratio:.2f}")
    scan, wkv = found["scan"], found["wkv"]
    finish(
        {
            "selective_scan_speedup": scan[USUAL] / scan[OURS],
            "selective_scan_backward_speedup": scan[f"{USUAL} both"] / scan[f"{OURS} both"],
            "selective_scan_vs_lean": scan[LEAN] / scan[OURS],
            "selective_scan_vs_torch_exp": scan[OURS] / scan[EXP],
            "wkv_speedup": wkv[USUAL] / wkv[OURS],
            "wkv_backward_speedup": wkv[f"{USUAL} both"] / wkv[f"{OURS} both"],
            "scan_memory_ratio": ratio,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
