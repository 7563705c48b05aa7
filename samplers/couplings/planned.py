"""Couplings by a transport plan of the batch: exact (`OT`) and entropic (`Sinkhorn`)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from backbones.types import Cond, NoiseSource
from samplers.couplings import sinkhorn, transport
from samplers.couplings.costs import (
    Lengths,
    check,
    check_cost,
    condition_distance,
    free_entries,
    groups_of,
)
from samplers.couplings.coupling import Coupled, Once
from samplers.spaces import Space

ROUNDS = 500  # of Sinkhorn, before Newton steps are cheaper


class Chosen(NamedTuple):
    """Indices of the sources ``which``; ``rows`` of the data where it does not keep its places; ``weight``
    (B,) where they are not all 1; the ``costs`` (B,) of the pairs where they are at hand; what else to
    log."""

    which: Tensor
    rows: Tensor | None = None
    weight: Tensor | None = None
    costs: Tensor | None = None
    logs: Mapping[str, Tensor] = {}


class Planned:
    """What exact and entropic transport share: the cost, labels, and how pairs come out of a plan.

    ``labels="per_class"`` transports within each class, so that every class starts from the whole prior, as
    sampling does; ``label_cost`` = c adds c mean costs to pairs of a source whose first partner had another
    label (or other numbers); ``labels="ignore"`` does neither. ``resample`` draws B pairs from the plan with
    replacement instead of keeping every data point.
    """

    slow, measures = True, True  # worth finding ahead of the step; by the ways of the space

    def __init__(
        self, *, cost: str, resample: bool, labels: str | None, label_cost: float | None, max_points: int
    ):
        check_cost(cost)
        if labels not in (None, "per_class", "ignore"):
            raise ValueError(f"got labels {labels!r}, expected per_class, ignore or none")
        if labels is not None and label_cost is not None:
            raise ValueError(f"got labels={labels!r} and label_cost={label_cost}, expected one of them")
        if label_cost is not None and label_cost < 0:
            raise ValueError(f"got label_cost={label_cost}, expected 0 or more")
        self.cost, self.resample, self.labels, self.label_cost, self.max_points = (
            cost,
            resample,
            labels,
            label_cost,
            max_points,
        )
        self.say = Once()

    def __call__(
        self, source: Tensor, data: Tensor, cond: Cond, noise: NoiseSource, *, space: Space | None = None
    ) -> Coupled:
        check(source, data)
        if len(data) > self.max_points:
            raise transport.memory_error(len(data), self.max_points)
        with transport.exact(data.device):
            lengths = Lengths(self.cost, free_entries(data, cond), space)
            which, rows, weight, costs, logs = self.choose(
                source, data, cond, lengths, self._groups(cond), noise
            )
        if rows is not None:
            data, cond, lengths = data[rows], cond.index(rows), lengths.of(rows)
        source = source[which]
        if costs is None:
            with transport.exact(data.device):
                costs = lengths.pairs(source, data)
        return Coupled(
            source,
            data,
            cond,
            weight,
            logs={"mean_cost": (costs if weight is None else costs * weight.to(costs)).mean(), **logs},
        )

    def choose(
        self,
        source: Tensor,
        data: Tensor,
        cond: Cond,
        lengths: Lengths,
        groups: Tensor | None,
        noise: NoiseSource,
    ) -> Chosen:
        """The pairs of a batch; ``lengths``: how far they are apart, ``groups``: within which to pair."""
        raise TypeError(f"{type(self).__name__} chooses no pairs: subclass Planned and write choose")

    def costs(self, source: Tensor, data: Tensor, cond: Cond, lengths: Lengths | None = None) -> Tensor:
        """(B, B); of numbers, all of them, without ``lengths``."""
        costs = (lengths or Lengths(self.cost)).grid(source, data)
        if self.label_cost:
            apart = condition_distance(cond)
            if apart is None:
                raise ValueError("got label_cost, but the batch has no labels or numbers; leave it out")
            costs = costs + (self.label_cost * costs.mean()) * apart.to(costs)
        return costs

    def order(self, noise: NoiseSource) -> Tensor:
        """(B,) an order of the batch that was drawn with its samples, whatever their places."""
        return noise.uniform(stream="pair_order", dtype=torch.float64).argsort()

    def _groups(self, cond: Cond) -> Tensor | None:
        if self.labels == "per_class":
            groups = groups_of(cond)
            if groups is None:
                raise ValueError("got labels='per_class', but the batch has no labels; leave it out")
            return groups
        if self.labels is None and self.label_cost is None and cond.names:
            self.say(
                "labels",
                "this coupling pairs noise and data without regard to conditions: each class (or prompt) "
                "then learns to start from a part of the noise, "
                "while sampling starts from all of it, and samples follow their condition less well. Set "
                "labels: per_class (or label_cost: 1.0) in the "
                "coupling, or labels: ignore to keep it as it is",
            )
        return None


class OT(Planned):
    """The exact transport of the batch: a permutation of the sources (``resample=False``), or B independent
    draws from the plan with replacement, which leaves out a third of the points in each batch (as torchcfm
    does). On a line it sorts."""

    def __init__(
        self,
        *,
        cost: str = "l2sq",
        resample: bool = False,
        labels: str | None = None,
        label_cost: float | None = None,
        max_points: int = 16384,
    ):
        super().__init__(
            cost=cost, resample=resample, labels=labels, label_cost=label_cost, max_points=max_points
        )

    def choose(
        self,
        source: Tensor,
        data: Tensor,
        cond: Cond,
        lengths: Lengths,
        groups: Tensor | None,
        noise: NoiseSource,
    ) -> Chosen:
        parts = (
            [torch.arange(len(data), device=data.device)]
            if groups is None
            else [(groups == g).nonzero()[:, 0] for g in groups.unique()]
        )
        which, costs = torch.empty(len(data), dtype=torch.int64, device=data.device), None
        for rows in parts:
            x, y = (source, data) if groups is None else (source[rows], data[rows])
            line = x[0].numel() == 1 and lengths.straight and lengths.free is None
            if line and not self.label_cost:
                inside = transport.sort_assignment(x.flatten(), y.flatten())
            else:
                part = cond if groups is None else cond.index(rows)
                grid = self.costs(x, y, part, lengths.of(rows))
                inside = transport.assignment(grid)
                if groups is None and not self.label_cost:
                    costs = grid[inside, rows]
            which[rows] = rows[inside]
        if not self.resample:
            return Chosen(which, costs=costs)
        order = self.order(noise)
        rows = order[
            (noise.uniform(stream="pair_data", dtype=torch.float64) * len(order))
            .long()
            .clamp_max(len(order) - 1)
        ]
        return Chosen(which[rows], rows)


class Sinkhorn(Planned):
    """Pairs from the entropic plan at temperature ``reg`` (in the cost's units), or ``relative`` times the
    batch's mean cost (0.05 by default).

    A Schrödinger bridge with reference sigma·dW has cost l2sq and reg = 2 sigma². Every data point keeps its
    place and draws its source from its column of the plan. ``unbalanced`` = λ lets the marginals differ at
    the price λ·KL: points far from everything then count less (a weight, or fewer draws with ``resample``).

    Rounds of Sinkhorn go on until the row sums are within ``tolerance``, summed over rows; what 500 of them
    do not bring there, annealed Newton steps do (`samplers.couplings.sinkhorn`). ``iterations`` = k makes k
    rounds at most and no such steps. The log has ``marginal_error``, how far off the plan is at the end, and
    where that is much it is said.
    """

    def __init__(
        self,
        *,
        reg: float | None = None,
        relative: float | None = None,
        cost: str = "l2sq",
        iterations: int | None = None,
        tolerance: float = 1e-4,
        unbalanced: float | None = None,
        resample: bool = False,
        labels: str | None = None,
        label_cost: float | None = None,
        max_points: int = 16384,
    ):
        super().__init__(
            cost=cost, resample=resample, labels=labels, label_cost=label_cost, max_points=max_points
        )
        if reg is not None and relative is not None:
            raise ValueError(f"got reg={reg} and relative={relative}, expected one of them")
        for name, value in (("reg", reg), ("relative", relative), ("unbalanced", unbalanced)):
            if value is not None and value <= 0:
                raise ValueError(f"got {name}={value}, expected a positive number")
        if iterations is not None and iterations < 1:
            raise ValueError(f"got iterations={iterations}, expected at least 1")
        self.reg, self.relative = reg, 0.05 if reg is None and relative is None else relative
        self.iterations, self.tolerance, self.unbalanced = iterations, tolerance, unbalanced

    def plan(self, costs: Tensor, groups: Tensor | None = None) -> Tensor:
        """(B, B) costs to the log of the plan. Pairs of different groups get nothing."""
        return self._solved(costs, groups)[0]

    def _solved(self, costs: Tensor, groups: Tensor | None) -> tuple[Tensor, float]:
        """The log of the plan, and the sum over rows by which they miss what is asked of them."""
        reg = self.reg if self.relative is None else float(self.relative * costs.mean().clamp_min(1e-30))
        assert reg is not None
        log_kernel = -costs / reg
        if groups is not None:
            log_kernel = torch.where(groups[:, None] == groups, log_kernel, -torch.inf)
        strength = 1.0 if self.unbalanced is None else self.unbalanced / (self.unbalanced + reg)
        plan = transport.entropic_plan(
            log_kernel, self.iterations or ROUNDS, tolerance=self.tolerance, strength=strength
        )
        error = sinkhorn.row_error(log_kernel, plan, strength)
        # twice: what was within it one round ago is, but for rounding
        if not error <= 2 * self.tolerance and self.iterations is None:
            better, rest = sinkhorn.converged_plan(log_kernel, self.tolerance, strength=strength)
            plan, error = (better, rest) if rest < error or error != error else (plan, error)
        if not error <= 10 * self.tolerance:
            off = f"{error:.0%}" if error >= 0.1 else f"{100 * error:.2g}%"
            self.say(
                "marginals",
                f"the transport plan of this batch did not converge: its row sums are off by {off} of "
                f"their total at reg = {reg:.3g}, so some sources are "
                "used more often than others. Raise reg"
                + (", or leave iterations out" if self.iterations else "")
                + ", or take the coupling ot, the limit of small reg",
            )
        return plan, error

    def choose(
        self,
        source: Tensor,
        data: Tensor,
        cond: Cond,
        lengths: Lengths,
        groups: Tensor | None,
        noise: NoiseSource,
    ) -> Chosen:
        log_plan, error = self._solved(self.costs(source, data, cond, lengths), groups)
        order, rows, weight = self.order(noise), None, None
        mass = log_plan.logsumexp(0).exp()  # (B,) of each data point: 1/B unless unbalanced
        if self.resample:
            rows = order[transport.pick(mass[order], noise.uniform(stream="pair_data", dtype=torch.float64))]
        elif self.unbalanced is not None:
            weight = mass / mass.mean()
        which = transport.draw(
            log_plan, order, noise.uniform(stream="pair_source", dtype=torch.float64), rows
        )
        logs = {"marginal_error": torch.tensor(error, device=data.device)}
        return Chosen(which, rows, weight, logs=logs)
