"""A model whose flow is asked of data: the noise that it comes from, and its density."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from studio.data.labels import NO_LABEL
from studio.model import probability_flow
from studio.model.requesting import Requesting
from studio.sampling import sampler_spec
from studio.sampling.forms import Conditions, Guidance, Labels, Solver


@dataclass(frozen=True, repr=False)
class Flowing(Requesting):
    """See `studio.model.probability_flow`."""

    def invert(
        self,
        values: Any,
        *,
        labels: Labels = NO_LABEL,
        num_steps: int | None = None,
        guidance: Guidance = "default",
        sampler: Solver = "heun",
        conditions: Conditions = None,
        batch: int = 64,
    ) -> Tensor:
        """(N, *shape) float32: the standard normal noise, as `sample` takes it, that data comes from, by the
        probability flow walked backward. ``sample(noise=...)`` with the same options leads back to the data,
        the nearer the more steps.

        - ``values``: (N, ...) samples as files hold them, `Samples`, or a list of files or PIL pictures.
        - ``labels``: −1, none, unless given; the others as in `sample`.
        - ``num_steps``: of the solver; the model's own unless given.
        - ``guidance``: of the flow; ``"none"`` is the model's own, whose way back is the surest.
        - ``sampler``: one that leads both ways: heun, rk4, ab2, midpoint, euler, ddim (DDIM inversion) or
          torchdiffeq.
        - ``conditions``: values by name, in their own units.
        - ``batch``: samples computed at once.

        Raises ``ValueError`` for a model that does not start from Gaussian noise, and for what does not fit,
        before anything is computed.
        """
        probability_flow.check_noise(self)
        given = self.given(values)
        request, rules = self.request(
            labels=none_or(labels, conditions),
            seeds=range(len(given)),
            num_steps=num_steps,
            guidance=guidance,
            sampler=sampler,
            conditions=conditions,
            batch=batch,
        )
        chosen = self.rules(request.guidance if rules is None else rules)
        return probability_flow.latents(self, given, request, chosen, probability_flow.solver_of(request))

    def log_prob(
        self,
        values: Any,
        *,
        labels: Labels = NO_LABEL,
        num_steps: int | None = None,
        sampler: Solver = "rk4",
        conditions: Conditions = None,
        exact: bool | None = None,
        probes: int = 1,
        seed: int = 0,
        batch: int = 64,
    ) -> Tensor:
        """(N,) float64: the natural logarithm of the density, per unit of the data as files hold it, that the
        model's probability flow gives to data under its conditions, without guidance, which has no density of
        its own (Song et al. 2011.13456, D.2). More steps come nearer to it.

        - ``values``: (N, ...) samples as files hold them, `Samples`, or a list of files or PIL pictures.
        - ``labels``: −1, none, unless given; ``conditions``: values by name, in their own units.
        - ``num_steps``: of the solver; the model's own unless given.
        - ``sampler``: one that follows slopes: rk4, heun, ab2, midpoint, euler or torchdiffeq; no bounds.
        - ``exact``: whether the divergence is exact, which costs as many gradients as a sample has numbers;
          up to 64 numbers unless told otherwise. If not, it is estimated without bias (Hutchinson).
        - ``probes``: how many draws an estimate is the mean of; ``seed``: theirs, of sample i by i.
        - ``batch``: samples computed at once.

        Raises ``ValueError`` for a model that does not start from Gaussian noise or works on latents, and for
        what does not fit, before anything is computed.
        """
        return self._densities(
            values, labels, num_steps, sampler, conditions, exact, probes, seed, batch, spread=False
        )

    def bits_per_dim(
        self,
        values: Any,
        *,
        labels: Labels = NO_LABEL,
        num_steps: int | None = None,
        sampler: Solver = "rk4",
        conditions: Conditions = None,
        exact: bool | None = None,
        probes: int = 1,
        seed: int = 0,
        batch: int = 64,
    ) -> Tensor:
        """(N,) float64 bits for each number of uint8 pictures, −log2 p / d: `log_prob` with the pictures
        spread evenly over what decodes to each of their numbers (a draw of ``seed``), whose mean is at least
        the bits of the pictures themselves (Theis et al. 1511.01844). The density is per grey level, which
        adds log2 127.5 = 6.99 bits to that of the network's numbers in −1..1; noise of 256 even levels has 8.

        ``values``, ``labels``, ``num_steps``, ``sampler``, ``conditions``, ``exact``, ``probes``, ``seed``
        and ``batch`` as in `log_prob`. Raises ``ValueError`` as it does, and for samples that are no
        pictures.
        """
        if not self.codec.pictures:
            raise ValueError(
                f"got {self.name}, whose samples are no pictures of whole numbers, expected one that makes "
                "pictures; use log_prob"
            )
        found = self._densities(
            values, labels, num_steps, sampler, conditions, exact, probes, seed, batch, spread=True
        )
        return -found / (math.prod(self.sample_shape) * math.log(2))

    def _densities(
        self,
        values: Any,
        labels: Labels,
        num_steps: int | None,
        sampler: Solver,
        conditions: Conditions,
        exact: bool | None,
        probes: int,
        seed: int,
        batch: int,
        *,
        spread: bool,
    ) -> Tensor:
        probability_flow.check_noise(self)
        given = self.given(values)
        request, _ = self.request(
            labels=none_or(labels, conditions),
            seeds=range(len(given)),
            num_steps=num_steps,
            guidance=None,
            sampler=sampler_spec.unbounded(sampler),
            conditions=conditions,
            batch=batch,
        )
        return probability_flow.densities(
            self, given, request, exact=exact, probes=probes, seed=seed, spread=spread
        )


def none_or(labels: Labels, conditions: Conditions) -> Labels:
    """No label unless given, among the conditions too."""
    asked = "label" in (conditions or {}) or "class" in (conditions or {})
    return None if asked and isinstance(labels, int) and labels == NO_LABEL else labels
