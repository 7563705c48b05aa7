"""`examples/plugin`, installed beside the studio: its names in configs, on the command line and on the page;
a network made in Python is recorded by its name."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from plugged import EXAMPLE, put, put_example

import backbones
import samplers
import studio
from backbones import plugins
from samplers import FunctionDenoiser, LinearPath, Prediction
from studio.cli.main import main
from studio.config import load_config
from studio.evaluation.measures import Options, Side, measured, refused
from studio.evaluation.sets import open_set
from studio.metrics.distances import Moments
from studio.model import catalog
from studio.training.run import Run
from ui.engine import Engine

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example is installed, and one that is broken."""
    where = put_example(tmp_path_factory.mktemp("site"))
    put(where, "torn", {"torn": "import no_such_module"}, {"drift_studio.samplers": {"torn": "torn:Torn"}})
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(where))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(where), str(ROOT), *known]))  # of workers
        plugins.forget()
        yield where
    plugins.forget()


@pytest.fixture(scope="module")
def run(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`studio train` with the plug-in's own config."""
    out = tmp_path_factory.mktemp("runs") / "rings"
    changes = ["train.steps=60", "train.batch_size=128", "train.lr=0.01", "data.radius=2.5"]
    main(["train", str(EXAMPLE / "rings.yaml"), *changes, "--out", str(out)])
    return out


def test_the_names_of_a_config_train(run: Path) -> None:
    config = load_config(run)
    assert config.backbone == {
        "name": "waves",
        "num_classes": 2,
        "dim": 2,
        "width": 64,
    } and config.data == {"name": "rings", "count": 2000, "radius": 2.5}
    assert "drift_example" not in (run / "config.yaml").read_text() + (run / "meta.json").read_text()
    model = studio.load(run)
    assert model.classes == ("inner", "outer") and type(model.denoiser.net).__name__ == "Waves"
    made = model.sample(seeds=range(200), labels=["inner", "outer"] * 100, guidance=None).values.norm(dim=1)
    assert 1.5 < float(made[::2].median()) < 3.5 < float(made[1::2].median()) < 6.5


def test_its_sampler_and_rule_sample_and_are_in_the_recipe(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", str(run), "--seeds", "0-3", "--labels", "outer", "--num-steps", "6", "--json"]
    main(
        [*words, "--sampler", "ralston(shift=1.5)", "--guidance", "shrink=0.5", "--out", str(tmp_path / "a")]
    )
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    assert (recipe["sampler"], recipe["guidance"]) == ("ralston(shift=1.5)", "shrink=0.5")
    main([*words, "--sampler", "ralston(shift=1.5)", "--guidance", "none", "--out", str(tmp_path / "b")])
    shrunk, plain = (np.load(tmp_path / n / "samples.npz")["arr_0"] for n in ("a", "b"))
    # half of the data at each step, so half of what is predicted last: within what the earlier steps change
    assert (np.linalg.norm(shrunk, axis=1) < 0.8 * np.linalg.norm(plain, axis=1)).all()


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_they_generate_a_set(
    workers: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        ["generate", str(run), "--num", "12", "--workers", workers, "--out", str(tmp_path / "set"), "--json"]
    )
    told = json.loads(capsys.readouterr().out)
    assert told["missing"] == 0 and np.load(told["npz"])["arr_0"].shape == (12, 2)
    pinned = json.loads((tmp_path / "set" / "manifest.json").read_text())["pinned"]
    assert (pinned["sampler"], pinned["guidance"]) == ("ralston", "cfg=1.5,shrink=0.02")


def test_ralstons_method_is_of_order_two(site: Path) -> None:
    """dx/dt = x has the solution e."""
    path, x = LinearPath(), torch.ones(1, 1, dtype=torch.float64)
    denoiser = FunctionDenoiser(path, lambda x, t, cond: Prediction("velocity", x, x, t, path))
    sampler = samplers.build("ralston")
    errors = [abs(float(sampler.sample(denoiser, x, num_steps=n)) - np.e) for n in (20, 40)]
    assert 3.6 < errors[0] / errors[1] < 4.4


def test_its_measure_and_its_data_are_compared_with(site: Path) -> None:
    features = torch.arange(12.0).view(4, 3)
    a, b = (Side(4, Moments.of(f), f) for f in (features, features + 2))
    values, failed = measured(["gap", "fd"], a, b, Options(allow_small=True))
    assert values["gap"] == pytest.approx(2 * 3**0.5) and values["fd"] == pytest.approx(12, abs=1e-3)
    assert not failed and refused(["gap"], a, b, Options()) == {}
    assert len(open_set("rings@train").values) == 950 and len(open_set("rings@held_out").values) == 50


def test_list_tells_whose_a_name_is(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, name in (
        ("backbones", "waves"),
        ("samplers", "ralston"),
        ("rules", "shrink"),
        ("data", "rings"),
    ):
        main(["list", kind, "--json"])
        told = next(iter(json.loads(capsys.readouterr().out).values()))
        assert told[name].endswith(", of drift-studio-example 0.1.0"), told
    main(["list", "couplings"])
    assert "drift_example:Sliced, of drift-studio-example 0.1.0" in capsys.readouterr().out


def test_in_a_process_of_its_own(site: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "studio", "list", "plugins"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.split(":")[0] in plugins_of(site)]
    assert "samplers: torn        left out: No module named 'no_such_module', of torn 0.1.0" in lines
    assert "backbones: waves      of drift-studio-example 0.1.0" in lines and len(lines) == 7
    (told,) = [line for line in done.stderr.splitlines() if "torn" in line]
    assert told.startswith(
        "warning: 'torn' of the plug-in torn 0.1.0 (drift_studio.samplers) is left out: No m"
    )


def plugins_of(site: Path) -> set[str]:
    return {offer.group for offer in plugins.installed()}


def test_the_page_has_them(run: Path) -> None:
    shelf = Engine([run.parent]).shelf()
    (card,) = [c for c in shelf.values() if c.folder == run]
    assert card.backbone == "waves" and "ralston" in catalog.sampler_names(card)
    assert "torn" not in catalog.sampler_names(card) and "heun" in catalog.sampler_names(card)
    assert catalog.check_guidance("cfg=2,shrink=0.2") == "cfg=2,shrink=0.2"
    assert catalog.check_sampler("ralston(skew=2)") and catalog.defaults_of(card).sampler == "ralston"


@pytest.fixture(scope="module")
def from_python(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a module that was made in Python."""
    net = plugins.imported("drift_example:Waves")(width=32, num_classes=2)
    config = {
        "data": {"name": "rings", "count": 64},
        "train": {"steps": 3, "batch_size": 8, "preview": False},
    }
    return studio.train(config, backbone=net, out=tmp_path_factory.mktemp("python") / "own", quiet=True)


def test_a_network_from_python_is_recorded_by_its_name(from_python: Run, tmp_path: Path) -> None:
    assert from_python.config.backbone == {
        "name": "waves",
        "dim": 2,
        "num_classes": 2,
        "width": 32,
        "frequencies": 4,
    }
    given = from_python.load(dtype="fp32").sample(seeds=range(3), num_steps=2).values
    main(["sample", str(from_python.folder), "--seeds", "0-2", "--num-steps", "2", "--out", str(tmp_path)])
    assert np.array_equal(np.load(tmp_path / "samples.npz")["arr_0"], given.numpy())
    studio.generate(from_python.folder, tmp_path / "set", num=3, workers=1, quiet=True)
    (card,) = [
        c for c in Engine([from_python.folder.parent]).shelf().values() if c.folder == from_python.folder
    ]
    assert card.backbone == "waves"


def test_its_run_goes_on_with_the_module_and_without(from_python: Run) -> None:
    kind = plugins.imported("drift_example:Waves")
    config = from_python.config
    with pytest.raises(ValueError, match="for a run that trains .*'width': 32.*pass it as it was"):
        studio.train(
            config,
            ["train.steps=5"],
            backbone=kind(width=16, num_classes=2),
            out=from_python.folder,
            resume=True,
        )
    own = dict(out=from_python.folder, resume=True, quiet=True)
    net = kind(width=32, num_classes=2)
    assert studio.train(config, ["train.steps=5"], backbone=net, **own).step == 5
    assert studio.train(config, ["train.steps=6"], **own).step == 6


def test_what_cannot_be_made_again_is_custom_and_says_so(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = plugins.imported("drift_example:Waves")(width=32, num_classes=2)
    net.outer.append(torch.nn.Linear(2, 2))
    config = {
        "data": {"name": "rings", "count": 64},
        "train": {"steps": 1, "batch_size": 8, "preview": False},
    }
    run = studio.train(config, backbone=net, out=tmp_path / "own")
    assert "recorded as custom, which no command can load: Waves was changed" in capsys.readouterr().err
    assert run.config.backbone == {"name": "custom"}
    with pytest.raises(ValueError, match="network of its own; pass it in Python"):
        studio.load(run.folder)


def test_a_run_of_an_own_network_that_is_registered_since(from_python: Run, tmp_path: Path) -> None:
    """Its config may name it then."""
    studio.train(
        from_python.config, backbone=type("Mine", (type(from_python.backbone),), {})(width=32, num_classes=2),
        out=tmp_path / "own", quiet=True,
    )  # fmt: skip
    path = tmp_path / "own" / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    assert tree["backbone"] == {"name": "custom"}
    path.write_text(yaml.safe_dump({**tree, "backbone": {"name": "waves", "width": 32, "num_classes": 2}}))
    assert studio.load(tmp_path / "own").sample(seeds=[0], num_steps=1).values.shape == (1, 2)


def test_no_model_folder_causes_an_import(from_python: Run, tmp_path: Path) -> None:
    """Of a path that it names: names of a registry only."""
    import shutil

    folder = shutil.copytree(from_python.folder, tmp_path / "stranger")
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    for name in ("drift_example:Waves", "this:s", "os:system"):
        (folder / "config.yaml").write_text(yaml.safe_dump({**tree, "backbone": {"name": name}}))
        with pytest.raises(ValueError, match=f"got backbone '{name}', expected one of"):
            studio.load(folder)
    assert "this" not in sys.modules and "dit" in backbones.REGISTRY
