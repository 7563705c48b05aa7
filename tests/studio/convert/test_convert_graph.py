"""Checkpoints of the original Graph DiT as model folders: sampled from the command line, refused where the
file of molecules is not theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import backbones
import studio
from backbones import Cond
from studio.convert.convert import convert

pytest.importorskip("rdkit")
pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [
    "CCO,1,2,3,4,5",
    "CC(=O)N,2,3,4,5,6",
    "c1ccccc1F,3,4,5,6,7",
    "CSC,4,5,6,7,8",
    "CC(C)Cl,5,6,7,8,9",
    "NCCO,6,7,8,9,1",
]


@pytest.fixture
def files(tmp_path: Path, golden: Callable[[str], Any]) -> tuple[Path, Path, dict[str, Any]]:
    """A Lightning-like checkpoint of the recorded network, which knows six atom types, and molecules of
    six."""
    g, notes = golden("graphdit_a_regression")
    state = {f"model.{k.removeprefix('weights.')}": v for k, v in g.items() if k.startswith("weights.")}
    torch.save(
        {"state_dict": {**state, "noise_schedule.betas": torch.zeros(501)}, "epoch": 3},
        tmp_path / "model.ckpt",
    )
    (tmp_path / "molecules.csv").write_text("smiles,SA,SC,O2,N2,CO2\n" + "\n".join(ROWS) + "\n")
    return tmp_path / "model.ckpt", tmp_path / "molecules.csv", {"g": g, **notes}


def test_a_checkpoint_becomes_a_model(files: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    checkpoint, molecules, known = files
    convert(
        f"graph_dit:{checkpoint}",
        tmp_path / "model",
        overrides=[f"data={molecules}", "conditions=SA,SC,O2,N2,CO2", "sample.num_steps=4"],
    )
    model = studio.load(tmp_path / "model", dtype="fp32")
    g = known["g"]
    x = torch.cat([g["input.X_t"], g["input.E_t"].flatten(2)], dim=-1)
    cond = Cond(numeric=g["input.y"], valid=g["input.node_mask"])
    weights = {k.removeprefix("weights."): v for k, v in g.items() if k.startswith("weights.")}
    want = backbones.from_original("graph_dit", weights, known["config"])(x, g["input.t"][:, 0], cond)
    torch.testing.assert_close(model.denoiser.net(x, g["input.t"][:, 0], cond), want)
    assert model.info.numeric == ("SA", "SC", "O2", "N2", "CO2") and model.denoiser.path.mode == "reference"
    samples = model.sample(seeds=range(3), conditions={"O2": 4.0, "SA": 1.0}).values
    assert samples.shape == (3, 9, 10) and bool((samples[..., 0] <= 6).all())


def test_a_file_of_other_molecules_is_refused(
    files: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    checkpoint, molecules, _ = files
    with pytest.raises(ValueError, match="the weights take 5"):
        convert(f"graph_dit:{checkpoint}", tmp_path / "model", overrides=[f"data={molecules}"])
    molecules.write_text(molecules.read_text() + "CCBr,1,2,3,4,5\n")
    with pytest.raises(ValueError, match="7 atom types"):
        convert(
            f"graph_dit:{checkpoint}",
            tmp_path / "model",
            overrides=[f"data={molecules}", "conditions=SA,SC,O2,N2,CO2"],
        )
    with pytest.raises(ValueError, match="lacks data"):
        convert(f"graph_dit:{checkpoint}", tmp_path / "model")
    assert not (tmp_path / "model").exists()
