"""The recipe of posteriors: what is simulated, the exact posterior, what a model may be asked, and measures
that can fail."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import studio
from studio.data import load_data
from studio.recipes.posterior.check import accuracy, calibration, check_no_leak
from studio.recipes.posterior.data import data_of
from studio.recipes.posterior.linear_gaussian import NOISE, LinearGaussian, design
from studio.tasks import build

TINY = ["backbone.width=16", "backbone.depth=1", "data.width=8", "data.held_out=64", "train.batch_size=32"]
FAST = ["train.minutes=null", "train.steps=4", "train.warmup=0", "train.lr=0.02", "train.ema=[]"]


def test_simulations_are_those_of_the_model() -> None:
    made = build("posterior").simulate(20_000, seed=4)
    rows, theta = made["observations"], made["values"]
    assert rows.shape == (20_000, 20, 2) and theta.shape == (20_000, 3) and rows.dtype == np.float32
    there = ~np.isnan(rows).any(-1)
    assert np.array_equal(there, ~np.isnan(rows).all(-1)) and np.array_equal(np.sort(~there, 1), ~there)
    counts = np.bincount(there.sum(1), minlength=21)
    assert not counts[:2].any() and np.abs(counts[2:] - 20_000 / 19).max() < 5 * (20_000 / 19) ** 0.5
    assert np.abs(theta.mean(0)).max() < 0.04 and np.abs(np.cov(theta.T) - np.eye(3)).max() < 0.05
    noise = (rows[..., 1] - (design(rows[..., 0]) * theta[:, None]).sum(-1))[there]
    assert abs(noise.std() / NOISE - 1) < 0.01 and abs(noise.mean()) < 0.005
    t = rows[..., 0][there]
    assert 0 <= t.min() and t.max() <= 1 and abs(t.mean() - 0.5) < 0.005
    again, other = (build("posterior").simulate(50, seed=s) for s in (4, 5))
    same = build("posterior").simulate(50, seed=4)
    assert np.array_equal(again["observations"], same["observations"], equal_nan=True)
    assert not np.array_equal(again["values"], other["values"])
    seven = build("posterior").simulate(9, seed=0, count=7)["observations"]
    assert ((~np.isnan(seven[..., 0])).sum(1) == 7).all()


def test_the_exact_posterior_is_the_prior_weighed_by_the_likelihood() -> None:
    task, theta = LinearGaussian(), np.random.default_rng(0).standard_normal((400_000, 3))
    for rows in task.simulate(3, seed=2, count=2)["observations"].astype(np.float64):
        seen = rows[~np.isnan(rows).any(1)]
        off = seen[:, 1] - theta @ design(seen[:, 0]).T
        weight = np.exp(-0.5 * (off**2).sum(1) / NOISE**2)
        weight /= weight.sum()
        exact = task.reference(rows, draws=20_000, seed=1)
        mean = weight @ theta
        assert np.allclose(exact.mean, mean, atol=0.03)
        assert np.allclose(exact.covariance, (theta - mean).T * weight @ (theta - mean), atol=0.03)
        assert np.allclose(exact.draws.mean(0), exact.mean, atol=0.03)


def test_training_sees_no_simulation_twice_and_none_that_is_held_out() -> None:
    data = data_of(LinearGaussian(), held_out=64)
    values = data.train.__getitems__(range(3 * 4096))[0]
    assert len(torch.cat([values, torch.from_numpy(data.held_out.values)]).unique(dim=0)) == 3 * 4096 + 64
    (field,) = data.fields
    assert field.name == "observations" and field.names == ("t", "y") and field.range == (2, 20)
    assert data.codec["names"] == ["level", "slope", "wave"]
    assert data.hash == data_of(LinearGaussian(), held_out=0).hash != data_of(LinearGaussian(), seed=1).hash
    rows = data.train.block(0).named["observations"]
    assert abs(np.nanmean(rows)) < 0.02 and abs(np.nanstd(rows) - 1) < 0.02


def test_parameters_may_be_known_or_not_be_asked_for() -> None:
    task = LinearGaussian().reduced(fixed={"slope": 2.0}, nuisance=["wave"])
    made, whole = task.simulate(2000, seed=1), LinearGaussian().simulate(2000, seed=1)
    assert np.array_equal(made["values"], whole["values"][:, :1])
    moved = (2.0 - whole["values"][:, 1:2]) * (2 * whole["observations"][..., 0] - 1)
    assert np.allclose(
        made["observations"][..., 1], whole["observations"][..., 1] + moved, atol=1e-5, equal_nan=True
    )
    data = data_of(task, held_out=8)
    assert data.shape == (1,) and data.codec["names"] == ["level"]
    assert load_data({"name": "simulated", "task": "seir", "nuisance": ["onset"]}).codec["low"] == [0.0] * 3
    with pytest.raises(ValueError, match="did you mean 'slope'"):
        LinearGaussian().reduced(fixed={"slop": 1.0})
    with pytest.raises(ValueError, match="at least one"):
        LinearGaussian().reduced(nuisance=["level", "slope", "wave"])


@dataclass
class Exact:
    """A model that draws from the exact posterior, off by ``shift`` standard deviations; or one that has been
    told the parameters, ``told`` of their share."""

    task: Any
    shift: float = 0.0
    told: float = 0.0

    def sample(self, *, seeds: Any, conditions: Any, batch: int) -> Any:
        exact = self.task.reference(conditions["observations"], len(seeds), seed=seeds[0] + 5)
        std = np.sqrt(np.diag(exact.covariance))
        draws = exact.mean + (exact.draws - exact.mean) * (1 - self.told) + self.shift * std
        if self.told:
            draws -= (1 - self.told) * (exact.draws.mean(0) - exact.mean)
        return type("Made", (), {"values": torch.from_numpy(draws)})


def test_measures_find_the_exact_posterior_exact_and_a_shifted_one_shifted() -> None:
    task = LinearGaussian()
    good = accuracy(Exact(task), task, count=5, sets=40, draws=400)
    assert abs(good["kl"] - good["kl_floor"]) < 4 * good["kl_se"] + 1e-3 and good["kl_prior"] > 1
    assert abs(good["std_ratio"] - 1) < 0.02 and abs(good["coverage"] - 0.9) < 0.1
    assert good["kl_floor"] < good["kl_ridge"] < good["kl_prior"]
    off = accuracy(Exact(task, shift=0.5), task, count=5, sets=40, draws=400)
    assert abs(off["mean_error"] - 0.5) < 0.05 and off["kl"] > 0.05
    ranks = calibration(Exact(task), task, sets=300, draws=39)
    assert min(ranks["p"]) > 0.001 and all(abs(c - 0.9) < 0.07 for c in ranks["coverage"])
    assert max(calibration(Exact(task, shift=1.0), task, sets=300, draws=39)["p"]) < 1e-6
    with pytest.raises(ValueError, match="multiple of 20"):
        calibration(Exact(task), task, draws=100)


def test_what_is_better_than_exact_draws_fails() -> None:
    with pytest.raises(ValueError, match="leak?"):
        check_no_leak({"kl": 0.001, "kl_floor": 0.01, "kl_se": 0.001})
    check_no_leak({"kl": 0.0095, "kl_floor": 0.01, "kl_se": 0.001})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = tmp_path_factory.mktemp("posterior") / "run"
    studio.train("posterior", [*TINY, *FAST, "train.preview=false"], out=run, quiet=True)
    return studio.load(str(run), device="cpu")


def test_a_model_is_asked_by_observations_and_answers_in_a_table(model: Any, tmp_path: Path) -> None:
    made = model.sample(conditions={"observations": [[0.1, 0.3], [0.7, -0.2]]}, seeds=range(6), num_steps=2)
    assert made.values.shape == (6, 3) and torch.isfinite(made.values).all()
    made.save(tmp_path / "out")
    head, *lines = (tmp_path / "out" / "posterior.csv").read_text().splitlines()
    assert head == "observations,parameter,draws,mean,std,q5,q25,q50,q75,q95" and len(lines) == 3
    number, name, count, mean, *_ = lines[1].split(",")
    assert (number, name, count) == ("0", "slope", "6") and abs(float(mean) - made.values[:, 1].mean()) < 1e-4
    both = np.full((2, 20, 2), np.nan, np.float32)
    both[0, :2], both[1, :3] = [[0.1, 0.3], [0.7, -0.2]], 0.5
    two = model.sample(conditions={"observations": both}, seeds=[0, 0], num_steps=2)
    assert torch.allclose(two.values[0], made.values[0], atol=1e-5)
    assert not torch.allclose(two.values[1], made.values[0], atol=1e-4)
    (tmp_path / "seen.csv").write_text("y,t\n0.3,0.1\n-0.2,0.7\n")  # columns by their names
    read = model.sample(conditions={"observations": f"@{tmp_path / 'seen.csv'}"}, seeds=range(6), num_steps=2)
    assert torch.allclose(read.values, made.values, atol=1e-5)
    assert {view.name for view in model.task.views((3,))} == {"Corner", "Intervals", "Table"}


def test_what_training_did_not_see_is_flagged(model: Any) -> None:
    def ask(rows: Any) -> None:
        model.loans.beyond.clear()
        model.sample(conditions={"observations": rows}, seeds=[0], num_steps=1)

    with pytest.warns(UserWarning, match="2 to 20 rows"):
        ask([[0.5, 0.1]])
    with pytest.warns(UserWarning, match=r"t from .* to 1: it has to guess"):
        ask([[0.5, 0.1], [1.5, 0.1]])
    with pytest.warns(UserWarning, match="y from -"):
        ask([[0.5, 0.1], [0.6, 90.0]])
    with pytest.warns(UserWarning, match="observations is left open"):
        ask(None)


def test_guidance_is_refused_and_not_trained_for(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="narrows a posterior"):
        model.sample(seeds=[0], guidance=2.0)
    with pytest.raises(ValueError, match="narrows a posterior"):
        studio.train("posterior", [*TINY, "sample.guidance=cfg=2"], out=tmp_path / "r", quiet=True)
    assert not (tmp_path / "r").exists() and not model.config.objective.get("cond_drop")
