"""`parameterization: edm` trains and samples on every path; what is not finite is refused for bridges and from the command line too."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_not_finite import Breaks
from tiny import points_config, run_studio

import studio
from studio.files import load_tensors, save_tensors
from studio.finite import NotFinite


@pytest.mark.parametrize("path", ["linear", "lipman", "trig", {"name": "vp", "zero_snr": True}, {"name": "vp", "schedule": "cosine"}, "edm"], ids=str)
def test_trains_and_samples(path: Any, tmp_path: Path) -> None:
    """Eight Gaussians of radius 5, after 300 steps: spread about the origin as the data are, by solvers with and without noise."""
    config = points_config(steps=200, batch_size=128, eval_every=50, lr=5e-3)
    config["objective"] = {"path": path, "parameterization": {"name": "edm", "sigma_data": 1.0}}
    run = studio.train(config, out=tmp_path / "run", quiet=True)
    assert np.isfinite(run.metrics["held_out"]) and np.isfinite(run.metrics["held_out_bins"]).all()
    for sampler in ("euler", "ddim", "ddpm"):
        samples = run.load(dtype="fp32", device="cpu").sample(seeds=range(256), num_steps=30, sampler=sampler)
        radius = samples.values.norm(dim=1)
        assert bool(torch.isfinite(samples.values).all()) and 3.5 < float(radius.mean()) < 6.5, (sampler, float(radius.mean()))


def test_bridges(tmp_path: Path) -> None:
    config = points_config("moons", steps=4)
    config["data"] |= {"source": "eight_gaussians"}
    config["objective"] = {"path": {"name": "brownian", "sigma": 0.6}, "parameterization": "velocity", "coupling": "independent"}
    model = studio.train(config, out=tmp_path / "run", quiet=True).load(dtype="fp32", device="cpu")
    broken = replace(model, denoiser=model.denoiser.with_net(Breaks(model.denoiser.net, after=500.0)))
    with pytest.raises(NotFinite, match=r"step 2 of 4 \(t = 0.25\) for seed 0, 1, 2,"):
        broken.translate(torch.randn(3, 2))


def test_the_command_line_writes_nothing(tmp_path: Path) -> None:
    """Weights that overflow: exit code 2, one line that says where, no file."""
    run = studio.train(points_config(steps=2, save_every=2), out=tmp_path / "run", quiet=True)
    for weights in run.folder.rglob("*.safetensors"):
        save_tensors(weights, {k: torch.full_like(v, 1e30) for k, v in load_tensors(weights).items()})
    out = tmp_path / "out"
    done = run_studio("sample", str(run.folder), "--out", str(out), "--seeds", "3-4", "--num-steps", "4", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 2 and "step 1 of 4" in done.stderr and "for seed 3, 4" in done.stderr and "try dtype=fp32" in done.stderr
    assert not out.exists() or not [p for p in out.rglob("*") if p.is_file()]
