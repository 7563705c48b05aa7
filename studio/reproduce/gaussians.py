"""The Schrödinger bridge between two Gaussians (Shi et al. 2303.16852): every method against the closed form.

N(−0.1, I) → N(0.1, I) with sigma = 1 in d dimensions: the variance is 1.0590 half way and the ends correlate
by (√5 − 1)/2. A method is trained by `studio.train`, sampled from fresh sources, and its law is compared at t
= 0, ¼, ½, ¾, 1:

    mean    largest |mean − truth| of a coordinate         cov     largest ‖cov − truth‖_F / ‖truth‖_F over t
    cross   ‖Cov(source, end) − truth‖_F / ‖truth‖_F, of the samples; ``pairing`` of what the coupling pairs
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import samplers
from backbones.types import Cond, NoiseSource
from samplers import Batch
from samplers.gaussian_bridge import GaussianBridge, root
from samplers.solvers.bridge import facing
from studio.checkpoints.build import objective_of
from studio.config import from_tree
from studio.data.arrays import Arrays, Data
from studio.reproduce.jobs import Outcome, Unfinished
from studio.training.run import train

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
SIGMA = 1.0
METHODS: dict[str, dict[str, Any]] = {
    "cfm": {
        "objective": {
            "path": {"name": "brownian", "sigma": 0.0},
            "parameterization": "velocity",
            "coupling": "independent",
        },
        "sampler": "heun",
    },
    "ot": {
        "objective": {
            "path": {"name": "brownian", "sigma": 0.0},
            "parameterization": "velocity",
            "coupling": "ot",
        },
        "sampler": "heun",
    },
    "sb-cfm": {
        "objective": {
            "path": {"name": "brownian", "sigma": SIGMA},
            "parameterization": "velocity",
            "coupling": "sinkhorn",
        },
        "sampler": "heun",
    },
    "sf2m": {
        "objective": {
            "path": {"name": "brownian", "sigma": SIGMA},
            "parameterization": "flow_score",
            "coupling": "sinkhorn",
        },
        "sampler": "bridge_sde",
    },
    "dsbm-imf": {
        "objective": {
            "path": {"name": "brownian", "sigma": SIGMA},
            "parameterization": "drift",
            "coupling": "independent",
        },
        "sampler": "bridge_sde",
        "procedure": {"name": "dsbm", "start": "imf"},
    },
    "dsbm-ipf": {
        "objective": {
            "path": {"name": "brownian", "sigma": SIGMA},
            "parameterization": "drift",
            "coupling": "independent",
        },
        "sampler": "bridge_sde",
        "procedure": {"name": "dsbm", "start": "ipf"},
    },
}


def truth(dim: int) -> GaussianBridge:
    eye, one = torch.eye(dim, dtype=torch.float64), torch.ones(dim, dtype=torch.float64)
    return GaussianBridge(-0.1 * one, eye, 0.1 * one, eye, sigma=SIGMA)


def ends(bridge: GaussianBridge, count: int, *, seed: int, page: int) -> tuple[Tensor, Tensor]:
    """(N, d) sources and data, float32, unpaired."""
    noise = NoiseSource([seed] * count, index=range(count), step=page)
    shape = (len(bridge.a),)
    source = bridge.a + noise.normal(shape, stream="source", dtype=torch.float64) @ root(bridge.A)
    data = bridge.b + noise.normal(shape, stream="data", dtype=torch.float64) @ root(bridge.B)
    return source.float(), data.float()


def data_of(bridge: GaussianBridge, count: int, seed: int) -> Data:
    source, data = ends(bridge, count, seed=seed, page=0)
    return Data(
        f"gaussian-{len(bridge.a)}",
        "points",
        tuple(data.shape[1:]),
        Arrays(data.numpy()),
        codec={"name": "scale", "std": 1.0},
        source=Arrays(source.numpy()),
        source_name="gaussian",
    )


def config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings``: seed, method, steps, batch, num_pairs and shares of DSBM's phases."""
    method = METHODS[settings["method"]]
    procedure = dict(method.get("procedure", {}))
    if procedure:
        procedure |= {
            "num_pairs": settings["num_pairs"],
            "num_steps": 40,
            "refresh": settings["refresh"],
            "shares": tuple(settings["shares"]),
            "simulate_batch": 4096,
        }
    return {
        "name": "gaussian",
        "seed": settings["seed"],
        "data": {},
        "backbone": {"name": "mlp", "width": 128, "depth": 2},
        "objective": dict(method["objective"]),
        "procedure": procedure,
        "train": {
            "steps": settings["steps"],
            "batch_size": settings["batch"],
            "lr": 2e-3,
            "warmup": 100,
            "ema": ["power-12"],
            "dtype": "fp32",
            "log_every": 0,
            "eval_every": 0,
            "save_every": max(1, settings["steps"] // 4),
            "keep_last": 1,
            "weak_snapshot": False,
            "preview": False,
        },
        "sample": {"sampler": method["sampler"], "num_steps": 4, "guidance": ""},
    }


def compare(bridge: GaussianBridge, states: Mapping[float, Tensor]) -> dict[str, float]:
    """Errors of the states (N, d) at `TIMES`; see the module."""
    values: dict[str, float] = {}
    for t, x in states.items():
        cov, want = torch.cov(x.double().mT), bridge.cov(t)
        values |= {
            f"mean@{t}": float((x.double().mean(0) - bridge.mean(t)).abs().max()),
            f"cov@{t}": float((cov - want).norm() / want.norm()),
        }
    values |= {
        "mean": max(v for k, v in values.items() if k.startswith("mean@")),
        "cov": max(v for k, v in values.items() if k.startswith("cov@")),
    }
    return {**values, "cross": cross_error(bridge, states[0.0], states[1.0])}


def cross_error(bridge: GaussianBridge, source: Tensor, data: Tensor) -> float:
    both = torch.cov(torch.cat([source, data], 1).double().mT)
    dim = len(bridge.a)
    return float((both[:dim, dim:] - bridge.cross).norm() / bridge.cross.norm())


def walk(
    model: Any, bridge: GaussianBridge, sampler: str, *, count: int, num_steps: int, seed: int
) -> dict[float, Tensor]:
    """States (N, d) at `TIMES` from ``count`` fresh sources."""
    solver = samplers.build(sampler)
    x, _ = ends(bridge, count, seed=seed, page=1)
    states = {0.0: x}
    noise = NoiseSource([seed] * count, index=range(count))
    for step in solver.steps(facing(model, solver.needs), x, Cond(), noise, num_steps=num_steps):
        if any(abs(step.s - t) < 1e-9 for t in TIMES):
            states[round(step.s, 2)] = step.x
    return states


def pairing(settings: Mapping[str, Any], bridge: GaussianBridge) -> float:
    """`cross` of what the coupling of a method pairs, over batches of its size."""
    objective = objective_of(from_tree({"objective": METHODS[settings["method"]]["objective"]}))
    sources, data = [], []
    for i in range(-(-settings["count"] // settings["batch"])):
        x, y = ends(bridge, settings["batch"], seed=settings["seed"], page=2 + i)
        noise = NoiseSource([settings["seed"]] * len(x), index=range(len(x)), step=i)
        pairs = objective.sample_pairs(Batch(y, source=x), noise)
        sources.append(pairs.source)
        data.append(pairs.data)
    return cross_error(bridge, torch.cat(sources), torch.cat(data))


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One method (or ``exact``, the closed form's own drift) with one seed. Raises `Unfinished` when a signal
    stopped the training."""
    bridge, method = truth(settings["dim"]), settings["method"]
    common = {"count": settings["count"], "num_steps": settings["num_steps"], "seed": settings["seed"] + 1000}
    if method == "exact":
        return {
            **compare(bridge, walk(bridge.denoiser(), bridge, "bridge_sde", **common)),
            "dtype": "fp32",
        }, {}
    folder = work / "run"
    data = data_of(bridge, settings["data"], settings["seed"])
    trained = train(
        config(settings),
        out=folder,
        data=data,
        resume=(folder / "config.yaml").is_file(),
        device="cpu",
        quiet=True,
    )
    if trained.interrupted:
        raise Unfinished(f"stopped at step {trained.step}")
    model = trained.load(device="cpu")
    values = compare(bridge, walk(model.denoiser, bridge, METHODS[method]["sampler"], **common))
    if not METHODS[method].get("procedure"):
        values["pairing"] = pairing(settings, bridge)
    if method in ("sf2m", "dsbm-imf", "dsbm-ipf"):
        flow = compare(
            bridge,
            walk(
                model.denoiser, bridge, "heun", **{**common, "num_steps": max(4, settings["num_steps"] // 2)}
            ),
        )
        values |= {f"{k}_flow": flow[k] for k in ("mean", "cov")}
    return {**values, "dtype": "fp32", "threads": torch.get_num_threads()}, {}
