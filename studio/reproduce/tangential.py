"""Tangential damping (TCFG, 2503.18137) against classifier-free guidance at the same and at matched strength.

In the space of noise the two predictions nearly have one norm, and TCFG at w is then CFG at (1 + w)/2. Exact
scores, then two trained models.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import guidance
import samplers
from backbones.types import Cond, NoiseSource
from samplers import FunctionDenoiser, LinearPath, Prediction, VPPath
from samplers.paths import Path as DiffusionPath
from samplers.prediction import expand
from studio.metrics.point_sets import wasserstein2
from studio.model.loading import load
from studio.reproduce import steered, toy
from studio.reproduce.jobs import Job, Outcome

MODELS = ("fashion-dit", "fashion-ddpm")
SCALES = (1.5, 2.0, 3.0, 5.0)
SPACES = ("noise", "v", "data", "velocity")


class Exact:
    """The exact denoiser of equal Gaussians of one deviation around ``means`` (K, d), of all of them or, by
    label, of a class ``owner`` (K,)."""

    def __init__(self, means: Tensor, owner: Tensor, std: float, path: DiffusionPath):
        self.means, self.owner, self.std, self.path = means, owner, std, path

    def __call__(self, x: Tensor, t: Any, cond: Cond) -> Prediction:
        c = self.path.coefficients(t)
        a, s = expand(c.alpha, x).to(x), expand(c.sigma, x).to(x)
        variance = a * a * self.std**2 + s * s
        logits = -torch.cdist(x, a * self.means).square() / (2 * variance)  # (B, K)
        label = cond.label
        assert isinstance(label, Tensor)
        logits = torch.where((label[:, None] >= 0) & (label[:, None] != self.owner), -torch.inf, logits)
        mean = logits.softmax(1) @ self.means
        return Prediction("data", mean + a * self.std**2 / variance * (x - a * mean), x, t, self.path)


def guided(exact: Exact, line: str, x: Tensor, label: Tensor, sampler: str, steps: int) -> Tensor:
    """Samples of the exact model under a guidance line."""
    model = guidance.Guided(FunctionDenoiser(exact.path, exact), guidance.parse(line))
    return samplers.build(sampler).sample(model, x, Cond(label=label), num_steps=steps)


def apart(a: Tensor, b: Tensor) -> float:
    """Relative distance of two sets of samples."""
    return float((a - b).norm() / b.norm())


def high(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Ten classes of one Gaussian each in many dimensions: how far samples of TCFG(w) are from CFG(w) and
    from CFG((1 + w)/2), by space."""
    dim, count, seed = settings["dim"], settings["count"], settings["seed"]
    noise = NoiseSource([seed] * 10, index=range(10), step=7)
    means = settings["spread"] * noise.normal((dim,), stream="prior", dtype=torch.float64)
    exact = Exact(means, torch.arange(10), 0.3, VPPath())
    x = NoiseSource([seed] * count, index=range(count)).normal((dim,), stream="prior", dtype=torch.float64)
    label = torch.arange(count) % 10
    values: dict[str, Any] = {}
    for w in settings["scales"]:
        same, half = (
            guided(exact, f"cfg={v}", x, label, "ddim", settings["steps"]) for v in (w, (1 + w) / 2)
        )
        values[f"cfg@{w}"] = apart(same, half)
        for space in SPACES[:3]:
            made = guided(exact, f"tcfg(space={space}),cfg={w}", x, label, "ddim", settings["steps"])
            values |= {f"{space}-half@{w}": apart(made, half), f"{space}-same@{w}": apart(made, same)}
    return {**values, "threads": torch.get_num_threads(), "dtype": "fp64"}, {}


def moons(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Two moons as 800 narrow Gaussians, the upper one asked for: W2 to its points, and the share of samples
    nearer to it than to the other."""
    seed, count = settings["seed"], settings["count"]
    ends = toy.ends("normal", "moons", seed, 800, toy.TRAIN)
    test = toy.ends("normal", "moons", seed, 4 * count, toy.TEST)
    own = test.data[test.label == 0][:count].double()
    exact = Exact(ends.data.double(), ends.label, 0.1, LinearPath())
    x, label = test.source[: len(own)].double(), torch.zeros(len(own), dtype=torch.int64)
    values: dict[str, Any] = {}
    for w in settings["scales"]:
        for name, line in {"cfg": f"cfg={w}", "tcfg": f"tcfg,cfg={w}", "half": f"cfg={(1 + w) / 2}"}.items():
            made = guided(exact, line, x, label, "heun", settings["steps"])
            nearest = exact.owner[torch.cdist(made, exact.means).argmin(1)]
            values |= {
                f"w2-{name}@{w}": wasserstein2(made.float(), own.float()),
                f"own-{name}@{w}": float((nearest == 0).double().mean()),
            }
    plain = guided(exact, "", x, label, "heun", settings["steps"])
    values["w2-plain"] = wasserstein2(plain.float(), own.float())
    return {**values, "threads": torch.get_num_threads(), "dtype": "fp64"}, {}


def alike(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Mean difference in grey levels between pictures of the same seeds and classes: TCFG(w), in each space,
    against CFG(w) and CFG((1 + w)/2)."""
    model, count = load(settings["model"]), settings["count"]
    how = {
        "seeds": range(count),
        "labels": [i % len(model.classes) for i in range(count)],
        "num_steps": settings["steps"],
    }

    def made(line: str) -> Tensor:
        return model.sample(guidance=line, **how).values.float()

    values: dict[str, Any] = {}
    for w in settings["scales"]:
        same, half = made(f"cfg={w}"), made(f"cfg={(1 + w) / 2}")
        values[f"cfg@{w}"] = float((same - half).abs().mean())
        for space in SPACES:
            ours = made(f"tcfg(space={space}),cfg={w}")
            values |= {
                f"{space}-half@{w}": float((ours - half).abs().mean()),
                f"{space}-same@{w}": float((ours - same).abs().mean()),
            }
    return {**values, "threads": torch.get_num_threads()}, {}


def lines(quick: bool) -> list[str]:
    """Every guidance line whose quality is measured, once."""
    scales = SCALES[:1] if quick else SCALES
    made = [f"cfg={w:g}" for w in sorted({*scales, *((1 + w) / 2 for w in scales)})] + [
        f"tcfg,cfg={w:g}" for w in scales
    ]
    return made + ([] if quick else [f"tcfg(space={space}),cfg=3" for space in SPACES[1:]])


def jobs(quick: bool) -> list[Job]:
    seeds = range(1 if quick else 3)
    made = [
        Job(
            f"high-{s}",
            high,
            {
                "dim": 256,
                "count": 40 if quick else 500,
                "steps": 50,
                "scales": [2.0, 4.0, 7.5],
                "spread": 0.15,
                "seed": s,
            },
            0.3,
        )
        for s in seeds
    ]
    made += [
        Job(
            f"moons-{s}",
            moons,
            {"count": 100 if quick else 1000, "steps": 50, "scales": [2.0, 4.0], "seed": s},
            0.3,
        )
        for s in seeds
    ]
    for model in MODELS:
        made.append(
            Job(
                f"alike-{model}",
                alike,
                {
                    "model": model,
                    "count": 4 if quick else 64,
                    "steps": 4 if quick else 20,
                    "scales": [2.0, 4.0],
                },
                0.8,
            )
        )
        made += [
            Job(
                f"{model}-{line}",
                steered.point,
                {"model": model, "guidance": line, "num": 40 if quick else 2000, "steps": 4 if quick else 20},
                1.4,
            )
            for line in lines(quick)
        ]
    return made
