"""Warm-up: a share of the run with a cap where the config leaves it open; what a number or a record says
stays."""

from pathlib import Path

import pytest
from tiny import points_config

import studio
from studio.config import TrainConfig, load_config
from studio.training.optim import lr_factor

pytestmark = pytest.mark.usefixtures("one_thread")


def constant(**train: object) -> TrainConfig:
    return TrainConfig(schedule="constant", **train)  # type: ignore[arg-type]


def test_by_steps_it_is_a_twentieth_and_at_most_200() -> None:
    short, long = constant(steps=100), constant(steps=100_000)
    assert [lr_factor(short, s, s / 100) for s in (0, 1, 4, 5, 99)] == pytest.approx([0.2, 0.4, 1, 1, 1])
    assert [lr_factor(long, s, s / 1e5) for s in (0, 99, 199, 300)] == pytest.approx([1 / 200, 0.5, 1, 1])
    assert lr_factor(constant(steps=3), 0, 0.0) == 1  # a twentieth of so few is no step


def test_by_minutes_whichever_comes_first_ends_it() -> None:
    slow = [lr_factor(constant(minutes=2), s, s / 40) for s in range(40)]  # forty steps in the two minutes
    assert slow[1] == pytest.approx(0.5) and slow[2:] == [1.0] * 38
    fast = [lr_factor(constant(minutes=2), s, s / 40_000) for s in (0, 99, 199, 2000)]
    assert fast == pytest.approx([1 / 200, 0.5, 1, 1])


def test_a_number_means_steps_as_ever() -> None:
    for train in (constant(steps=50, warmup=200), constant(minutes=1, warmup=200)):
        assert lr_factor(train, 49, 1.0) == pytest.approx(0.25)
    assert load_config("fashion-dit").train.warmup == 200 and load_config("images").train.warmup == "auto"
    with pytest.raises(ValueError, match="warmup got -1"):
        load_config("points", ["train.warmup=-1"])
    with pytest.raises(ValueError, match="warmup.*'soon'"):
        load_config("points", ["train.warmup=soon"])


def test_a_record_without_it_goes_on_with_what_it_meant(tmp_path: Path) -> None:
    """Runs of before hold 200, by their record or silently; runs of now hold what they began with."""
    config = points_config(steps=4, save_every=4, log_every=0)
    del config["train"]["warmup"]
    run = studio.train(config, out=tmp_path / "new", quiet=True)
    assert studio.train(run.folder, resume=True, quiet=True).config.train.warmup == "auto"
    for line in ("  warmup: 200\n", ""):
        text = (run.folder / "config.yaml").read_text()
        (run.folder / "config.yaml").write_text(
            text.replace("  warmup: auto\n", line).replace("  warmup: 200\n", line)
        )
        assert studio.train(run.folder, resume=True, quiet=True).config.train.warmup == 200


def test_a_warm_up_that_takes_the_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = points_config(steps=None, minutes=0.01, log_every=0)
    studio.train(config, ["train.warmup=100000"], out=tmp_path / "long")
    assert "train.warmup=100000 is much of this run" in capsys.readouterr().err
    studio.train(config, ["train.warmup=auto"], out=tmp_path / "auto")
    assert "warmup" not in capsys.readouterr().err
