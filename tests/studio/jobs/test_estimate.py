"""What a run is told to take before it is asked for: its evaluations and passes are those that it makes, its
seconds those that earlier jobs took."""

import time
from pathlib import Path
from typing import Any

import pytest

from studio.jobs.estimate import GUESS, OTHERS, OWN, Estimate, estimate, place
from studio.jobs.index import Index
from studio.jobs.recipe import Recipe
from studio.jobs.records import Job
from studio.model.model import Model
from studio.model.work import Work, known, work_of

RUNS = [
    {"sampler": "euler", "num_steps": 4, "guidance": ""},
    {"sampler": "heun", "num_steps": 4, "guidance": "cfg=2"},
    {"sampler": "heun(last=euler)", "num_steps": 5, "guidance": "cfg=2.0,interval=0.3:0.7"},
    {"sampler": "ddim(eta=0.5)", "num_steps": 6, "guidance": "cfg(scale=2,schedule=linear)"},
    {"sampler": "torchdiffeq(method=rk4)", "num_steps": 3, "guidance": "cfg=2.0,interval=0:0.5"},
    {"sampler": "midpoint", "num_steps": 3, "guidance": "tcfg,cfg=2,interval=0.2:0.9,rescale=0.5"},
]


@pytest.mark.parametrize("asked", RUNS, ids=lambda run: str(run["sampler"]))
def test_a_run_asks_what_was_told(picture_model: Model, asked: dict[str, Any]) -> None:
    rows, last = [], []
    net = picture_model.denoiser.net
    hook = net.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
    try:
        picture_model.sample(seeds=range(2), on_step=lambda p: last.append(p.step.evaluations), **asked)
    finally:
        hook.remove()
    told = work_of(str(picture_model.folder), **asked)
    assert (told.evaluations, told.passes) == (last[-1], sum(rows) / 2)


def test_a_part_of_the_way_is_a_part_of_the_work(picture_model: Model) -> None:
    name = str(picture_model.folder)
    whole, half = (work_of(name, num_steps=8, sampler="euler", strength=s) for s in (1.0, 0.5))
    assert (whole.evaluations, half.evaluations) == (8, 4)
    again = work_of(name, num_steps=8, sampler="euler(resample=3)", inpaint=True)
    assert again.evaluations == 24


def test_where_a_solver_chooses_nobody_knows(picture_model: Model, tmp_path: Path) -> None:
    asked = Recipe(str(picture_model.folder), sampler="torchdiffeq")
    found = estimate(asked, Index(tmp_path), device="cpu", dtype="fp32")
    assert found.work.evaluations is None and found.seconds is None
    assert str(found).startswith("how long is not known and ")


def test_its_size_is_the_network_s(picture_model: Model) -> None:
    size = known(str(picture_model.folder)).size
    assert size.parameters == sum(p.numel() for p in picture_model.denoiser.net.parameters())
    assert size.tokens == 16  # 8 × 8 in patches of 2
    low, full = (work_of(str(picture_model.folder), low=low) for low in (True, False))
    assert full.weights == 4 * size.parameters and low.weights == 6 * size.parameters


def ran(index: Index, asked: Recipe, count: int, each: float, where: str) -> None:
    job = Job(f"job-{time.time_ns()}", "sample", asked.model, vars(asked), time.time(), "done", done=count)
    index.add(Job(**vars(job) | {"told": {"each": each, "place": where}}))


def test_time_is_what_earlier_jobs_took(picture_model: Model, points_model: Model, tmp_path: Path) -> None:
    index, name = Index(tmp_path), str(picture_model.folder)
    asked = Recipe(name, seeds="0-7", num_steps=10, sampler="euler", guidance="cfg=2")
    here = place(picture_model.device, None)

    def told(of: Recipe = asked) -> Estimate:
        return estimate(of, index, device="cpu", dtype="fp32")

    first = told()
    assert first.by == GUESS and 0 < (first.seconds or 0) < 8 * (first.work.passes or 0) * first.work.flops
    other = Recipe(str(points_model.folder), seeds="0-7", sampler="euler", num_steps=10, guidance="")
    ran(index, other, 8, 0.5, here)
    share = first.work.flops * 20 / (work_of(other.model).flops * 10)
    assert told().by == OTHERS and told().seconds == pytest.approx(8 * 0.5 * share)
    ran(index, asked, 8, 0.5, "elsewhere")
    assert told().by == OTHERS
    ran(index, asked, 8, 0.25, here)  # half a second for twenty passes of a sample
    assert told().by == OWN and told().seconds == pytest.approx(2.0)
    halves = Recipe(**vars(asked) | {"guidance": "", "seeds": "0-3"})
    assert told(halves).seconds == pytest.approx(0.5)
    ran(index, halves, 2, 0.5, here)  # few at a time take longer; the nearest number counts
    assert told(halves).seconds == pytest.approx(2.0) and told().seconds == pytest.approx(2.0)


def test_the_words() -> None:
    work = Work(39, 39.0, 1e9, 300_000_000, 2_000_000)
    assert str(Estimate(40, work, 6.2, 380_000_000, OWN)) == (
        "about 6 s and 0.4 GB (40 samples, 39 evaluations each)"
    )
    guided = Work(20, 36.0, 1e9, 0, 0)
    assert str(Estimate(1, guided, 0.04, 20_000_000, GUESS)) == (
        "about 0.04 s and 20 MB (1 sample, 20 evaluations and 36 passes of the network each); a guess: this "
        "model has not run here yet"
    )
