"""What lives are foretold by without a network: five features of the early matrix, a ridge and a Gaussian
process on them, and a constant."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

FEATURES = ("log variance", "log of the greatest loss", "mean", "skewness", "slope over cycles")


def features(matrices: np.ndarray) -> np.ndarray:
    """(N, 5) of matrices (N, 20, 50): of the last row less the first its variance, least value, mean and
    skewness (the capacity differences of Severson et al. 2019), and how the rows' means change. A matrix that
    is missing gives NaN."""
    rows = np.asarray(matrices, dtype=np.float64)
    last = rows[:, -1] - rows[:, 0]
    middle, spread = last.mean(1), last.std(1) + 1e-9
    skewness = (((last - middle[:, None]) / spread[:, None]) ** 3).mean(1)
    cycle = np.linspace(-1, 1, rows.shape[1])
    slope = (rows.mean(2) * cycle).mean(1)
    return np.stack([2 * np.log(spread), np.log(np.abs(last.min(1)) + 1e-6), middle, skewness, slope], 1)


@dataclass(frozen=True)
class Scaled:
    """Features less their mean over their deviation, those that are missing at the mean."""

    mean: np.ndarray
    std: np.ndarray

    @staticmethod
    def of(x: np.ndarray) -> "Scaled":
        std = np.nanstd(x, 0)
        return Scaled(np.nanmean(x, 0), np.where(std > 0, std, 1.0))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.nan_to_num((x - self.mean) / self.std)


def ridge(x: np.ndarray, lives: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(M,) lives of ``new`` features: linear in the logarithm, its penalty that of the least error of cells
    left out one by one."""
    scaled = Scaled.of(x)
    design, y = scaled(x), np.log(np.maximum(lives, 1.0))
    values, turned = np.linalg.eigh(design.T @ design)
    best, weights = np.inf, np.zeros(design.shape[1])
    for penalty in 10.0 ** np.arange(-3, 4):
        inverse = (turned / (values + penalty)) @ turned.T
        w = inverse @ design.T @ (y - y.mean())
        hat = np.einsum("ni,ij,nj->n", design, inverse, design) + 1 / len(y)
        error = float(np.square((y - y.mean() - design @ w) / (1 - np.minimum(hat, 0.99))).mean())
        if error < best:
            best, weights = error, w
    return np.exp(np.clip(y.mean() + scaled(new) @ weights, 0, 10))


def gaussian_process(x: np.ndarray, lives: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (M,) of the logarithm of lives of ``new`` features: squared exponential in one
    length, with noise, all three by the marginal likelihood."""
    scaled = Scaled.of(x)
    design, at, y = scaled(x), scaled(new), np.log(np.maximum(lives, 1.0))
    middle, spread = y.mean(), y.std() or 1.0
    y = (y - middle) / spread

    def kernel(a: np.ndarray, b: np.ndarray, logs: np.ndarray) -> np.ndarray:
        apart = np.square(a[:, None] - b[None]).sum(-1)
        return np.exp(2 * logs[0] - 0.5 * apart / np.exp(2 * logs[1]))

    def loss(logs: np.ndarray) -> float:
        whole = kernel(design, design, logs) + (np.exp(2 * logs[2]) + 1e-6) * np.eye(len(y))
        factor = cho_factor(whole, lower=True)
        return float(0.5 * y @ cho_solve(factor, y) + np.log(np.diag(factor[0])).sum())

    bounds = [(-3.0, 3.0), (-1.5, 4.0), (-4.0, 1.0)]
    logs = minimize(loss, np.array([0.0, 1.0, -1.0]), method="L-BFGS-B", bounds=bounds).x
    noise = np.exp(2 * logs[2]) + 1e-6
    factor = cho_factor(kernel(design, design, logs) + noise * np.eye(len(y)), lower=True)
    across = kernel(at, design, logs)
    mean = across @ cho_solve(factor, y)
    variance = np.exp(2 * logs[0]) - np.einsum("ij,ji->i", across, cho_solve(factor, across.T)) + noise
    return middle + spread * mean, spread * np.sqrt(np.maximum(variance, 0))


def widened(low: np.ndarray, high: np.ndarray, lives: np.ndarray, *, share: float = 0.9) -> float:
    """By how many cycles intervals of cells that were left aside for this have to be widened at both ends to
    hold that share of their lives (conformalised quantiles, Romano et al. 2019)."""
    short = np.sort(np.maximum(low - lives, lives - high))
    rank = int(np.ceil((len(short) + 1) * share)) - 1
    return float(short[min(rank, len(short) - 1)])
