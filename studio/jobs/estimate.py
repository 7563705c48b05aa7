"""How long a run will take and what memory, told before it is asked for.

How often networks are asked is counted (`studio.model.work`); how long that takes is what earlier jobs of the
same model took here: of the newest, the one whose number of samples is nearest. A model that never ran here
is reckoned by what its passes multiply, at the rate of another model's last job, or at `RATES`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from studio.jobs.index import Index
from studio.jobs.recipe import Recipe
from studio.jobs.records import Job
from studio.jobs.translation import Translation
from studio.model.work import Known, Work, known, work_of
from studio.runtime.devices import DTYPE_NAMES, pick_device, pick_dtype
from studio.runtime.progress import duration
from studio.runtime.seeds import AT_ONCE, parse_seeds
from studio.sampling.starts import usual_strength
from studio.tasks import build_task
from studio.tasks.base import Task

LOOKED = 12  # jobs that are looked at
RATES = {"cpu": 3e10}  # operations a second that are guessed where nothing ran yet, on a CPU by each thread
FAST = 1e13  # of other devices
OWN, OTHERS, GUESS = "own", "others", "guess"


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
) -> Estimate:
    """``device`` and ``dtype`` as in `studio.load`; ``batch``: samples that are computed at once; ``lent``:
    finds what guidance borrows. Raises ``ValueError`` for what is not understood; opens no weights."""
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
            inpaint=bool(of.mask),
            low=low,
            lent=lent,
        )

    found, count = work(asked), len(parse_seeds(asked.seeds, most=AT_ONCE))
    task = build_task(model.info.task, model.info.codec)
    taken = found.weights + found.held * min(count, batch(task))
    if found.passes is None:
        return Estimate(count, found, None, taken, OWN)
    each, by = _pace(asked.model, index, place(where, kind), work, found, count)
    return Estimate(count, found, count * found.passes * each, taken, by)


def place(device: torch.device, kind: torch.dtype | None) -> str:
    """Where and how a run was computed, as far as its pace depends on it."""
    threads = f" · {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{device} · {DTYPE_NAMES[kind or torch.float32]}{threads}"


def _pace(
    name: str, index: Index, where: str, work: Callable[[Recipe], Work], found: Work, count: int
) -> tuple[float, str]:
    """Seconds of a pass of a sample, and what tells them."""
    own = list(_ran(index.jobs(("done",), model=name, limit=LOOKED), where, work))
    if own:
        return min(own, key=lambda r: abs(math.log(r.samples / count))).each, OWN
    if not found.flops:
        return 0.0, GUESS
    for ran in _ran(index.jobs(("done",), limit=LOOKED), where, work):
        if ran.flops:
            return ran.each * found.flops / ran.flops, OTHERS
    threads = torch.get_num_threads() if where.startswith("cpu") else 1
    return found.flops / (RATES.get(where.partition(" ")[0], FAST) * threads), GUESS


@dataclass(frozen=True)
class _Ran:
    """A job that ran: so many ``samples``, ``each`` pass of one in so many seconds of so many operations."""

    samples: int
    each: float
    flops: float


def _ran(jobs: Sequence[Job], where: str, work: Callable[[Recipe], Work]) -> Iterator[_Ran]:
    """Those that took their time in such a place, the newest first."""
    for job in jobs:
        each = job.told.get("each", 0.0)
        if job.told.get("place") != where or not each or not job.done:
            continue
        try:
            of = work(SPECS[job.kind](job.spec))
        except (KeyError, ValueError):  # a job of another kind, or a model that has gone
            continue
        if of.passes:
            yield _Ran(job.done, each / of.passes, of.flops)


def _of_bridge(spec: Any) -> Recipe:
    asked = Translation.parse(spec)
    return Recipe(asked.bridge, num_steps=asked.num_steps, sampler=asked.sampler)


SPECS: dict[str, Callable[[Any], Recipe]] = {"sample": Recipe.parse, "translate": _of_bridge}


def _seconds(value: float) -> str:
    return f"{value:.1g} s" if value < 1 else duration(value)


def _bytes(value: float) -> str:
    return f"{value / 1e9:.1f} GB" if value >= 1e8 else f"{max(value / 1e6, 1):.0f} MB"
