"""No sample that is not finite is written, whoever asks for it; the error names step, seed and what to try,
and what was finished stays."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import files_below, points_config
from torch import Tensor, nn

import studio
from backbones import Cond
from samplers.paths import LinearPath
from samplers.prediction import Prediction
from samplers.solvers.base import Step
from studio.model.model import Model
from studio.runtime.finite import NotFinite, check_step, finite

WHERE = (
    r"got numbers that are not finite in step 3 of 4 \(t = 0.5\) for seed 5, expected finite ones; "
    r"nothing of them was written; try dtype=fp32"
)


class Breaks(nn.Module):
    """A network that says ``wrong`` for one label from a time on, and from a number of calls on for all."""

    def __init__(
        self,
        net: nn.Module,
        *,
        wrong: float = math.nan,
        label: int | None = None,
        after: float = 0.0,
        calls: int = 0,
    ):
        super().__init__()
        self.net, self.wrong, self.label, self.after, self.calls, self.count = (
            net,
            wrong,
            label,
            after,
            calls,
            0,
        )

    def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        out, self.count = self.net(x, t, cond, ctx), self.count + 1
        bad = t >= self.after
        if self.label is not None and isinstance(cond.label, Tensor):
            bad = bad & (cond.label == self.label)
        if self.count <= self.calls:
            return out
        return torch.where(bad.view(-1, *[1] * (out.ndim - 1)), self.wrong, out)


def broken(model: Model, **options: Any) -> Model:
    return replace(model, denoiser=model.denoiser.with_net(Breaks(model.denoiser.net, **options)))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", [{}, {"deterministic": True}, {"batch": 2}], ids=str)
def test_the_error_names_step_and_seed(wrong: float, options: dict[str, Any], picture_model: Model) -> None:
    model = broken(picture_model, wrong=wrong, label=2, after=500.0)
    with pytest.raises(NotFinite, match=WHERE):
        model.sample(
            seeds=[3, 5, 8], labels=[0, 2, 1], num_steps=4, sampler="euler", guidance=None, **options
        )
    # the others are not held up
    model.sample(seeds=[3, 8], labels=[0, 1], num_steps=4, sampler="euler", guidance=None, **options)
    assert issubclass(NotFinite, ValueError)  # which command line and page show as what went wrong


def test_points_and_many_seeds(points_model: Model) -> None:
    with pytest.raises(
        NotFinite, match=r"step 1 of 4 \(t = 0\) for seed 0, 1, 2, 3, 4, 5, 6, 7 and 12 more,"
    ):
        broken(points_model).sample(seeds=range(20), num_steps=4, sampler="euler")


def test_a_state_too_large_for_a_sum_is_no_error() -> None:
    huge = torch.full((4, 1000), 1e37)
    assert not math.isfinite(float(huge.sum())) and finite(huge)
    assert not finite(torch.tensor([math.inf, -math.inf])) and finite(torch.tensor([3, 4]))


def test_padding_is_not_looked_at_and_molecules_are_judged_by_what_was_said() -> None:
    x = torch.zeros(3, 2)
    x[1] = math.nan

    def step(state: Tensor, said: Tensor) -> Step:
        return Step(0, 4, 0.0, 0.25, state, Prediction("data", said, state, 0.0, LinearPath()), 1)

    check_step(step(x, torch.zeros(3, 2)), [7, None, 9])
    with pytest.raises(NotFinite, match="for seed 8,"):
        check_step(step(x, torch.zeros(3, 2)), [7, 8, 9])
    with pytest.raises(NotFinite, match="for seed 8,"):
        check_step(step(torch.zeros(3, 2), x), [7, 8, 9], told=True)
    ruled_out = torch.zeros(3, 2)
    ruled_out[0, 0] = -math.inf
    check_step(step(torch.zeros(3, 2), ruled_out), [7, 8, 9], told=True)


def test_generate_keeps_what_was_finished(picture_model: Model, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "num": 12,
        "num_steps": 3,
        "sampler": "euler",
        "guidance": None,
        "batch": 4,
        "quiet": True,
    }
    whole = tmp_path / "whole"
    studio.generate(picture_model, whole, **options)
    out = tmp_path / "out"
    with pytest.raises(NotFinite, match=r"step 1 of 3 .* for seed 4, 5, 6, 7,.*what was finished is kept in"):
        studio.generate(broken(picture_model, calls=3), out, **options)
    kept = {k: v for k, v in files_below(out).items() if k.endswith(".png")}
    assert sorted(Path(k).name for k in kept) == [f"{i:06d}.png" for i in range(4)]
    assert all(files_below(whole)[k] == v for k, v in kept.items())


def test_previews_are_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*a: Any, **k: Any) -> None:
        raise NotFinite("got numbers that are not finite in step 1 of 4")

    monkeypatch.setattr("studio.training.looking.preview", lost)
    run = studio.train(points_config(steps=4, preview=True), out=tmp_path / "run")
    assert run.step == 4 and not list(run.folder.rglob("preview.png"))
    assert "step 4: no preview: got numbers that are not finite in step 1 of 4" in capsys.readouterr().err
