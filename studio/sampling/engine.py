"""The sampling engine: a request, its micro-batches, and an iterator over solver steps that everything else
(API, command line, page) consumes.

Sample i depends on seed i and its conditions only. With ``deterministic`` micro-batches have a fixed size and
a sample sits at the place ``seed % size`` of its batch, so the bytes do not depend on what is asked for
beside it. The same is done in bf16 on a CPU, where rounding would otherwise show the batch in the third digit
and where batches beyond a few samples gain nothing.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import guidance as guidance_floor
from backbones.caching.plan import Plan
from backbones.types import Cond, RunContext, tokens_of
from guidance.rules import Rule
from samplers.denoiser import Queryable
from samplers.solvers.backward import ahead
from samplers.solvers.base import Sampler, Step
from samplers.solvers.bridge import facing
from studio.data.conditions import missing
from studio.runtime.finite import check_step
from studio.runtime.signals import Stopped
from studio.sampling import starts
from studio.sampling.kept import Kept
from studio.sampling.sampler_spec import build_sampler

FIXED_BATCH = 8
FIXED_POINTS = 256  # of what a network sees in one piece


@dataclass(frozen=True)
class Request:
    """What is asked for. ``labels`` (class numbers, −1 = none) and ``numeric`` rows go with ``seeds``.
    ``init`` (C, H, W) uint8 with ``strength`` in (0, 1] starts from a picture; ``mask`` (H, W) bool marks
    what may change, the rest of ``init`` is kept. ``sources`` (N, ...), as files hold them, is where a bridge
    starts, one for each seed; ``direction`` forward or backward. ``settings``: what a codec's start is told
    beside conditions, by name, of all or of each. Of codecs with ``parts`` ``init`` is a part and ``mask``,
    of the same shape, what of it may change. ``values``: the conditions that ``numeric`` was made of, as they
    were given. ``solver``: a sampler that no line describes. ``noise``: see `studio.sampling.starts`.
    ``fields``: (N, ...) conditions of other kinds by name, as the network sees them, and ``texts`` what
    recipes keep of them. ``plan``: what of the network is not computed at every evaluation, and its name;
    ``attention``: the backend (`backbones.attention`). ``kept``: entries of the samples that are known
    and stay."""

    seeds: tuple[int, ...]
    labels: tuple[int, ...] | None = None
    numeric: tuple[tuple[float, ...], ...] | None = None
    num_steps: int = 20
    sampler: str = "ab2"
    guidance: str = ""
    init: Tensor | None = field(default=None, compare=False)
    strength: float = 1.0
    mask: Tensor | None = field(default=None, compare=False)
    batch: int = 64
    deterministic: bool = False
    sources: Tensor | None = field(default=None, compare=False)
    direction: str = "forward"
    settings: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    values: tuple[tuple[str, float], ...] = ()
    solver: Sampler | None = field(default=None, compare=False)
    noise: Any = field(default=None, compare=False)
    fields: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plan: Plan | None = None
    plan_name: str = ""
    attention: str = "auto"
    kept: Kept | None = field(default=None, compare=False)

    def unkept(self) -> tuple[str, ...]:
        """Names of the conditions of which values are given that no recipe keeps."""
        return tuple(k for k, v in self.fields.items() if "" in self.texts.get(k, ("",)) and not missing(v))

    def of(self, rows: Sequence[int], seeds: tuple[int, ...], labels: tuple[int, ...] | None) -> "Request":
        """The same of other samples, whose conditions but for labels are those of these ``rows``."""
        return replace(
            self,
            seeds=seeds,
            labels=labels,
            numeric=None if self.numeric is None else tuple(self.numeric[i] for i in rows),
            fields={k: v[list(rows)] for k, v in self.fields.items()},
            texts={k: tuple(v[i] for i in rows) for k, v in self.texts.items()},
            kept=None if self.kept is None else self.kept.of(rows),
            settings=self.told(rows),
        )

    def told(self, rows: Sequence[int | None]) -> dict[str, int | tuple[int, ...]]:
        """The settings of these samples; None is padding."""
        places = [0 if i is None else i for i in rows]
        return {
            k: tuple(v[i] for i in places) if isinstance(v, tuple) else v for k, v in self.settings.items()
        }


@dataclass(frozen=True)
class Progress:
    """One solver step of one micro-batch: ``rows`` are the request's indices in it; ``done`` of ``total``
    steps over all micro-batches."""

    step: Step
    rows: tuple[int | None, ...]
    done: int
    total: int

    @property
    def finished(self) -> bool:
        """Whether the micro-batch has arrived at the data; an adaptive solver may get there in fewer steps
        than were asked for."""
        return self.step.s == 1.0 and self.step.index + 1 == self.step.num_steps


def fixed_rows(denoiser: Any, shape: Sequence[int]) -> int:
    """How many samples of a shape a micro-batch of fixed size has: as many as the network says
    (``fixed_rows``)."""
    return rows_of(getattr(denoiser, "net", None), shape)


def rows_of(net: Any, shape: Sequence[int]) -> int:
    """The same of a network."""
    usual = FIXED_POINTS if tokens_of(net, shape) == 1 else FIXED_BATCH
    return int(getattr(net, "fixed_rows", usual))


def fixed_size(denoiser: Any, shape: Sequence[int], request: Request, *, device: torch.device) -> int | None:
    """Samples of a micro-batch whose size a request does not choose; None where it is its ``batch``."""
    if starts.whole(request.noise):
        return len(request.seeds)
    return fixed_rows(denoiser, shape) if request.deterministic or rounded(denoiser, device) else None


def rounded(denoiser: Any, device: torch.device) -> bool:
    """Whether rounding would show the batch: in bf16 on a CPU."""
    return device.type == "cpu" and getattr(denoiser, "dtype", None) == torch.bfloat16


def micro_batches(
    request: Request, *, alone: bool = False, fixed: bool = False, size: int = FIXED_BATCH
) -> list[list[int | None]]:
    """Rows of the request in computing order; None is padding. ``alone``: a solver whose steps depend on its
    batch, which ``deterministic`` runs sample by sample. ``fixed``: lay batches out as ``deterministic``
    does, ``size`` rows each."""
    n = len(request.seeds)
    if request.deterministic and alone:
        return [[i] for i in range(n)]
    if not (request.deterministic or fixed):
        return [list(range(a, min(a + request.batch, n))) for a in range(0, n, request.batch)]
    batches: list[list[int | None]] = []
    # how many batches have a place filled: the first ones, as each goes to the first where it is free
    taken: Counter[int] = Counter()
    for i, seed in enumerate(request.seeds):
        place = seed % size
        if taken[place] == len(batches):
            batches.append([None] * size)
        batches[taken[place]][place] = i
        taken[place] += 1
    return batches


def start_index(num_steps: int, strength: float) -> int:
    """The first step of image-to-image: a share ``strength`` of the steps is run. Raises ``ValueError``
    outside (0, 1]."""
    if not 0 < strength <= 1:
        raise ValueError(
            f"got strength={strength}, expected above 0 (keep the picture) to 1 (start from noise)"
        )
    return num_steps - max(1, min(int(num_steps * strength), num_steps))


def check_guided(denoiser: Queryable, rules: Sequence[Rule], sampler: Sampler) -> None:
    """Raises ``ValueError`` for rules that do not fit the model, or ask for what the sampler does not
    follow."""
    if rules:
        sampler.check(guidance_floor.Guided(denoiser, rules))


def _own_branches(rules: Sequence[Rule]) -> frozenset[str]:
    """The branches that rules need and none of them provides."""
    return frozenset().union(*(r.needs for r in rules)) - {r.provides for r in rules}


def guided(denoiser: Queryable, request: Request, rules: Sequence[Rule] | None = None) -> Queryable:
    """A model as a run asks it: in the form that is fast, with the request's guidance, or ``rules`` in its
    place. Raises ``ValueError`` for guidance where there is nothing to guide towards."""
    chosen = list(rules) if rules is not None else guidance_floor.parse(request.guidance)
    if (
        chosen
        and request.labels is None
        and request.numeric is None
        and not request.fields
        and _own_branches(chosen)
    ):
        raise ValueError("got guidance, but this model has no conditions to guide towards; leave it out")
    lowered = getattr(denoiser, "lowered", None)
    fast = denoiser if lowered is None else lowered()
    return guidance_floor.Guided(fast, chosen) if chosen else fast


def stream(
    denoiser: Queryable,
    shape: Sequence[int],
    codec: Any,
    request: Request,
    *,
    device: torch.device,
    rules: Sequence[Rule] | None = None,
    taps: dict[str, Any] | None = None,
    around: Callable[[Queryable], Queryable] | None = None,
) -> Generator[Progress, None, None]:
    """Iterate all steps of all micro-batches; the sampler is the request's line as it stands (`Model.request`
    completes it). ``rules`` replaces the request's guidance line by objects. ``taps``: what every run records
    into (`RunContext.taps`). ``around``: what is put around the guided model, which then runs in batches as
    they are asked for. Raises `studio.runtime.finite.NotFinite` after a step whose state is not
    finite."""
    sampler = request.solver or build_sampler(request.sampler)
    fast = denoiser
    if denoiser.starts == "source":
        fast = facing(denoiser, sampler.needs, request.direction)
    model = guided(fast, request, rules)
    model = model if around is None else around(model)
    fixed = around is None and rounded(denoiser, device) and not sampler.mixes
    batches = micro_batches(request, alone=sampler.mixes, fixed=fixed, size=fixed_rows(denoiser, shape))
    if starts.whole(request.noise):
        batches = [list(range(len(request.seeds)))]
    grid = sampler.times(denoiser.path, request.num_steps)
    steps = len(grid) - 1
    start = start_index(steps, request.strength) if request.init is not None and not codec.parts else 0
    larger = ahead(denoiser.path, grid[0])
    total, done = len(batches) * (steps - start) * sampler.resample, 0
    if request.mask is not None and request.init is None and request.sources is None:
        raise ValueError("got a mask without a picture; give the picture to keep with --init")
    init = None if request.init is None or codec.parts else codec.encode(request.init[None]).to(device)
    for rows in batches:
        noise = starts.draws(request.noise, request.seeds, rows, device)
        cond = cond_of(request, rows, device)
        if request.kept is not None:
            cond = request.kept.told(cond, codec, rows, device)
        part, free = (request.init, request.mask) if codec.parts else (None, None)
        prior, cond = codec.start(
            cond, noise, denoiser.path, shape, settings=request.told(rows), part=part, free=free
        )
        x = prior if larger == 1 else larger * prior
        if request.sources is not None:
            given = [0 if i is None else i for i in rows]
            x = codec.encode(request.sources[given]).to(device)
            if getattr(getattr(denoiser, "parameterization", None), "cond_source", False):
                cond = replace(cond, image=x)
            if request.mask is not None:
                free = request.mask.to(device).expand(len(rows), *shape)
                cond = replace(cond, known=~free, given=x)
        if init is not None:
            x = starts.begun(denoiser.path, init, prior, grid[start], noise)
            if request.mask is not None:
                free = request.mask.to(device).expand(len(rows), *shape)
                cond = replace(cond, known=~free, given=init.expand(len(rows), *shape))
        ctx = RunContext(taps=taps or {}, plan=request.plan, attention=request.attention)
        for step in sampler.steps(model, x, cond, noise, num_steps=request.num_steps, start=start, ctx=ctx):
            done += 1
            check_step(
                step,
                [None if i is None else request.seeds[i] for i in rows],
                told=codec.judges == "prediction",
            )
            yield Progress(step, tuple(rows), done, max(total, done))


def cond_of(request: Request, rows: Sequence[int | None], device: torch.device) -> Cond:
    """The conditions of these rows of a request; None is padding."""
    places = [0 if i is None else i for i in rows]
    columns = {name: value[places].to(device) for name, value in request.fields.items()}
    if request.labels is not None:
        columns["label"] = torch.tensor([-1 if i is None else request.labels[i] for i in rows], device=device)
    if request.numeric is not None:
        width = len(request.numeric[0])
        columns["numeric"] = torch.tensor(
            [[float("nan")] * width if i is None else request.numeric[i] for i in rows], device=device
        )
    return Cond.of(columns)


def run(steps: Iterator[Progress], codec: Any, count: int, *, on_step: Any = None) -> Tensor:
    """All ``count`` decoded samples (N, ...) of a `stream` on the CPU. ``on_step(progress)`` sees every step
    and stops the run by returning False."""
    out: list[Tensor | None] = [None] * count
    for progress in steps:
        if on_step is not None and on_step(progress) is False:
            raise Stopped("sampling was stopped")
        if progress.finished:
            collect(out, progress, codec)
    return torch.stack([v for v in out if v is not None])


def collect(out: list[Tensor | None], progress: Progress, codec: Any) -> None:
    """Put a finished micro-batch's decoded samples at their places."""
    values = codec.decode(progress.step.x).cpu()
    for value, i in zip(values, progress.rows):
        if i is not None:
            out[i] = value
