"""A run that fails before there is anything to keep leaves nothing in the way of the next try; what it was to
write over comes back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import checkpoints, files_below, points_config
from torch import Tensor, nn

import studio
from studio.runtime import lock
from studio.training import rollback

pytestmark = pytest.mark.usefixtures("one_thread")


class Failing(nn.Module):
    """A network that fails at a step of training."""

    def __init__(self, error: BaseException, step: int = 1):
        super().__init__()
        self.layer, self.error, self.left = nn.Linear(2, 2), error, step

    def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.layer(x)


ERRORS = [
    TypeError("forward() got an unexpected keyword"),
    RuntimeError("out of memory"),
    KeyboardInterrupt(),
    ValueError("no"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_an_error_in_the_first_step_leaves_no_folder(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        studio.train(points_config(), out=tmp_path / "new" / "run", backbone=Failing(error), quiet=True)
    assert not (tmp_path / "new").exists()
    assert studio.train(points_config(), out=tmp_path / "new" / "run", quiet=True).step == 8


def test_what_else_lies_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(TypeError):
        studio.train(points_config(), out=tmp_path / "run", backbone=Failing(ERRORS[0]), quiet=True)
    assert (tmp_path / "run").is_dir() and not list((tmp_path / "run").iterdir())


def test_a_loss_that_is_not_finite_before_the_first_line_of_metrics(tmp_path: Path) -> None:
    class Wild(nn.Linear):
        def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
            return super().forward(x) * torch.inf

    with pytest.raises(RuntimeError, match="no checkpoint yet"):
        studio.train(points_config(log_every=5), out=tmp_path / "run", backbone=Wild(2, 2), quiet=True)
    assert not (tmp_path / "run").exists()


def test_what_was_trained_stays(tmp_path: Path) -> None:
    """An error after there is something to keep loses nothing of it."""
    with pytest.raises(TypeError):
        studio.train(
            points_config(steps=30, log_every=2, save_every=4),
            out=tmp_path / "run",
            backbone=Failing(ERRORS[0], 8),
            quiet=True,
        )
    assert 4 in checkpoints(tmp_path / "run")
    with pytest.raises(FileExistsError, match="holds a run already"):
        studio.train(points_config(), out=tmp_path / "run", quiet=True)


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_that_was_to_be_overwritten_comes_back(
    killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = studio.train(
        points_config(steps=6, save_every=3, log_every=2), out=tmp_path / "run", quiet=True
    ).folder
    before = files_below(run)
    if killed:  # no exit runs then
        monkeypatch.setattr(rollback.Beginning, "__exit__", lambda *error: None)
        monkeypatch.setattr(lock.RunLock, "__exit__", lambda *error: None)
    with pytest.raises(TypeError):
        studio.train(points_config(), out=run, backbone=Failing(ERRORS[0]), overwrite=True, quiet=True)
    if killed:
        monkeypatch.undo()
        assert files_below(run) != before
        held = json.loads((run / ".lock").read_text())
        (run / ".lock").write_text(json.dumps(held | {"pid": 2**22 + 1}))
    assert studio.train(points_config(), ["train.steps=6"], out=run, resume=True, quiet=True).step == 6
    kept = {k: v for k, v in files_below(run).items() if k.startswith("checkpoints/") or k == "metrics.jsonl"}
    assert (
        kept == {k: v for k, v in before.items() if k in kept}
        and len(kept) > 3
        and not (run / ".overwritten").exists()
    )
    assert studio.train(points_config(), out=run, overwrite=True, quiet=True).step == 8
    assert checkpoints(run) == [8] and not (run / ".overwritten").exists()


def test_the_beginning_of_a_killed_run_is_no_obstacle_but_a_users_own_config_is(tmp_path: Path) -> None:
    run = studio.train(points_config(), out=tmp_path / "run", quiet=True).folder
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(FileExistsError):
        studio.train(points_config(), out=run, quiet=True)
    (run / "metrics.jsonl").unlink()
    assert studio.train(points_config(), out=run, quiet=True).step == 8
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(run / "config.yaml", own)
    before = files_below(own)
    with pytest.raises(FileExistsError):
        studio.train(own / "config.yaml", out=own, quiet=True)
    assert files_below(own) == before
