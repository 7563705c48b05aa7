"""`fashion-ddpm` under its samplers: the ancestral ones of DDPM (with the learned variance), DDIM and DPM-Solver++, at few and many steps; and every
sampler in 20 steps from the path's own beginning with unbounded data predictions, started further down, and bounded as well."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from studio import sampler_spec
from studio.devices import DTYPE_NAMES
from studio.evaluation import evaluate
from studio.metrics.features import build_extractor
from studio.model import load
from studio.reproduce import page as pages
from studio.reproduce import pictures
from studio.reproduce.jobs import Job, Outcome, Page, Result
from studio.sampler_spec import LAMBDA_MIN

MODEL = "fashion-ddpm"
WAYS = [
    ("ddpm(lambda_min=none,clip=1,variance=learned_range)", 50),
    ("ddpm(lambda_min=none,clip=1,variance=learned_range)", 250),
    *((s, n) for s in ("ddim(lambda_min=none,clip=1,recompute_noise=true)", "dpmpp_2m(lambda_min=none,clip=1)") for n in (10, 20, 50)),
    ("ddim(lambda_min=none,clip=1,recompute_noise=false)", 50),
]
EVERY = {  # queries a step
    "euler": 1, "ab2": 1, "midpoint": 2, "heun": 2, "rk4": 4, "ddim(recompute_noise=true)": 1, "ddpm(variance=learned_range)": 1, "dpmpp_2m": 1,
    "edm_heun": 2, "euler_maruyama": 1, "torchdiffeq(method=rk4)": 4,
    **{f"diffusers(scheduler={s}Scheduler)": 1 for s in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep")},
    "diffusers(scheduler=HeunDiscreteScheduler)": 2,
}  # fmt: skip
STEPS = 20
BOUNDS = {
    "before": {"lambda_min": None, "clip": None},
    "started": {"lambda_min": LAMBDA_MIN, "clip": None},
    "after": {"lambda_min": LAMBDA_MIN, "clip": 1.0},
}
SHOWN = 20
METRICS = {"fd": "Fréchet distance", "precision": "precision", "recall": "recall", "acc": "class accuracy"}
EDGE = "at 0 or 255"


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One sampler at one number of steps, with the model's own guidance."""
    model = load(MODEL)
    how = {"sampler": settings["sampler"], "num_steps": settings["steps"]}
    found = evaluate(
        model, pictures.real(), metrics=("fd", "pr", "acc"), features=build_extractor(pictures.FEATURES), allow_small=settings["num"] < 1000,
        num=settings["num"], labels="balanced", **how,
    )  # fmt: skip
    values = {k: found.values[k] for k in METRICS} | {"fd_real": found.floor["fd"]}
    samples = model.sample(seeds=range(SHOWN), labels=[i % 10 for i in range(SHOWN)], **how)
    edge = ((samples.values == 0) | (samples.values == 255)).float().mean().item()
    return {**values, "edge": edge, "dtype": DTYPE_NAMES[model.denoiser.dtype or torch.float32], "threads": torch.get_num_threads()}, {
        "pictures": samples.values.numpy()
    }


def name_of(sampler: str) -> str:
    """Its name without options; DDIM that goes on with the noise as the network gave it, beside bounded data, is told apart."""
    name, options = sampler_spec.parse(sampler)
    return options.get("scheduler", name).removesuffix("Scheduler") + ("-plain" if options.get("recompute_noise") is False else "")


def jobs(quick: bool) -> list[Job]:
    num = 40 if quick else 2000
    ways = [("ddim(lambda_min=none,clip=1,recompute_noise=true)", 4)] if quick else WAYS
    made = [Job(f"{name_of(s)}-{n}", run, {"sampler": s, "steps": n, "num": num}, 0.075 * n) for s, n in ways]
    num, steps = (40, 3) if quick else (1000, STEPS)
    for sampler, queries in list(EVERY.items())[:1] if quick else EVERY.items():
        name, options = sampler_spec.parse(sampler)
        for bounds, chosen in BOUNDS.items():
            settings = {"sampler": sampler_spec.line(name, {**options, **chosen}), "steps": steps, "num": num, "bounds": bounds, "of": sampler}
            made.append(Job(f"every-{name_of(sampler)}{'-rk4' if 'rk4)' in sampler else ''}-{bounds}", run, settings, 0.0375 * steps * queries))
    return made


def every(results: Mapping[str, Result]) -> str:
    """A row for each sampler: Fréchet distance and share of pixels at either end under each of `BOUNDS`."""
    rows: dict[str, dict[str, Any]] = {}
    for r in results.values():
        if "bounds" in r.settings:
            row = rows.setdefault(r.settings["of"], {"sampler": r.settings["of"]})
            row |= {r.settings["bounds"]: r.values["fd"], f"{r.settings['bounds']} {EDGE}": r.values["edge"]}
    return pages.table([*rows.values()], {"sampler": "sampler", **{k: k for k in BOUNDS}, **{f"{b} {EDGE}": f"{b}, {EDGE}" for b in BOUNDS}})


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("sampler", "steps"))
    few_ways = {name: r for name, r in results.items() if "bounds" not in r.settings}
    rows = [{**r.settings, **r.values} for r in few_ways.values()]
    first = next(iter(few_ways.values()))
    pages.pictures(folder / "grid.png", {name: r.arrays["pictures"] for name, r in few_ways.items()})
    pages.pictures(folder / "every.png", {name: r.arrays["pictures"] for name, r in results.items() if name not in few_ways})
    of_each = next(r for name, r in results.items() if name not in few_ways)
    best = min(rows, key=lambda row: row["fd"])
    few = min((row for row in rows if row["steps"] <= 10), key=lambda row: row["fd"], default=best)
    return "\n\n".join(
        [
            f"The bundled `{MODEL}` (noise prediction, learned variance, cosine table) with its default guidance `{load(MODEL).config.sample.guidance}`: "
            f"{first.settings['num']:,} samples with balanced classes for each row, the same seeds, Fréchet distance to the 12,000 training pictures in the features of the shipped "
            f"`lenet-fashion` (not FID); two real sets of that size: {first.values['fd_real']:.3f}. Data predictions are bounded to [−1, 1]; DDIM then derives "
            "the noise again from the bounded data (`recompute_noise`), but for the last row, which goes on with the network's own.",
            pages.table(rows, {"sampler": "sampler", "steps": "steps", **METRICS}),
            f"- Best: {best['sampler']} in {best['steps']} steps, {best['fd']:.3f}; of ten steps or fewer: {few['sampler']} in {few['steps']}, {few['fd']:.3f}.",
            "![the same seeds and classes under every sampler](grid.png)",
            "## Every sampler, before and after",
            f"{of_each.settings['num']:,} samples for each in {of_each.settings['steps']} steps (of one query or more): Fréchet distance, and the share of "
            f"pixels at 0 or 255 in the {SHOWN} that are shown. *before*: from the path's own beginning, data predictions unbounded; *started*: grids start at "
            f"log-SNR/2 = {LAMBDA_MIN}; *after*: bounded as well, which is the default for a model of noise.",
            every(results),
            "![the same seeds and classes under every sampler, before and after](every.png)",
        ]
    )


page = Page("fashion-ddpm under its samplers", jobs, write)
