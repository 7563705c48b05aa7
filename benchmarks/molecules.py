"""A trained Graph DiT, asked for the properties of held-out molecules: what comes out, without any
correction, and how near it is to what was asked.

    python -m benchmarks.molecules RUN [--file FILE.csv] [--num 1000] [--steps 200] [--scales 1 1.5 2]

RUN: a run, an exported folder or a bundled model; ``--file``: its molecules, where they no longer lie where
its config says. Properties that RDKit computes are computed. Measured ones, such as permeabilities, nobody
has measured on what is made, so a random forest on ECFP4 fingerprints of 2,048 bits, fitted to every row,
says what they are, as for the published Graph DiT (Liu et al. 2401.13858; needs scikit-learn); what that
oracle is worth is its error on rows that it was not fitted to, in five folds. Errors are mean absolute ones
over the valid molecules, in standard deviations of the training set. Rows beside the model's: training
molecules at random, and the one of the training set whose properties are nearest to what is asked, which is
never new. Keys: ``valid``, ``connected``, ``unique``, ``new``, ``mae`` at the scale with the least error, and
``mae_ratio``, the error of random training molecules over it.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

import studio
from benchmarks.common import finish, parser_of
from studio.chem import properties
from studio.data import load_data
from studio.evaluation.molecule_judge import decoded, evaluate
from studio.evaluation.sets import SampleSet, of_data
from studio.metrics import molecules, property_floors
from studio.reproduce.graph_control import made

MEASURES = ("validity", "uniqueness", "novelty", "diversity", "fcd", "fragments", "coverage")
HEADS = (
    "valid",
    "connected",
    "valid_corrected",
    "unique",
    "new",
    "diversity",
    "fcd",
    "fragments",
    "atom_types",
)
Measure = Callable[[Sequence[Any]], np.ndarray]  # molecules to (N, K) in own units


def oracle(mols: Sequence[Any], numbers: np.ndarray) -> Measure:
    """A forest for each property, (N, K) with NaN = not measured."""
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        sys.exit(
            "got properties that RDKit does not compute and no scikit-learn, which their oracle needs; "
            "pip install scikit-learn"
        )

    def prints(mols: Sequence[Any]) -> np.ndarray:
        return molecules.fingerprints(mols, bits=2048)

    seen = prints(mols)
    forests = [
        RandomForestRegressor(random_state=0).fit(seen[~np.isnan(column)], column[~np.isnan(column)])
        for column in numbers.T
    ]
    return lambda mols: np.stack([f.predict(prints(mols)) for f in forests], 1)


def out_of_fold(mols: Sequence[Any], numbers: np.ndarray, count: int = 5) -> np.ndarray:
    """(K,) mean error of the oracle on rows that it was not fitted to."""
    place = np.random.Generator(np.random.Philox(key=0)).permutation(len(mols)) % count
    errors = np.full(numbers.shape, np.nan)
    for k in range(count):
        fitted = oracle([m for m, p in zip(mols, place) if p != k], numbers[place != k])
        errors[place == k] = np.abs(fitted([m for m, p in zip(mols, place) if p == k]) - numbers[place == k])
    return np.nanmean(errors, 0)


def main() -> None:
    parser = parser_of(__doc__ or "")
    parser.add_argument("run")
    parser.add_argument("--file")
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 1.5, 2.0])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = studio.load(options.run)
    spec = model.config.data | ({"path": options.file} if options.file else {})
    if load_data(spec).hash != model.info.data_hash:
        sys.exit(
            f"got other molecules than {options.run} was trained on, expected the same: what it has seen "
            "would count as held out; pass its own file as --file"
        )
    reference = of_data(spec, options.file or options.run)
    if reference.test is None:
        sys.exit(f"got data of {options.run} of which nothing is held out; nothing can be asked for")
    names, spread = model.info.numeric, np.array(model.info.numeric_std)
    train, test = decoded(reference), decoded(reference.test)
    known, wanted = train.properties(names), test.properties(names)
    asked = np.resize(wanted, (options.num, len(names)))
    print(
        f"{len(train)} molecules to train on, {len(test)} held out; {options.num} asked for, "
        f"{options.steps} steps"
    )
    print(f"errors in standard deviations: {', '.join(f'{s:.4g} of {n}' for n, s in zip(names, spread))}")
    measure: Measure = partial(properties.compute, names=names)
    if not all(map(properties.known, names)):
        every, numbers = train.mols + test.mols, np.concatenate([known, wanted])
        measure = oracle(every, numbers)
        print(
            "the oracle on rows that it was not fitted to: "
            f"{'  '.join(f'{n} {e:.3f}' for n, e in zip(names, out_of_fold(every, numbers) / spread))}"
        )

    heads = (*HEADS, *(f"mae {n}" for n in names), "mae")

    def told(name: str, row: dict[str, float], error: np.ndarray) -> dict[str, float]:
        row = (
            row
            | {f"mae {n}": float(e) for n, e in zip(names, error / spread)}
            | {"mae": float(np.mean(error / spread))}
        )
        print(
            "  ".join(
                [
                    f"{name:<18}",
                    *(f"{row[h]:{max(len(h), 5)}.3f}" if h in row else " " * max(len(h), 5) for h in heads),
                ]
            ),
            flush=True,
        )
        return row

    print("  ".join([" " * 18, *(f"{h:>5}" for h in heads)]))
    chance = told("random training", {}, property_floors.random_molecules(asked, known))
    told("looked up", {}, property_floors.looked_up(asked, known, spread)[0])
    rows = []
    for scale in options.scales:
        graphs, seconds = made(
            model, asked, scale=scale, steps=options.steps, sampler=model.config.sample.sampler
        )
        samples = SampleSet(options.run, graphs, legend=reference.legend)
        mols, error = decoded(samples).mols, np.full(asked.shape, np.nan)
        good = np.array([m is not None for m in mols])
        if good.any():
            error[good] = np.abs(measure([m for m in mols if m is not None]) - asked[good])
        row = evaluate(samples, reference, MEASURES).values
        rows.append(
            told(f"scale {scale:g}, {seconds / 60:.1f} min", row, np.nanmean(error, 0)) | {"scale": scale}
        )
    best = min((r for r in rows if r["mae"] == r["mae"]), key=lambda r: r["mae"], default=None)
    if best is None:
        sys.exit("got no valid molecules at any scale; train longer")
    finish(
        {
            **{k: best.get(k, float("nan")) for k in ("scale", "valid", "connected", "unique", "new", "mae")},
            "mae_ratio": chance["mae"] / best["mae"],
        }
    )


if __name__ == "__main__":
    main()
