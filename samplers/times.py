"""How training times are drawn, one draw a sample (stream ``time``). ``shift`` and ``skew`` bend the clock as
`samplers.paths.warp` does."""

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.plugins import Registry
from backbones.types import NoiseSource
from samplers.paths import check_warp, warp


class TimeSampler(Protocol):
    def __call__(self, noise: NoiseSource, path: Any) -> Tensor: ...


def on_entries(t: Tensor, path: Any) -> Tensor:
    """On a path with a table the next entry towards the noise; elsewhere t itself."""
    on_table = getattr(path, "on_table", None)
    return t if on_table is None else on_table(t)


class Uniform:
    """Uniform on (0, 1); on a VP table uniform over its entries; on the EDM path uniform over its range of
    t."""

    def __init__(self, *, shift: float = 1.0, skew: float = 1.0):
        check_warp(shift, skew)
        self.shift, self.skew = shift, skew

    def __call__(self, noise: NoiseSource, path: Any) -> Tensor:
        """(B,) float64 times."""
        u = noise.uniform(stream="time", dtype=torch.float64)
        bend = None if self.shift == self.skew == 1 else partial(warp, path, shift=self.shift, skew=self.skew)
        return path.even(u, bend)


class LogitNormal:
    """t = sigmoid(mean + std·z) (Esser et al. 2403.03206); with t = 1 the data, a negative mean favours
    noise."""

    def __init__(self, *, mean: float = 0.0, std: float = 1.0, shift: float = 1.0):
        if std <= 0:
            raise ValueError(f"got std={std}, expected a positive number")
        check_warp(shift, 1.0)
        self.mean, self.std, self.shift = mean, std, shift

    def __call__(self, noise: NoiseSource, path: Any) -> Tensor:
        """(B,) float64 times; on a VP table the next entry towards the noise."""
        t = torch.sigmoid(self.mean + self.std * noise.normal(stream="time", dtype=torch.float64))
        return on_entries(warp(path, t, self.shift), path)


class LogNormal:
    """ln(sigma/alpha) ~ N(mean, std²) on any path (Karras et al. 2206.00364, table 1); on a VP table the
    nearest entry."""

    def __init__(self, *, mean: float = -1.2, std: float = 1.2):
        if std <= 0:
            raise ValueError(f"got std={std}, expected a positive number")
        self.mean, self.std = mean, std

    def __call__(self, noise: NoiseSource, path: Any) -> Tensor:
        """(B,) float64 times."""
        log_snr = -2 * (self.mean + self.std * noise.normal(stream="time", dtype=torch.float64))
        return path.nearest(log_snr)


class Constant:
    """The same time for every sample; ``t`` = 0 on a bridge trains a plain regression from source to data."""

    def __init__(self, *, t: float = 0.0):
        if not 0 <= t <= 1:
            raise ValueError(f"got t={t}, expected a time from 0 (source) to 1 (data)")
        self.t = t

    def __call__(self, noise: NoiseSource, path: Any) -> Tensor:
        """(B,) float64 times."""
        return on_entries(torch.full_like(noise.uniform(stream="time", dtype=torch.float64), self.t), path)


class Importance:
    """Entries of a VP table in proportion to √E[L²] of their last ``history`` losses, each loss then divided
    by its share × entries, so that the gradient stays that of uniform times with less noise (Nichol &
    Dhariwal 2102.09672; meant for the variational bound). Uniform until every entry has its history; a share
    of ``uniform`` stays so. What it remembers lives in the run (``state``), and ends with it.
    """

    remembers = True

    def __init__(self, *, history: int = 10, uniform: float = 0.001):
        if history < 1 or not 0 < uniform <= 1:
            raise ValueError(
                f"got history={history}, uniform={uniform}, expected at least 1 and a share above 0 up to 1"
            )
        self.history, self.uniform = history, uniform

    def shares(self, path: Any, state: dict[str, Tensor] | None) -> Tensor:
        """(T,) float64 probabilities of the entries. Raises ``ValueError`` on a path without a table."""
        if not path.tabled:
            raise ValueError(
                "got times: importance on a path without a table, expected vp; use uniform, logit_normal "
                "or log_normal"
            )
        even = torch.full((path.size,), 1 / path.size, dtype=torch.float64)
        if not state or int(state["seen"].min()) < self.history:
            return even
        share = state["losses"].square().mean(1).sqrt()
        return (1 - self.uniform) * share / share.sum().clamp_min(1e-300) + self.uniform * even

    def __call__(self, noise: NoiseSource, path: Any, *, state: dict[str, Tensor] | None = None) -> Tensor:
        """(B,) float64 times."""
        shares = self.shares(path, state).to(noise.device)
        k = torch.searchsorted(shares.cumsum(0), noise.uniform(stream="time", dtype=torch.float64)).clamp_max(
            len(shares) - 1
        )
        return 1 - (k + 1).double() / len(shares)

    def balance(self, path: Any, t: Tensor, loss: Tensor, state: dict[str, Tensor] | None) -> Tensor:
        """The losses (B,) divided by share × entries; they are remembered as they came."""
        shares = self.shares(path, state)
        k = (len(shares) * (1 - t) - 1).round().long().cpu()
        if state is not None and torch.is_grad_enabled():
            if not state:
                state |= {
                    "losses": torch.zeros(len(shares), self.history, dtype=torch.float64),
                    "seen": torch.zeros(len(shares), dtype=torch.int64),
                }
            for place, value in zip(k.tolist(), loss.detach().double().cpu().tolist()):
                state["losses"][place, int(state["seen"][place]) % self.history] = value
                state["seen"][place] += 1
        return loss / (shares[k] * len(shares)).to(loss)


REGISTRY = Registry(
    "times",
    {
        "uniform": "samplers.times:Uniform",
        "logit_normal": "samplers.times:LogitNormal",
        "log_normal": "samplers.times:LogNormal",
        "constant": "samplers.times:Constant",
        "importance": "samplers.times:Importance",
    },
)
