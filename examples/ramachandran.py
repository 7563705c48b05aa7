"""Draws samples of a model of two angles beside the data: `python examples/ramachandran.py RUN OUT.png`."""

import sys

import numpy as np
from matplotlib.figure import Figure

import studio
from studio.tasks.angles import draw

COUNT = 5000

if __name__ == "__main__":
    run, out = sys.argv[1:]
    model = studio.load(run)
    data = studio.data.load_data(model.config.data).train
    rows = np.random.default_rng(0).permutation(len(data.values))[:COUNT]
    asked = [model.info.classes[k] for k in data.labels[rows]] if model.info.classes else None
    samples = model.sample(seeds=range(len(rows)), labels=asked, batch=1024).values.numpy()
    figure = Figure(figsize=(8, 4), dpi=120, layout="tight")
    for axes, values, title in zip(figure.subplots(1, 2), (data.values[rows], samples), ("data", "samples")):
        draw(axes, values)
        axes.set_title(f"{len(values):,} {title}")
        axes.set_xlabel("φ")
        axes.set_ylabel("ψ")
    figure.savefig(out)
