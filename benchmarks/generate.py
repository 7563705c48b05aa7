"""`studio generate` against the usual script (batch, doubled batch for guidance, save), the same network in
the faster of fp32 and bf16 autocast, files on disk; two cores.

    python -m benchmarks.generate [--quick]

``fashion-dit``, 20 guided evaluations a sample. Keys: ``generate_vs_loop`` our samples per second (default
settings, model loading and the start of worker processes included) over the loop's;
``generate_planned_vs_loop``: the same by a plan of error .05 (`studio compress`, whose search is not counted:
a plan is searched once); ``io_share``: time in
which the network waited for files, of one process's time; ``memory_growth``: peak memory after all samples
over that after the first thousand; ``two_by_one``: the default, a process of one thread for each core, over
one process of two threads; ``encode_gain``: pictures of 256 × 256 encoded a second by a thread a core over
those by one.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

import studio
from backbones.host import instructions, model_name
from benchmarks.common import arguments, finish, peak_mb, table
from studio.compression import compress
from studio.generation.encoding import encoded
from studio.generation.engine import Writer, compute
from studio.generation.pictures import Pictures
from studio.generation.plan import make_plan
from studio.generation.prepare import parse_batch
from studio.runtime.devices import cores
from studio.tasks import build_task

STEPS, SCALE, BATCH = 20, 2.0, 64
PLANNED = "the same by a plan"
DEFAULT = "studio generate (a process of one thread for each core)"


def usual_loop(net: torch.nn.Module, num: int, out: Path, *, low: bool = False) -> float:
    """Seconds of the script that everybody writes."""
    from PIL import Image

    from backbones import Cond

    start = time.perf_counter()
    times = torch.linspace(0, 1, STEPS + 1)
    out.mkdir()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        for first in range(0, num, BATCH):
            n = min(BATCH, num - first)
            x = torch.randn(n, 1, 28, 28)
            labels = torch.cat([torch.arange(first, first + n) % 10, torch.full((n,), 10)])
            for t, s in zip(times[:-1], times[1:]):
                out_both = net(torch.cat([x, x]), t.expand(2 * n), Cond(label=labels)).float()
                velocity, null = out_both.chunk(2)
                x = x + (s - t) * (null + SCALE * (velocity - null))
            for i, picture in enumerate(((x + 1) * 127.5).round().clamp(0, 255).byte()):
                Image.fromarray(picture[0].numpy()).save(out / f"{first + i:06d}.png")
    return time.perf_counter() - start


def ours(num: int, out: Path, **options: object) -> float:
    """Seconds of one call, everything included."""
    start = time.perf_counter()
    result = studio.generate(
        "fashion-dit", out, num=num, guidance=f"cfg={SCALE}", num_steps=STEPS, quiet=True, **options
    )  # type: ignore[arg-type]
    assert result.written == num
    shutil.rmtree(out)
    return time.perf_counter() - start


def waiting(num: int, out: Path) -> tuple[float, float]:
    """Shares of one process's time: the network held up by files, and the writing thread's own work."""
    model = studio.load("fashion-dit")
    plan = make_plan(
        model, num=num, guidance=f"cfg={SCALE}", num_steps=STEPS, batch=parse_batch("auto", model)
    )
    busy = [0.0]

    class Timed(Writer):
        def _run(self) -> None:
            super()._run()
            busy[0] = time.thread_time()

    start = time.perf_counter()
    with Timed(Pictures(out, plan), plan) as writer:
        for index, values in compute(plan, range(num)):
            writer.put(index, values)
        end = time.perf_counter()
    total = time.perf_counter() - start
    return (writer.waited + start + total - end) / total, busy[0] / total


def growth(num: int, out: Path) -> tuple[float, float]:
    """Peak MB after the first thousand samples and at the end."""
    marks: list[float] = []

    def look(done: int, total: int) -> None:
        if done == 1000:
            marks.append(peak_mb())

    studio.generate(
        "fashion-dit", out, num=num, num_steps=1, guidance=None, workers=1, quiet=True, on_progress=look
    )
    return marks[0], peak_mb()


def encoding(num: int) -> tuple[float, float]:
    """Pictures a second by one thread and by one a core: smooth shapes with a little noise, as networks make
    them."""
    draws = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.rand(num, 3, 8, 8, generator=draws), size=256, mode="bicubic"
    )
    values = ((smooth + 0.02 * torch.randn(smooth.shape, generator=draws)).clamp(0, 1) * 255).byte()
    recipes, task = (
        [{"model": "m", "seed": i, "sampler": "ab2", "num_steps": 20} for i in range(num)],
        build_task("image"),
    )
    rates = []
    for threads in (1, cores()):
        start = time.perf_counter()
        encoded(task, values, recipes, threads)
        rates.append(num / (time.perf_counter() - start))
    return rates[0], rates[1]


def main() -> None:
    args = arguments(__doc__ or "")
    print(f"{model_name()} ({instructions()}), {args.threads} threads")
    num, one, loop = (384, 256, 96) if args.quick else (2000, 1000, 500)
    net = studio.load("fashion-dit", dtype="fp32").denoiser.net
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["XDG_DATA_HOME"] = str(root / "data")  # where plans of a bundled model lie
        compress(
            studio.load("fashion-dit"),
            "error=0.05",
            name="bench",
            num_steps=STEPS,
            guidance=f"cfg={SCALE}",
        )
        before, after = growth(3000 if args.quick else 10000, root / "memory")
        rates: dict[str, list[float]] = {}
        for i in range(1 if args.quick else 3):
            for low in (False, True):
                name = f"the usual loop, {'bf16' if low else 'fp32'}"
                rates.setdefault(name, []).append(
                    loop / usual_loop(net, loop, root / f"loop-{i}-{low}", low=low)
                )
            rates.setdefault(DEFAULT, []).append(num / ours(num, root / "default"))
            rates.setdefault(PLANNED, []).append(num / ours(num, root / "planned", plan="bench"))
            rates.setdefault("one process, two threads", []).append(
                one / ours(one, root / "one", workers=1, threads=2)
            )
        medians = {k: sorted(v)[len(v) // 2] for k, v in rates.items()}
        share, work = waiting(num // 3, root / "waiting")
    alone, together = encoding(32 if args.quick else 128)
    table(
        f"fashion-dit, {STEPS} guided steps, files on disk, start included",
        medians,
        unit="samples/s",
        scale=1.0,
    )
    table(
        "peak memory of one process",
        {"after 1,000 samples": before, "at the end": after},
        unit="MB",
        scale=1.0,
    )
    table(
        "PNGs of 256 × 256",
        {"one thread": alone, f"{cores()} threads": together},
        unit="pictures/s",
        scale=1.0,
    )
    best = max(v for k, v in medians.items() if k.startswith("the usual"))
    print(f"  the writing thread worked {100 * work:.1f} % of the time")
    finish(
        {
            "generate_vs_loop": medians[DEFAULT] / best,
            "generate_planned_vs_loop": medians[PLANNED] / best,
            "io_share": share,
            "memory_growth": after / before,
            "two_by_one": medians[DEFAULT] / medians["one process, two threads"],
            "encode_gain": together / alone,
        }
    )


if __name__ == "__main__":
    main()
