"""Models that guidance borrows by name: what works, what is refused and why, what is recorded, and what is
shown."""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import dit_config, write_pictures
from typer.testing import CliRunner

import studio
from studio.cli.info import memory
from studio.cli.main import app
from studio.generation.plan import make_plan
from studio.model.model import Model
from studio.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_prior_that_is_the_model_itself_changes_nothing(picture_model: Model, picture_run: Run) -> None:
    own, swapped = (
        picture_model.sample(seeds=range(4), guidance=line).values
        for line in ("cfg=3", f"prior={picture_run.folder},cfg=3")
    )
    assert torch.equal(own, swapped)


def test_an_early_snapshot_guides(picture_model: Model, picture_run: Run) -> None:
    """Without a name, the message has the one that would work."""
    with pytest.raises(
        ValueError,
        match=r"autoguidance needs a weaker model; this run kept an early snapshot: "
        r"autoguidance\(scale=2,model=.*@3\)",
    ) as caught:
        picture_model.sample(seeds=[0], guidance="autoguidance=2")
    line = str(caught.value).partition("snapshot: ")[2]
    samples = picture_model.sample(seeds=range(4), guidance=line)
    assert list(samples.recipes[0]["borrowed"]) == [f"{picture_run.folder}@3"]
    assert not torch.equal(samples.values, picture_model.sample(seeds=range(4), guidance=None).values)
    with pytest.raises(ValueError, match="kept no early snapshot; name one of the same classes"):
        studio.load("fashion-dit").request(seeds=[0], guidance="autoguidance=2")


def test_models_that_cannot_guide_this_one(picture_model: Model, points_run: Run, tmp_path: Path) -> None:
    colour = studio.train(
        dit_config(write_pictures(tmp_path / "rgb.npz", channels=3), steps=1),
        out=tmp_path / "rgb",
        quiet=True,
    )
    renamed = studio.train(
        dit_config(write_pictures(tmp_path / "few.npz", classes=3), steps=1), out=tmp_path / "few", quiet=True
    )
    for line, message in {
        f"prior={points_run.folder},cfg=2": r"makes points of shape \(2,\), .* image of \(1, 8, 8\); they "
        r"have nothing "
        r"in common",
        "prior=fashion-dit,cfg=2": r"fashion-dit works on shape \(1, 28, 28\), .* on \(1, 8, 8\); choose a "
        r"model of the "
        r"same size",
        f"prior={colour.folder},cfg=2": r"works on shape \(3, 8, 8\)",
        f"autoguidance(scale=2,model={renamed.folder})": "knows other conditions .* expected the "
        "same classes "
        "and numbers",
        "prior=base,cfg=2": "was not fine-tuned from another model; name one: prior=NAME",
        "prior=nowhere,cfg=2": "got model 'nowhere', expected a folder",
        "tcfg": "is about the uncond branch, which no other rule uses",
        "cfg_plus_plus=0.5": "the sampler AB2 does not follow renoise, which the guidance asks for; "
        "choose ddim",
    }.items():
        with pytest.raises(ValueError, match=message):
            picture_model.request(seeds=[0], guidance=line)
    grey = colour.load(dtype="fp32")
    # the first channel is shared, the others stay conditional
    shared = grey.sample(seeds=range(2), guidance=f"prior={picture_model.folder},cfg=2")
    assert shared.values.shape == (2, 3, 8, 8)
    scaled = replace(picture_model, codec=studio.codecs.codec.Scale(std=2.0))
    with pytest.raises(ValueError, match="works on pixels, .* on scale; their states are different things"):
        scaled.request(seeds=[0], guidance=f"prior={renamed.folder},cfg=2")


def test_a_model_that_never_lost_its_conditions_is_warned_of_once(pictures: Path, tmp_path: Path) -> None:
    config = dit_config(pictures, steps=1)
    config["objective"] = {**config["objective"], "cond_drop": 0.0}
    model = studio.train(config, out=tmp_path / "run", quiet=True).load()
    with pytest.warns(UserWarning, match="trained without dropping its conditions .* prior=NAME"):
        model.sample(seeds=[0], guidance="cfg=2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample(seeds=[1], guidance="cfg=2")
        studio.load("fashion-dit").request(seeds=[0], guidance="cfg=2")


def test_generation_pins_what_it_borrows(picture_model: Model, picture_run: Run) -> None:
    line = f"prior={picture_run.folder}@16,cfg=2"
    plan = make_plan(picture_model, num=4, guidance=line)
    other = studio.load(f"{picture_run.folder}@16")
    assert (
        plan.pinned()["borrowed"] == {f"{picture_run.folder}@16": other.hash}
        and "borrowed" not in make_plan(picture_model, num=4).pinned()
    )


def test_generated_files_are_the_samples(picture_run: Run, tmp_path: Path) -> None:
    """`generate` and `sample` load the same prior."""
    line, runner = f"prior={picture_run.folder}@16,cfg=2", CliRunner()
    done = runner.invoke(
        app,
        [
            "generate",
            str(picture_run.folder),
            "--out",
            str(tmp_path / "many"),
            "--num",
            "3",
            "--guidance",
            line,
            "--dtype",
            "fp32",
        ],
    )
    assert done.exit_code == 0, done.output
    alone = studio.load(picture_run.folder, dtype="fp32").sample(seeds=range(3), guidance=line).values
    from studio.data.decode import decode

    made = [
        torch.from_numpy(decode(p, channels=1).copy())
        for p in sorted((tmp_path / "many").glob("[0-9]*/[0-9]*.png"))
    ]
    assert len(made) == 3 and int((torch.stack(made).int() - alone.int()).abs().max()) <= 1


def test_the_probe_is_written_beside_the_pictures(picture_run: Run, tmp_path: Path) -> None:
    runner = CliRunner()
    call = [
        "sample",
        str(picture_run.folder),
        "--out",
        str(tmp_path / "a"),
        "--seeds",
        "0-3",
        "--guidance",
        "tcfg,cfg=3",
        "--probe",
        "--num-steps",
        "5",
    ]
    done = runner.invoke(app, [*call, "--json"])
    assert done.exit_code == 0, done.output
    with open(tmp_path / "a" / "probe.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(r["step"]) for r in rows] == [0, 1, 2, 3, 4] and (
        tmp_path / "a" / "probe.png"
    ).stat().st_size > 1000
    assert str(tmp_path / "a" / "probe.csv") in json.loads(done.stdout)["files"]
    refused = runner.invoke(
        app,
        ["sample", str(picture_run.folder), "--out", str(tmp_path / "b"), "--guidance", "none", "--probe"],
    )
    assert (
        isinstance(refused.exception, ValueError)
        and "nothing is guided" in str(refused.exception)
        and not (tmp_path / "b").exists()
    )


def test_memory_of_both_models_is_shown(picture_run: Run) -> None:
    one = memory(str(picture_run.folder), "")
    two = memory(str(picture_run.folder), "prior=fashion-dit,cfg=2")
    assert one.endswith(" MB") and "+" not in one
    assert "PriorSwap fashion-dit" in two and two.endswith("MB") and "14.1 (PriorSwap fashion-dit)" in two
