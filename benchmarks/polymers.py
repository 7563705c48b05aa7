"""A trained run of the config `polymers-graph-dit`, asked for the gas permeabilities of held-out polymers: what comes out, and what it is worth.

    python -m benchmarks.polymers RUN FILE.csv [--num 500] [--steps 200] [--scales 1 1.5 2]

Nobody has measured the polymers that are made, so a random forest on ECFP4 fingerprints of 2,048 bits, fitted to every row of the file, says what they have, as for the published Graph DiT
(Liu et al. 2401.13858); needs scikit-learn. What that oracle itself is worth: its error on rows that it was not fitted to, in five folds. Errors are mean absolute ones in decades, over the
valid polymers. Rows beside the model's: training polymers at random, and the one of the training set whose permeabilities are nearest to what is asked, which is never new.
Keys: ``valid``, ``connected``, ``unique``, ``new``, ``mae`` at the scale with the least error, and ``mae_ratio``, the error of random training polymers over it.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import studio
from benchmarks.common import finish, parser_of
from studio.chem import floors, metrics
from studio.data import load_data
from studio.metrics.distances import Moments
from studio.reproduce.graph_control import made

BITS = 2048


class Oracle:
    """A forest for each property, (N, K) with NaN = not measured."""

    def __init__(self, mols: list[Any], numbers: np.ndarray):
        try:
            from sklearn.ensemble import RandomForestRegressor
        except ImportError:
            sys.exit("got no scikit-learn, which this script's oracle needs; pip install scikit-learn")
        prints = metrics.fingerprints(mols, bits=BITS)
        self.forests = []
        for column in numbers.T:
            known = ~np.isnan(column)
            self.forests.append(RandomForestRegressor(random_state=0).fit(prints[known], column[known]))

    def __call__(self, mols: list[Any]) -> np.ndarray:
        prints = metrics.fingerprints(mols, bits=BITS)
        return np.stack([f.predict(prints) for f in self.forests], 1)


def folds(mols: list[Any], numbers: np.ndarray, count: int = 5) -> np.ndarray:
    """(K,) mean error of the oracle on rows that it was not fitted to."""
    place = np.random.Generator(np.random.Philox(key=0)).permutation(len(mols)) % count
    errors = np.full(numbers.shape, np.nan)
    for k in range(count):
        oracle = Oracle([m for m, p in zip(mols, place) if p != k], numbers[place != k])
        errors[place == k] = np.abs(oracle([m for m, p in zip(mols, place) if p == k]) - numbers[place == k])
    return np.nanmean(errors, 0)


def errors(names: Sequence[str], error: np.ndarray) -> dict[str, float]:
    return {**{f"mae {n}": float(e) for n, e in zip(names, error)}, "mae": float(error.mean())}


def judged(
    graphs: np.ndarray, atoms: Sequence[str], aromatic: bool, training: set[str], real: tuple[list[Any], Moments]
) -> tuple[dict[str, float], list[Any]]:
    """What is told of polymers without the oracle, and the molecules. ``real``: all polymers of the file, and the moments of their ChemNet activations."""
    mols = metrics.decoded(graphs, atoms)
    plain, smiles = metrics.validity(mols), metrics.smiles_of(mols)
    row = {
        "valid": plain.valid,
        "connected": plain.connected,
        "valid_corrected": metrics.validity(metrics.decoded(graphs, atoms, correct=True)).valid,
    }
    if sum(m is not None for m in mols) > 1:
        row |= {
            "unique": metrics.uniqueness(smiles),
            "new": metrics.novelty(smiles, training),
            "coverage": metrics.coverage(mols, atoms, aromatic=aromatic),
        }
        row |= {"diversity": metrics.internal_diversity(mols), "fragments": metrics.cosine(metrics.fragments(mols), metrics.fragments(real[0]))}
        row["fcd"] = metrics.fcd(smiles, real[1])
    return row, mols


def main() -> None:
    parser = parser_of(__doc__ or "")
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--num", type=int, default=500)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 1.5, 2.0])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = studio.load(options.run)
    data = load_data({**model.config.data, "path": str(options.file)})
    names, atoms = data.numeric, data.codec["atoms"]
    if data.hash != model.info.data_hash:
        sys.exit(f"got {options.file}, expected the file that {options.run} was trained on")
    parts = (data.train, data.held_out)
    train, held = (metrics.decoded(p.values, atoms) for p in parts)
    known, wanted = (p.numeric * np.array(data.numeric_std) + np.array(data.numeric_mean) for p in parts)
    every, numbers = train + held, np.concatenate([known, wanted])
    oracle, asked = Oracle(every, numbers), np.resize(wanted, (options.num, len(names)))
    print(f"{len(train)} polymers to train on, {len(held)} held out; {options.num} asked for, {options.steps} steps; errors in decades")
    print(f"  the oracle on rows that it was not fitted to: {'  '.join(f'{n} {e:.3f}' for n, e in zip(names, folds(every, numbers)))}")
    heads = (
        "valid",
        "connected",
        "valid_corrected",
        "unique",
        "new",
        "coverage",
        "diversity",
        "fragments",
        "fcd",
        *(f"mae {n}" for n in names),
        "mae",
    )

    def tell(name: str, row: Mapping[str, float]) -> None:
        print("  ".join([f"{name:<18}", *(f"{row[h]:{max(len(h), 5)}.3f}" if h in row else " " * max(len(h), 5) for h in heads)]), flush=True)

    print("  ".join([" " * 18, *(f"{h:>5}" for h in heads)]))
    random = errors(names, floors.random_molecules(asked, oracle(train)))
    tell("random training", random)
    _, nearest = floors.looked_up(asked, known, data.numeric_std)
    tell("looked up", errors(names, np.nanmean(np.abs(oracle(train)[nearest] - asked), 0)))
    tell("held-out itself", errors(names, np.nanmean(np.abs(oracle(held) - wanted), 0)))
    real = (every, metrics.chemnet(metrics.smiles_of(every)))
    training = {s for s in metrics.smiles_of(train) if s is not None}
    rows = []
    for scale in options.scales:
        graphs, seconds = made(model, asked, scale=scale, steps=options.steps, sampler=model.config.sample.sampler)
        row, mols = judged(graphs, atoms, bool(data.codec["aromatic"]), training, real)
        good = np.array([m is not None for m in mols])
        if good.any():
            row |= errors(names, np.nanmean(np.abs(oracle([m for m in mols if m is not None]) - asked[good]), 0))
            rows.append({**row, "scale": scale})
        tell(f"scale {scale:g}, {seconds / 60:.1f} min", row)
    if not rows:
        sys.exit("got no valid polymers at any scale; train longer")
    best = min(rows, key=lambda r: r["mae"])
    finish(
        {**{k: best.get(k, float("nan")) for k in ("scale", "valid", "connected", "unique", "new", "mae")}, "mae_ratio": random["mae"] / best["mae"]}
    )


if __name__ == "__main__":
    main()
