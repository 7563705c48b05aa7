"""The recipe on pictures that the pages share: a small DiT on Fashion-MNIST for a number of steps or minutes,
and its Fréchet distances at some numbers of steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from studio.evaluation import evaluate
from studio.evaluation.reference import Reference, open_reference
from studio.metrics.features import build_extractor
from studio.model.model import Model
from studio.reproduce.jobs import Outcome, Unfinished
from studio.runtime.devices import DTYPE_NAMES
from studio.training.run import train

DATA, FEATURES = "fashion-mnist", "lenet"
BACKBONE = {
    "name": "dit",
    "hidden_size": 128,
    "depth": 3,
    "num_heads": 2,
    "stem_channels": [24, 64],
    "stem_blocks": 2,
}
SHOWN = 20  # pictures kept of each run


def config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The bundled model's recipe with a smaller network; ``settings``: seed, objective, and minutes or
    steps."""
    length = {k: settings[k] for k in ("minutes", "steps") if k in settings}
    return {
        "name": "reproduce",
        "seed": settings["seed"],
        "data": {"name": DATA},
        "backbone": {**BACKBONE, **settings.get("backbone", {})},
        "objective": dict(settings["objective"]),
        "train": {
            **length,
            "batch_size": settings.get("batch_size", 64),
            "optimizer": "muon",
            "lr": 0.001,
            "muon_lr": 0.003,
            "weight_decay": 0.01,
            "warmup": 2 if settings.get("steps", 1000) < 400 else 200,
            "ema": ["power-12"],
            "eval_every": 0,
            "save_every": 500,
            "keep_last": 1,
            "weak_snapshot": False,
            "preview": False,
        },
        "sample": {
            "sampler": "ab2" if settings["objective"]["path"] == "linear" else "heun",
            "num_steps": 20,
            "guidance": "",
        },
    }


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Train, then ``fd@SAMPLER@STEPS`` for each of ``settings["samplers"]``, a list of (sampler, steps).
    Raises `Unfinished` when a signal stopped the training, which goes on from its checkpoint in ``work``."""
    folder = work / "run"
    trained = train(config(settings), out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
    if trained.interrupted:
        raise Unfinished(f"stopped at step {trained.step}")
    model = trained.load()
    values = {
        "steps": trained.step,
        "threads": torch.get_num_threads(),
        "dtype": DTYPE_NAMES[model.denoiser.dtype or torch.float32],
        **measure(model, settings["samplers"], num=settings["num"]),
    }
    best = settings["samplers"][-1]
    samples = model.sample(
        seeds=range(SHOWN),
        labels=[i % 10 for i in range(SHOWN)],
        sampler=best[0],
        num_steps=best[1],
        guidance=None,
    )
    return values, {"pictures": samples.values.numpy()}


def real() -> Reference:
    """The training pictures as the shipped extractor sees them."""
    return open_reference(DATA, build_extractor(FEATURES))


def measure(model: Model, samplers: Sequence[tuple[str, int]], *, num: int) -> dict[str, float]:
    """Fréchet distance (and that of two disjoint real sets) of ``num`` samples with balanced classes, seeds 0
    to num − 1, for each sampler."""
    reference, extractor = real(), build_extractor(FEATURES)
    values: dict[str, float] = {}
    for sampler, steps in samplers:
        found = evaluate(
            model,
            reference,
            metrics=("fd", "acc"),
            features=extractor,
            allow_small=num < 1000,
            num=num,
            labels="balanced",
            guidance=None,
            sampler=sampler,
            num_steps=steps,
        )
        values |= {
            f"fd@{sampler}@{steps}": found.values["fd"],
            f"acc@{sampler}@{steps}": found.values["acc"],
            "fd_real": found.floor["fd"],
        }
    return values
