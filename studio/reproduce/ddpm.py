"""`fashion-ddpm` under its samplers: the ancestral ones of DDPM (with the learned variance), DDIM and DPM-Solver++, at few and many steps."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from studio.devices import DTYPE_NAMES
from studio.evaluation import evaluate
from studio.metrics.features import build_extractor
from studio.model import load
from studio.reproduce import page as pages
from studio.reproduce import pictures
from studio.reproduce.jobs import Job, Outcome, Page, Result

MODEL = "fashion-ddpm"
WAYS = [
    ("ddpm(variance=learned_range,clip=1)", 50),
    ("ddpm(variance=learned_range,clip=1)", 250),
    *((f"{s}(clip=1)", n) for s in ("ddim", "dpmpp_2m") for n in (10, 20, 50)),
]
SHOWN = 20
METRICS = {"fd": "Fréchet distance", "precision": "precision", "recall": "recall", "acc": "class accuracy"}


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One sampler at one number of steps, with and without the model's own guidance."""
    model, extractor = load(MODEL), build_extractor(pictures.FEATURES)
    values: dict[str, Any] = {"dtype": DTYPE_NAMES[model.denoiser.dtype or torch.float32], "threads": torch.get_num_threads()}
    how = {"sampler": settings["sampler"], "num_steps": settings["steps"]}
    for name, guidance in (("plain", None), ("guided", "default")):
        started = time.monotonic()
        found = evaluate(
            model, pictures.real(), metrics=("fd", "pr", "acc"), features=extractor, allow_small=settings["num"] < 1000,
            num=settings["num"], labels="balanced", guidance=guidance, **how,
        )  # fmt: skip
        values |= {f"{k}_{name}": v for k, v in found.values.items() if k in METRICS}
        values |= {f"seconds_{name}": time.monotonic() - started, "fd_real": found.floor["fd"]}
    samples = model.sample(seeds=range(SHOWN), labels=[i % 10 for i in range(SHOWN)], **how)
    return values, {"pictures": samples.values.numpy()}


def jobs(quick: bool) -> list[Job]:
    ways = [("ddim", 4)] if quick else WAYS
    return [Job(f"{s.partition('(')[0]}-{n}", run, {"sampler": s, "steps": n, "num": 40 if quick else 2000}, 0.15 * n) for s, n in ways]


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("sampler", "steps"))
    rows = [
        {"sampler": r.settings["sampler"], "steps": r.settings["steps"], **{k: v for k, v in r.values.items() if isinstance(v, float)}}
        for r in results.values()
    ]
    heads = {f"{k}_{g}": f"{text}, {'no guidance' if g == 'plain' else 'guided'}" for g in ("plain", "guided") for k, text in METRICS.items()}
    first = next(iter(results.values()))
    pages.pictures(folder / "grid.png", {name: r.arrays["pictures"] for name, r in results.items()})
    best = min(rows, key=lambda row: row["fd_guided"])
    few = min((row for row in rows if row["steps"] <= 10), key=lambda row: row["fd_guided"], default=best)
    card = load(MODEL)
    return "\n\n".join(
        [
            f"The bundled `{MODEL}` (noise prediction, learned variance, cosine table): {first.settings['num']:,} samples with balanced classes for each row, the same seeds, "
            "Fréchet distance to the 12,000 training pictures in the features of the shipped `lenet-fashion` (not FID); two real sets of that size: "
            f"{first.values['fd_real']:.3f}. Guided means the model's own default, `{card.config.sample.guidance}`.",
            pages.table(rows, {"sampler": "sampler", "steps": "steps", **heads}),
            f"- Best with guidance: {best['sampler']} in {best['steps']} steps, {best['fd_guided']:.3f}; of ten steps or fewer: {few['sampler']}, {few['fd_guided']:.3f}.",
            "The same seeds and classes under every sampler, guided:",
            "![the same seeds under every sampler](grid.png)",
        ]
    )  # fmt: skip


page = Page("fashion-ddpm under its samplers", jobs, write)
