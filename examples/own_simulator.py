"""A simulator of one's own, from its prior to a checked posterior.

    python examples/own_simulator.py [--minutes 5] [--out runs/decay]

A substance decays, amount · exp(−rate · t), and is measured a few times; how fast, and from how much? Both
are positive, so the posterior never leaves there. Trained, then asked by measurements of one's own (a .csv
with columns t and y does as well), and checked by simulation-based calibration.
"""

import argparse
from pathlib import Path

import numpy as np

import studio
from studio.recipes.posterior.check import calibration
from studio.recipes.posterior.task import PosteriorTask


class Decay(PosteriorTask):
    name, parameters, columns, counts = "decay", ("rate", "amount"), ("t", "y"), (3, 15)
    bounds = ((0.0, None), (0.0, None))

    def prior(self, count, rng):
        return np.exp(rng.normal([-1.0, 1.0], [0.7, 0.5], (count, 2)))

    def observe(self, theta, rng):
        t = rng.uniform(0, 10, (len(theta), self.counts[1]))
        y = theta[:, 1:] * np.exp(-theta[:, :1] * t) + 0.1 * rng.standard_normal(t.shape)
        return np.stack([t, y], -1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("runs/decay"))
    asked = parser.parse_args()
    task = Decay()
    run = studio.train(
        "posterior", [f"train.minutes={asked.minutes}"], data=task.data(), task=task, out=asked.out
    )
    model = run.load()
    seen = [[0.5, 2.1], [2.0, 1.2], [5.0, 0.45], [8.0, 0.2]]
    draws = model.sample(conditions={"observations": seen}, seeds=range(1000), batch=1000)
    draws.save(asked.out / "seen", overwrite=True)
    print((asked.out / "seen" / "posterior.csv").read_text())
    found = calibration(model, task, sets=300)
    print("calibration, p:", found["p"], "coverage of 90 % intervals:", found["coverage"])


if __name__ == "__main__":
    main()
