"""How well a model foretells lives of simulated cells, and what is asked of it.

    python -m benchmarks.battery [battery | RUN] [--cells 200] [--draws 32] [--points 11] [--seed 1000000]
                                 [--out FILE]

Cells are new. Beside the model stand the exact posterior (importance sampling, as many draws), the model with
the matrices of other cells, and the model that also knows the first points of the curve. Ends with a JSON
line; the exit code is 1 where something falls short. ``--out``: the report goes into a file too, in the place
of an earlier one of the same model, with the mean of all models of that file on top.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import studio
from studio.recipes.battery.measures import foretold, passed
from studio.recipes.battery.predicting import judged, kept_to_the_bit
from studio.reproduce.page import shown
from studio.runtime import files

COLUMNS = ("rank_correlation", "rmse", "rmse_share", "coverage", "coverage_plain", "crps", "health_rmse")
TITLE = "== "  # begins a report


def exact(task: Any, cells: dict[str, np.ndarray], draws: int) -> dict[str, float]:
    lives = [task.reference(matrix, draws, seed=i) for i, matrix in enumerate(cells["matrix"])]
    return foretold(np.stack(lives), cells["end_of_life"])


def kept(out: Path, report: str) -> None:
    """A file of reports, with this one, and a table of means and standard errors over all of them."""
    text = out.read_text() if out.is_file() else ""
    reports = {part.partition("\n")[0]: part for part in text.split(TITLE)[1:]}
    reports[report.partition("\n")[0]] = report
    found = [json.loads(part.strip().rpartition("\n")[2])["found"] for part in reports.values()]
    lines = [
        f"python -m benchmarks.battery MODEL --out FILE; trainings of configs/battery.yaml: {len(found)}, "
        "the same new cells;",
        "means, of several trainings with their standard errors, and each report below\n",
        f"{'':20}" + "".join(f"{name:>19}" for name in COLUMNS),
    ]
    for name in found[0]:
        values = {c: [f[name][c] for f in found] for c in COLUMNS if c in found[0][name]}
        cells = (f"{shown(values[c]) if c in values else '–':>19}" for c in COLUMNS)
        lines.append(f"{name:20}" + "".join(cells))
    body = "".join(f"\n{TITLE}{reports[title].strip()}\n" for title in sorted(reports))
    files.write_text(out, "\n".join(lines) + "\n" + body)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="battery")
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--points", type=int, default=11, help="of the curve that are known: cycles 0 to 100")
    parser.add_argument("--seed", type=int, default=1_000_000, help="of the new cells")
    parser.add_argument("--out", type=Path)
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
    lines = [
        f"{asked.cells} new cells (seed {asked.seed}), {asked.draws} samples each, {recipe['sampler']}, "
        f"{model.config.sample.num_steps} steps, guidance {recipe['guidance'] or 'off'}",
        f"constant (the mean of these lives): error {found['model']['rmse_constant']:.1f} cycles\n",
        f"{'':20}" + "".join(f"{name:>17}" for name in COLUMNS),
    ]
    for name, row in found.items():
        lines.append(f"{name:20}" + "".join(f"{row[c]:17.3f}" if c in row else f"{'–':>17}" for c in COLUMNS))
    tests = passed(found["model"], found["permuted matrices"]) | {
        f"the first {asked.points} points as they were given, bit for bit": bits
    }
    lines += ["", *(f"{'yes' if good else 'NO ':4}{what}" for what, good in tests.items())]
    lines += [f"\n{asked.cells * asked.draws / seconds:.0f} samples a second"]
    lines += [json.dumps({"found": found, "passed": tests})]
    report = "\n".join([f"{model.name}, trained from seed {model.config.seed}", *lines])
    print(report)
    if asked.out is not None:
        kept(asked.out, report)
    return 0 if all(tests.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
