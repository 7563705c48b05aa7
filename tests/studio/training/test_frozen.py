"""What an earlier version left is gone on with: runs that were killed in the middle end as they would have
then, and bundled models make the pictures they made."""

import shutil
from pathlib import Path

import frozen
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import checkpoints, metrics

import studio
from studio.checkpoints.find import bundled

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", frozen.RUNS)
def test_a_run_that_was_killed_ends_as_it_would_have(name: str, tmp_path: Path) -> None:
    """To rounding, as processors differ; a moment that went to another parameter, or an average that began
    anew, is larger by far."""
    shutil.copytree(frozen.HOME / name, tmp_path / "run")
    was = metrics(tmp_path / "run")
    with frozen.beside_the_data(tmp_path):
        run = frozen.RUNS[name](out="run", resume=True, quiet=True)
        assert run.step == frozen.STEPS and checkpoints(tmp_path / "run") == [frozen.KILLED, frozen.STEPS]
    found, wanted = frozen.weights(tmp_path / "run"), load_file(tmp_path / "run" / "end.safetensors")
    averaged = {
        k
        for k in found.keys() - wanted.keys()
        if k.startswith("ema-") and k.partition("/net.")[2] in dict(frozen.Own().named_buffers())
    }
    assert found.keys() - averaged == wanted.keys()  # averages have running statistics since then
    for key, value in wanted.items():
        torch.testing.assert_close(
            found[key], value, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
        )
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [line["step"] for line in was]
    assert [line["loss"] for line in lines if "loss" in line] == pytest.approx(
        [line["loss"] for line in was if "loss" in line], rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled())
def test_a_bundled_model_makes_what_it_made(name: str) -> None:
    """Two samples at its own recipe, in fp32: pictures to one level of 255, molecules exactly, other numbers
    to rounding."""
    wanted, values = frozen.kept()[name], frozen.sampled(name)
    if values.dtype == torch.uint8 and values.ndim == 4:
        assert int((values.int() - wanted.int()).abs().max()) <= 1
    elif values.is_floating_point():
        torch.testing.assert_close(values, wanted, rtol=1e-3, atol=1e-4)
    else:
        np.testing.assert_array_equal(values, wanted)


def test_the_frozen_runs_are_small_and_name_no_place() -> None:
    files = [p for p in frozen.HOME.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 1_000_000
    assert not [p for p in files if p.suffix in (".json", ".yaml") and str(Path.home()) in p.read_text()]
    assert studio.load(frozen.HOME / "labels", device="cpu").classes == ("bar", "dot", "ring", "wedge")
