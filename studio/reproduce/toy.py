"""The recipe in the plane that the pages share: a small network, the library's own objective, and what is
measured of it.

MLP of three layers of 64 with SELU on [x, t(, class)]; Adam 1e-3, constant for 70 % of the steps and then
linearly to 0; batches of 256 (Tong et al. 2302.00482). All methods of a seed see the same weights at the
start, the same batches and the same times, so their differences are paired.

    W2    √(exact transport cost of samples to held-out points, equal weights)
    PE    ∫ E|v(x_t, t)|² dt along the model's own trajectories
    NPE   |PE − W2²(source, data)|/W2²(source, data), 0 for a perfectly straight model with the right ends
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

import samplers
from backbones.registry import build
from backbones.types import Cond, NoiseSource, RunContext
from samplers import Batch, Denoiser, Objective
from studio.data.toy import draw
from studio.metrics.point_sets import wasserstein2

COUPLINGS = {"potentials": "studio.reproduce.potentials:Potentials"}  # of the pages alone
CLASSES = 8
FINE = 50  # RK4 steps of a sample that counts as converged
TRAIN, TEST, FLOOR, SAMPLER = 0, 1, 2, 3  # pages of the noise: nothing that is measured was trained on


class ToyNet(nn.Module):
    """``net(x, t, cond)``: (B, 2) → (B, 2). ``clock`` divides the path's own time; ``classes`` > 0 appends
    the label as a one-hot vector."""

    def __init__(
        self, *, seed: int, clock: float = 1000.0, classes: int = 0, width: int = 64, depth: int = 3
    ):
        super().__init__()
        self.clock, self.classes = clock, classes
        sizes = [3 + classes, *[width] * depth]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.SELU())]
            self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond | None = None, ctx: RunContext | None = None
    ) -> Tensor:
        parts = [x, t.to(x)[:, None] / self.clock]
        if self.classes:
            if cond is None or not isinstance(cond.label, Tensor):
                raise ValueError("got no labels for a network of classes; pass cond=Cond(label=...)")
            parts.append(nn.functional.one_hot(cond.label, self.classes).to(x))
        return self.layers(torch.cat(parts, 1))


@dataclass(frozen=True)
class Ends:
    """``count`` sources and data points (N, 2), the data's labels, and the noise they were drawn with."""

    source: Tensor
    data: Tensor
    label: Tensor
    noise: NoiseSource


@lru_cache(maxsize=2)
def ends(source: str, data: str, seed: int, count: int, page: int = TRAIN, scale: float = 1.0) -> Ends:
    """Independent draws. ``source``: "normal" or a kind of `studio.data.toy`; data points are divided by
    ``scale``."""
    noise = NoiseSource([2 * seed] * count, index=range(count), step=page)
    values, label = draw(data, noise)
    other = NoiseSource([2 * seed + 1] * count, index=range(count), step=page)
    begin = other.normal((2,), stream="prior") if source == "normal" else draw(source, other)[0]
    return Ends(begin, values / scale, label, noise)


def rate(step: int, steps: int) -> float:
    """The learning rate's factor: 1 for 70 % of the steps, then linearly to 0."""
    return min(1.0, (1 - step / steps) / 0.3)


def train(
    objective: Objective, net: ToyNet, pairs: Ends, *, steps: int = 6000, batch: int = 256
) -> dict[str, float]:
    """Train in place and return the coupling's diagnostics, averaged over the second half of the run. Raises
    ``ValueError`` for too few pairs."""
    if len(pairs.data) != steps * batch:
        raise ValueError(f"got {len(pairs.data)} pairs, expected {steps} steps × {batch}")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    ctx = RunContext()
    times, logs = objective.times(pairs.noise, objective.path), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what couplings warn of is what is measured here
        for step in range(steps):
            rows = slice(step * batch, (step + 1) * batch)
            cond = Cond(label=pairs.label[rows]) if net.classes else Cond()
            noise = pairs.noise.select(rows).at(step)
            loss = objective.loss(
                net, Batch(pairs.data[rows], cond, pairs.source[rows]), noise, ctx, t=times[rows]
            )
            loss.per_sample.mean().backward()
            optimizer.param_groups[0]["lr"] = 1e-3 * rate(step, steps)
            optimizer.step()
            optimizer.zero_grad()
            if step >= steps // 2 and step % 20 == 0:
                logs.append(loss.logs)
    keep = ("ess", "tilt_source", "tilt_data", "eps")
    return {k: float(torch.stack([log[k] for log in logs]).mean()) for k in keep if logs and k in logs[0]}


def sample(
    denoiser: Denoiser, x: Tensor, sampler: str, steps: int, cond: Cond | None = None, *, seed: int = 0
) -> Tensor:
    """From x (N, 2) at the path's beginning. ``sampler`` as in ``studio sample``: a name with its options."""
    from studio.sampling.engine import build_sampler

    noise = NoiseSource([seed] * len(x), index=range(len(x)), step=SAMPLER)
    return build_sampler(sampler).sample(denoiser, x, cond, noise, num_steps=steps)


@torch.no_grad()
def converged(
    denoiser: Denoiser, x: Tensor, cond: Cond | None = None, *, steps: int = FINE
) -> tuple[Tensor, float]:
    """Samples of RK4 and the path energy, by the trapezoid rule over its steps."""
    speeds = []
    for step in samplers.build("rk4").steps(denoiser, x, cond, num_steps=steps):
        speeds.append(_speed(step.prediction.to("velocity")))
        x = step.x
    speeds.append(_speed(denoiser.predict(x, 1.0, cond or Cond()).to("velocity")))
    return x, (sum(speeds) - (speeds[0] + speeds[-1]) / 2) / steps


def _speed(velocity: Tensor) -> float:
    return float(velocity.double().square().sum(1).mean())


def flow(
    source: str,
    data: str,
    coupling: Mapping[str, Any] | str,
    *,
    seed: int,
    steps: int = 6000,
    batch: int = 256,
    labels: bool = False,
) -> tuple[Denoiser, dict[str, float]]:
    """Flow matching with a coupling on one thread, by the recipe above."""
    torch.set_num_threads(1)
    spec = {"name": coupling} if isinstance(coupling, str) else dict(coupling)
    own = spec["name"] in COUPLINGS
    objective = samplers.build_objective(coupling="independent" if own else spec)
    if own:
        objective.coupling = build(COUPLINGS, spec.pop("name"), "coupling", spec)
    net = ToyNet(seed=seed, classes=CLASSES if labels else 0)
    logs = train(objective, net, ends(source, data, seed, steps * batch), steps=steps, batch=batch)
    return Denoiser(net.eval().requires_grad_(False), objective.path, objective.parameterization), logs


def measure(
    denoiser: Denoiser,
    source: str,
    data: str,
    *,
    seed: int,
    count: int = 1500,
    euler: tuple[int, ...] = (1, 2, 4, 10),
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """W2 after Euler's steps and converged, PE, NPE and W2² of the ends; and the samples, ``true`` ones among
    them."""
    test = ends(source, data, seed, count, TEST)
    made = {f"euler{n}": sample(denoiser, test.source, "euler", n) for n in euler}
    made["converged"], energy = converged(denoiser, test.source)
    squared = wasserstein2(test.source, test.data) ** 2
    values = {f"w2_{k}": wasserstein2(v, test.data) for k, v in made.items()}
    return {**values, "pe": energy, "npe": abs(energy - squared) / squared, "w2sq_ends": squared}, {
        **made,
        "true": test.data,
    }


def floor(data: str, *, seed: int, count: int = 1500) -> float:
    """W2 of two true sets."""
    return wasserstein2(
        ends("normal", data, seed, count, FLOOR).data, ends("normal", data, seed, count, TEST).data
    )


def conditional(denoiser: Denoiser, *, seed: int, per_class: int = 180, euler: int = 4) -> dict[str, float]:
    """On the eight Gaussians, with labels: share of samples nearest to their own class's centre, and the mean
    over classes of W2 within the class."""
    real, other = (
        _by_class(ends("normal", "eight_gaussians", seed, 2 * CLASSES * per_class, page), per_class)
        for page in (TEST, FLOOR)
    )
    label = torch.arange(CLASSES).repeat_interleave(per_class)
    x = NoiseSource([2 * seed + 1] * len(label), index=range(len(label)), step=SAMPLER).normal(
        (2,), stream="prior"
    )
    angle = torch.arange(CLASSES) * (torch.pi / 4)
    centres = 5 * torch.stack([angle.cos(), angle.sin()], 1)
    values = {"w2_class_real": _mean_w2(other, real)}
    for name, made in (
        (f"euler{euler}", sample(denoiser, x, "euler", euler, Cond(label=label))),
        ("converged", converged(denoiser, x, Cond(label=label))[0]),
    ):
        nearest = torch.cdist(made, centres).argmin(1)
        values[f"accuracy_{name}"] = float((nearest == label).double().mean())
        values[f"w2_class_{name}"] = _mean_w2(list(made.split(per_class)), real)
    return values


def _by_class(pool: Ends, count: int) -> list[Tensor]:
    """The first points of each class."""
    return [pool.data[pool.label == k][:count] for k in range(CLASSES)]


def _mean_w2(sets: list[Tensor], others: list[Tensor]) -> float:
    return sum(wasserstein2(a, b) for a, b in zip(sets, others)) / len(sets)
