"""What a run is told to take before it is asked for: its evaluations and passes are those that it makes, its
seconds those that earlier jobs took."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import run_studio

from studio.jobs.estimate import GUESS, OTHERS, OWN, Estimate, estimate, place
from studio.jobs.index import Index
from studio.jobs.pace import COMMAND, FEW, Laid, Ran, fitted, laid_out, started
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
    small, other = (
        Recipe(model, seeds="0-7", sampler="euler", num_steps=10, guidance="")
        for model in (str(points_model.folder), "fashion-dit")
    )
    ran(index, small, 8, 0.5, here)  # of passes that are so much smaller it says nothing
    assert told().by == GUESS
    ran(index, other, 8, 0.5, here)
    share = first.work.flops * 20 / (work_of(other.model).flops * 10)
    assert told().by == OTHERS and told().seconds == pytest.approx(8 * 0.5 * share)
    ran(index, asked, 8, 0.5, "elsewhere")
    assert told().by == OTHERS
    ran(index, asked, 8, 0.25, here)  # two seconds for twenty passes of eight samples
    assert told().by == OWN and told().seconds == pytest.approx(2.0)
    alone = Recipe(**vars(asked) | {"guidance": "", "seeds": "3"})
    assert told(alone).seconds == pytest.approx(1.0 * (FEW + 1) / (FEW + 8))  # and not an eighth
    pair = Recipe(**vars(alone) | {"seeds": "0-1"})
    ran(index, pair, 2, 0.4, here)  # ten passes of two: 20 (a + 8 b) = 2 and 10 (a + 2 b) = 0.8
    once, each = 0.22 / 3, 0.01 / 3
    for of, passes, count in ((alone, 10, 1), (pair, 10, 2), (asked, 20, 8)):
        assert told(of).seconds == pytest.approx(passes * (once + count * each))
    many = Recipe(**vars(alone) | {"seeds": "0-99"})  # 64 at once, then 36
    assert told(many).seconds == pytest.approx(10 * (2 * once + 100 * each))
    even = Recipe(**vars(alone) | {"deterministic": True})  # padding fills its micro-batch up
    assert told(even).seconds == pytest.approx(10 * (once + 8 * each))


def test_what_costs_nothing_is_not_less() -> None:
    """Neither part of a pace is below 0; micro-batches of nearly one size tell no parts."""
    for once, each in ((0.5, 0.1), (0.0, 0.1), (0.5, 0.0)):
        found = fitted([Ran(3 * (once + n * each), 3, 3 * n, 1.0) for n in (1, 8, 64)])
        assert (found.once, found.each) == pytest.approx((once, each), abs=1e-9)
    falling = fitted([Ran(2.0, 1, 1, 1.0), Ran(1.0, 1, 8, 1.0)])  # eight took less than one
    assert falling.each == 0 and 1 < falling.once < 2
    steep = fitted([Ran(1.0, 1, 1, 1.0), Ran(20.0, 1, 8, 1.0)])  # more than eight times as much
    assert steep.once == 0 and 1 < steep.each < 2.5
    alike = fitted([Ran(1.0, 1, 8, 1.0), Ran(1.3, 1, 9, 1.0)])
    assert alike.once == pytest.approx(FEW * alike.each)


def test_the_first_run_of_a_process_takes_more() -> None:
    """What it takes besides is told apart, and does not count as what a pass takes."""
    later = [Ran(3 * (0.5 + n * 0.1), 3, 3 * n, 1.0) for n in (1, 8)]
    firsts = [
        Ran(3 * (0.5 + n * 0.1) + more, 3, 3 * n, 1.0, True) for n, more in ((1, 4.0), (2, 2.0), (8, 9.0))
    ]
    found, start = started([*later, *firsts])
    assert (found.once, found.each, start) == pytest.approx((0.5, 0.1, 4.0))
    assert started(firsts) == (fitted(firsts), 0.0) and started(later) == (fitted(later), 0.0)
    quick = Ran(0.1, 3, 3, 1.0, True)
    assert started([*later, quick])[1] == 0.0


def test_micro_batches_are_counted() -> None:
    assert laid_out(range(1), 64, None) == Laid(1, 1) and laid_out(range(1), 64, 8) == Laid(1, 8)
    assert laid_out(range(130), 64, None) == Laid(3, 130) and laid_out((0, 8, 16), 64, 8) == Laid(3, 24)


def test_commands_teach_it(picture_model: Model, tmp_path: Path) -> None:
    """`studio sample` into the folder of outputs, or where that has an index: its time, as it is told for the
    page. Nothing is told where nobody keeps an index."""
    name = str(picture_model.folder)
    how = ("--num-steps", "4", "--sampler", "euler", "--device", "cpu", "--dtype", "fp32")
    line = ("sample", name, *how, "--threads", torch.get_num_threads())

    def sampled(out: str, *words: str) -> list[Job]:
        done = run_studio(*line, "--out", out, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return Index(tmp_path / "outputs").jobs() if (tmp_path / "outputs").exists() else []

    assert sampled("elsewhere", "--guidance", "") == []
    first, *_ = sampled("outputs/a", "--guidance", "", "--seeds", "0-7")
    assert (first.kind, first.state, first.done, first.model) == (COMMAND, "done", 8, name)
    (newest, *_), where = sampled("elsewhere/b", "--guidance", "", "--seeds", "5"), first.told["place"]
    assert newest.done == 1 and newest.told["place"] == where == place(picture_model.device, None)
    index, asked = Index(tmp_path / "outputs"), Recipe(name, "auto", None, "0-3", 6, "euler", "")
    told = estimate(asked, index, device="cpu", dtype="fp32")
    runs = [Ran(j.told["each"] * j.done, 4, 4 * j.done, told.work.flops, True) for j in (newest, first)]
    assert told.by == OWN and told.seconds == pytest.approx(fitted(runs).seconds(Laid(1, 4), 6))
    count = len(index.jobs())
    assert len(sampled("outputs/c", "--gif")) == len(sampled("outputs/d", "--path", "trig")) == count
    (tmp_path / "outputs" / ".jobs" / "index.db").write_text("no database")
    assert run_studio(*line, "--out", "outputs/e", cwd=tmp_path).returncode == 0


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
