"""Weighted conditional flow matching (W-CFM; Calvo-Ordoñez et al. 2507.22270) and its balanced form.

Pairs stay independent and carry the weight of the Gibbs kernel:

    w(x, y) = exp(−c(x, y)/eps),   c = |x − y| (cost l2) or |x − y|² (l2sq)

Minimising the weighted loss is flow matching on the coupling q ∝ w·μ⊗ν: an entropic transport plan, but
between tilted marginals aμ/Z and bν/Z with a(x) = E_y w and b(y) = E_x w, so the model's samples are biased
where a and b are not constant. ``balance=k`` (not in the paper) removes the tilt inside the batch: k rounds
of Sinkhorn on its B×B grid give a plan P with uniform marginals, and pair i weighs B²·P_ii.

Weights are formed in logs and normalised before they leave them, so a small eps or many dimensions do not
make them vanish.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from backbones.types import Cond, NoiseSource
from samplers.couplings import transport
from samplers.couplings.costs import Lengths, check, check_cost, free_entries
from samplers.couplings.coupling import Coupled, Once
from samplers.spaces import Space

NORMALISE = ("batch", "running", "none")
FEW = 16  # a smaller batch says too little of its own diagnostics to warn


def ess_of(log_weight: Tensor) -> Tensor:
    """Effective sample size (Σw)²/(B Σw²) along the last dimension, from log weights: 1 for equal ones, 1/B
    for a single one."""
    return (2 * log_weight.logsumexp(-1) - (2 * log_weight).logsumexp(-1)).exp() / log_weight.shape[-1]


def relative_variance(log: Tensor) -> Tensor:
    """Var/mean² of exp(log), (B,) to ()."""
    value = (log - log.amax()).exp()
    return value.var(correction=0) / value.mean() ** 2


def inverse_temperature(costs: Tensor, target: Tensor | float) -> Tensor:
    """The 1/eps at which exp(−costs/eps) has the effective sample size ``target``, () float64; 0 where all
    costs are the same.

    The effective sample size falls in 1/eps. Each pass divides its interval in the logarithm into 47: four
    passes give six digits.
    """
    spread = costs.std(correction=0)
    centred = (costs - costs.mean()) / spread.clamp_min(1e-300)
    low, high = (
        torch.tensor(v, dtype=costs.dtype, device=costs.device) for v in (math.log(1e-4), math.log(1e6))
    )
    place = torch.linspace(0, 1, 48, dtype=costs.dtype, device=costs.device)
    for _ in range(4):
        tries = low + (high - low) * place
        above = (ess_of(-centred * tries.exp()[:, None]) > target).sum().clamp(1, 47)
        low, high = tries[above - 1], tries[above]
    return torch.where(spread > 0, ((low + high) / 2).exp() / spread.clamp_min(1e-300), 0.0)


def root(falling: Callable[[float], float], low: float, high: float, steps: int = 8) -> float:
    """Where a falling function is 0: false position with the Illinois correction, the nearer end where there
    is no zero between."""
    a, b = falling(low), falling(high)
    if a <= 0 or b >= 0:
        return low if a <= 0 else high
    for _ in range(steps):
        middle = (low * b - high * a) / (b - a)
        value = falling(middle)
        if abs(value) < 1e-3:
            return middle
        if value > 0:
            low, a, b = middle, value, b / 2
        else:
            high, b, a = middle, value, a / 2
    return (low * b - high * a) / (b - a)


class Gibbs:
    """See the module. The temperature is one of ``eps`` (in the cost's units), ``kappa`` (eps = kappa·√d for
    l2, kappa·d for l2sq, d entries a sample), ``relative`` (to the batch's mean cost) and ``ess`` (the share
    of the batch that the weights should effectively use, solved in every batch; by default 0.7, and 0.15
    where weights are balanced, which in the plane comes nearest to pairing by exact transport at few steps:
    docs/results/balanced).

    ``normalise``: ``batch`` divides by the batch's mean weight, ``running`` by the mean over the run so far
    (its last hundred batches or so), ``none`` not at all, which is the paper's formula and makes gradients as
    small as the weights are (balanced ones then have mean 1 over many batches). ``memory``: balance over this
    batch and as many of the run before it, whose marginals are less noisy, at (1 + memory)² times the cost.

    ``logs``: ess, tilt_source and tilt_data (relative variances of a and b, from the first ``tilt_points`` of
    the batch), mean_cost (weighted), eps.
    """

    measures = True  # by the ways of the space

    def __init__(
        self,
        *,
        eps: float | None = None,
        kappa: float | None = None,
        relative: float | None = None,
        ess: float | None = None,
        cost: str = "l2",
        normalise: str | None = None,
        balance: int = 0,
        memory: int = 0,
        tilt_points: int = 128,
        max_points: int = 16384,
    ):
        given = {
            k: v
            for k, v in {"eps": eps, "kappa": kappa, "relative": relative, "ess": ess}.items()
            if v is not None
        }
        if len(given) > 1:
            raise ValueError(
                f"got {' and '.join(f'{k}={v}' for k, v in given.items())}, expected one of eps, kappa, "
                "relative and ess"
            )
        for name, value in given.items():
            if value <= 0 or not math.isfinite(value):
                raise ValueError(f"got {name}={value}, expected a positive number")
        if ess is not None and ess >= 1:
            raise ValueError(
                f"got ess={ess}, expected a share of the batch below 1; equal weights are the coupling "
                "independent"
            )
        check_cost(cost)
        if normalise not in (None, *NORMALISE):
            raise ValueError(f"got normalise={normalise!r}, expected one of {', '.join(NORMALISE)}")
        if normalise in ("running", "none") and not (balance or given.keys() & {"eps", "kappa"}):
            raise ValueError(
                f"got normalise={normalise!r} with a temperature that changes from batch to batch; set "
                "eps or kappa, or normalise: batch"
            )
        if balance < 0 or tilt_points < 0 or memory < 0:
            raise ValueError(
                f"got balance={balance}, tilt_points={tilt_points}, memory={memory}, expected 0 or more"
            )
        if memory and not balance:
            raise ValueError(
                f"got memory={memory} without balance, expected balance rounds that use it; set balance: 10"
            )
        self.eps, self.kappa, self.relative, self.ess = (
            eps,
            kappa,
            relative,
            ess if given else 0.15 if balance else 0.7,
        )
        self.cost, self.balance, self.tilt_points, self.max_points = cost, balance, tilt_points, max_points
        self.normalise = normalise or "batch"
        self.memory = memory
        self.remembers = self.normalise == "running" or memory > 0
        self.say = Once()

    def __call__(
        self,
        source: Tensor,
        data: Tensor,
        cond: Cond,
        noise: NoiseSource,
        *,
        space: Space | None = None,
        state: dict[str, Tensor] | None = None,
    ) -> Coupled:
        """``state``: what ``normalise: running`` keeps between batches. Raises ``ValueError`` where training
        would need one and has none."""
        check(source, data)
        if self.balance and len(data) > self.max_points:
            raise transport.memory_error(len(data), self.max_points)
        if self.remembers and state is None and torch.is_grad_enabled():
            raise ValueError(
                "got normalise='running' or memory without a run to keep the mean in; call loss(net, "
                "batch, noise, ctx) with one ctx=RunContext() for the whole "
                "run, or set normalise: batch"
            )
        training = torch.is_grad_enabled()
        with transport.exact(data.device):
            lengths = Lengths(self.cost, free_entries(data, cond), space)
            costs = lengths.pairs(source, data)
            costs = costs.double() if data.device.type != "mps" else costs
            few = slice(len(data) if self.balance else max(self.tilt_points, 1))
            grid = lengths.of(few).grid(source[few], data[few])
            grid.diagonal().copy_(costs[few])  # to the last digit: a weight is about this pair
            beta = self._inverse_temperature(costs, grid, data[0].numel()).to(costs)
            if self.balance and self.memory:
                log_weight, log_grid = self._balanced_over(source, data, lengths, beta, state, training)
                log_weight = log_weight.to(costs)
            elif self.balance:
                log_grid = self._balanced(grid, beta)
                log_weight = log_grid.diagonal().to(costs) + 2 * math.log(len(data))
            else:
                log_grid, log_weight = -grid * beta, -costs * beta
            weight = self._normalised(log_weight, state)
            logs = {
                "ess": ess_of(log_weight),
                "mean_cost": (log_weight.softmax(0) * costs).sum(),
                "eps": 1 / beta,
            }
            if self.tilt_points:
                logs |= {
                    "tilt_source": relative_variance(log_grid.logsumexp(1)),
                    "tilt_data": relative_variance(log_grid.logsumexp(0)),
                }
            if getattr(noise, "step", 0) % 16 == 0:  # reading a number waits for the device
                self._warn(log_weight, logs)
        return Coupled(source, data, cond, weight, logs)

    def _inverse_temperature(self, costs: Tensor, grid: Tensor, entries: int) -> Tensor:
        """1/eps, ()."""
        if self.relative is not None:
            return 1 / (self.relative * costs.mean()).clamp_min(1e-300)
        if self.ess is None:
            eps = (
                self.eps
                if self.kappa is None
                else self.kappa * (entries if self.cost == "l2sq" else math.sqrt(entries))
            )
            assert eps is not None
            return torch.tensor(1 / eps, dtype=costs.dtype, device=costs.device)
        beta = inverse_temperature(costs, self.ess)
        if not self.balance or float(beta) == 0:
            return beta
        part, log_beta, wanted = grid[:128, :128], math.log(float(beta)), self.ess

        def excess(place: float) -> float:
            return float(ess_of(self._balanced(part, math.exp(place)).diagonal())) - wanted

        low, high = log_beta - 1, log_beta + 4  # balanced weights are more even: the temperature can be lower
        return torch.tensor(math.exp(root(excess, low, high)), dtype=costs.dtype, device=costs.device)

    def _balanced(self, grid: Tensor, beta: Tensor | float) -> Tensor:
        """(B, B) log of the plan with uniform marginals."""
        return transport.entropic_plan(-grid * beta, self.balance)

    def _balanced_over(
        self,
        source: Tensor,
        data: Tensor,
        lengths: Lengths,
        beta: Tensor,
        state: dict[str, Tensor] | None,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """(B,) log weights and the (B, B) part of the log plan, from the plan of this batch and the
        remembered ones; ``state`` takes this batch in."""
        if lengths.free is not None:
            raise ValueError(
                "got memory for data with known entries or padding, which differ from batch to batch; "
                "leave memory out"
            )
        past = (
            state if state is not None and "sources" in state else {"sources": source[:0], "data": data[:0]}
        )
        x, y = torch.cat([source, past["sources"].to(source)]), torch.cat([data, past["data"].to(data)])
        log_plan = self._balanced(lengths.grid(x, y), beta)
        if state is not None and training:
            keep = self.memory * len(data)
            state["sources"], state["data"] = x[:keep].detach(), y[:keep].detach()
        few = slice(len(data))
        return log_plan.diagonal()[few] + 2 * math.log(len(x)), log_plan[few, few]

    def _normalised(self, log_weight: Tensor, state: dict[str, Tensor] | None) -> Tensor:
        if self.normalise == "none":
            return log_weight.exp()
        mean = log_weight.logsumexp(0) - math.log(len(log_weight))
        if self.normalise == "running" and state is not None:
            count = state.get("count", torch.zeros_like(mean)).clamp_max(99)
            if "log_mean" in state:  # of all batches so far, of the last hundred after that
                mean = torch.logaddexp(
                    (count / (count + 1)).log() + state["log_mean"].to(mean), mean - (count + 1).log()
                )
            state["log_mean"], state["count"] = mean, count + 1
        return (log_weight - mean).exp()

    def _warn(self, log_weight: Tensor, logs: dict[str, Tensor]) -> None:
        """Once a run, in words."""
        if self.normalise == "none" and not self.balance and float(log_weight.amax()) < math.log(1e-4):
            self.say(
                "vanish",
                f"the largest weight of this batch is {float(log_weight.amax().exp()):.1e}, and so is the "
                "factor on every gradient; training will hardly move. "
                "Set normalise: batch in the coupling",
            )
        if len(log_weight) < FEW:
            return
        ess, eps = float(logs["ess"]), float(logs["eps"])
        if ess < 0.3 and (self.ess is None or self.ess >= 0.3):  # not what was asked for
            self.say(
                "ess",
                f"the weights of this batch rest on {ess:.0%} of its pairs (effective sample size), so "
                "training is slow and noisy. Raise eps, which is "
                f"{eps:.3g} here, or set ess: 0.7 in the coupling to have it chosen",
            )
        tilt = {k: float(logs[f"tilt_{k}"]) for k in ("source", "data") if f"tilt_{k}" in logs}
        if max(tilt.values(), default=0) > 0.3:
            self.say(
                "tilt",
                f"at eps = {eps:.3g} some points count far more than others whatever they are paired with "
                f"(relative variance {tilt['data']:.2f} among the data, "
                f"{tilt['source']:.2f} among the sources, of which 0.3 is much): the model will learn a "
                "shifted version of your data. Raise eps, or set "
                "balance: 10 in the coupling, which evens this out",
            )
