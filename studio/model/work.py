"""What a run asks of its networks, told from the files of a model: no weights are read and nothing is
computed.

The rules. A pass multiplies and adds once for every parameter and token, 2 · parameters · tokens operations.
Weights are held in fp32, and once more in the run's own format where that is a lower one. Of each sample a
step holds four times the input of the widest layer, for each token and branch, in fp32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

import guidance as guidance_floor
from backbones.types import tokens_of
from guidance.borrowed import Borrowed
from guidance.guided import sources_of
from samplers.heads.gradient import grad_of
from studio.checkpoints import checkpoint, plans
from studio.checkpoints.build import Info, objective_of
from studio.checkpoints.find import card, locate
from studio.checkpoints.networks import CUSTOM, build_networks, procedure_of
from studio.config import Config, SampleConfig, load_config
from studio.model import catalog
from studio.sampling import sampler_spec, start_index
from studio.sampling.engine import FIXED_BATCH, rows_of

HELD = 4  # inputs of the widest layer


@dataclass(frozen=True)
class Size:
    """Of one pass of a sample: parameters, the ``tokens`` in which it is seen and the ``width`` of the widest
    layer's input, both 0 of a network of one's own; ``held``: parameters of all networks of the model;
    ``rows``: samples of a micro-batch of fixed size (`studio.sampling.fixed_rows`)."""

    parameters: int
    tokens: int
    width: int
    held: int
    rows: int = FIXED_BATCH

    @property
    def flops(self) -> float:
        return 2.0 * self.parameters * self.tokens


@dataclass(frozen=True, eq=False)
class Known:
    """Of a model without its weights: what its runs are asked by, its path, whether its head needs ``exact``
    numbers, and the model that it was fine-tuned from."""

    config: Config
    info: Info
    fit: sampler_spec.Fit
    path: Any
    exact: bool
    base: str
    parameters: int

    @cached_property
    def size(self) -> Size:
        return _size(self.config, self.info, self.parameters)

    @property
    def sample(self) -> SampleConfig:
        return self.config.sample


@dataclass(frozen=True)
class Work:
    """Of one sample: ``evaluations`` that its sampler asks for, and ``passes`` of networks, guidance's
    branches included and what a plan leaves out not, counted in passes of the model's own; both None where a
    solver or a rule chooses on the way. ``flops`` of a pass, 0 where nobody knows. Bytes: of all ``weights``,
    and what is ``held`` for a sample while it is computed."""

    evaluations: int | None
    passes: float | None
    flops: float
    weights: int
    held: int


def known(name: str) -> Known:
    """Of a model by name; looked up once until its files change. Raises ``ValueError`` for none."""
    folder = locate(name)[0]
    files = [folder / "config.yaml", folder / "meta.json"]
    try:
        return _known(folder, tuple(f.stat().st_mtime_ns for f in files))
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error}") from None


@lru_cache(maxsize=64)
def _known(folder: Path, stamps: tuple[int, ...]) -> Known:
    config, meta = load_config(folder / "config.yaml"), checkpoint.read_meta(folder)
    info, objective = Info.from_meta(meta), objective_of(config)
    return Known(
        config,
        info,
        sampler_spec.fit_of(config, info),
        objective.path,
        grad_of(objective.parameterization) != "none",
        str(meta.get("base", {}).get("model", "")),
        int(meta.get("parameters") or 0),
    )


class _Empty(TorchFunctionMode):
    """Networks are made without filling their weights, which takes longer than all else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        own = getattr(func, "__module__", "") == "torch.nn.init"
        if own or getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _size(config: Config, info: Info, parameters: int) -> Size:
    if CUSTOM in (config.backbone.get("name"), config.procedure.get("name")):
        return Size(parameters, 0, 0, parameters)
    with _Empty(), torch.no_grad():
        nets = build_networks(config, procedure_of(config))
    net = next(iter(nets.values()))
    widths = [m.in_features for m in net.modules() if isinstance(m, torch.nn.Linear)]
    counts = [sum(p.numel() for p in n.parameters()) for n in nets.values()]
    tokens, rows = tokens_of(net, info.shape), rows_of(net, info.shape)
    return Size(counts[0], tokens, max(widths, default=0), sum(counts), rows)


def work_of(
    name: str,
    *,
    num_steps: int = 0,
    sampler: str = "",
    guidance: str = "default",
    plan: str = plans.NONE,
    strength: float = 1.0,
    inpaint: bool = False,
    low: bool = False,
    lent: Callable[[str], Known] = known,
) -> Work:
    """Of a run of a model; steps 0, sampler "" and guidance "default" are its own, ``strength`` below 1 and
    ``inpaint``: from a picture, of which a part may change; ``low``: in a format of two bytes; ``lent``:
    finds what guidance borrows. Raises ``ValueError`` for what is not understood."""
    model = known(name)
    steps = num_steps or model.sample.num_steps
    line = sampler_spec.resolved(sampler or None, model.fit, inpaint=inpaint and model.fit.re_noises)
    solver = sampler_spec.build_sampler(line)
    text = model.sample.guidance if guidance == "default" else guidance
    rules = guidance_floor.parse(text)
    others = {
        rule.model: lent(model.base if rule.model == "base" else rule.model)
        for rule in rules
        if isinstance(rule, Borrowed) and isinstance(rule.model, str)
    }
    times = solver.times(model.path, steps)
    each = solver.evaluations(model.path, times)
    begin = 0 if strength == 1 else start_index(len(times) - 1, strength)
    times, each = times[begin:], None if each is None else each[begin:]
    flops = model.size.flops

    def cost(rule: Any) -> float:
        other = others.get(getattr(rule, "model", None))  # type: ignore[arg-type]
        return other.size.flops / flops if other is not None and flops and other.size.flops else 1.0

    active = [[r for r in rules if r.active(t, model.path)] for t in times[:-1]]
    branches = [sources_of([r for r in rows if not r.queries]) for rows in active]
    saved = _plan(name, model, plan, steps, line, guidance_floor.describe(text))
    share = 1.0 if saved is None else saved.number("flops") or 1.0
    passes = None
    each = None if each is None else tuple(n * solver.resample for n in each)
    if each is not None and not any(r.queries for rows in active for r in rows):
        wanted = zip(each, branches)
        passes = share * sum(n * (1 + sum(cost(rule) for rule in rows.values())) for n, rows in wanted)
    networks = model.size.held + sum(other.size.held for other in others.values())
    most = 1 + max((len(rows) for rows in branches), default=0)
    kept = 0 if saved is None else int(saved.number("memory") or 0)
    return Work(
        None if each is None else sum(each),
        passes,
        flops,
        networks * (4 + 2 * low),
        most * model.size.tokens * model.size.width * HELD * 4 + kept,
    )


def _plan(name: str, model: Known, asked: str, steps: int, sampler: str, guidance: str) -> plans.Saved | None:
    """The plan that a run follows, as far as its key tells without its weights."""
    if asked in ("", plans.NONE):
        return None
    own: Sequence[plans.Saved] = list(catalog.plans_of(card(name)).values())
    for saved in own:
        key = saved.key
        fits = (key.num_steps, key.sampler, key.guidance) == (steps, sampler, guidance)
        if saved.name == asked or asked == plans.AUTO and fits:
            return saved
    return None
