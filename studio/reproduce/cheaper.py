"""Quality against cost of everything that makes a trained model cheaper without training, on equal terms:
plans of one method and of all, better solvers with fewer steps, and shorter guidance intervals, each
against 50 Euler steps from the same noise."""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.caching.plan import Plan
from backbones.types import tokens_of
from studio.compression.budget import Budget
from studio.compression.cost import Parts, cost, network_call, parts_of
from studio.compression.hunt import Hunt
from studio.compression.notes import Notes
from studio.compression.trial import Trial, pairs, rms
from studio.model.checked_request import run_of
from studio.model.loading import load
from studio.model.model import Model
from studio.reproduce import page as pages
from studio.reproduce.jobs import Job, Outcome, Page, Result
from studio.runtime.devices import DTYPE_NAMES

MODELS = {  # guidance at every step, and what a plan can leave out
    "fashion-dit": ("cfg=1.5", ("blocks", "uncond", "attention", "all")),
    "fashion-dis": ("cfg=2", ("blocks", "uncond", "all")),
}
STEPS, FIRST = 50, 1000  # and the first seed of what is judged, none of which a search has seen
METHODS = {
    "blocks": ("blocks",),
    "uncond": ("uncond",),
    "attention": ("attention",),
    "all": ("blocks", "uncond", "attention"),
}
ERRORS = (0.02, 0.05, 0.1, 0.2)
FEWER = [("euler", n) for n in (30, 20, 12, 8)] + [("ab2", n) for n in (25, 15, 10, 6)]
MARKS = (1, 1.5, 2, 3, 4, 6, 8)
INTERVALS = ((0.1, 0.9), (0.2, 0.8), (0.3, 0.7))


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One way beside 50 Euler steps: error of the worst sample and in the mean, share of operations, and of
    time."""
    model = load(settings["model"], device="cpu")
    net, shape = model.denoiser.net, model.info.shape
    window = max(1, tokens_of(net, shape) // 8)
    parts = parts_of(net, network_call(net, shape), window=window)
    usual: dict[str, Any] = {
        "num_steps": settings["steps"],
        "sampler": "euler",
        "guidance": settings["guidance"],
    }
    here = dict(usual)
    if settings["kind"] == "steps":
        here |= {"sampler": settings["sampler"], "num_steps": settings["fewer"]}
    if settings["kind"] == "interval":
        low, high = settings["interval"]
        here["guidance"] = f"{settings['guidance']},interval={low}:{high}"
    judged = _trial(model, settings["num"], FIRST, usual)
    plan = None
    if settings["kind"] == "plan":
        plan, this = _plan(model, settings, usual, parts, window, work), judged
    else:
        this = _trial(model, settings["num"], FIRST, here)
    took: dict[str, list[float]] = {"usual": [], "this": []}
    states: Tensor = this.plain
    for _ in range(settings["rounds"]):
        start = time.perf_counter()
        judged.run(None)
        middle = time.perf_counter()
        states = this.run(plan)
        took["usual"].append(middle - start)
        took["this"].append(time.perf_counter() - middle)
    moved = rms(states - judged.plain) / judged.apart
    times = {name: statistics.median(values) for name, values in took.items()}
    made = cost(parts, plan or Plan.full(this.evaluations), this.guided)
    return {
        "error": float(moved.mean()),
        "worst": float(moved.max()),
        "operations": made.flops / cost(parts, Plan.full(judged.evaluations), judged.guided).flops,
        "time": times["this"] / times["usual"],
        "speed-up": times["usual"] / times["this"],
        "dtype": DTYPE_NAMES[model.denoiser.dtype or torch.float32],
        "threads": torch.get_num_threads(),
    }, {}


def _trial(model: Model, count: int, first: int, how: Mapping[str, Any]) -> Trial:
    """Pairs of one class, with seeds from ``first`` on."""
    seeds, labels = pairs(count, model.classes)
    request, _ = model.request(
        seeds=[first + s for s in seeds], labels=list(labels or ()), batch=count, **how
    )
    return Trial(model, request)


def _plan(
    model: Model,
    settings: Mapping[str, Any],
    usual: Mapping[str, Any],
    parts: Parts,
    window: int,
    work: Path,
) -> Plan:
    """As `studio compress` finds it, without a file."""
    trial = _trial(model, settings["calibration"], 0, usual)
    hunt = Hunt(
        trial,
        parts,
        Budget("error", settings["error"]),
        METHODS[settings["method"]],
        search="local",
        schedule=settings["schedule"],
        notes=Notes(
            work / "notes.json", run_of(model, trial.request), [settings["method"], settings["error"]]
        ),
        say=lambda text: None,
    )
    return hunt.found(Plan.full(trial.evaluations, window=window)).plan


def jobs(quick: bool) -> list[Job]:
    made = []
    for model, (guidance, methods) in list(MODELS.items())[: 1 if quick else None]:
        base: dict[str, Any] = {
            "model": model,
            "guidance": guidance,
            "steps": 6 if quick else STEPS,
            "num": 2 if quick else 8,
            "rounds": 1 if quick else 3,
        }

        def add(name: str, model: str = model, base: dict[str, Any] = base, **more: Any) -> None:
            made.append(Job(f"{model}-{name}", run, {**base, **more}, 1.5))

        for error in (0.3,) if quick else ERRORS:
            searched: dict[str, Any] = {"kind": "plan", "error": error, "calibration": 2 if quick else 4}
            for method in ["all"] if quick else methods:
                add(f"{method}-{error:g}", method=method, schedule="adaptive", **searched)
            if not quick:
                add(f"interval-{error:g}", method="all", schedule="interval", **searched)
        for sampler, n in FEWER[-1:] if quick else FEWER:
            add(f"{sampler}-{n}", kind="steps", sampler=sampler, fewer=3 if quick else n)
        for low, high in INTERVALS[:1] if quick else INTERVALS:
            add(f"guided-{low:g}-{high:g}", kind="interval", interval=[low, high])
    return made


FAMILIES = {
    "all": "plan: all methods",
    "blocks": "plan: blocks",
    "uncond": "plan: unconditional pass",
    "attention": "plan: attention",
    "interval": "plan: every n-th step",
    "euler": "fewer Euler steps",
    "ab2": "fewer AB2 steps",
    "guided": "shorter guidance",
}


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("model",))
    panels: dict[str, dict[str, tuple[Sequence[float], Sequence[Sequence[float]]]]] = {}
    told = []
    models = list(dict.fromkeys(r.settings["model"] for r in results.values()))
    for model in models:
        curves: dict[str, list[Result]] = {}
        for name, r in results.items():
            if r.settings["model"] == model:
                curves.setdefault(name.removeprefix(f"{model}-").split("-")[0], []).append(r)
        panels[model] = {}
        for family, found in curves.items():
            found.sort(key=lambda r: r.values["time"])
            panels[model][FAMILIES[family]] = (
                [r.values["speed-up"] for r in found],
                [[r.values["error"]] for r in found],
            )
        rows = [
            {
                "way": f"{FAMILIES[name.removeprefix(f'{model}-').split('-')[0]]} "
                f"({name.removeprefix(f'{model}-').partition('-')[2]})",
                "error": r.values["error"],
                "worst": r.values["worst"],
                "operations": r.values["operations"],
                "times faster": r.values["speed-up"],
            }
            for name, r in results.items()
            if r.settings["model"] == model
        ]
        told.append(f"## {model}\n\n{pages.table(rows)}\n\n{_said(curves)}")
    pages.lines(folder / "frontier.png", panels, x="times faster than 50 Euler steps", y="error", marks=MARKS)
    first = next(iter(results.values())).settings
    return (
        f"Every way starts from the same noise as {first['steps']} guided Euler steps and is held to their "
        "result: the error is the root mean square of the difference, as a share of how far two samples of "
        f"one class lie apart, in the mean of {first['num']} samples that no search has seen (in brackets of "
        "a plan: the error it was allowed on others, for the worst of them). Times are medians of turns that "
        "both sides took in one process; operations are the network's products.\n\n"
        "![Error against speed](frontier.png)\n\n" + "\n\n".join(told)
    )


def _said(curves: Mapping[str, list[Result]]) -> str:
    """What is the fastest within an error, for a few errors."""
    lines = []
    every = [(FAMILIES[family], r.values) for family, found in curves.items() for r in found]
    for most in (0.02, 0.05, 0.1):
        within = [(name, v) for name, v in every if v["error"] <= most]
        if within:
            name, best = max(within, key=lambda pair: pair[1]["speed-up"])
            lines.append(
                f"- Within an error of {most:g}: {name}, {best['speed-up']:.2f} times faster "
                f"(error {best['error']:.3f})."
            )
    return "\n".join(lines)


page = Page("Quality against cost of what makes a trained model cheaper", jobs, write)
