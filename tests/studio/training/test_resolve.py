"""A config and its data become one resolved config, which says the same whoever asks."""

from pathlib import Path

import pytest
from tiny import points_config

import studio
from studio.cli.info import count_flops
from studio.config import from_tree
from studio.data import load_data
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
