"""What a run costs: floating-point operations, counted from what is executed for one sample, and the memory
of what a plan keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from backbones.attention.specs import Full, Spec, Window
from backbones.caching.plan import AGAIN, BOTH, BRANCHES, FULL, STEPS, WINDOW, Plan
from backbones.types import Cond, RunContext


def _of_the_cpu(q: Any, k: Any, v: Any, *rest: Any, **options: Any) -> int:
    """From shapes, of the CPU's own attention, which the counter does not know."""
    return sdpa_flop_count(q, k, v)


CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _of_the_cpu}
CORE = {
    "bmm",
    "baddbmm",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
}


@dataclass(frozen=True)
class Parts:
    """Of one branch of one sample at one evaluation, in floating-point operations (a multiply-add counts as
    two): ``all`` of the network, its ``trunk`` of blocks; of a layer's attention the products of scores and
    values (``core``) in full and within the ``window``, and its ``projections``. Numbers of what is kept: of
    an output of attention (``kept``), of a ``change`` of the trunk, and of a ``sample``. 0 ``layers``: it has
    no attention that a plan knows."""

    all: int
    trunk: int
    layers: int = 0
    core: int = 0
    window: int = 0
    projections: int = 0
    kept: int = 0
    change: int = 0
    sample: int = 0

    def attention(self, letter: str, *, rest: bool, branches: int) -> tuple[float, float]:
        """One layer of all branches of an evaluation: core and projections. ``rest``: a full attention that
        also computes its window, for those after it."""
        once = {
            FULL: self.core + self.window * rest,
            WINDOW: self.window,
            STEPS: 0,
            BRANCHES: self.core + self.window * rest,
            BOTH: self.window,
        }[letter]
        times = {STEPS: 0, BRANCHES: 1, BOTH: 1}.get(letter, branches)
        return float(once * times), float(self.projections * times)


@dataclass(frozen=True)
class Cost:
    """Of a run of one sample: all operations, and those of attention's core."""

    flops: float
    attention: float


def cost(parts: Parts, plan: Plan, guided: Sequence[bool]) -> Cost:
    """Of a plan, where ``guided`` says of each evaluation whether the unconditional branch is wanted."""
    flops = attention = 0.0
    for row, wanted in enumerate(guided):
        branches = 1 + (wanted and (not plan.uncond or plan.uncond[row] == FULL))
        flops += branches * (parts.all - parts.trunk)
        if plan.trunk and plan.trunk[row] != FULL:
            continue
        flops += branches * (parts.trunk - parts.layers * (parts.core + parts.projections))
        for layer in range(parts.layers):
            core, around = parts.attention(
                plan.attends(row, layer), rest=plan.needs_rest(row, layer), branches=branches
            )
            flops, attention = flops + core + around, attention + core
    return Cost(flops, attention)


def memory(parts: Parts, plan: Plan, guided: Sequence[bool], *, size: int = 4) -> int:
    """Bytes that a run keeps for one sample at most, ``size`` of them a number: outputs and rests of
    attention, the last two changes of the trunk, and the last two gaps of guidance. ``guided``: as in
    `cost`."""
    attention: dict[tuple[int, str], tuple[bool, bool]] = {}  # output and rest of a layer's branch
    changes: dict[str, int] = {}
    most = gaps = 0
    for row, wanted in enumerate(guided):
        asked = wanted and (not plan.uncond or plan.uncond[row] == FULL)
        gaps = min(2, gaps + (asked and bool(plan.uncond)))
        full = not plan.trunk or plan.trunk[row] == FULL
        for branch in ("cond", "uncond") if asked else ("cond",):
            if full and set(plan.trunk[row + 1 :]) - {FULL}:
                changes[branch] = min(2, changes.get(branch, 0) + 1)
            for layer in range(plan.layers) if full else ():
                letter, place = plan.attends(row, layer), (layer, branch)
                near = letter in (WINDOW, BOTH) and attention.get(place, (False, False))[1]
                if letter != STEPS:
                    attention[place] = plan.needs_output(row, layer), near or plan.needs_rest(row, layer)
        held = sum(map(sum, attention.values()))
        most = max(most, held * parts.kept + sum(changes.values()) * parts.change + gaps * parts.sample)
    return most * size


def parts_of(net: Any, call: Callable[[RunContext | None], Any], *, window: int, tile: int = 0) -> Parts:
    """Counted in calls of one sample: in full, with the trunk left out, and with each layer's products looked
    at. ``call(ctx)`` asks the network."""
    made: list[Tensor] = []
    total, sample = _counted(lambda: made.append(call(None))), made[0].numel()
    ctx = RunContext(plan=Plan((1, 1), trunk=FULL + AGAIN), time=0.0)
    call(ctx)
    ctx.step = 1
    trunks = [of for (_, part), of in ctx.caches.items() if part == "trunk"]
    change = sum(past.value.numel() for of in trunks for branch in of.values() for past in branch)
    trunk = total - _counted(lambda: call(ctx))
    seen: list[tuple[int, int, int, int]] = []

    def look(attention: Any, x: Tensor, ctx: RunContext, row: int, gate: Tensor | None) -> Tensor:
        made: list[Tensor] = []

        def mix(*specs: Spec) -> None:
            made[:] = attention.mix(x, specs, ctx)

        full, near = _by_op(lambda: mix(Full())), _by_op(lambda: mix(Window(window, window)))
        mix(Full())
        around = full["other"] + sum(_by_op(lambda: attention.project(made[0])).values())
        seen.append((full["core"], near["core"], around, x[0].numel()))
        return attention.project(made[0])

    call(RunContext(plan=Plan((1,), (FULL,), window=window, tile=tile), taps={"attention": look}))
    if not seen:
        return Parts(total, trunk, change=change, sample=sample)
    core, near, around, kept = (max(column) for column in zip(*seen))
    return Parts(total, trunk, len(seen), core, near, around, kept, change, sample)


def _counted(run: Callable[[], Any]) -> int:
    counter = FlopCounterMode(display=False, custom_mapping=CPU)
    with counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def _by_op(run: Callable[[], Any]) -> Mapping[str, int]:
    counter = FlopCounterMode(display=False, custom_mapping=CPU)
    with counter, torch.no_grad():
        run()
    counts = counter.get_flop_counts().get("Global", {})
    core = sum(n for op, n in counts.items() if str(op).split(".")[-1] in CORE)
    return {"core": core, "other": sum(counts.values()) - core}


def network_call(net: Any, shape: Sequence[int]) -> Callable[[RunContext | None], Any]:
    """A call of one empty sample of a shape."""
    weight = next(net.parameters())
    x = torch.zeros(1, *shape, device=weight.device, dtype=weight.dtype)

    def call(ctx: RunContext | None) -> Any:
        with torch.no_grad():
            return net(x, torch.zeros(1, device=weight.device), Cond(), ctx)

    return call
