"""A config and its data become one resolved config, which says the same whoever asks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import points_config

import studio
from samplers import Prediction
from samplers.heads.gradient import slope
from samplers.heads.parameterization import Direct, call
from samplers.paths.gaussian import HEADS
from studio.cli.info import count_flops
from studio.config import from_tree
from studio.data import load_data
from studio.runtime import devices
from studio.training.dry_run import of_training
from studio.training.resolve import resolve

pytestmark = pytest.mark.usefixtures("one_thread")


def test_nothing_is_left_open(tmp_path: Path) -> None:
    tree = points_config(steps=1)
    data = load_data(tree["data"])
    resolved = resolve(from_tree(tree), data)
    again = resolve(resolved.config, data)
    assert again.config == resolved.config and resolved.config.backbone["dim"] == 2
    assert resolved.config.sample.sampler != "auto"
    assert studio.train(tree, out=tmp_path / "run", quiet=True).config == resolved.config
    told = of_training(tree, out=tmp_path / "dry")
    assert from_tree(resolved.config.tree()).yaml() == told["yaml"]
    (tmp_path / "open.yaml").write_text(from_tree(tree).yaml())
    assert count_flops(str(tmp_path / "open.yaml"), [])["parameters"] == told["parameters"]


@pytest.mark.parametrize(
    "override, said",
    [
        ("train.flip=true", "expected pictures"),
        ("train.reorder=true", "expected graphs"),
        ("objective.coupling=paired", "brings no sources"),
        ("procedure.name=dsbm", "drifts of a bridge"),
        ("sample.guidance=cfg=2", "no conditions"),
        ("sample.sampler=nothing", "expected one of"),
    ],
)
def test_what_does_not_fit_is_refused(override: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        studio.train(points_config(steps=1), [override], out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "config.yaml").exists()


class Energy(Direct):
    """score = −∇E."""

    grad = "double"

    def __init__(self) -> None:
        super().__init__("score")

    def predict(self, net: Any, x: Any, t: Any, cond: Any, path: Any, ctx: Any = None) -> Prediction:
        found = slope(lambda x: call(net, x, t, cond, path, ctx).square().sum(1), x)
        return Prediction("score", -found, x, t, path)


def test_an_energy_has_its_network_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training and in runs: what was asked for is refused before anything is written, ``auto`` is fp32 on
    a host that has bf16 too."""
    monkeypatch.setitem(HEADS, "energy", f"{__name__}:Energy")
    monkeypatch.setattr(devices, "fast_bf16", lambda device: True)
    tree = points_config(steps=2)
    tree["objective"] = {"path": "linear", "parameterization": "energy"}
    tree["train"] = {**tree.get("train", {}), "dtype": "auto"}
    for override, said in (("train.compile=true", "compile: false"), ("train.dtype=bf16", "dtype: fp32")):
        with pytest.raises(ValueError, match=f"for the head Energy, which takes gradients.*set {said}"):
            studio.train(tree, [override], out=tmp_path / "run", quiet=True)
        assert not (tmp_path / "run" / "config.yaml").exists()
    run = studio.train(tree, out=tmp_path / "run", quiet=True)
    model = studio.load(run.folder)
    assert model.denoiser.dtype == torch.float32
    assert model.sample(seeds=[0, 1], num_steps=3).values.shape == (2, 2)
    with pytest.raises(ValueError, match="got bfloat16 for the head Energy"):
        studio.load(run.folder, dtype="bf16")
