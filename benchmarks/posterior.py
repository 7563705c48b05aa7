"""How far the bundled model `posterior` is from the exact posteriors of its simulator, sampled anew.

    python -m benchmarks.posterior [--quick]

New simulations of 2, 5, 10 and 20 rows, 300 of each (quick: 20), 1,000 draws each. Keys: ``kl_k2`` is the
divergence of a Gaussian of the draws from the exact posterior in nats for 2 rows, ``kl_worst`` the greatest
of the others', ``kl_floor`` that of as many exact draws; ``mean_error_worst`` the greatest root mean square
error of the mean in standard deviations of the exact posterior. ``sbc_p_least`` is the least of the three
p-values of simulation-based calibration (1,000 sets; quick: 100), which certifies nothing alone.
``draws_per_s``: of 1,000 sets of observations at once, one draw each. A result that is surely better than
exact draws ends the run.

Beside sbi (its FMPE and NPE): ``c2st_two_moons_minus_sbi`` and ``c2st_slcp_minus_sbi`` are our classifier
two-sample test against the reference posteriors of sbibm less that of the better of the two, means over ten
observations, below 0 where ours is nearer. They are computed here from 1,000 draws of each side (quick: 500,
which still takes a minute or two), which `benchmarks.posterior_peers` made of models trained on the same
simulations for the same time.
``samples_per_s_vs_sbi`` was measured there, in one run of both (``"source"``): the least of both tasks, ours
to NPE's; FMPE was not timed.
"""

import sys
from typing import Any

import numpy as np
import torch

import studio
from benchmarks import posterior_samples
from benchmarks.common import finish, interleave, parser_of
from benchmarks.posterior_samples import DRAWS, OURS, PEERS, TASKS, apart, scores
from studio.recipes.posterior.check import accuracy, calibration
from studio.recipes.posterior.data import OBSERVATIONS
from studio.tasks import build

COUNTS = (2, 5, 10, 20)


def main() -> None:
    args = parser_of(__doc__ or "").parse_args()
    torch.set_num_threads(args.threads)
    model, task = studio.load("posterior", device="cpu"), build("posterior")
    sets = 20 if args.quick else 300
    found = {count: accuracy(model, task, count=count, sets=sets) for count in COUNTS}
    for count, row in found.items():
        told = ", ".join(f"{key} {value:.3f}" for key, value in row.items())
        print(f"{count:>3} rows: {told}", flush=True)
    ranks = calibration(model, task, sets=100 if args.quick else 1000)
    print(f"ranks: p {ranks['p']}, coverage of 90 % intervals {ranks['coverage']}")
    rows = task.simulate(1000, seed=5)[OBSERVATIONS]
    seconds = interleave(
        {
            "draw": lambda: model.sample(
                seeds=range(len(rows)), conditions={OBSERVATIONS: rows}, batch=len(rows)
            )
        },
        rounds=1 if args.quick else 5,
        warmup=1,
    )
    beside, source = with_sbi(DRAWS // 2 if args.quick else DRAWS)
    finish(
        {
            "kl_k2": found[2]["kl"],
            "kl_worst": max(found[count]["kl"] for count in COUNTS[1:]),
            "kl_floor": float(np.mean([row["kl_floor"] for row in found.values()])),
            "mean_error_worst": max(row["mean_error"] for row in found.values()),
            "sbc_p_least": min(ranks["p"]),
            "draws_per_s": len(rows) / seconds["draw"],
            **beside,
        },
        source,
    )


def with_sbi(count: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Our scores less those of the better peer, and what was measured where the draws were made."""
    draws, about = posterior_samples.load()
    found, ratios = {}, []
    for name, known in TASKS.items():
        told = scores(draws, name, count)
        for side, each in told.items():
            by_seed = ", ".join(f"{x:.3f}" for x in each.mean(1))
            print(
                f"{name}, {side}: {each.mean():.3f} (by seed {by_seed}; worst observation {each.max():.3f})"
            )
        found[f"c2st_{known}_minus_sbi"] = apart(told)
        speed = about["draws_per_s"][name]
        ratios.append(speed[OURS] / max(speed[peer] for peer in PEERS if peer in speed))
        print(f"{name}, draws a second on {about['host']}: {speed}", flush=True)
    key = "samples_per_s_vs_sbi"
    return {**found, key: min(ratios)}, {"file": posterior_samples.FILE.name, "keys": [key]}


if __name__ == "__main__":
    sys.exit(main())
