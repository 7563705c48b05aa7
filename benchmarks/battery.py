"""How well a model foretells lives of simulated cells, and what is asked of it.

    python -m benchmarks.battery [battery | RUN] [--cells 200] [--draws 32] [--points 11] [--seed 1000000]

Cells are new. Beside the model stand the exact posterior (importance sampling, as many draws), the model with
the matrices of other cells, and the model that also knows the first points of the curve. Ends with a JSON
line; the exit code is 1 where something falls short.
"""

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

import studio
from studio.recipes.battery.measures import foretold, passed
from studio.recipes.battery.predicting import judged, kept_to_the_bit

COLUMNS = ("rank_correlation", "rmse", "rmse_share", "coverage", "coverage_plain", "crps", "health_rmse")


def exact(task: Any, cells: dict[str, np.ndarray], draws: int) -> dict[str, float]:
    lives = [task.reference(matrix, draws, seed=i) for i, matrix in enumerate(cells["matrix"])]
    return foretold(np.stack(lives), cells["end_of_life"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="battery")
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--points", type=int, default=11, help="of the curve that are known: cycles 0 to 100")
    parser.add_argument("--seed", type=int, default=1_000_000, help="of the new cells")
    asked = parser.parse_args()
    task, model = studio.tasks.build("battery"), studio.load(asked.model, device="cpu")
    cells = task.simulate(asked.cells, seed=asked.seed)
    others = cells | {"matrix": np.roll(cells["matrix"], 1, axis=0)}
    found: dict[str, dict[str, float]] = {"exact posterior": exact(task, cells, asked.draws)}
    started = time.perf_counter()
    found["model"], _ = judged(model, cells, asked.draws)
    seconds = time.perf_counter() - started
    found["permuted matrices"], _ = judged(model, others, asked.draws)
    found["known prefix"], made = judged(model, cells, asked.draws, points=asked.points)
    bits = kept_to_the_bit(made, cells["curve"], asked.points)

    recipe = model.sample(seeds=[0], num_steps=1).recipes[0]
    print(f"{asked.cells} new cells (seed {asked.seed}), {asked.draws} samples each, {model.name}")
    print(
        f"{recipe['sampler']}, {model.config.sample.num_steps} steps, guidance {recipe['guidance'] or 'off'}"
    )
    print(f"constant (the mean of these lives): error {found['model']['rmse_constant']:.1f} cycles\n")
    print(f"{'':20}" + "".join(f"{name:>17}" for name in COLUMNS))
    for name, row in found.items():
        print(f"{name:20}" + "".join(f"{row[c]:17.3f}" if c in row else f"{'–':>17}" for c in COLUMNS))
    tests = passed(found["model"], found["permuted matrices"]) | {
        f"the first {asked.points} points as they were given, bit for bit": bits
    }
    print()
    for what, good in tests.items():
        print(f"{'yes' if good else 'NO ':4}{what}")
    print(f"\n{asked.cells * asked.draws / seconds:.0f} samples a second")
    print(json.dumps({"found": found, "passed": tests}))
    sys.exit(0 if all(tests.values()) else 1)


if __name__ == "__main__":
    main()
