"""The recurrences of DiS and Diffusion-RWKV on the CPU: our fused loops against the usual forms, two threads, one run.

    python -m benchmarks.scans [--quick]

Selective scan, B = 4, D = 768, N = 16, L = 1,024 (without ``--quick`` 256 and 4,096 beside it): ``selective_scan_speedup`` against the usual reference (the full exp(δA) and
δBu, then a loop), ``selective_scan_backward_speedup`` forward and backward against the same with ``unbind``, ``selective_scan_vs_lean`` against a lean torch loop,
``selective_scan_vs_torch_exp`` our whole forward over ``torch.exp`` of B·D·L·N numbers. Bidirectional WKV, B = 4, C = 384, T = 1,024: ``wkv_speedup`` and
``wkv_backward_speedup`` against the two-scan torch loop. ``scan_memory_ratio``: growth of the peak memory in forward and backward over inputs and outputs. Errors
are against float64, relative to the largest value.
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.scan import scan_reference, selective_scan
from backbones.wkv import bi_wkv, wkv_reference
from benchmarks.common import finish, interleave, parser_of, peak_mb, table

BATCH, CHANNELS, STATES, WIDTH = 4, 768, 16, 384


def scan_inputs(length: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(length)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    long = (BATCH, CHANNELS, length)
    a = -torch.arange(1, STATES + 1, dtype=torch.float32).repeat(CHANNELS, 1)
    return [r(*long), r(*long) - 4, a, r(BATCH, STATES, length), r(BATCH, STATES, length), torch.ones(CHANNELS), r(*long), 0.1 * r(CHANNELS)]


def usual_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor, *, unbind: bool = False) -> Tensor:
    """The form that other libraries fall back to: two tensors of (B, D, L, N), then a loop over their slices."""
    step = F.softplus(delta + bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", step, A))
    gain = torch.einsum("bdl,bnl,bdl->bdln", step, B, u)
    state, made = torch.zeros(*u.shape[:2], A.shape[1]), []
    rows = zip(decay.unbind(2), gain.unbind(2), C.unbind(2)) if unbind else ((decay[:, :, i], gain[:, :, i], C[:, :, i]) for i in range(u.shape[2]))
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


def trained(fn: Callable[..., Any], inputs: list[Tensor]) -> Callable[[], Any]:
    """Forward and backward of a function to all inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]

    def run() -> Any:
        return torch.autograd.grad(fn(*leaves).sum(), leaves)

    return run


def error(got: Any, want: Any) -> float:
    pairs = zip(got, want) if isinstance(got, tuple | list) else [(got, want)]
    return max(float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs)


def ours_scan(*x: Tensor) -> Tensor:
    out = selective_scan(*x, form="fused")  # type: ignore[misc]
    assert isinstance(out, Tensor)
    return out


def scans(length: int, rounds: int, *, errors: bool) -> dict[str, float]:
    """Medians of all sides at one length, printed."""
    inputs = scan_inputs(length)
    everything = -torch.rand(BATCH, CHANNELS, length, STATES)
    with torch.no_grad():
        times = interleave(
            {
                "usual reference": lambda: usual_scan(*inputs), "lean torch loop": lambda: scan_reference(*inputs, True), "ours": lambda: ours_scan(*inputs),
                "torch.exp of B·D·L·N numbers": lambda: torch.exp(everything),
            },
            rounds=rounds, warmup=1,
        )  # fmt: skip
    table(f"Selective scan, L = {length}: forward", times)
    both = interleave(
        {"usual reference, unbind": trained(lambda *x: usual_scan(*x, unbind=True), inputs), "ours": trained(ours_scan, inputs)},
        rounds=max(1, rounds - 2),
        warmup=1,
    )
    table(f"Selective scan, L = {length}: forward + backward", both)
    if errors:
        exact = [x.double() for x in inputs]
        with torch.no_grad():
            print(f"  error of ours {error(ours_scan(*inputs), scan_reference(*exact, True)[0]):.1e}")
        print(f"  error of its gradients {error(trained(ours_scan, inputs)(), trained(lambda *x: scan_reference(*x, True)[0], exact)()):.1e}")
    return {**times, "both": both["usual reference, unbind"], "ours both": both["ours"]}


def wkvs(length: int, rounds: int, *, errors: bool) -> dict[str, float]:
    inputs = wkv_inputs(length)
    with torch.no_grad():
        times = interleave(
            {"two-scan torch loop": lambda: wkv_reference(*inputs), "ours": lambda: bi_wkv(*inputs, form="fused")}, rounds=2 * rounds, warmup=2
        )
    table(f"Bidirectional WKV, T = {length}: forward", times)
    both = interleave(
        {"two-scan torch loop": trained(wkv_reference, inputs), "ours": trained(lambda *x: bi_wkv(*x, form="fused"), inputs)},
        rounds=max(2, rounds - 1),
        warmup=1,
    )
    table(f"Bidirectional WKV, T = {length}: forward + backward", both)
    if errors:
        exact = [x.double() for x in inputs]
        with torch.no_grad():
            print(f"  error of ours {error(bi_wkv(*inputs, form='fused'), wkv_reference(*exact)):.1e}")
        print(f"  error of its gradients {error(trained(lambda *x: bi_wkv(*x, form='fused'), inputs)(), trained(wkv_reference, exact)()):.1e}")
    return {**times, "both": both["two-scan torch loop"], "ours both": both["ours"]}


def memory() -> float:
    """In a process of its own: the growth of the peak in forward and backward at L = 1,024, over the bytes of inputs and output."""
    trained(ours_scan, scan_inputs(64))()  # compiled and loaded
    before = peak_mb()
    inputs = scan_inputs(1024)
    trained(ours_scan, inputs)()
    size = sum(x.numel() for x in [*inputs, inputs[0]]) * 4 / 2**20
    copies = sum(x.numel() for x in inputs) * 4 / 2**20  # the leaves are clones of the inputs
    return (peak_mb() - before - copies) / size


def main() -> None:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--memory", action="store_true", help=argparse_help)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        return print(memory())
    rounds = 3 if options.quick else 9
    main_scan, main_wkv = scans(1024, rounds, errors=True), wkvs(1024, rounds, errors=True)
    if not options.quick:
        for length in (256, 4096):
            scans(length, 3, errors=False)
            wkvs(length, 3, errors=False)
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.scans", "--memory", "--threads", str(options.threads)], capture_output=True, text=True, check=True
    )
    ratio = float(child.stdout.strip().splitlines()[-1])
    print(f"\nPeak memory of forward + backward over inputs and output, L = 1024: {ratio:.2f}")
    finish(
        {
            "selective_scan_speedup": main_scan["usual reference"] / main_scan["ours"], "selective_scan_backward_speedup": main_scan["both"] / main_scan["ours both"],
            "selective_scan_vs_lean": main_scan["lean torch loop"] / main_scan["ours"],
            "selective_scan_vs_torch_exp": main_scan["ours"] / main_scan["torch.exp of B·D·L·N numbers"],
            "wkv_speedup": main_wkv["two-scan torch loop"] / main_wkv["ours"], "wkv_backward_speedup": main_wkv["both"] / main_wkv["ours both"], "scan_memory_ratio": ratio,
        }
    )  # fmt: skip


argparse_help = "only the memory ratio, for a process of its own"

if __name__ == "__main__":
    sys.exit(main())
