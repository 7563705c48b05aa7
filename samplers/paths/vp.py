"""Variance-preserving tables (Ho et al. 2006.11239): alpha² + sigma² = 1, given by the betas of a chain of T
steps."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from samplers.paths.coefficients import Coefficients, Time, as_time, check_steps
from samplers.paths.gaussian import Gaussian


def beta_table(
    schedule: str,
    num: int = 1000,
    *,
    start: float | None = None,
    end: float | None = None,
    zero_snr: bool = False,
) -> Tensor:
    """(T,) float64 betas. ``linear`` 1e-4…0.02, ``scaled_linear`` 8.5e-4…0.012 (linear in the root),
    ``cosine`` (Nichol & Dhariwal 2102.09672), ``sigmoid``. ``zero_snr`` shifts and scales √ᾱ so that the last
    is 0 (Lin et al. 2305.08891)."""
    lo, hi = {"scaled_linear": (0.00085, 0.012)}.get(schedule, (1e-4, 0.02))
    lo, hi = lo if start is None else start, hi if end is None else end
    if schedule == "linear":
        betas = np.linspace(lo, hi, num)
    elif schedule == "scaled_linear":
        betas = np.linspace(lo**0.5, hi**0.5, num) ** 2
    elif schedule == "cosine":
        f = np.cos((np.arange(num + 1) / num + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    elif schedule == "sigmoid":
        betas = 1 / (1 + np.exp(-np.linspace(-6, 6, num))) * (hi - lo) + lo
    else:
        raise ValueError(f"got schedule {schedule!r}, expected linear, scaled_linear, cosine or sigmoid")
    if zero_snr:
        root = np.sqrt(np.cumprod(1 - betas))
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        bar = root**2
        betas = 1 - np.concatenate([bar[:1], bar[1:] / bar[:-1]])
    return torch.from_numpy(betas)


class VPPath(Gaussian):
    """A variance-preserving table: alpha² = ᾱ_k, sigma² = 1 − ᾱ_k at t = 1 − (k + 1)/T; k = −1 is data. The
    network sees k.

    Between table entries log ᾱ is a monotone cubic through its neighbours (Catmull–Rom), so derivatives are
    continuous; at entries the table is exact. ``time_of`` inverts that curve, or returns the nearest entry
    with ``snap=True``.
    """

    native, tabled = "noise", True

    def __init__(
        self,
        *,
        schedule: str = "linear",
        num: int = 1000,
        start: float | None = None,
        end: float | None = None,
        zero_snr: bool = False,
        betas: Tensor | None = None,
    ):
        self.betas = (
            beta_table(schedule, num, start=start, end=end, zero_snr=zero_snr)
            if betas is None
            else torch.as_tensor(betas, dtype=torch.float64)
        )
        if self.betas.ndim != 1 or not bool(((self.betas > 0) & (self.betas <= 1)).all()):
            raise ValueError("got a beta table that is not one-dimensional with 0 < beta <= 1")
        self.size = len(self.betas)
        self.alpha_bar = torch.cumprod(1 - self.betas, 0)  # (T,)
        bar = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar])  # entry j = k + 1
        self._bar = bar
        self._log = bar.clamp_min(1e-20).log()
        slope = torch.empty_like(self._log)  # d log ᾱ / dj
        # a cubic is monotone where no slope exceeds three times its neighbours' (Fritsch & Carlson 1980)
        fall = self._log.diff()
        slope[1:-1] = torch.maximum(
            (self._log[2:] - self._log[:-2]) / 2, 3 * torch.maximum(fall[:-1], fall[1:])
        )
        slope[0], slope[-1] = 2 * self._log[1] - self._log[2] / 2, self._log[-1] - self._log[-2]
        self._slope = slope

    def time(self, k: int | float) -> float:
        """The time of table entry k (−1 is data)."""
        return 1 - (k + 1) / self.size

    def index(self, t: Time) -> Tensor:
        """Continuous table index of a time."""
        return self.size * (1 - as_time(t)) - 1

    @property
    def last_trained(self) -> float:
        return self.time(0)

    def first(self, begin: float) -> float:
        """The time of the first entry from there on."""
        return self.time(self.used(begin) - 1)

    def nearest(self, log_snr: Time) -> Tensor:
        """The time of the entry with the nearest level."""
        return self.time_of(log_snr, snap=True)

    def even(self, u: Tensor, bend: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Even over the entries."""
        if bend is None:
            return 1 - ((u * self.size).floor() + 1) / self.size  # u counts from the data here
        return self.on_table(bend(1 - u))

    def on_table(self, t: Tensor) -> Tensor:
        """Times moved to the next entry towards the noise."""
        return 1 - (self.size * (1 - t) - 1e-9).ceil().clamp(1, self.size) / self.size

    def _curve(self, j: Tensor) -> tuple[Tensor, Tensor]:
        """log ᾱ and its derivative at continuous j = k + 1."""
        log, slope = self._log.to(j), self._slope.to(j)
        i = j.floor().long().clamp(0, self.size - 1)
        u = j - i
        p0, p1, m0, m1 = log[i], log[i + 1], slope[i], slope[i + 1]
        d = p1 - p0
        c2, c3 = 3 * d - 2 * m0 - m1, m0 + m1 - 2 * d
        return p0 + u * (m0 + u * (c2 + u * c3)), m0 + u * (2 * c2 + 3 * u * c3)

    def coefficients(self, t: Time) -> Coefficients:
        return _remembered(self, t) if isinstance(t, float) else self._coefficients(t)

    def _coefficients(self, t: Time) -> Coefficients:
        j = (self.size * (1 - as_time(t))).clamp(0, self.size)
        value, slope = self._curve(j)
        bar = value.exp()
        near = j.round()
        entry = (j - near).abs() < 1e-3  # float32 times miss the grid by up to 1e-4 of a step
        bar = torch.where(entry, self._bar.to(bar)[near.long()], bar)
        alpha, sigma = bar.sqrt(), (1 - bar).clamp_min(0).sqrt()
        d_alpha = alpha * slope * (-self.size / 2)  # dj/dt = −T
        return Coefficients(alpha, sigma, d_alpha, -alpha * d_alpha / sigma)

    def log_snr(self, t: Time) -> Tensor:
        c = self.coefficients(t)
        return 2 * (c.alpha.log() - c.sigma.log())

    def time_of(self, log_snr: Time, *, snap: bool = False) -> Tensor:
        target = torch.nn.functional.logsigmoid(as_time(log_snr))  # log ᾱ
        if snap:
            table = self.alpha_bar.to(target)
            k = (target.exp()[..., None] - table).abs().argmin(-1)
            return 1 - (k.to(target) + 1) / self.size
        if target.ndim == 0 and target.device.type == "cpu":
            return torch.tensor(1 - self._entry_of(target.item()) / self.size, dtype=target.dtype)
        low, high = torch.zeros_like(target), torch.full_like(target, self.size)
        for _ in range(60):  # log ᾱ falls in j
            middle = (low + high) / 2
            above = self._curve(middle)[0] > target
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return 1 - (low + high) / 2 / self.size

    def _entry_of(self, log_bar: float) -> float:
        """The search of ``time_of`` in plain numbers: the same bits, in a hundredth of the time."""
        log, slope, low, high = self._log.tolist(), self._slope.tolist(), 0.0, float(self.size)
        for _ in range(60):
            middle = (low + high) / 2
            i = min(int(middle), self.size - 1)
            u, d, m0, m1 = middle - i, log[i + 1] - log[i], slope[i], slope[i + 1]
            c2, c3 = 3 * d - 2 * m0 - m1, m0 + m1 - 2 * d
            above = log[i] + u * (m0 + u * (c2 + u * c3)) > log_bar
            low, high = (middle, high) if above else (low, middle)
        return (low + high) / 2

    def network_time(self, t: Time) -> Tensor:
        k = self.index(t)
        near = k.round()
        return torch.where((k - near).abs() < 1e-3, near, k)

    def used(self, begin: float | None) -> int:
        """How many entries a grid may use that starts at the time ``begin``, or at the table's own start."""
        return self.size if begin is None else int(float(self.index(begin)) + 1 + 1e-4)

    def grid(
        self, num_steps: int, spacing: str | None = None, *, extra: int = 0, begin: float | None = None
    ) -> list[float]:
        """Times of the usual step spacings, then 1. ``extra=1`` is DPM-Solver++'s variant (an n + 1 grid
        without its last)."""
        return [self.time(int(k)) for k in self.entries(num_steps, spacing, extra=extra, begin=begin)] + [1.0]

    def entries(
        self, num_steps: int, spacing: str | None = None, *, extra: int = 0, begin: float | None = None
    ) -> list[int]:
        """Descending table entries visited by a spacing: leading, trailing (the default; the only one that
        starts at the last) or linspace. With ``begin`` the table is taken to end there."""
        check_steps(num_steps)
        size = self.used(begin)
        if size < 1:
            raise ValueError(
                "got a lambda_min beyond the noise levels of this path, expected a lower one, such as -5.1"
            )
        table = f"table of {size}" + (
            "" if size == self.size else f" ({self.size} less those before lambda_min)"
        )
        if num_steps > size:
            raise ValueError(f"got {num_steps} steps on a {table}; ask for at most {size}")
        spacing = spacing or "trailing"
        n = num_steps + extra
        if spacing != "trailing" and n > size:
            raise ValueError(
                f"got {num_steps} steps with spacing {spacing!r} on a {table}; ask for at most {size - extra}"
            )
        if spacing == "leading":
            return [int(k) for k in np.arange(n) * (size // n)][::-1][:num_steps]
        if spacing == "linspace":
            return [int(k) for k in np.linspace(0, size - 1, n).round()][::-1][:num_steps]
        if spacing == "trailing":
            return [int(k) for k in np.round(np.arange(size, 0, -size / num_steps)) - 1][:num_steps]
        raise ValueError(f"got spacing {spacing!r}, expected leading, trailing or linspace")

    def respaced(self, spec: str, *, begin: float | None = None) -> list[int]:
        """Descending entries of ADM's respacing: ``"50"``, ``"10,15,20"`` (steps per section) or ``"ddimN"``
        (a constant stride). With ``begin`` the table is taken to end there."""
        total = self.used(begin)
        try:
            if spec.startswith("ddim"):
                n = int(spec[4:])
                stride = next((s for s in range(1, total) if len(range(0, total, s)) == n), None)
                if stride is None:
                    raise ValueError(
                        f"got respacing {spec!r}: no integer stride visits exactly {n} of {total} steps"
                    )
                return list(range(0, total, stride))[::-1]
            counts = [int(c) for c in spec.split(",")]
        except ValueError as error:
            raise (
                error
                if "stride" in str(error)
                else ValueError(f"got respacing {spec!r}, expected 'N', 'a,b,c' or 'ddimN'")
            ) from None
        entries, start = [], 0
        for i, n in enumerate(counts):
            size = total // len(counts) + (i < total % len(counts))
            if not 1 <= n <= size:
                raise ValueError(f"got {n} steps in a section of {size}, expected 1 to {size}")
            entries += [start + round(j * (size - 1) / (n - 1)) if n > 1 else start for j in range(n)]
            start += size
        return entries[::-1]


@lru_cache(maxsize=4096)
def _remembered(path: VPPath, t: float) -> Coefficients:
    """A sampler asks for the same few times over and over; the cubic is a dozen small tensor operations."""
    return path._coefficients(t)
