"""`fashion-ddpm` under its samplers: the ancestral ones of DDPM (with the learned variance), DDIM and
DPM-Solver++, at few and many steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from studio.evaluation import evaluate
from studio.metrics.features import build_extractor
from studio.model.loading import load
from studio.reproduce import page as pages
from studio.reproduce import pictures
from studio.reproduce.jobs import Job, Outcome, Page, Result
from studio.runtime.devices import DTYPE_NAMES
from studio.sampling import sampler_spec

MODEL = "fashion-ddpm"
WAYS = [
    ("ddpm(lambda_min=none,clip=1,variance=learned_range)", 50),
    ("ddpm(lambda_min=none,clip=1,variance=learned_range)", 250),
    *(
        (s, n)
        for s in ("ddim(lambda_min=none,clip=1,recompute_noise=true)", "dpmpp_2m(lambda_min=none,clip=1)")
        for n in (10, 20, 50)
    ),
    ("ddim(lambda_min=none,clip=1,recompute_noise=false)", 50),
]
SHOWN = 20
METRICS = {"fd": "Fréchet distance", "precision": "precision", "recall": "recall", "acc": "class accuracy"}


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One sampler at one number of steps, with the model's own guidance."""
    model = load(MODEL)
    how = {"sampler": settings["sampler"], "num_steps": settings["steps"]}
    found = evaluate(
        model,
        pictures.real(),
        metrics=("fd", "pr", "acc"),
        features=build_extractor(pictures.FEATURES),
        allow_small=settings["num"] < 1000,
        num=settings["num"],
        labels="balanced",
        **how,
    )
    values = {k: found.values[k] for k in METRICS} | {"fd_real": found.floor["fd"]}
    samples = model.sample(seeds=range(SHOWN), labels=[i % 10 for i in range(SHOWN)], **how)
    edge = ((samples.values == 0) | (samples.values == 255)).float().mean().item()
    return {
        **values,
        "edge": edge,
        "dtype": DTYPE_NAMES[model.denoiser.dtype or torch.float32],
        "threads": torch.get_num_threads(),
    }, {"pictures": samples.values.numpy()}


def name_of(sampler: str) -> str:
    """Its name without options; DDIM that goes on with the noise as the network gave it, beside bounded data,
    is told apart."""
    name, options = sampler_spec.parse(sampler)
    return options.get("scheduler", name).removesuffix("Scheduler") + (
        "-plain" if options.get("recompute_noise") is False else ""
    )


def jobs(quick: bool) -> list[Job]:
    ways = [("ddim(lambda_min=none,clip=1,recompute_noise=true)", 4)] if quick else WAYS
    return [
        Job(f"{name_of(s)}-{n}", run, {"sampler": s, "steps": n, "num": 40 if quick else 2000}, 0.075 * n)
        for s, n in ways
    ]


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("sampler", "steps"))
    rows = [{**r.settings, **r.values} for r in results.values()]
    first = next(iter(results.values()))
    pages.pictures(folder / "grid.png", {name: r.arrays["pictures"] for name, r in results.items()})
    best = min(rows, key=lambda row: row["fd"])
    few = min((row for row in rows if row["steps"] <= 10), key=lambda row: row["fd"], default=best)
    return "\n\n".join(
        [
            f"The bundled `{MODEL}` (noise prediction, learned variance, cosine table) with its default "
            f"guidance `{load(MODEL).config.sample.guidance}`: "
            f"{first.settings['num']:,} samples with balanced classes for each row, the same seeds, "
            "Fréchet distance to the 12,000 training pictures in the features of the shipped "
            f"`lenet-fashion` (not FID); two real sets of that size: {first.values['fd_real']:.3f}. Data "
            "predictions are bounded to [−1, 1]; DDIM then derives "
            "the noise again from the bounded data (`recompute_noise`), but for the last row, which "
            "goes on with the network's own.",
            pages.table(rows, {"sampler": "sampler", "steps": "steps", **METRICS}),
            f"- Best: {best['sampler']} in {best['steps']} steps, {best['fd']:.3f}; of ten steps or "
            f"fewer: {few['sampler']} in {few['steps']}, {few['fd']:.3f}.",
            "![the same seeds and classes under every sampler](grid.png)",
        ]
    )


page = Page("fashion-ddpm under its samplers", jobs, write)
