"""The moving picture of a run: what each step saw, the samples at its end, and nothing of them changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from tiny import files_below, run_studio
from torch import Tensor

from studio.model import trajectory
from studio.model.model import Model
from studio.model.trajectory import Trajectory
from studio.sampling.samples import Samples
from studio.tasks import build_task
from studio.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


def film(model: Model, out: Path, **options: Any) -> tuple[Trajectory, Samples]:
    found = Trajectory(model, out)
    return found, model.sample(on_step=found, **options)


def pages(path: Path) -> list[np.ndarray]:
    with Image.open(path) as picture:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]


def test_each_step_then_the_samples(picture_model: Model, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": range(5), "num_steps": 6}
    seen: list[Tensor] = []
    taken, samples = film(picture_model, tmp_path, **options)
    plain = picture_model.sample(
        on_step=lambda p: seen.append(picture_model.codec.decode(p.step.data_hat)), **options
    )
    assert torch.equal(samples.values, plain.values)
    found = pages(taken.save(samples))
    texts = [str(r["class"]) for r in samples.recipes]
    drawn = [picture_model.task.sheet(v, captions=texts) for v in (*seen, samples.values)]
    assert len(found) == 7 and all(np.array_equal(a, np.asarray(b)) for a, b in zip(found, drawn))
    with Image.open(tmp_path / "trajectory.gif") as picture:
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
        assert times == [100] * 6 + [1500] and picture.info["loop"] == 0


def test_micro_batches_are_one_film(picture_model: Model, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": range(11), "num_steps": 3, "labels": 1}
    together = film(picture_model, tmp_path, **options)
    apart = film(picture_model, tmp_path, deterministic=True, **options)  # eight places, by the seed
    for a, b in zip(*(taken.frames(samples) for taken, samples in (together, apart)), strict=True):
        assert a.shape == (11, 1, 8, 8) and (a.int() - b.int()).abs().max() <= 1


@pytest.mark.parametrize("options", [{"num_steps": 59}, {"num_steps": 60}, {"num_steps": 150},
    {"sampler": "torchdiffeq(method=adaptive_heun,rtol=1e-5,atol=1e-5)", "num_steps": 2}])  # fmt: skip
def test_never_more_than_sixty_frames(options: Any, points_model: Model, tmp_path: Path) -> None:
    steps: list[int] = []
    taken = Trajectory(points_model, tmp_path)
    samples = points_model.sample(
        seeds=range(4), on_step=taken.beside(lambda p: steps.append(p.step.index)), **options
    )
    frames = taken.frames(samples)
    assert 31 <= len(frames) <= 60 and len(frames) == -(-len(steps) // taken.every) + 1
    assert torch.equal(frames[-1], samples.values)
    if options["num_steps"] == 2:
        assert len(steps) > 60
        apart, alone = film(points_model, tmp_path, seeds=range(4), deterministic=True, **options)
        lengths = {len(seen) for seen in apart.kept.values()}
        assert len(lengths) > 1 and len(apart.frames(alone)) == max(lengths) + 1 <= 60


def test_what_is_kept_is_bounded(
    picture_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, samples = film(picture_model, tmp_path, seeds=range(40), num_steps=1)
    assert {len(f) for f in many.frames(samples)} == {36}
    monkeypatch.setattr(trajectory, "BYTES", 60 * 64 * 3)
    few, samples = film(picture_model, tmp_path, seeds=range(8), num_steps=2)
    assert {len(f) for f in few.frames(samples)} == {3} and pages(few.save(samples))
    monkeypatch.setattr(trajectory, "SIDE", 50)
    assert max(pages(few.save(samples))[0].shape) == 50


def test_on_the_command_line(picture_run: Run, tmp_path: Path) -> None:
    words = ("sample", picture_run.folder, "--seeds", "0-2", "--num-steps", 3, "--device", "cpu", "--out")
    assert run_studio(*words, "plain", cwd=tmp_path).returncode == 0
    done = run_studio(*words, "moving", "--gif", cwd=tmp_path)
    assert done.returncode == 0 and str(Path("moving", "trajectory.gif")) in done.stdout.splitlines()
    plain, moving = files_below(tmp_path / "plain"), files_below(tmp_path / "moving")
    assert moving.pop("trajectory.gif") and moving == plain
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "trajectory.gif").write_text("mine")
    done = run_studio(*words, "mine", "--gif", cwd=tmp_path)
    assert done.returncode == 2 and "trajectory.gif exists already" in done.stderr
    assert files_below(mine) == {"trajectory.gif": b"mine"}
    assert run_studio(*words, "mine", "--gif", "--overwrite", cwd=tmp_path).returncode == 0
    assert len(pages(mine / "trajectory.gif")) == 4


def test_what_is_not_drawn_is_refused(picture_run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    from studio.tasks.image import ImageTask

    monkeypatch.setattr(ImageTask, "shows", lambda self, shape: False)
    words = ("sample", picture_run.folder, "--device", "cpu", "--out", "out", "--gif")
    done = run_studio(*words, cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert "of shape (1, 8, 8), which image as a task does not draw; leave it out" in done.stderr


VALUES = {
    "points": torch.randn(2, 6, 2),
    "vectors": torch.randn(2, 6, 1),
    "angles": torch.randn(2, 6, 3).clamp(-3, 3),
    "tokens": torch.arange(2 * 6 * 5).view(2, 6, 5) % 7,
    "image": torch.randint(0, 256, (2, 6, 3, 8, 8), dtype=torch.uint8),
    "field": 3 * torch.randn(2, 6, 2, 8, 8),
    "clips": torch.randint(0, 256, (2, 6, 4, 1, 8, 8), dtype=torch.uint8),
}


@pytest.mark.parametrize("name", VALUES)
def test_every_task_draws_its_steps(name: str) -> None:
    """On axes and in shades that do not move: a step is drawn the same whichever comes first."""
    steps = [*VALUES[name]]
    there, back = ([*build_task(name).frames(s)] for s in (steps, steps[::-1]))
    assert len(there) == 2 and there[0].size == there[1].size
    assert np.array_equal(there[0], back[1]) and np.array_equal(there[1], back[0])
    assert not np.array_equal(there[0], there[1])


def test_a_point_that_stays_is_drawn_where_it_was() -> None:
    steps = [torch.tensor([[0.0, 0.0], [x, x]]) for x in (1.0, 5.0)]
    one, two = (np.asarray(f).astype(int) for f in build_task("points").frames(steps))
    ink = [np.argwhere((f[..., 2] - f[..., 0]) > 60) for f in (one, two)]  # blue
    first = [points[points[:, 0].argmax()] for points in ink]  # the lowest on the page: at the origin
    assert np.array_equal(first[0], first[1]) and not np.array_equal(ink[0], ink[1])
