"""Entropic plans to convergence, where plain rounds of Sinkhorn are not enough: annealed Newton steps on the
semi-dual.

With P = exp(L + f_i + g_j) and g always such that its own condition holds, the condition on f is

    a e^{−κf} = P 1,    κ = reg/λ of unbalanced transport, 0 where the marginals are fixed,

and its Newton step solves a graph Laplacian (Brauer et al. 1710.06635; annealing as in Schmitzer 1610.06519):

    (diag(P1 + κ a e^{−κf}) − P diag(1/((1 + κ) Pᵀ1)) Pᵀ) δ = a e^{−κf} − P 1.

Near the solution the error squares with every step; far from it, where there is no descent, a round of
Sinkhorn is taken instead. The temperature falls by halves from where plain rounds converge at once, each with
the potentials of the one before.
"""

import math

import torch
from torch import Tensor

STEPS = 12  # Newton steps at a temperature before the next; the last has four times as many
WARM = 1e-3  # how far off a temperature on the way may be


def row_error(log_kernel: Tensor, log_plan: Tensor, strength: float = 1.0) -> float:
    """The sum over rows by which a plan with exact columns misses the condition on its rows, for ``strength``
    1 by which their sums miss 1/B: 0 to 2. Summed in float64 where the device has it."""
    kernel, plan = (v if v.device.type == "mps" else v.double() for v in (log_kernel, log_plan))
    kappa, (a, b) = 1 / strength - 1, (-math.log(n) for n in plan.shape)
    wanted = torch.full_like(plan[:, 0], a)
    if kappa:
        best = kernel.argmax(1, keepdim=True)
        g = (b - plan.logsumexp(0)) / kappa  # of exact columns
        wanted = a - kappa * ((plan - kernel - a - b).gather(1, best)[:, 0] - g[best[:, 0]])
    return float((wanted.exp() - plan.logsumexp(1).exp()).abs().sum())


def converged_plan(log_kernel: Tensor, tolerance: float, *, strength: float = 1.0) -> tuple[Tensor, float]:
    """(B, M) log kernel −C/reg, as `transport.entropic_plan` takes it, to the log of its plan in float64 and
    the sum over rows by which its condition fails. ``strength`` = λ/(λ + reg)."""
    kernel = log_kernel.double() if log_kernel.device.type != "mps" else log_kernel.cpu().double()
    apart = float(torch.where(kernel.isfinite(), kernel.amax(1, keepdim=True) - kernel, 0).max())
    halvings = max(0, math.ceil(math.log2(max(apart, 1.0) / 32)))
    f = torch.zeros(len(kernel), dtype=kernel.dtype, device=kernel.device)
    for k in range(halvings, -1, -1):
        # at a temperature 2^k times higher, the same price of the marginals is 2^k times less against it
        share = strength if strength == 1 else 1 / (1 + (1 / strength - 1) * 2**k)
        f, plan, error = _solve(
            kernel / 2**k, f, share, tolerance if k == 0 else WARM, STEPS * (4 if k == 0 else 1)
        )
        f = f * 2 if k else f
    return plan.to(log_kernel.device), error


def _solve(
    kernel: Tensor, f: Tensor, strength: float, tolerance: float, steps: int
) -> tuple[Tensor, Tensor, float]:
    """Potentials (B,) and log plan at one temperature, and the error that is left. The best that was met is
    returned."""
    kappa, (a, b) = 1 / strength - 1, (-math.log(n) for n in kernel.shape)
    kernel = kernel + (a + b)

    def at(f: Tensor) -> tuple[Tensor, Tensor, float]:
        """The log plan, what its rows lack, and the sum of that."""
        held = kernel + f[:, None]
        plan = held + strength * (b - held.logsumexp(0))
        lack = (a - kappa * f).exp() - plan.logsumexp(1).exp()
        return plan, lack, float(lack.abs().sum())

    plan, lack, error = at(f)
    best = (f, plan, error)
    for _ in range(steps):
        if best[2] <= tolerance:
            break
        moved = _newton(plan, lack, (a - kappa * f).exp(), kappa)
        for share in (1.0, 0.5, 0.25, 0.05):
            if not moved.isfinite().all():
                break
            new = f + share * moved.clamp(-8, 8)
            tried = at(new)
            if tried[2] < (1 - 0.1 * share) * error:
                f, (plan, lack, error) = new, tried
                break
        else:
            moved = moved * math.nan
        if not moved.isfinite().all():  # no way down: rounds of Sinkhorn, which always make one
            for _ in range(5):
                f = f + strength * (a - kappa * f - plan.logsumexp(1))
                plan, lack, error = at(f)
        best = min(best, (f, plan, error), key=lambda found: found[2])
    return best


def _newton(plan: Tensor, lack: Tensor, wanted: Tensor, kappa: float) -> Tensor:
    """(B,) the Newton step; NaN where the equation cannot be solved."""
    p = plan.exp()
    columns = p.sum(0).clamp_min(1e-300) * (1 + kappa)
    matrix = -(p / columns) @ p.T
    diagonal = p.sum(1) + kappa * wanted
    # constants, of each part that nothing joins to the rest, are free
    matrix.diagonal().add_(diagonal * (1 + 1e-13))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        return torch.full_like(lack, math.nan)
    return torch.cholesky_solve(lack[:, None], factor)[:, 0]
