"""How near the samples of `studio train sets` are to the exact posterior of its lines.

    studio train sets
    python examples/posterior.py runs/sets [--sets 100] [--draws 400] [--plot PNG]

Each set of 2 to 20 points t, y is new. Told are the error of the posterior mean in posterior deviations, the
ratio of deviations, the divergence KL(Gaussian of the samples ‖ exact) beside that of as many exact draws
(what no model can fall below), and how often a 90 % interval holds the true value.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import studio
from studio.data.sets import lines, posterior


def divergence(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """KL(N(m, C) ‖ N(mean, covariance)) in nats, m and C those of the draws (N, d)."""
    off, found = draws.mean(0) - mean, np.cov(draws.T)
    inverse = np.linalg.inv(covariance)
    logs = np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(found)[1]
    return float((np.trace(inverse @ found) + off @ inverse @ off - len(mean) + logs) / 2)


def compare(model: Any, count: int, draws: int, seed: int = 1) -> dict[str, float]:
    """Means over ``count`` sets that were not trained on."""
    thetas, sets, _ = lines(count, seed=1000 + seed)
    rng, rows = np.random.default_rng(seed), []
    for theta, given in zip(thetas, sets):
        made = model.sample(seeds=range(draws), conditions={"set": given}, batch=draws).values.numpy()
        mean, covariance = posterior(given)
        deviation = np.sqrt(np.diag(covariance))
        low, high = np.quantile(made, (0.05, 0.95), 0)
        exact = rng.multivariate_normal(mean, covariance, draws)
        rows.append(
            (
                *((made.mean(0) - mean) / deviation) ** 2,
                *made.std(0) / deviation,
                divergence(made, mean, covariance),
                divergence(exact, mean, covariance),
                *((low < theta) & (theta < high)),
            )
        )
    table = np.array(rows, dtype=float)
    return {
        "error of the mean, in posterior deviations": float(np.sqrt(table[:, :2].mean())),
        "ratio of deviations": float(table[:, 2:4].mean()),
        "KL to the exact posterior, nats": float(table[:, 4].mean()),
        "the same of exact draws": float(table[:, 5].mean()),
        "90 % intervals hold": float(table[:, 6:].mean()),
    }


def plot(model: Any, where: Path, draws: int = 400) -> None:
    """Samples of four posteriors, and the ellipses that hold half and 95 % of the exact ones."""
    from matplotlib.figure import Figure

    thetas, sets, _ = lines(200, seed=7)
    counts = (~np.isnan(sets).any(-1)).sum(1)
    figure = Figure(figsize=(12, 3.4), dpi=110, layout="tight")
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for axes, wanted in zip(figure.subplots(1, 4), (2, 4, 8, 20)):
        i = int((counts == wanted).argmax())
        made = model.sample(seeds=range(draws), conditions={"set": sets[i]}).values.numpy()
        mean, covariance = posterior(sets[i])
        axes.scatter(*made.T, s=5, alpha=0.4, linewidths=0, label="samples")
        for share in (0.5, 0.95):
            ring = mean[:, None] + np.sqrt(-2 * np.log(1 - share)) * np.linalg.cholesky(covariance) @ circle
            axes.plot(
                *ring, color="black", linewidth=1, label="exact, 50 % and 95 %" if share < 0.9 else None
            )
        axes.plot(*thetas[i], "r+", markersize=10, label="truth")
        axes.set(title=f"{wanted} points", xlabel="intercept", ylabel="slope")
    figure.axes[0].legend(fontsize=6, loc="upper left")
    figure.savefig(where)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    model = studio.load(asked.model, device="cpu")
    for name, value in compare(model, asked.sets, asked.draws).items():
        print(f"{name:<44}{value:8.3f}")
    if asked.plot:
        plot(model, asked.plot)


if __name__ == "__main__":
    main()
