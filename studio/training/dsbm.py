"""Diffusion Schrödinger bridge matching (Shi et al. 2303.16852): two networks, each trained on pairs that the
other has simulated.

    to_source 0  bridges between pairs of the coupling (``start: imf``), or between sources and their
                 diffusion source + sigma z (``ipf``)
    to_data 1    bridges between data and what the first network makes of them
    to_source 2  bridges between sources and what the second one makes of them, and so on

Every phase keeps one end exact and makes the joint law more Markovian; the fixed point is the Schrödinger
bridge. Pairs are a function of (seed, phase, refresh) and of the other network's average, which does not
change in the phase: a run that stops inside a phase goes on to the same bytes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import samplers
from backbones.types import Cond, NoiseSource, RunContext
from samplers.couplings import coupling as couplings
from samplers.denoiser import Denoiser
from samplers.heads.bridge import OneHead, TwoWay
from samplers.objective import Objective
from samplers.paths.bridge import BridgePath
from studio.config import Config
from studio.data import Data
from studio.data.loader import Draw, fetch
from studio.training.procedure import (
    NetworkLoss,
    NetworkSpec,
    Phase,
    Plain,
    Setting,
    Source,
    Step,
    Update,
)

SIDES = ("to_source", "to_data")
ROWS, PAIRS = 0, 1  # what randomness is used for


class DSBM(Plain):
    """``shares``: lengths of the phases, made to sum to 1. ``num_pairs`` are simulated in ``num_steps`` steps
    and replaced after ``refresh`` training steps. ``warm_start``: a network goes on from its own last phase
    (false starts it from its first weights again, and its average and moments with them)."""

    def __init__(
        self,
        *,
        shares: tuple[float, ...] = (1.0,) * 6,
        start: str = "imf",
        num_pairs: int = 2048,
        num_steps: int = 20,
        refresh: int = 500,
        warm_start: bool = True,
        simulate_batch: int = 256,
    ):
        if start not in ("imf", "ipf"):
            raise ValueError(
                f"got start {start!r}, expected imf (pairs of the coupling) or ipf (the reference process)"
            )
        if len(shares) < 2 or min(shares) <= 0:
            raise ValueError(f"got shares={shares}, expected at least two positive lengths")
        for name, value in (
            ("num_pairs", num_pairs),
            ("num_steps", num_steps),
            ("refresh", refresh),
            ("simulate_batch", simulate_batch),
        ):
            if value < 1:
                raise ValueError(f"got {name}={value}, expected at least 1")
        self.until = np.cumsum(shares) / np.sum(shares)
        self.start, self.num_pairs, self.num_steps, self.refresh = start, num_pairs, num_steps, refresh
        self.warm_start, self.simulate_batch = warm_start, simulate_batch

    def check(self, objective: Objective, data: Data) -> None:
        """Raises ``ValueError`` for an objective that is no bridge of one drift, for one whose network reads
        the source, and for data without a source."""
        if (
            not isinstance(objective.path, BridgePath)
            or not isinstance(objective.parameterization, OneHead)
            or objective.parameterization.space != "drift"
        ):
            raise ValueError(
                "procedure dsbm trains drifts of a bridge; set objective: {path: {name: brownian}, "
                "parameterization: drift}"
            )
        if objective.parameterization.cond_source:
            raise ValueError(
                "got cond_source=true for dsbm, whose networks start from ends that they make "
                "themselves; leave it out"
            )
        if data.source is None:
            raise ValueError(
                "procedure dsbm needs data with a source of its own, this data starts from noise; see "
                "data.source"
            )

    def networks(self, config: Config) -> dict[str, NetworkSpec]:
        return {side: NetworkSpec(config.backbone) for side in ("to_data", "to_source")}

    def phases(self, setting: Setting) -> Iterator[Phase]:
        objective = setting.objective
        paired = type(objective)(
            objective.path,
            objective.parameterization,
            coupling=couplings.Paired(),
            times=objective.times,
            weight=objective.weight,
        )
        for i, until in enumerate(self.until):
            side = SIDES[i % 2]
            simulated = i > 0 or self.start == "ipf"
            source: Source = (
                Simulated(self, setting, i, side) if simulated else setting.dataset(swap=side == "to_source")
            )
            yield Phase(
                f"{side}-{i}",
                (Update((side,), NetworkLoss(paired if simulated else objective, side), source),),
                1.0 if i + 1 == len(self.until) else float(until),
                fresh=(side,) if simulated and not self.warm_start else (),
            )

    def denoiser(self, nets: Mapping[str, nn.Module], objective: Objective) -> Denoiser:
        """Both networks, each in its own direction."""
        side: Any = objective.parameterization
        return Denoiser(nn.ModuleDict(dict(nets)), objective.path, TwoWay(side))


class Simulated:
    """Batches of pairs: an exact end that is trained towards, and where the other network (or the reference)
    has taken it."""

    def __init__(self, plan: DSBM, setting: Setting, phase: int, side: str):
        self.plan, self.setting, self.phase, self.side = plan, setting, phase, side
        self.round, self.ends = -1, (torch.zeros(0), torch.zeros(0))

    def at(self, step: Step, places: slice, ctx: RunContext) -> Draw:
        """What is trained towards as values, where it came from as source, as the network sees them."""
        if step.phase // self.plan.refresh != self.round:
            self.round = step.phase // self.plan.refresh
            self.ends = self._simulate()
        chosen = self._chance(ROWS, step.phase).integers(0, len(self.ends[0]), self.setting.batch_size)
        rows = torch.from_numpy(chosen)[places]
        return Draw(self.ends[0][rows], Cond(), self.ends[1][rows], encoded=True)

    def _chance(self, use: int, at: int) -> np.random.Generator:
        return np.random.default_rng([self.setting.seed, self.phase, use, at])

    def _simulate(self) -> tuple[Tensor, Tensor]:
        plan, s = self.plan, self.setting
        part = s.data.source if self.side == "to_source" else s.data.train
        chance = self._chance(PAIRS, self.round)
        indices = chance.permutation(len(part))[: plan.num_pairs].tolist()
        seed = int(chance.integers(2**62))
        other = next(side for side in SIDES if side != self.side)
        reference = self.phase == 0
        s.note(
            f"simulating {len(indices)} pairs for {self.side} with the "
            f"{'reference' if reference else other} process"
        )
        path: Any = s.objective.path
        made, exact = [], []
        walk = samplers.build("bridge_sde")
        model = (
            None
            if reference
            else Denoiser(
                s.average(other), path, s.objective.parameterization, dtype=s.dtype, starts="source"
            )
        )
        for a in range(0, len(indices), plan.simulate_batch):
            chosen = indices[a : a + plan.simulate_batch]
            x = s.codec.encode(fetch(part, [(0, i) for i in chosen])[0].to(s.device))
            noise = NoiseSource([seed] * len(chosen), index=chosen, device=s.device)
            end = (
                x + path.sigma * noise.normal(x.shape[1:], stream="reference")
                if model is None
                else walk.sample(model, x, noise=noise, num_steps=plan.num_steps)
            )
            exact.append(x)
            made.append(end)
        return torch.cat(exact), torch.cat(made)
