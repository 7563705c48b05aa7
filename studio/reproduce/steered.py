"""What the pages on guidance share: a model under one guidance line, measured; and the same at the best of
several lines."""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from studio.evaluation import evaluate
from studio.evaluation.reference import Reference, open_reference
from studio.evaluation.sets import of_data
from studio.metrics.features import build_extractor
from studio.model.loading import load
from studio.model.model import Model
from studio.reproduce import pictures
from studio.reproduce.jobs import Outcome
from studio.runtime.devices import DTYPE_NAMES

METRICS = {"fd": "Fréchet distance", "precision": "precision", "recall": "recall", "acc": "class accuracy"}
SHOWN = 20


def reference_of(data: Mapping[str, Any]) -> Reference:
    """The training pictures of a data section as the shipped extractor sees them."""
    return open_reference(of_data(data, str(data["name"])), build_extractor(pictures.FEATURES))


def measured(
    model: Model,
    reference: Reference,
    how: Mapping[str, Any],
    num: int,
    metrics: Sequence[str] = ("fd", "pr", "acc"),
) -> dict[str, Any]:
    """`METRICS` of ``num`` samples with balanced classes, seeds from 0, and the floor of the Fréchet
    distance."""
    found = evaluate(
        model,
        reference,
        metrics=metrics,
        features=build_extractor(pictures.FEATURES),
        allow_small=num < 1000,
        num=num,
        labels="balanced",
        **how,
    )
    values = {k: found.values[k] for k in METRICS if k in found.values}
    return {
        **values,
        "fd_real": found.floor["fd"],
        "threads": torch.get_num_threads(),
        "dtype": DTYPE_NAMES[model.denoiser.dtype or torch.float32],
    }


def filled(line: str, work: Path) -> str:
    """A guidance line with ``{home}`` replaced by where the page's jobs keep their models."""
    return line.replace("{home}", str(work.parent))


def point(settings: Mapping[str, Any], work: Path) -> Outcome:
    """``settings``: model, guidance, num, steps, and sampler where it is not the model's own. Keeps a few
    pictures."""
    model = load(filled(settings["model"], work))
    how = {"guidance": filled(settings["guidance"], work) or None, "num_steps": settings["steps"]}
    how |= {"sampler": settings["sampler"]} if "sampler" in settings else {}
    values = measured(
        model,
        reference_of(settings.get("data", {"name": pictures.DATA})),
        how,
        settings["num"],
        settings.get("metrics", ("fd", "pr", "acc")),
    )
    count = len(model.classes)
    samples = model.sample(seeds=range(SHOWN), labels=[i % count for i in range(SHOWN)], **how)
    return values, {"pictures": samples.values.numpy()}


def best(settings: Mapping[str, Any], work: Path) -> Outcome:
    """`point` with more samples at whichever of the jobs ``settings["among"]`` had the lowest Fréchet
    distance."""
    trees = [json.loads((work.parent / f"{name}.json").read_text()) for name in settings["among"]]
    chosen = min(trees, key=lambda tree: tree["values"]["fd"])
    values, arrays = point({**chosen["settings"], "num": settings["num"]}, work)
    return {**values, "chosen": chosen["name"]}, arrays


def cost(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Seconds of each of ``settings["ways"]`` (name → guidance line and sampler), in turns, by the median
    over ``rounds`` after one that is not counted, over those of ``none``."""
    model = load(settings["model"])
    ways: dict[str, dict[str, Any]] = {
        name: {k: filled(v, work) or None for k, v in way.items()} for name, way in settings["ways"].items()
    }
    how: dict[str, Any] = {
        "seeds": range(settings["count"]),
        "labels": [i % len(model.classes) for i in range(settings["count"])],
        "num_steps": settings["steps"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + settings["rounds"]):
        for name, way in ways.items():
            started = time.perf_counter()
            model.sample(**how, **way)
            seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    return {
        **{name: s / median["none"] for name, s in median.items()},
        "threads": torch.get_num_threads(),
    }, {}
