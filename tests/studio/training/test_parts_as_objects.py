"""Parts of a run given as objects: what its config records of them, how it goes on, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import checkpoint_differences, points_config

import studio
from guidance import CFG, Rule
from samplers import Coupled, LinearPath, TrigPath, VPPath, build_objective
from samplers.solvers.ode import Euler, Heun
from samplers.times import LogitNormal
from studio.checkpoints import checkpoint
from studio.config import load_config


class Reversed:
    """Pairs the k-th source with the last but k."""

    def __call__(self, source: Any, data: Any, cond: Any, noise: Any) -> Coupled:
        return Coupled(source.flip(0), data, cond)


class MyPath(TrigPath):
    pass


class MySampler(Euler):
    pass


def train(out: Path, *overrides: str, **options: Any) -> studio.Run:
    return studio.train(points_config(labels=True), list(overrides), out=out, **{"quiet": True, **options})


def test_a_coupling_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train(tmp_path / "whole", coupling=Reversed(), quiet=False)
    assert "the coupling is recorded as custom: to go on, pass it again" in capsys.readouterr().err
    assert load_config(whole.folder).objective["coupling"] == "custom"
    assert studio.load(whole.folder).sample(seeds=[0], num_steps=1).values.shape == (1, 2)
    half = tmp_path / "half"
    train(half, coupling=Reversed(), on_log=lambda line: line["step"] < 4)
    with pytest.raises(ValueError, match="a coupling that was an object in Python; pass it again: coupling="):
        train(half, resume=True)
    with pytest.raises(ValueError, match="objective.coupling=ot in this call, it has custom"):
        train(half, resume=True, coupling="ot")
    run = train(half, resume=True, coupling=Reversed())
    assert run.step == whole.step and not checkpoint_differences(
        *(checkpoint.find(r.folder) for r in (whole, run))
    )


def test_objects_that_a_registry_has_are_their_names(tmp_path: Path) -> None:
    objects = train(
        tmp_path / "a",
        path=LinearPath(),
        times=LogitNormal(mean=-0.4, std=1.0),
        coupling={"name": "W-CFM", "eps": 2.0},
        sampler=Heun(shift=2.0),
        guidance=CFG(1.5, interval=(0.1, 0.9)),
    )
    assert objects.config.objective["path"]["name"] == "linear"
    assert objects.config.objective["times"] == {
        "name": "logit_normal",
        "mean": -0.4,
        "std": 1.0,
        "shift": 1.0,
    }
    assert objects.config.objective["coupling"] == {"name": "gibbs", "eps": 2.0}
    assert objects.config.sample.sampler == "heun(shift=2)"
    again = studio.train(objects.config, out=tmp_path / "b", quiet=True)  # from what was recorded
    assert not checkpoint_differences(*(checkpoint.find(r.folder) for r in (objects, again)))
    assert train(tmp_path / "a", "train.steps=9", resume=True, path=LinearPath()).step == 9


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"coupling": Reversed}, r"got the class Reversed as the coupling.*try Reversed\(\)"),
        (
            {"path": MyPath()},
            r"got a MyPath as the path, expected one that a config can name.*drift_studio.paths",
        ),
        ({"coupling": "wcfn"}, "got coupling 'wcfn'"),
        ({"sampler": MySampler()}, r"got a sampler that no line describes.*model.sample\(sampler=...\)"),
        ({"guidance": Rule()}, r"got a guidance that no line describes"),
    ],
)
def test_what_is_refused_before_anything_is_written(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_an_objective_from_objects_is_that_of_names() -> None:
    path, times, coupling = VPPath(), LogitNormal(), Reversed()
    made = build_objective(path=path, times=times, coupling=coupling, parameterization="v")
    assert (made.path, made.times, made.coupling) == (path, times, coupling)
    named = build_objective(path="vp", times="logit_normal", parameterization="v")
    assert type(made.parameterization) is type(named.parameterization)
    assert vars(made.weight) == vars(named.weight)
    assert torch.equal(made.path.alpha_bar, named.path.alpha_bar)
