"""`studio list`: every part that there is, by our names and by those of papers, which a config may use."""

import json
from pathlib import Path

import pytest
from tiny import run_studio

from samplers import paths
from samplers.couplings import coupling
from samplers.couplings.gibbs import Gibbs
from samplers.names import OURS, PARTS, canonical
from samplers.objective import build_objective
from samplers.paths import bridge, gaussian, graph
from studio.cli.listing import KINDS, catalogue
from studio.cli.main import main
from studio.config import load_config
from studio.model.model import Model

REGISTRIES = {
    "path": paths.EVERY,
    "coupling": coupling.REGISTRY,
    "parameterization": {**gaussian.HEADS, **bridge.HEADS, **graph.HEADS},
}


@pytest.mark.parametrize("kind", list(REGISTRIES))
def test_every_part_is_told_and_no_name_of_a_paper_is_one_of_ours(kind: str) -> None:
    assert set(PARTS[kind]) == set(REGISTRIES[kind])
    aliases = [a for _, known in PARTS[kind].values() for a in known]
    bare = ["".join(c for c in a if c.isalnum()) for a in aliases]
    assert len(set(bare)) == len(bare) == len(OURS[kind]) and not set(bare) & set(PARTS[kind])


@pytest.mark.parametrize("name", ["wcfm", "W-CFM", "w_cfm", "weighted CFM"])
def test_a_coupling_by_its_papers_name(name: str) -> None:
    config = load_config({"objective": {"coupling": {"name": name, "eps": 2.0}}})
    assert config.objective["coupling"] == {"name": "gibbs", "eps": 2.0}  # what is recorded is ours
    assert load_config({}, [f"objective.coupling={name}", "objective.coupling.eps=2"]).objective == {
        "coupling": {"name": "gibbs", "eps": 2.0}
    }
    assert isinstance(build_objective(coupling={"name": name, "eps": 2.0}).coupling, Gibbs)
    assert load_config({"objective": {"coupling": name}}).objective["coupling"] == "gibbs"


@pytest.mark.parametrize(
    ("kind", "name", "ours"),
    [
        ("coupling", "OT-CFM", "ot"),
        ("coupling", "I-CFM", "independent"),
        ("path", "rectified_flow", "linear"),
        ("path", "GVP", "trig"),
        ("path", "ddpm", "vp"),
        ("path", "VE", "edm"),
        ("parameterization", "eps", "noise"),
        ("parameterization", "x0", "data"),
        ("parameterization", "v_prediction", "v"),
        ("path", "vp", "vp"),
        ("path", "no such", "no such"),
    ],
)
def test_other_parts_by_their_papers_names(kind: str, name: str, ours: str) -> None:
    assert canonical(kind, name) == ours and canonical(kind, {"name": name, "x": 1}) == {"name": ours, "x": 1}


def test_what_is_no_name_stays_and_is_refused() -> None:
    with pytest.raises(ValueError, match="got coupling 'wcfn', expected one of"):
        build_objective(coupling="wcfn")
    with pytest.raises(ValueError, match="got a path without a name"):
        build_objective(path={"schedule": "cosine"})


def test_a_model_on_a_path_by_its_papers_name(picture_model: Model) -> None:
    assert picture_model.on_path("gvp").path == picture_model.on_path("trig").path == "trig"


@pytest.mark.parametrize(
    "kind", ["paths", "couplings", "parameterisations", "parameterizations", "conditions"]
)
def test_the_command(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", kind, "--json"])
    told = next(iter(json.loads(capsys.readouterr().out).values()))
    expected = {"paths": "linear", "couplings": "gibbs", "conditions": "label"}.get(kind, "velocity")
    assert expected in told and all(isinstance(text, str) and text for text in told.values())
    main(["list", kind])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(told) and all(line.split()[0] for line in lines)
    if kind == "couplings":
        assert "w-cfm" in told["gibbs"]
    if kind == "conditions":
        assert "atoms" in told


def test_other_kinds_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ValueError,
        match="expected one of models, configs, .*couplings, parameterisations, .*, conditions, kinds, .*, "
        "plugins; did you mean 'couplings'",
    ):
        catalogue("coupling", [])
    assert all(KINDS[kind]() for kind in KINDS if kind != "plugins")


def test_what_was_measured_here_is_told(tmp_path: Path) -> None:
    done = run_studio("info", "--attention", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["best"]) == {"forward", "training"} and found["doubled_up_to_tokens"] >= 128
    assert found["instructions"] and found["threads"] >= 1
    shown = run_studio("info", "--attention", cwd=tmp_path)
    assert "the fastest is chosen" in shown.stdout and "measured" not in shown.stderr  # kept since
    for words in (["info"], ["info", "fashion-dit", "--attention"]):
        assert "give a MODEL, samples or a PNG, or --attention" in run_studio(*words, cwd=tmp_path).stderr
