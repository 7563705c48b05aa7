"""A trained DiT sampled by all that needs no training, against diffusers with the same weights: 50 guided
Euler steps on both sides, doubled batch on theirs, freed memory kept on both.

    python -m studio train fashion-plain-dit                  # once: the model, 30 minutes
    python -m benchmarks.stack [--quick] [--model FOLDER]

Their side is in its faster dtype on this host. The plan is the model's ``stack`` (`studio compress`),
searched first where it has none. ``stack_same_steps``: their time over ours; ``stack_error``: how far the
worst of 16 pictures moves from ours without a plan, as a share of how far two seeds of a class lie apart;
``their_error``: the same of their pictures, which says that both compute one thing. The table is a
waterfall: one lever more in each line.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import studio
from backbones.caching.plan import Plan
from backbones.host import instructions, model_name
from backbones.originals.diffusers import dit_to_diffusers
from benchmarks.common import THREADS, Side, finish, parser_of, serve, table
from studio.checkpoints import plans
from studio.compression import compress
from studio.compression.trial import pairs, rms
from studio.model.model import Model
from studio.runtime.devices import pick_dtype

MODEL, PLAN, STEPS, BATCH, BUDGET = "runs/fashion-plain-dit", "stack", 50, 16, 0.03
SETTINGS: dict[str, Any] = {"num_steps": STEPS, "sampler": "euler", "guidance": "cfg=1.5"}
LEVERS = ("nothing", "uncond", "uncond and blocks", "the plan")


def asked(model: Model, plan: Plan | None = None) -> Any:
    """The request for 16 pictures, pairs of one class."""
    seeds, labels = pairs(BATCH, model.classes)
    request, _ = model.request(seeds=seeds, labels=list(labels or ()), batch=BATCH, **SETTINGS)
    return replace(request, plan=plan, plan_name="" if plan is None else PLAN)


def ours(model: Model, plan: Plan | None) -> Callable[[], Tensor]:
    request = asked(model, plan)

    def run() -> Tensor:
        *_, last = model.stream(request)
        return last.step.x

    return run


def theirs(model: Model, low: bool) -> Callable[[], Tensor]:
    """diffusers' network and its flow-matching Euler scheduler, from the same noise."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    from backbones.types import NoiseSource

    net: Any = model.denoiser.net
    twin: Any = dit_to_diffusers(net)
    twin = twin.eval().requires_grad_(False)
    scheduler = FlowMatchEulerDiscreteScheduler()
    seeds, labels = pairs(BATCH, model.classes)
    both = torch.tensor([*(labels or ()), *[net.num_classes] * BATCH])
    start = NoiseSource(seeds).normal(model.info.shape, stream="prior")
    sigmas = [1 - i / STEPS for i in range(STEPS)]

    @torch.no_grad()
    def run() -> Tensor:
        scheduler.set_timesteps(sigmas=sigmas)
        x = start
        for k, t in zip(sigmas, scheduler.timesteps):
            clock = torch.full((2 * BATCH,), 1000 * (1 - k))  # ours counts from the noise
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                out = twin(torch.cat([x, x]), timestep=clock, class_labels=both).sample.float()
            cond, uncond = out.chunk(2)
            x = scheduler.step(-(uncond + 1.5 * (cond - uncond)), t, x).prev_sample
        return x

    return run


def levers(plan: Plan) -> dict[str, Plan | None]:
    """The plan, part after part."""
    return {
        LEVERS[0]: None,
        LEVERS[1]: plan.with_(trunk="", attention=()),
        LEVERS[2]: plan.with_(attention=()),
        LEVERS[3]: plan,
    }


def made(folder: str) -> tuple[Model, Plan]:
    model = studio.load(folder, device="cpu")
    there = plans.listed(model.folder, model.hash)
    if PLAN not in there:
        compress(
            model,
            f"error={BUDGET}",
            name=PLAN,
            on_trial=lambda text: print(text, file=sys.stderr, flush=True),
            **SETTINGS,
        )
        there = plans.listed(model.folder, model.hash)
    return model, plans.read(there[PLAN]).plan


def side(name: str, folder: str) -> None:
    import diffusers  # noqa: F401  every side loads the same libraries

    from studio.runtime.devices import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(THREADS)
    model, plan = made(folder)
    if name.startswith("diffusers"):
        return serve(lambda job: theirs(model, "bf16" in name))
    serve(lambda job: ours(model, levers(plan)[job]))


def options() -> argparse.Namespace:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--model", default=MODEL, help="A model's folder.")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = options()
    if args.side:
        return side(args.side, args.model)
    if not Path(args.model).is_dir():
        print(
            f"error: there is no {args.model}; make it with: studio train fashion-plain-dit", file=sys.stderr
        )
        raise SystemExit(2)
    torch.set_num_threads(args.threads)
    print(f"{model_name()} ({instructions()}), {args.threads} threads; {args.model}")
    model, plan = made(args.model)
    plain = ours(model, None)()
    apart = rms(plain[0::2] - plain[1::2]).repeat_interleave(2)
    errors = {name: float((rms(ours(model, p)() - plain) / apart).max()) for name, p in levers(plan).items()}
    theirs_moved = float((rms(theirs(model, False)() - plain) / apart).max())
    # without bf16 instructions it takes many times as long
    low = pick_dtype("auto", torch.device("cpu")) == torch.bfloat16
    sides = {
        name: Side("benchmarks.stack", name, "--model", args.model)
        for name in ("diffusers fp32", *(["diffusers bf16"] if low else []), "ours")
    }
    kinds = {name: sides[name]("steps") for name in sides if name != "ours"}  # each is warmed up first
    best = min(kinds, key=lambda k: kinds[k])
    rounds = 7 if args.quick else 11
    for lever in LEVERS:
        sides["ours"](lever)
    times: dict[str, list[float]] = {best: [], **{lever: [] for lever in LEVERS}}
    for _ in range(rounds):
        times[best].append(sides[best]("steps"))
        for lever in LEVERS:
            times[lever].append(sides["ours"](lever))
    medians = {name: sorted(t)[len(t) // 2] for name, t in times.items()}
    for s in sides.values():
        s.close()
    rows = {best: medians[best]} | {
        f"ours, {lever}: {medians[best] / medians[lever]:.2f} ×, error {errors[lever]:.4f}": medians[lever]
        for lever in LEVERS
    }
    table(f"{STEPS} guided Euler steps, {BATCH} pictures ({model.name})", rows)
    finish(
        {
            "stack_same_steps": medians[best] / medians[LEVERS[-1]],
            "stack_error": errors[LEVERS[-1]],
            "their_error": theirs_moved,
            "without_plan": medians[best] / medians[LEVERS[0]],
        }
    )


if __name__ == "__main__":
    main()
