"""Molecules through the whole studio: trained, sampled, generated in parts, evaluated; what a run leaves
beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

import studio
from studio.evaluation import evaluate
from studio.evaluation.sets import of_data, open_set
from studio.evaluation.sweep import parse_axis, sweep
from studio.model.model import Model
from studio.training.run import Run

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return {
        "name": "tiny",
        "seed": 0,
        "data": {
            "name": "moses",
            "path": str(ROOT / "data/molecules_moses_45k.csv.gz"),
            "limit": 120,
            "conditions": ["logP"],
            "max_atoms": 22,
        },
        "backbone": {"name": "graph_dit", "hidden_size": 32, "depth": 1, "num_heads": 2},
        "objective": {"path": {"name": "graph", "mode": "corrected"}, "cond_drop": 0.1},
        "train": {
            "steps": 4,
            "batch_size": 8,
            "optimizer": "adamw",
            "lr": 0.003,
            "save_every": 4,
            "eval_every": 0,
            "log_every": 2,
            "preview": True,
        },
        "sample": {"sampler": "graph", "num_steps": 4, "guidance": "cfg=1.5"},
    }


@pytest.fixture(scope="module")
def run(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return studio.train(config, out=tmp_path_factory.mktemp("runs") / "tiny", quiet=True)


@pytest.fixture(scope="module")
def model(run: Run) -> Model:
    return run.load(dtype="fp32", device="cpu")


def test_a_run_tells_what_was_left_out(run: Run, model: Model) -> None:
    lines = (run.folder / "rows-left-out.csv").read_text().splitlines()
    assert (
        lines[0] == "line,reason,text"
        and len(lines) > 20
        and "expected at most 22; raise data.max_atoms" in lines[1]
    )
    assert (run.folder / "checkpoints" / "000000004" / "preview.png").is_file()
    assert model.info.task == "molecule" and model.task.atoms == tuple(model.info.codec["atoms"])


def test_samples_are_written(model: Model, tmp_path: Path) -> None:
    made = model.sample(seeds=range(3), conditions={"logP": 2.0})
    assert made.values.shape == (3, *model.info.shape) and made.values.dtype.is_floating_point is False
    paths = made.save(tmp_path / "out")
    assert [p.name for p in paths] == [
        "samples.npz",
        "samples.smi",
        "samples.csv",
        "samples.sdf",
        "sheet.svg",
    ]
    assert (tmp_path / "out" / "samples.csv").read_text().splitlines()[1].startswith("seed-000000,")


def test_a_set_is_generated_resumed_and_judged(model: Model, config: dict[str, Any], tmp_path: Path) -> None:
    done = studio.generate(model, tmp_path / "set", num=10, conditions={"logP": 2.0}, quiet=True)
    assert (done.written, done.missing) == (10, 0)
    listing = {n: (tmp_path / "set" / n).read_bytes() for n in (*model.task.listing, "samples.npz")}
    assert (
        len(listing["samples.csv"].decode().splitlines()) == 11
        and "asked_logP" in listing["samples.csv"].decode()
    )
    (tmp_path / "set" / "samples.csv").unlink()
    assert studio.generate(model, tmp_path / "set", num=10, conditions={"logP": 2.0}, quiet=True).written == 0
    assert (tmp_path / "set" / "samples.csv").read_bytes() == listing["samples.csv"]
    few = studio.generate(model, tmp_path / "few", seeds="4-5", conditions={"logP": 2.0}, quiet=True)
    assert few.written == 2 and np.array_equal(
        np.load(tmp_path / "few" / "samples.npz")["arr_0"],
        np.load(tmp_path / "set" / "samples.npz")["arr_0"][4:6],
    )
    reference = of_data(config["data"], "moses")
    found = [
        evaluate(s, reference, metrics="validity")
        for s in (tmp_path / "set", tmp_path / "set" / "samples.csv")
    ]
    found.append(evaluate(model, reference, num=10, conditions={"logP": 2.0}, metrics="validity"))
    assert len({f.values["valid"] for f in found}) == 1 and all(not f.failed for f in found)
    assert open_set(tmp_path / "set").asked["logP"].tolist() == [2.0] * 10
    again = studio.generate(
        model, tmp_path / "set", num=3, conditions={"logP": 1.0}, overwrite=True, quiet=True
    )
    assert (
        again.written == 3
        and json.loads((tmp_path / "set" / "manifest.json").read_text())["pinned"]["num"] == 3
    )
    assert len((tmp_path / "set" / "samples.csv").read_text().splitlines()) == 4


def test_settings_are_swept_by_the_measures_of_molecules(
    model: Model, config: dict[str, Any], tmp_path: Path
) -> None:
    """They were taken for pictures, as they are not flat."""
    axes = [parse_axis("num_steps=2,4")]
    found = list(
        sweep(model, tmp_path / "out", axes, num=6, metrics="validity,uniqueness", conditions={"logP": 2.0})
    )
    alone = evaluate(
        model,
        of_data(config["data"], "moses"),
        num=6,
        num_steps=4,
        metrics="validity,uniqueness",
        conditions={"logP": 2.0},
    )
    assert found[1][1] is not None and {"valid"} <= set(alone.values) and found[1][1].values == alone.values
    assert (tmp_path / "out" / "heat-valid.png").is_file()
    for options, text in (
        ({"metrics": "fd"}, "'fd' for molecules"),
        ({"features": "lenet"}, "features=lenet for molecule"),
        ({"ref": "points:moons"}, "got molecules and a reference of points"),
    ):
        with pytest.raises(ValueError, match=text):
            list(sweep(model, tmp_path / "no", axes, num=6, **options))
    assert not (tmp_path / "no").exists()
