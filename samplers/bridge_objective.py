"""The training objective of bridges: a pair, a place between its ends, and the regression of
`samplers.heads.bridge`.

The same object trains the way back: swap source and data, since a Brownian bridge seen from its end is one
too.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backbones.types import Backbone, Cond, NoiseSource, RunContext
from samplers import times as time_samplers
from samplers.batch import Batch, Loss, check_drop, mean_unknown, with_known
from samplers.couplings import coupling as couplings
from samplers.couplings.coupling import Coupling
from samplers.heads.bridge import BridgeHead, FlowScore
from samplers.paths.bridge import BridgePath
from samplers.prediction import expand
from samplers.spaces.euclid import Euclid

WEIGHTS = ("inverse_variance", "uniform", "sf2m")


class BridgeObjective:
    """``loss`` as in `samplers.objective.Objective`. ``weight``: inverse_variance or uniform, or of
    flow_score sf2m: 1 for the flow and λ² for the score, which is to predict the draw z by λ half_score, λ =
    2σ_t/(σ² m') (Tong et al. 2307.03672). A batch without a source gets a standard normal one."""

    def __init__(
        self,
        path: BridgePath,
        parameterization: BridgeHead,
        *,
        coupling: Coupling | None = None,
        times: time_samplers.TimeSampler | None = None,
        weight: str = "inverse_variance",
        cond_drop: float = 0.0,
        drop_each: float = 0.0,
    ):
        check_drop(cond_drop, drop_each)
        if weight not in WEIGHTS:
            raise ValueError(f"got weight {weight!r}, expected {' or '.join(WEIGHTS)} on a bridge")
        if weight == "sf2m" and not isinstance(parameterization, FlowScore):
            raise ValueError(
                "got weight 'sf2m', which weighs a flow and a score, expected inverse_variance or "
                "uniform; or predict flow_score"
            )
        self.path, self.parameterization, self.weight = path, parameterization, weight
        self.cond_drop, self.drop_each = cond_drop, drop_each
        self.coupling, self.times, self.space = (
            coupling or couplings.Paired(),
            times or time_samplers.Uniform(),
            Euclid(),
        )

    def sample_pairs(
        self, batch: Batch, noise: NoiseSource, ctx: RunContext | None = None
    ) -> couplings.Coupled:
        """The batch with its sources, paired. Raises ``ValueError`` when the coupling needs sources and the
        batch brings none."""
        return couplings.pair(self.coupling, self.space, batch.source, batch.data, batch.cond, noise, ctx)

    def place(self, pairs: couplings.Coupled, t: Tensor, noise: NoiseSource) -> tuple[Tensor, Tensor, Cond]:
        """x_t (B, ...), its normal draw, and the conditions that go with it. Known entries are the given
        ones, clean."""
        a, b, s = (expand(v, pairs.data) for v in self.path.marginal(t))
        z = noise.normal(pairs.data.shape[1:], stream="jitter", dtype=pairs.data.dtype)
        x, cond = with_known(a * pairs.data + b * pairs.source + s * z, pairs.data, pairs.cond), pairs.cond
        return x, z, replace(cond, image=pairs.source) if self.parameterization.cond_source else cond

    def loss(
        self,
        net: Backbone,
        batch: Batch,
        noise: NoiseSource,
        ctx: RunContext | None = None,
        *,
        t: Tensor | None = None,
        pairs: couplings.Coupled | None = None,
    ) -> Loss:
        """Per-sample loss of one batch; known entries are left out of it. ``t`` (B,) and ``pairs`` override
        the draws. ``logs``: error, path_energy (mean squared distance of the pairs) and the coupling's."""
        pairs = self.sample_pairs(batch, noise, ctx) if pairs is None else pairs
        pairs = replace(pairs, cond=pairs.cond.drop(self.cond_drop, noise, each=self.drop_each))
        t = self.path.trained_time(self.times(noise, self.path) if t is None else t)  # type: ignore[arg-type]
        x, z, cond = self.place(pairs, t, noise)
        prediction = self.parameterization.predict(net, x, t, cond, self.path, ctx)
        total = torch.zeros(len(x), dtype=torch.float32, device=x.device)
        for i, (difference, variance) in enumerate(
            self.parameterization.errors(prediction, pairs.data, pairs.source, z)
        ):
            error = mean_unknown(difference.square(), pairs.cond.known)
            # the flow's, which comes first
            plain = self.weight == "uniform" or self.weight == "sf2m" and i == 0
            total = total + (error if plain else error / variance.to(error).clamp_min(1e-12))
        logs = {
            "error": total.detach().mean(),
            "path_energy": (pairs.data - pairs.source).detach().flatten(1).square().sum(1).mean(),
            **pairs.logs,
        }
        if pairs.weight is not None:
            total = total * pairs.weight.to(total)
        return Loss(total, logs, t)


def default_coupling(path: BridgePath, spec: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """Entropic pairs belong to their reference: without a temperature of its own ``sinkhorn`` gets reg = 2
    sigma² on squared distances."""
    options: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    if (
        options.get("name") == "sinkhorn"
        and path.sigma > 0
        and not {"reg", "relative"} & set(options)
        and options.get("cost", "l2sq") == "l2sq"
    ):
        options["reg"] = 2 * path.sigma**2
    return options
