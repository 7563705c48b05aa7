"""Fifty steps of guided sampling: ours against the usual loop (diffusers' DiT, DDIM scheduler, doubled
batch), two threads.

    python -m benchmarks.sample [--quick]

192 wide, 6 deep, 49 tokens, batch 16, the same weights on both sides. Every side is a process of its own and
they take turns. Keys: ``vs_fp32`` and ``vs_bf16`` their time over ours at our default precision;
``vs_bf16_kept`` the same with glibc told to keep freed memory in their process (ours runs as it comes);
``vs_best_kept``: theirs in its faster dtype on this host over ours, both told so;
``relative_error`` of our final picture against ours in fp32; ``overhead_share``: time of our loop outside the
network; ``memory``: peak ours over theirs (bf16), in MB of the process.
"""

import sys
import time
from collections.abc import Callable

import torch

from backbones import Cond, DiT, NoiseSource
from backbones.host import instructions, model_name
from backbones.originals.diffusers import dit_to_diffusers
from benchmarks.common import THREADS, Side, arguments, finish, serve, table, take_turns
from guidance import CFG, Guided
from samplers import Denoiser, VPPath, build
from samplers.heads import parameterization as parameterizations
from studio.runtime.devices import pick_device, pick_dtype

BATCH, STEPS, SCALE = 16, 50, 2.0


def network() -> DiT:
    torch.manual_seed(0)
    net = DiT(
        input_size=28,
        in_channels=1,
        patch_size=4,
        hidden_size=192,
        depth=6,
        num_heads=3,
        num_classes=10,
        frequency_shift=1,
        mlp_norm_eps=1e-5,
    )
    # adaLN-Zero would make every block an identity; give the gates something to do
    for p in net.parameters():
        if p.ndim > 1 and not bool(p.any()):
            torch.nn.init.normal_(p, std=0.02)
    return net.eval().requires_grad_(False)


def ours(net: DiT, dtype: str) -> Callable[[], torch.Tensor]:
    device = pick_device("cpu")
    denoiser = (
        Denoiser(net, VPPath(), parameterizations.noise(), dtype=pick_dtype(dtype, device)).eval().lowered()
    )
    labels, seeds = torch.arange(BATCH) % 10, range(BATCH)

    def run() -> torch.Tensor:
        noise = NoiseSource(seeds)
        x = noise.normal((1, 28, 28), stream="prior")
        return build("ddim", spacing="leading").sample(
            Guided(denoiser, [CFG(SCALE)]), x, Cond(label=labels), noise, num_steps=STEPS
        )

    return run


def theirs(net: DiT, bf16: bool) -> Callable[[], torch.Tensor]:
    from diffusers import DDIMScheduler

    model = dit_to_diffusers(net).eval().requires_grad_(False)
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="linear", clip_sample=False, timestep_spacing="leading"
    )
    labels = torch.cat([torch.arange(BATCH) % 10, torch.full((BATCH,), 10)])
    start = NoiseSource(range(BATCH)).normal((1, 28, 28), stream="prior")

    @torch.no_grad()
    def run() -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        x = start
        for t in scheduler.timesteps:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                out = model(
                    torch.cat([x, x]), timestep=t.expand(2 * BATCH), class_labels=labels
                ).sample.float()
            cond, uncond = out.chunk(2)
            x = scheduler.step(uncond + SCALE * (cond - uncond), t, x).prev_sample
        return x

    return run


def overhead(net: DiT, rounds: int) -> float:
    """Share of our sampling time that is not spent inside the network, the median of several runs."""
    inside = [0.0]
    forward = DiT.forward

    def timed(*args: object, **kwargs: object) -> torch.Tensor:
        start = time.perf_counter()
        out = forward(*args, **kwargs)  # type: ignore[arg-type]
        inside[0] += time.perf_counter() - start
        return out

    run, shares = ours(net, "auto"), []
    DiT.forward = timed  # type: ignore[method-assign]
    for _ in range(rounds):
        inside[0], start = 0.0, time.perf_counter()
        run()
        shares.append(1 - inside[0] / (time.perf_counter() - start))
    DiT.forward = forward  # type: ignore[method-assign]
    return sorted(shares)[len(shares) // 2]


SIDES = {
    "diffusers fp32": lambda net: theirs(net, False),
    "diffusers bf16 autocast": lambda net: theirs(net, True),
    "diffusers bf16, freed memory kept": lambda net: theirs(net, True),
    "diffusers fp32, freed memory kept": lambda net: theirs(net, False),
    "ours, default precision": lambda net: ours(net, "auto"),
    "ours, freed memory kept": lambda net: ours(net, "auto"),
}


def side(name: str) -> None:
    import diffusers  # noqa: F401  every side loads the same libraries

    from studio.runtime.devices import keep_freed_memory

    if "kept" in name:
        keep_freed_memory()
    serve(lambda job: SIDES[name](network()))


def main() -> None:
    if "--side" in sys.argv:
        return side(sys.argv[-1])
    args = arguments(__doc__ or "")
    print(f"{model_name()} ({instructions()}), {args.threads} threads")
    sides = {name: Side("benchmarks.sample", name) for name in SIDES}
    net = network()
    exact, low, reference = ours(net, "fp32")(), ours(net, "auto")(), theirs(net, False)()
    medians = take_turns(sides, "sample", rounds=2 if args.quick else 9)
    table(f"{STEPS} guided DDIM steps, batch {BATCH}, 49 tokens, {THREADS} threads", medians)
    print(
        "  ours fp32 against diffusers fp32, same weights and noise: relative difference "
        f"{float((exact - reference).norm() / reference.norm()):.1e}"
    )
    peaks = {name: run("peak") for name, run in sides.items()}
    table("peak memory", peaks, unit="MB", scale=1.0)
    for run in sides.values():
        run.close()
    default = medians["ours, default precision"]
    finish(
        {
            "vs_fp32": medians["diffusers fp32"] / default,
            "vs_bf16": medians["diffusers bf16 autocast"] / default,
            "vs_bf16_kept": medians["diffusers bf16, freed memory kept"] / default,
            "vs_best_kept": min(v for k, v in medians.items() if k.startswith("diff") and "kept" in k)
            / medians["ours, freed memory kept"],
            "relative_error": float((low - exact).norm() / exact.norm()),
            "overhead_share": overhead(net, 2 if args.quick else 7),
            "memory": peaks["ours, default precision"] / peaks["diffusers bf16 autocast"],
        }
    )


if __name__ == "__main__":
    main()
