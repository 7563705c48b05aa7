"""Trackers, with TensorBoard for real: what it reads back is what metrics.jsonl holds, and the grids of the
checkpoints."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import dit_config, metrics

import studio

pytestmark = pytest.mark.usefixtures("one_thread")


def test_tensorboard_holds_scalars_and_grids(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = dit_config(
        pictures,
        steps=4,
        log_every=1,
        save_every=2,
        preview=True,
        trackers=["tensorboard"],
        weak_snapshot=False,
    )
    run = studio.train(config, out=tmp_path / "run", quiet=True).folder
    studio.train(config, ["train.steps=6"], out=run, resume=True, quiet=True)
    [place] = {p.parent for p in run.rglob("events.out.tfevents*")}
    read = EventAccumulator(str(place), size_guidance={"images": 0, "scalars": 0})
    read.Reload()
    want = {m["step"]: m["loss"] for m in metrics(run) if "loss" in m}
    assert {e.step: e.value for e in read.Scalars("loss")} == pytest.approx(want) and len(want) == 6
    assert [e.step for e in read.Images("samples")] == [2, 4, 6]
    grid = np.asarray(Image.open(run / "checkpoints" / "000000006" / "preview.png").convert("RGB"))
    import io

    shown = np.asarray(Image.open(io.BytesIO(read.Images("samples")[-1].encoded_image_string)))
    np.testing.assert_array_equal(shown, grid)


def test_a_tracker_that_is_not_there_is_refused_first(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match="got tracker 'nothing', which is not installed; there is .*metrics.jsonl is always written",
    ):
        studio.train(dit_config(pictures, trackers=["nothing"]), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_offline(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is installed: the scalars and the grid of every checkpoint lie in the run, and nothing is
    sent."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    kept = {"log_every": 1, "save_every": 2, "preview": True, "weak_snapshot": False}
    tree = dit_config(pictures, steps=4, trackers=["wandb-offline"], **kept)
    run = studio.train(tree, out=tmp_path / "run", quiet=True)
    (home,) = (run.folder / "wandb").glob("offline-run-*")
    assert len(list(home.glob("*.wandb"))) == 1
    assert len(list(home.rglob("samples_*.png"))) == 2
