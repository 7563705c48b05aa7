"""Noto to Twemoji without pairs: how near a translation comes to the drawing that its code point has in the
other set.

    rmse       root mean square difference to the true partner, in grey levels of 0 to 255, over held-out
               emoji
    found      share whose nearest held-out Twemoji, by that distance, is the true partner
    energy     energy distance (of 8 × 8 × 3 averages) between translations and the held-out Twemoji

Identity is the untouched Noto emoji, random another held-out Twemoji.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from studio.config import load_config
from studio.data import load_data
from studio.metrics.point_sets import energy_distance
from studio.model.loading import load as load_model
from studio.model.model import Model
from studio.reproduce.jobs import Outcome, Unfinished
from studio.training.run import train

SHOWN = 12
DSBM = {"name": "dsbm", "num_pairs": 512, "num_steps": 10, "refresh": 200, "shares": (2, 2, 1, 1)}
METHODS: dict[str, dict[str, Any]] = {
    "sf2m": {"objective": {"parameterization": "flow_score", "coupling": "sinkhorn"}, "procedure": {}},
    "cfm": {"objective": {"parameterization": "flow_score", "coupling": "independent"}, "procedure": {}},
    "dsbm": {"objective": {"parameterization": "drift", "coupling": "ot"}, "procedure": DSBM},
}


def held_out(data: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) uint8 Noto emoji and their true partners."""
    found = load_data(data)
    return torch.from_numpy(found.held_out_source.values), torch.from_numpy(found.held_out.values)


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """``settings``: seed, method (or ``model``: a trained one), minutes or steps, data, and ``ways``:
    (sampler, steps) pairs."""
    if "model" in settings:
        model = load_model(settings["model"])
    else:
        folder, base = work / "run", load_config("noto-twemoji")
        method, length = METHODS[settings["method"]], {k: settings.get(k) for k in ("minutes", "steps")}
        tree = base.tree()
        tree |= {
            "name": "reproduce",
            "seed": settings["seed"],
            "data": dict(settings["data"]),
            "procedure": method["procedure"],
        }
        tree["backbone"] |= {"hidden_size": 128, **settings.get("backbone", {})}
        tree["objective"] = {**tree["objective"], **method["objective"]}
        tree["train"] |= {
            **length,
            "eval_every": 0,
            "preview": False,
            "keep_last": 1,
            "weak_snapshot": False,
            "batch_size": settings.get("batch_size", 96),
        }
        trained = train(tree, out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
        if trained.interrupted:
            raise Unfinished(f"stopped at step {trained.step}")
        model = trained.load()
    return measure(model, settings)


def measure(model: Model, settings: Mapping[str, Any]) -> Outcome:
    """``rmse@SAMPLER@STEPS``, ``found@...`` and ``energy@...`` for each way of sampling, and some
    pictures."""
    noto, twemoji = held_out(settings["data"])
    values: dict[str, Any] = {}
    arrays = {}
    for sampler, steps in settings["ways"]:
        made = model.translate(noto, sampler=sampler, num_steps=steps, seeds=range(len(noto))).values
        values |= {f"{k}@{sampler}@{steps}": v for k, v in judge(made, twemoji).items()}
        arrays[f"{sampler}@{steps}"] = made[:: max(1, len(made) // SHOWN)][:SHOWN].numpy()
    return {**values, "threads": torch.get_num_threads()}, arrays


def untrained(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Identity and random partners."""
    noto, twemoji = held_out(settings["data"])
    values = {f"{k}_identity": v for k, v in judge(noto, twemoji).items()}
    values |= {f"{k}_random": v for k, v in judge(twemoji.roll(len(twemoji) // 2, 0), twemoji).items()}
    step = max(1, len(noto) // SHOWN)
    return {**values, "held_out": len(noto)}, {
        "noto": noto[::step][:SHOWN].numpy(),
        "twemoji": twemoji[::step][:SHOWN].numpy(),
    }


def judge(made: Tensor, truth: Tensor) -> dict[str, float]:
    a, b = made.flatten(1).double(), truth.flatten(1).double()
    nearest = torch.cdist(a, b).argmin(1)
    same = (b[nearest] == b).all(1)
    coarse = [F.avg_pool2d(v.float(), 4).flatten(1).double() / 255 for v in (made, truth)]
    return {
        "rmse": float((a - b).square().mean(1).sqrt().mean()),
        "found": float(same.double().mean()),
        "energy": energy_distance(*coarse),
    }
