"""What `benchmarks.gpu_report` times, section by section: what is run at which size, ours and others'.

A side is made, warmed up, timed by CUDA events and given up before the next one, so that its peak of memory
is its own. A side that cannot run is a row that says why.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import peak_mb

Row = dict[str, Any]
Run = Callable[[], Any]
WARM, LEAST, MOST = 3, 5, 50  # calls before, and that are timed


def timed(run: Run, device: str, seconds: float) -> float:
    """Median milliseconds of a call: of as many as fit into ``seconds``, `LEAST` at least."""
    for _ in range(WARM):
        run()
    took: list[float] = []
    begun = time.perf_counter()
    while len(took) < LEAST or (len(took) < MOST and time.perf_counter() - begun < seconds):
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            took.append(start.elapsed_time(end))
        else:
            start_at = time.perf_counter()
            run()
            took.append((time.perf_counter() - start_at) * 1000)
    return statistics.median(took)


def rows(what: str, sides: Mapping[str, Callable[[], Run]], device: str, seconds: float) -> Iterator[Row]:
    """One row of each side: milliseconds and peak memory, or why there are none."""
    for name, make in sides.items():
        row: Row = {"what": what, "side": name}
        try:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            row |= {"ms": timed(make(), device, seconds)}
            row |= {"peak_mib": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak_mb()}
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), "")
            row |= {"failed": f"{type(error).__name__}: {first}"[:300]}
        yield row
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def train(device: str, quick: bool) -> Iterator[Row]:
    """A training step of a DiT: the trainer's own against the usual loop over diffusers'."""
    from benchmarks.train_step import ours, theirs

    small = {"width": 32, "depth": 2, "heads": 2, "picture": 8, "patch": 4, "batch": 4}
    middle = {"width": 384, "depth": 12, "heads": 6, "picture": 32, "patch": 2, "batch": 128}
    large = {"width": 768, "depth": 12, "heads": 12, "picture": 32, "patch": 2, "batch": 64}
    seconds = 0.1 if quick else 3.0

    def named(size: dict[str, int]) -> str:
        tokens = (size["picture"] // size["patch"]) ** 2
        return f"DiT {size['width']} wide, {size['depth']} deep, {tokens} tokens, batch {size['batch']}"

    with tempfile.TemporaryDirectory() as folder:
        for size in [small] if quick else [middle, large]:
            sides = {
                "ours, bf16": partial(ours, size, "bf16", folder, device=device),
                "diffusers, bf16 autocast": partial(theirs, size, True, device=device),
                "ours, fp32": partial(ours, size, "fp32", folder, device=device),
            }
            yield from rows(named(size), sides, device, seconds)
        if not quick:  # last, as compiling takes longest
            sides = {
                "ours, bf16, compiled": partial(ours, middle, "bf16", folder, device=device, compiled=True),
                "diffusers, bf16, compiled": partial(theirs, middle, True, device=device, compiled=True),
            }
            yield from rows(named(middle), sides, device, seconds)


def sample(device: str, quick: bool) -> Iterator[Row]:
    """Guided Euler steps of a flow: ours against the usual loop with the doubled batch, the same weights."""
    from backbones import Cond, DiT, NoiseSource
    from backbones.originals.diffusers import dit_to_diffusers
    from guidance import CFG, Guided
    from samplers import Denoiser, LinearPath, build
    from samplers.heads import parameterization as parameterizations

    width, depth, heads, side, steps = (32, 2, 2, 8, 3) if quick else (384, 12, 6, 32, 50)
    labels = torch.arange(2 if quick else 16, device=device) % 10
    batch, shape = len(labels), (4, side, side)
    torch.manual_seed(0)
    net = DiT(
        input_size=side,
        in_channels=4,
        patch_size=2,
        hidden_size=width,
        depth=depth,
        num_heads=heads,
        num_classes=10,
        frequency_shift=1,
        mlp_norm_eps=1e-5,
    )
    net = net.to(device).eval().requires_grad_(False)

    def ours(compiled: bool) -> Run:
        asked: Any = torch.compile(net) if compiled else net
        denoiser = Denoiser(asked, LinearPath(), parameterizations.velocity(), dtype=torch.bfloat16).eval()
        denoiser = denoiser if compiled else denoiser.lowered()

        def run() -> Tensor:
            noise = NoiseSource(range(batch), device=device)
            x = noise.normal(shape, stream="prior")
            guided = Guided(denoiser, [CFG(2.0)])
            return build("euler").sample(guided, x, Cond(label=labels), noise, num_steps=steps)

        return run

    def theirs(compiled: bool) -> Run:
        plain = dit_to_diffusers(net).to(device).eval().requires_grad_(False)
        model: Any = torch.compile(plain) if compiled else plain
        both = torch.cat([labels, torch.full_like(labels, 10)])
        start = torch.randn(batch, *shape, device=device)

        @torch.no_grad()
        def run() -> Tensor:
            x = start
            for i in range(steps):
                t = torch.full((2 * batch,), 1000 * i / steps, device=device)
                with torch.autocast(device, dtype=torch.bfloat16):
                    out = model(torch.cat([x, x]), timestep=t, class_labels=both).sample.float()
                cond, uncond = out.chunk(2)
                x = x + (uncond + 2.0 * (cond - uncond)) / steps
            return x

        return run

    sides = {"ours, bf16": partial(ours, False), "diffusers, bf16 autocast": partial(theirs, False)}
    if not quick:
        sides |= {
            "ours, bf16, compiled": partial(ours, True),
            "diffusers, bf16, compiled": partial(theirs, True),
        }
    what = f"{steps} guided Euler steps, DiT {width} wide, {depth} deep, {side**2 // 4} tokens, batch {batch}"
    yield from rows(what, sides, device, 0.1 if quick else 4)


def both(fn: Callable[..., Tensor], inputs: list[Tensor]) -> Run:
    """Forward and backward."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    return lambda: torch.autograd.grad(fn(*leaves).sum(), leaves)


def forward(fn: Callable[..., Tensor], inputs: list[Tensor]) -> Run:
    return torch.no_grad()(lambda: fn(*inputs))


def passes(
    what: str, fns: Mapping[str, Callable[..., Tensor]], inputs: list[Tensor], device: str, seconds: float
) -> Iterator[Row]:
    for name, make in (("forward", forward), ("forward + backward", both)):
        sides = {side: partial(make, fn, inputs) for side, fn in fns.items()}
        yield from rows(f"{what}, {name}", sides, device, seconds)


def attention(device: str, quick: bool) -> Iterator[Row]:
    """``attend`` with `auto` and every backend by itself, SDPA's flash kernel and xformers."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from backbones import RunContext, attend
    from backbones.attention import BACKENDS

    def ours(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, ctx=RunContext(attention=name))

    def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        only: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.FLASH_ATTENTION)
        with only:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def xformers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        import xformers.ops as ops

        return ops.memory_efficient_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    fns: dict[str, Callable[..., Tensor]] = {"ours, auto": partial(ours, "auto"), "SDPA, flash alone": flash}
    fns |= {"xformers": xformers, **{f"ours, {name}": partial(ours, name) for name in BACKENDS}}
    if not quick:
        fns["SDPA, compiled"] = torch.compile(torch.nn.functional.scaled_dot_product_attention)
    for tokens in [16] if quick else [256, 1024, 4096]:
        batch, heads, width = (1, 2, 8) if quick else (65536 // tokens // 4, 12, 64)
        g = torch.Generator().manual_seed(0)
        qkv = [
            torch.randn(batch, heads, tokens, width, generator=g).to(device, torch.bfloat16) for _ in range(3)
        ]
        what = f"{batch} × {heads} × {tokens} tokens × {width}, bf16"
        yield from passes(what, fns, qkv, device, 0.02 if quick else 0.3)


def scans(device: str, quick: bool) -> Iterator[Row]:
    """The recurrences by form, and whole networks of one width beside each other."""
    from backbones import Cond
    from backbones import build as backbone
    from backbones.recurrences.scan import selective_scan
    from backbones.recurrences.wkv import bi_wkv

    g = torch.Generator().manual_seed(0)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(device)

    batch, width, states = (1, 16, 4) if quick else (16, 768, 16)
    for length in [20] if quick else [256, 1024]:
        # the loop over steps is timed once, where it does not take all the time there is
        forms = ["chunked", "mamba", *(["reference"] if length < 1000 else [])]
        a = -torch.arange(1, states + 1.0, device=device).repeat(2 * width, 1)
        long, short = (batch, 2 * width, length), (batch, states, length)
        inputs = [r(*long), r(*long) - 4, a, r(*short), r(*short)]
        fns: dict[str, Any] = {f: partial(selective_scan, form=f) for f in forms}
        what = f"selective scan {batch} × {2 * width} × {length} steps × {states} states"
        yield from passes(what, fns, inputs, device, 0.02 if quick else 0.5)
        inputs = [r(width) / length, r(width) / length, r(batch, length, width), r(batch, length, width)]
        fns = {f: partial(bi_wkv, form=f) for f in forms if f != "mamba"}
        what = f"bidirectional WKV {batch} × {length} × {width}"
        yield from passes(what, fns, inputs, device, 0.02 if quick else 0.5)

    def network(name: str, options: dict[str, int]) -> Run:
        net = backbone(name, input_size=side, in_channels=4, num_classes=10, **options).to(device)
        x, t, cond = r(batch, 4, side, side), torch.rand(batch, device=device), Cond(label=labels)

        def run() -> None:
            with torch.autocast(device, dtype=torch.bfloat16):
                out = net(x, t, cond)
            out.float().square().mean().backward()
            net.zero_grad()

        return run

    side, labels = (8, torch.zeros(1, dtype=torch.long)) if quick else (32, torch.arange(16) % 10)
    labels, wide = labels.to(device), 32 if quick else 384
    depths = {"dit": 2 if quick else 12, "dis": 2 if quick else 24, "rwkv": 3 if quick else 13}
    extra = {"dit": {"num_heads": wide // 16 if quick else 6, "patch_size": 2}}
    sides = {
        n: partial(network, n, {"hidden_size": wide, "depth": d, **extra.get(n, {})})
        for n, d in depths.items()
    }
    what = f"networks {wide} wide, {side**2 // 4} tokens, batch {batch}, forward + backward"
    yield from rows(what, sides, device, 0.02 if quick else 1)


JOBS: dict[str, Callable[[str, bool], Iterator[Row]]] = {
    "train": train,
    "sample": sample,
    "attention": attention,
    "scans": scans,
}
