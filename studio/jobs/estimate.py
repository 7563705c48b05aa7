"""How long a run will take and what memory, told before it is asked for.

How often networks are asked is counted (`studio.model.work`), how long that takes is told by earlier jobs
(`studio.jobs.pace`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from studio.generation.translate import BATCH as PICTURES
from studio.jobs.index import Index
from studio.jobs.pace import GUESS, OTHERS, OWN, Laid, layout, pace
from studio.jobs.recipe import Recipe
from studio.model.work import Known, Work, known, work_of
from studio.runtime.devices import DTYPE_NAMES, pick_device, pick_dtype
from studio.runtime.progress import duration
from studio.runtime.seeds import AT_ONCE, parse_seeds
from studio.sampling.starts import usual_strength
from studio.tasks import build_task
from studio.tasks.base import Task

__all__ = ["GUESS", "OTHERS", "OWN", "Estimate", "estimate", "place"]


@dataclass(frozen=True)
class Estimate:
    """Of a run of so many ``samples``; ``seconds`` None where a solver chooses its steps. ``by``: what they
    are told from, own jobs of the model, those of ``others``, or a ``guess``."""

    samples: int
    work: Work
    seconds: float | None
    bytes: int
    by: str

    def __str__(self) -> str:
        took = "how long is not known" if self.seconds is None else f"about {_seconds(self.seconds)}"
        each = self.work.evaluations
        asked = "evaluations as the sampler chooses" if each is None else f"{each:,} evaluations each"
        passes = self.work.passes
        if each is not None and passes is not None and round(passes) != each:
            asked = f"{each:,} evaluations and {passes:,.0f} passes of the network each"
        samples = f"{self.samples:,} sample{'s' * (self.samples != 1)}"
        first = "" if self.by == OWN or self.seconds is None else "; a guess: this model has not run here yet"
        return f"{took} and {_bytes(self.bytes)} ({samples}, {asked}){first}"


def estimate(
    asked: Recipe,
    index: Index,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch: Callable[[Task], int] = lambda task: 64,
    lent: Callable[[str], Known] = known,
    first: bool = False,
) -> Estimate:
    """``device`` and ``dtype`` as in `studio.load`; ``batch``: samples that are computed at once; ``lent``:
    finds what guidance borrows; ``first``: whether the model is yet to be loaded. Raises ``ValueError`` for
    what is not understood; opens no weights."""
    model, where = known(asked.model), pick_device(device)
    kind = pick_dtype(dtype if asked.dtype == "auto" else asked.dtype, where, exact=model.exact)
    low = kind != torch.float32

    def work(of: Recipe) -> Work:
        return work_of(
            of.model,
            num_steps=of.num_steps,
            sampler=(of.sampler or "").strip(),
            guidance=(of.guidance or "").strip(),
            plan=of.plan,
            strength=(of.strength or usual_strength(bool(of.mask))) if of.init else 1.0,
            inpaint=bool(of.mask or of.known),
            low=low,
            lent=lent,
        )

    def usual(of: Known) -> int:
        return PICTURES if of.info.starts_from else batch(build_task(of.info.task, of.info.codec))

    def laid(of: Recipe, at_once: int | None = None) -> Laid:
        its = known(of.model)
        return layout(of, here, at_once or usual(its), its.size.rows)

    here, found, count = place(where, kind), work(asked), len(parse_seeds(asked.seeds, most=AT_ONCE))
    taken = found.weights + found.held * min(count, usual(model))
    if found.passes is None:
        return Estimate(count, found, None, taken, OWN)
    each, start, by = pace(asked.model, index, here, work, laid, found.flops)
    seconds = each.seconds(laid(asked), found.passes) + start * first
    return Estimate(count, found, seconds, taken, by)


def place(device: torch.device, kind: torch.dtype | None) -> str:
    """Where and how a run was computed, as far as its pace depends on it."""
    threads = f" · {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{device} · {DTYPE_NAMES[kind or torch.float32]}{threads}"


def _seconds(value: float) -> str:
    return f"{value:.1g} s" if value < 1 else duration(value)


def _bytes(value: float) -> str:
    return f"{value / 1e9:.1f} GB" if value >= 1e8 else f"{max(value / 1e6, 1):.0f} MB"
