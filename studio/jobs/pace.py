"""What a pass of a network takes here, told by the jobs of an index.

A pass of a micro-batch of n samples takes ``once + n · each`` seconds: what it costs to ask a network at all,
and what each sample adds. Both are fitted to the newest jobs of a model, by least squares of relative errors,
where their micro-batches were of several sizes. Where all were of one, ``once`` is taken for what FEW samples
add; without it a single sample would be told to take its share of a full batch. What a model takes besides
where it runs for the first time in its process is told by such runs. A model that never ran here
is reckoned by what its passes multiply, at the rate of another model's last jobs whose passes are not much
smaller, or at `RATES`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from studio.checkpoints.find import locate
from studio.jobs.index import Index
from studio.jobs.recipe import Recipe
from studio.jobs.records import Job
from studio.jobs.translation import Translation
from studio.model.work import Work
from studio.runtime.seeds import AT_ONCE, parse_seeds
from studio.sampling import Request, micro_batches

COMMAND = "command"  # the kind of a job that `studio sample` did, told for its time
LOOKED = 12  # jobs that are looked at
FEW = 2.0  # samples that add as much as a pass costs at all, where nothing tells
APART = 2.0  # sizes of micro-batches are several where the largest is so many times the smallest
LIKE = 10.0  # passes of a like size are no smaller than this part: of smaller ones calls are what costs
RATES = {"cpu": 3e10}  # operations a second that are guessed where nothing ran yet, on a CPU by each thread
FAST = 1e13  # of other devices
CALL = 2e-3  # seconds that a pass costs at all are guessed to be no less
OWN, OTHERS, GUESS = "own", "others", "guess"


@dataclass(frozen=True)
class Pace:
    """Seconds of a pass of a micro-batch, and of each sample in it."""

    once: float
    each: float

    def seconds(self, laid: "Laid", passes: float) -> float:
        return passes * (self.once * laid.batches + self.each * laid.rows)

    def scaled(self, by: float) -> "Pace":
        return Pace(by * self.once, by * self.each)


@dataclass(frozen=True)
class Laid:
    """How samples are laid out: so many micro-batches, of so many rows together, padding included."""

    batches: int
    rows: int


def laid_out(seeds: Sequence[int], batch: int, fixed: int | None) -> Laid:
    """Of these seeds, ``batch`` at once; ``fixed``: the size of micro-batches that padding fills up
    (`studio.sampling.micro_batches`), None where they are as large as they come."""
    rows = micro_batches(Request(tuple(seeds), batch=batch), fixed=fixed is not None, size=fixed or batch)
    return Laid(len(rows), sum(map(len, rows)))


def layout(asked: Recipe, where: str, batch: int, fixed: int) -> Laid:
    """Of what is asked for, in a place (`studio.jobs.estimate.place`); ``fixed``: the model's own size where
    the size must not matter, as for ``deterministic`` runs and in bf16 on a CPU."""
    even = asked.deterministic or (where.startswith("cpu") and " bf16" in where)
    return laid_out(parse_seeds(asked.seeds, most=AT_ONCE), batch, fixed if even else None)


@dataclass(frozen=True)
class Ran:
    """A job that ran for so many ``seconds``: passes of micro-batches (``calls``) and of samples (``rows``),
    of so many operations each; the ``first`` of the model in its process."""

    seconds: float
    calls: float
    rows: float
    flops: float
    first: bool = False


def fitted(ran: Sequence[Ran]) -> Pace:
    """What a pass took in these jobs, which are some."""
    once, each = ([getattr(r, name) / r.seconds for r in ran] for name in ("calls", "rows"))
    sizes = [r.rows / r.calls for r in ran]
    if max(sizes) < APART * min(sizes):
        add = _alone([FEW * a + b for a, b in zip(once, each)])
        return Pace(FEW * add, add)
    aa, ab, bb = (sum(x * y for x, y in zip(*of)) for of in ((once, once), (once, each), (each, each)))
    det, a, b = aa * bb - ab * ab, sum(once), sum(each)
    found = Pace((bb * a - ab * b) / det, (aa * b - ab * a) / det)
    if found.each < 0:
        return Pace(_alone(once), 0.0)
    return Pace(0.0, _alone(each)) if found.once < 0 else found


def started(ran: Sequence[Ran]) -> tuple[Pace, float]:
    """`fitted` to those that were not the first in their process, and the seconds that the first ones took
    besides, the usual number; 0 where all were first, which are fitted then."""
    first, later = ([r for r in ran if r.first is kind] for kind in (True, False))
    found = fitted(later or first)
    if not first or not later:
        return found, 0.0
    return found, max(0.0, median(r.seconds - found.once * r.calls - found.each * r.rows for r in first))


def _alone(shares: Sequence[float]) -> float:
    """The unit of which these shares make one second each, as nearly as one can."""
    return sum(shares) / sum(share * share for share in shares)


def pace(
    name: str,
    index: Index,
    where: str,
    work: Callable[[Recipe], Work],
    laid: Callable[[Recipe, int | None], Laid],
    flops: float,
) -> tuple[Pace, float, str]:
    """What a pass of a model takes, what its first run in a process takes besides, and what tells it.
    ``work`` and ``laid``: what a recipe asks for, and how it is laid out with so many samples at once (None:
    the usual number)."""
    own = [*_ran(_of(index, name), where, work, laid)]
    if own:
        return *started(own), OWN
    others = [
        r for r in _ran(index.jobs(("done",), limit=LOOKED), where, work, laid) if LIKE * r.flops > flops
    ]
    if flops and others:
        alike = [r for r in others if r.flops == others[0].flops]  # the model that ran last
        found, start = started(alike)
        return found.scaled(flops / others[0].flops), start, OTHERS
    threads = torch.get_num_threads() if where.startswith("cpu") else 1
    each = flops / (RATES.get(where.partition(" ")[0], FAST) * threads)
    return Pace(max(CALL, FEW * each), each), 0.0, GUESS


def _of(index: Index, name: str) -> list[Job]:
    """The newest jobs of a model, by its name here or by where it lies."""
    names = dict.fromkeys([name, str(locate(name)[0].resolve())])
    found = [job for text in names for job in index.jobs(("done",), model=text, limit=LOOKED)]
    return sorted(found, key=lambda job: job.created, reverse=True)[:LOOKED]


def _ran(
    jobs: Sequence[Job],
    where: str,
    work: Callable[[Recipe], Work],
    laid: Callable[[Recipe, int | None], Laid],
) -> Iterator[Ran]:
    """Those that took their time in such a place, the newest first."""
    for job in jobs:
        each = job.told.get("each", 0.0)
        if job.told.get("place") != where or not each or not job.done:
            continue
        try:
            asked = SPECS[job.kind](job.spec)
            of, rows = work(asked), laid(asked, job.told.get("batch"))
        except (KeyError, ValueError):  # a job of another kind, or a model that has gone
            continue
        if of.passes:
            calls, first = of.passes * rows.batches, bool(job.told.get("first"))
            yield Ran(job.done * each, calls, of.passes * rows.rows, of.flops, first)


def _of_bridge(spec: Any) -> Recipe:
    asked = Translation.parse(spec)
    seeds = f"0-{max(1, len(asked.sources)) - 1}"
    return Recipe(asked.bridge, seeds=seeds, num_steps=asked.num_steps, sampler=asked.sampler)


SPECS: dict[str, Callable[[Any], Recipe]] = {
    "sample": Recipe.parse,
    COMMAND: Recipe.parse,
    "translate": _of_bridge,
}
