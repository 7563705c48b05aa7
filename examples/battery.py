"""How four simulated cells will fade, by a model of `studio train battery`, as its view draws it: two from
their early matrix alone, two of which 300 cycles are known too.

    python examples/battery.py [battery | RUN] [--plot PNG]

Told is for each the end of life, foretold and true.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import studio
from studio.recipes.battery.cells import end_of_life
from studio.recipes.battery.measures import interval
from studio.tasks.views import Seen


class Nobody:
    """What a view may ask of a model and this one does not: see `studio.tasks.views.Maker`."""

    def data(self, count: int) -> None:
        return None

    def velocity(self, values: torch.Tensor, t: float) -> torch.Tensor:
        raise ValueError("no flow is drawn here")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="battery")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--draws", type=int, default=64)
    asked = parser.parse_args()
    model, task = studio.load(asked.model, device="cpu"), studio.tasks.build("battery")
    cells = task.simulate(4, seed=5)
    values, recipes = [], []
    for i, (matrix, curve) in enumerate(zip(cells["matrix"], cells["curve"])):
        known = {"known": np.arange(256) < 31, "given": curve} if i >= 2 else {}
        made = model.sample(conditions={"matrix": matrix}, seeds=range(asked.draws), **known)
        low, high = interval(lives := end_of_life(made.values.numpy()))
        what = f"cell {i + 1}{', 300 cycles known' if known else ''}"
        print(f"{what}: {np.median(lives):.0f} ({low:.0f} to {high:.0f}), true {cells['end_of_life'][i]:.0f}")
        values.append(made.values)
        recipes += made.recipes
    if asked.plot is not None:
        view = task.views((256,))[0]
        view.draw(asked.plot, Seen(torch.cat(values), recipes, Nobody()))


if __name__ == "__main__":
    main()
