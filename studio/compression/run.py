"""`studio compress`: a plan for a model's runs, as cheap as its error may be, or as exact as its cost may
be."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.caching.plan import Plan
from backbones.registry import suggest, whole
from backbones.types import tokens_of
from studio.checkpoints import plans
from studio.checkpoints.plans import Key, Saved
from studio.compression.budget import Budget, parse_budget
from studio.compression.cost import Cost, Parts, cost, memory, network_call, parts_of
from studio.compression.heat_map import heat_map
from studio.compression.hunt import SEARCHES, Hunt
from studio.compression.notes import Notes
from studio.compression.trial import Trial, pairs
from studio.model.checked_request import run_of
from studio.model.loading import load
from studio.model.model import Model
from studio.runtime import files

METHODS = ("blocks", "uncond", "attention")
SCHEDULES = ("adaptive", "interval")


@dataclass(frozen=True)
class Compressed:
    """A plan with the file that it was written to and a picture of it, and what one run of one sample costs
    with it and without."""

    saved: Saved
    path: Path
    map: Path
    before: Cost
    after: Cost


def compress(
    model: str | Path | Model,
    budget: str | Budget,
    *,
    name: str | None = None,
    num_steps: int | None = None,
    sampler: Any = None,
    guidance: Any = "default",
    conditions: Any = None,
    methods: Sequence[str] = METHODS,
    search: str = "local",
    schedule: str = "adaptive",
    window: int | None = None,
    tile: int | None = None,
    calibration: int = 8,
    overwrite: bool = False,
    on_trial: Callable[[str], Any] | None = None,
) -> Compressed:
    """Search a plan for the runs of a model with these settings and write it into the model's folder.

    - ``model``: a name as in `studio.load`, or a model that is loaded.
    - ``budget``: ``error=0.05``, the most that a sample may move, as a share of how far two samples of one
      class are apart; or ``flops=0.5``, the most that a run may cost, as a share of what it costs without.
    - ``name``: of the plan, by default of its settings.
    - ``num_steps``, ``sampler``, ``guidance``, ``conditions``: as in `Model.sample`.
    - ``methods``: of ``blocks``, ``uncond`` and ``attention`` those that may be used.
    - ``search`` of attention: ``local`` or ``greedy`` (the published one: a generation for each layer).
    - ``schedule`` of blocks and the unconditional pass: ``adaptive``, as measured along a run, or
      ``interval``, every n-th evaluation.
    - ``window``: keys to each side of a query, an eighth of the tokens unless given; ``tile``: the side of
      the squares that tokens are sorted by, 0 for none.
    - ``calibration``: samples, in pairs of one class. The time of the search is told in runs of eight samples
      without a plan (``search_share``).
    - ``overwrite``: replace a plan of this name.
    - ``on_trial``: told in words what was tried. A search that was interrupted goes on where it was.

    Raises ``ValueError`` for what does not fit, and ``FileExistsError`` for a name that is taken, before
    anything is computed.
    """
    model = model if isinstance(model, Model) else load(model)
    asked = budget if isinstance(budget, Budget) else parse_budget(budget)
    chosen = _methods(methods)
    if search not in SEARCHES:
        raise ValueError(
            f"got search={search!r}, expected {' or '.join(SEARCHES)}{suggest(search, SEARCHES)}"
        )
    if schedule not in SCHEDULES:
        raise ValueError(
            f"got schedule={schedule!r}, expected {' or '.join(SCHEDULES)}{suggest(schedule, SCHEDULES)}"
        )
    calibration = whole(calibration, "calibration")
    if calibration % 2:
        raise ValueError(
            f"got calibration={calibration}, expected an even number: samples are compared in pairs"
        )
    if model.denoiser.starts != "noise":
        raise ValueError(f"{model.name} starts from data; plans are for models that start from noise so far")
    seeds, labels = pairs(calibration, model.classes)
    plain = model.planned(plans.NONE)
    request, rules = plain.request(
        seeds=seeds,
        labels=None if labels is None else list(labels),
        num_steps=num_steps,
        sampler=sampler,
        guidance=guidance,
        conditions=conditions,
        batch=calibration,
    )
    if rules is not None or request.solver is not None:
        raise ValueError("got objects that no line describes; give the sampler and the guidance as lines")
    from studio.sampling.sampler_spec import build_sampler

    if build_sampler(request.sampler).mixes:
        raise ValueError(
            f"the sampler {request.sampler} chooses its steps on the way, so no plan can know them; choose "
            "one of fixed steps, such as ab2 or heun"
        )
    key = run_of(plain, request)
    called = _name(name, key, asked)
    folder = plans.folder_of(model.folder, model.hash)
    files.check_file(folder / f"{called}.json", overwrite=overwrite, flag="--name")
    shape, net = model.info.shape, getattr(model.denoiser, "net", None)
    tokens = tokens_of(net, shape)
    window = max(1, tokens // 8) if window is None else whole(window, "window")
    tile = (8 if tokens >= 1024 else 0) if tile is None else _tile(tile)
    say = on_trial or (lambda text: None)
    parts = parts_of(net, network_call(net, shape), window=window, tile=tile)
    chosen = _possible(chosen, parts, model.name, say)
    notes = Notes(
        folder / f".{called}.search", key, (str(asked), search, schedule, window, tile, calibration, chosen)
    )
    say("the run as it is")
    begun = time.perf_counter()
    trial = Trial(plain, request)
    once = time.perf_counter() - begun  # one run without a plan
    full = Plan.full(trial.evaluations, window=window, tile=tile)
    hunt = Hunt(trial, parts, asked, chosen, search=search, schedule=schedule, notes=notes, say=say)
    best = hunt.found(full)
    before = cost(parts, full, trial.guided)
    measured = {
        "error": round(best.error, 5),
        "flops": round(best.cost.flops / before.flops, 5),
        "attention_flops": round(best.cost.attention / before.attention, 5) if before.attention else 1.0,
        "gflops_before": round(before.flops / 1e9, 6),
        "gflops": round(best.cost.flops / 1e9, 6),
        "memory": memory(parts, best.plan, trial.guided),
        "budget": str(asked),
        "search": search,
        "schedule": schedule,
        "methods": list(chosen),
        "calibration": calibration,
        "search_share": round((time.perf_counter() - begun) / once * calibration / 8, 1),
    }
    saved = Saved(called, key, best.plan, measured)
    path = plans.write(folder, saved)
    picture = path.with_suffix(".png")
    heat_map(picture, best.plan, f"{called} of {model.name}: {measured['flops']:.0%} of the operations")
    notes.forget()
    return Compressed(saved, path, picture, before, best.cost)


def _methods(methods: Sequence[str]) -> tuple[str, ...]:
    if unknown := [m for m in methods if m not in METHODS]:
        raise ValueError(
            f"got method {unknown[0]!r}, expected {', '.join(METHODS)}{suggest(unknown[0], METHODS)}"
        )
    if not methods:
        raise ValueError(f"got no methods, expected some of {', '.join(METHODS)}")
    return tuple(m for m in METHODS if m in methods)


def _possible(
    methods: tuple[str, ...], parts: Parts, name: str, say: Callable[[str], Any]
) -> tuple[str, ...]:
    """Those that a network has. Raises ``ValueError`` where nothing is left."""
    lacking = {}
    if not parts.layers:
        lacking["attention"] = "has no attention that a plan could cut"
    if parts.trunk <= 0:
        lacking["blocks"] = "has no seam around its blocks"
    left = tuple(m for m in methods if m not in lacking)
    for method in methods:
        if method in lacking:
            say(f"{name} {lacking[method]}; what remains: {', '.join(left) or 'nothing'}")
    if not left:
        raise ValueError(
            f"{name} {' and '.join(lacking[m] for m in methods)}; choose other methods of "
            f"{', '.join(METHODS)}"
        )
    return left


def _name(name: str | None, key: Key, budget: Budget) -> str:
    if name is None:
        return re.sub(r"[^a-z0-9.=]+", "-", f"{key.sampler}-{key.num_steps}-{budget}".lower()).strip("-")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,99}", name) or name in (plans.AUTO, plans.NONE):
        raise ValueError(
            f"got name {name!r}, expected letters, digits, dots and dashes, and neither auto nor none"
        )
    return name


def _tile(tile: int) -> int:
    return 0 if tile == 0 else whole(tile, "tile")
