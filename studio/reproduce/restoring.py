"""Restoring Fashion-MNIST: a paired bridge against a regression of the same size and against what needs no
training.

PSNR = 10 log10(255²/MSE), the mean over pictures, asks how near a restoration is to the one picture that was
lost: a regression, which predicts the mean of all that fit, has the best. The Fréchet distance asks whether
the restored pictures look like pictures.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.data import load_data
from studio.data.degraded import KINDS, degrade
from studio.metrics.distances import frechet
from studio.metrics.features import build_extractor, extract
from studio.model.loading import load as load_model
from studio.model.model import Model
from studio.reproduce import pictures
from studio.reproduce.jobs import Outcome, Unfinished
from studio.training.run import train

HEADS: dict[str, dict[str, Any]] = {
    "i2sb": {"path": {"name": "i2sb"}, "parameterization": {"name": "displacement", "cond_source": True}},
    "i2sb-ot-ode": {
        "path": {"name": "i2sb", "stochastic": False},
        "parameterization": {"name": "displacement", "cond_source": True},
    },
    "regression": {
        "path": {"name": "brownian", "sigma": 0.0},
        "parameterization": "data",
        "times": {"name": "constant", "t": 0.0},
        "weight": "uniform",
    },
}
SHOWN = 8


def config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of `pictures` on pairs."""
    tree = pictures.config({**settings, "objective": {"path": "linear"}})
    tree["train"]["eval_every"] = 0
    return {
        **tree,
        "data": {"name": "fashion-restore"},
        "objective": {**HEADS[settings["method"]], "coupling": "paired"},
        "sample": {"sampler": "bridge", "num_steps": 1, "guidance": ""},
    }


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """``settings``: seed, method (or ``model``: a trained one), minutes or steps, ``num`` test pictures and
    the list ``few`` of step counts."""
    if "model" in settings:
        model = load_model(settings["model"])
    else:
        folder = work / "run"
        trained = train(config(settings), out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
        if trained.interrupted:
            raise Unfinished(f"stopped at step {trained.step}")
        model = trained.load()
    return measure(model, settings)


def measure(model: Model, settings: Mapping[str, Any]) -> Outcome:
    """``KIND-psnr@STEPS`` and ``KIND-fd@STEPS`` for each kind of damage, and some pictures."""
    clean = unseen(settings["num"])
    values: dict[str, float] = {}
    arrays: dict[str, Any] = {}
    for kind in KINDS:
        damaged = degrade(clean, kind)
        for steps in settings["few"]:
            made = model.translate(damaged, num_steps=steps, seeds=range(len(damaged))).values
            values |= {f"{kind}-psnr@{steps}": psnr(made, clean), f"{kind}-fd@{steps}": distance(made)}
            arrays[f"{kind}@{steps}"] = made[:SHOWN].numpy()
    return {**values, "threads": torch.get_num_threads()}, arrays


def untrained(settings: Mapping[str, Any], work: Path) -> Outcome:
    """The damaged pictures themselves (bicubic, mean fill), and clean ones against clean ones."""
    clean = unseen(settings["num"])
    values: dict[str, float] = {}
    arrays: dict[str, Any] = {}
    for kind in KINDS:
        damaged = degrade(clean, kind)
        values |= {f"{kind}-psnr": psnr(damaged, clean), f"{kind}-fd": distance(damaged)}
        arrays[kind] = damaged[:SHOWN].numpy()
    return {**values, "fd_real": distance(clean)}, {**arrays, "clean": clean[:SHOWN].numpy()}


def unseen(num: int) -> Tensor:
    """(N, 1, 28, 28) uint8 that no network was trained on."""
    return torch.from_numpy(load_data({"name": pictures.DATA}).held_out.values[:num].copy())


def psnr(made: Tensor, clean: Tensor) -> float:
    error = (made.float() - clean.float()).square().flatten(1).mean(1).clamp_min(1e-6)
    return float((10 * (255**2 / error).log10()).mean())


def distance(made: Tensor) -> float:
    """Fréchet distance to the training pictures in the shipped features."""
    return frechet(
        extract([made], build_extractor(pictures.FEATURES), keep=False).moments, pictures.real().side.moments
    )
