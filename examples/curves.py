"""Draws samples of a model of curves, or of rows, beside the data: `python examples/curves.py RUN OUT.png`.
Of what comes with the studio it prints how far the samples are from its law."""

import sys

import numpy as np
from matplotlib.figure import Figure

import studio
from studio.data.curves import law
from studio.tasks.curves import PANELS, draw

COUNT = 2000


if __name__ == "__main__":
    run, out = sys.argv[1:]
    model = studio.load(run)
    data = studio.data.load_data(model.config.data).train
    rows = np.random.default_rng(0).permutation(len(data.values))[:COUNT]
    asked = [model.info.classes[k] for k in data.labels[rows]] if model.info.classes else None
    samples = model.sample(seeds=range(len(rows)), labels=asked, batch=512).values.numpy()
    columns = [("data", data.values[rows]), ("samples", samples)]
    panels = len(model.task.channels(samples)[:PANELS])
    figure = Figure(figsize=(9, 1 + 2.5 * panels), dpi=100, layout="tight")
    grid = figure.subplots(panels, 2, squeeze=False, sharex=True, sharey="row")
    for column, (title, curves) in enumerate(columns):
        for k, one in enumerate(model.task.channels(curves)[:PANELS]):
            draw(grid[k][column], one)
        grid[0][column].set_title(f"{len(curves):,} {title}")
    figure.savefig(out)
    if model.config.data == {"name": "rows"}:
        for title, walks in columns:
            real = (walks != 0).any(-1)
            steps = np.diff(walks, axis=1, prepend=0)[real]
            rows_of = [walks[real[:, k], k, 0].var() for k in range(walks.shape[1])]
            print(f"{title}: by their number of rows {np.bincount(real.sum(1))[1:].tolist()}")
            print(f"{title}: variance of row k (law: k) {' '.join(f'{v:.2f}' for v in rows_of)}")
            print(f"{title}: variance of a step (law: 1) {' '.join(f'{v:.3f}' for v in steps.var(0))}")
    if model.config.data == {"name": "curves"}:
        mean, covariance = law(samples.shape[1])
        for title, curves in columns:
            off = np.abs(curves.mean(0) - mean).max()
            wide = np.abs(np.cov(curves.T) - covariance).max()
            rough = np.square(np.diff(curves)).mean()
            print(f"{title}: mean off by {off:.3f}, covariance by {wide:.3f}, squared steps {rough:.4f}")
        steps = np.square(np.diff(mean)) + np.diag(covariance)[1:] + np.diag(covariance)[:-1]
        print(f"law: squared steps {(steps - 2 * np.diag(covariance, 1)).mean():.4f}")
