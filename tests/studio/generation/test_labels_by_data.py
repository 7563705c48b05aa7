"""Labels as often as training had them: recorded with the model, drawn by seed, named in the protocol."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import dit_config, run_studio

import studio
from studio.evaluation import evaluate
from studio.evaluation.sets import open_set
from studio.generation.label_rules import parse_rule
from studio.generation.plan import class_counts, make_plan
from studio.metrics.features import from_callable
from studio.model.export import export
from studio.training.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of one picture in two, one in three, one in six, and a class that training never sees."""
    folder = tmp_path_factory.mktemp("uneven")
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(
        folder / "u.npz", images=images, labels=labels, classes=np.array(["often", "some", "seldom", "never"])
    )
    config = dit_config(folder / "u.npz", steps=2, save_every=2)
    config["data"]["held_out"] = 0
    return studio.train(config, out=folder / "run", quiet=True)


def test_the_prior_is_recorded_and_goes_with_an_export(run: Run, tmp_path: Path) -> None:
    assert json.loads((run.folder / "meta.json").read_text())["class_counts"] == [30, 20, 10, 0]
    model = run.load(dtype="fp32", device="cpu")
    assert class_counts(model) == (30, 20, 10, 0)
    export(run.folder, tmp_path / "exported")
    assert json.loads((tmp_path / "exported" / "meta.json").read_text())["class_counts"] == [30, 20, 10, 0]


def test_labels_are_drawn_by_it(run: Run) -> None:
    model = run.load(dtype="fp32", device="cpu")
    rule = parse_rule("data", model.classes, 6000, lambda: class_counts(model))
    drawn = np.array(rule.of(range(6000), range(6000)))
    assert np.bincount(drawn, minlength=4) / 6000 == pytest.approx([0.5, 1 / 3, 1 / 6, 0], abs=0.02)
    assert rule.of([5, 7], [5, 7]) == (drawn[5], drawn[7])  # by the sample's own seed, whatever else is made
    plan = make_plan(model, num=8, labels="data")
    assert plan.pinned()["labels"] == "data"


def test_a_set_of_them_goes_on_and_its_protocol_says_so(run: Run, tmp_path: Path) -> None:
    model = run.load(dtype="fp32", device="cpu")
    out = tmp_path / "set"
    assert studio.generate(model, out, num=12, labels="data", quiet=True).written == 12
    before = open_set(out).labels.tolist()  # type: ignore[union-attr]
    sorted(out.glob("0*/*.png"))[3].unlink()
    assert studio.generate(model, out, num=12, labels="data", quiet=True).written == 1
    assert open_set(out).labels.tolist() == before  # type: ignore[union-attr]
    assert open_set(out).classes == ("often", "some", "seldom", "never")
    with pytest.raises(ValueError, match="labels: it has 'data', this call 'balanced'"):
        studio.generate(model, out, num=12, quiet=True)
    mean = from_callable(lambda v: v.float().flatten(1)[:, :4], "corner", "ab" * 8)
    assert evaluate(out, out, features=mean, metrics="pr").protocol["labels"] == "data"
    assert (
        evaluate(model, out, features=mean, metrics="pr", num=12, labels="data").protocol["labels"] == "data"
    )
    shown = run_studio("info", out, cwd=tmp_path)
    assert "--labels data" in shown.stdout


def test_older_models_are_refused_with_a_hint_unless_their_data_is_here(run: Run, tmp_path: Path) -> None:
    model = run.load(dtype="fp32", device="cpu")
    older = replace(model, info=replace(model.info, class_counts=()))
    assert class_counts(older) == (30, 20, 10, 0)  # the very same data, counted
    lost = replace(
        older, config=replace(model.config, data={"name": "npz", "path": str(tmp_path / "gone.npz")})
    )
    other = replace(older, info=replace(older.info, data_hash="0" * 16))
    for one in (lost, other):
        with pytest.raises(
            ValueError, match="does not say how many training samples each class had.*expected balanced"
        ):
            make_plan(one, num=8, labels="data")


def test_a_class_of_that_name_goes_first() -> None:
    assert parse_rule("data", ("data", "noise"), 4).rule == "list 0"
    assert parse_rule("(data)", ("data", "noise"), 4, lambda: (3, 1)).rule == "data"
