"""The bundled posteriors, on a few new simulations: near the exact one, and asked by the names that their
cards give."""

from pathlib import Path
from typing import Any

import pytest
import torch

import studio
from studio.recipes.posterior.check import accuracy
from studio.tasks import build

HOME = Path(str(studio.__file__)).parent / "bundled" / "models"


@pytest.fixture(scope="module")
def model() -> Any:
    return studio.load("posterior", device="cpu")


@pytest.mark.usefixtures("one_thread")
def test_it_is_near_the_exact_posterior(model: Any) -> None:
    for count, most in ((2, 0.3), (10, 0.5)):
        found = accuracy(model, build("posterior"), count=count, sets=8, draws=300)
        assert found["kl"] < most and found["mean_error"] < 0.4, found


def test_cards_tell_units_priors_and_fields() -> None:
    for name in ("posterior", "nb-regression"):
        folder = HOME / name
        text = (folder / "README.md").read_text()
        assert all(word in text for word in ("prior", "`observations`", "unit", f"studio train {name}"))
        assert sum(p.stat().st_size for p in folder.iterdir()) <= 3_000_000


@pytest.mark.usefixtures("one_thread")
def test_counts_are_explained_nearly_as_well_as_can_be() -> None:
    model, task = studio.load("nb-regression", device="cpu"), build("nb-regression")
    found = accuracy(model, task, count=8, sets=8, draws=300)
    assert found["kl"] < 0.5 < 0.1 * found["kl_ridge"] and found["mean_error"] < 0.6, found


def test_it_draws_for_many_observations_at_once_and_tells_densities(model: Any) -> None:
    rows = build("posterior").simulate(16, seed=3)["observations"]
    made = model.sample(conditions={"observations": rows}, seeds=range(16), num_steps=4).values
    assert made.shape == (16, 3)
    seen = [[0.1, 0.4], [0.5, 0.2], [0.9, -0.3]]
    likely, far = model.log_prob(
        torch.tensor([[0.1, -0.4, 0.0], [4.0, 4.0, -4.0]]), conditions={"observations": seen}
    )
    assert likely > far + 5
