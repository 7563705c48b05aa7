"""`studio reproduce`: jobs run once and resume, sentences follow the numbers, pages are written whole, and
the recipe's measures are right where the answer is known."""

import json
import math
import os
import signal
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backbones.types import Cond
from samplers import Denoiser, FunctionDenoiser, LinearPath, Prediction, build_objective
from samplers.prediction import expand
from studio.cli.main import main
from studio.reproduce import PAGES, Job, command, noise_free, toy, wcfm
from studio.reproduce import page as pages
from studio.reproduce.jobs import Outcome, Page, Result, Unfinished, load, run_jobs
from studio.reproduce.linear_cost import kept_mb

pytestmark = pytest.mark.usefixtures("one_thread")


def count(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Leaves a line in a log each time it runs; some settings send signals or give up."""
    with open(settings["log"], "a") as handle:
        handle.write(f"{settings['value']}\n")
    if settings.get("signal"):
        os.kill(os.getpid(), settings["signal"])
    if settings.get("unfinished") and not (work / "half").exists():
        (work / "half").touch()
        raise Unfinished("stopped half way")
    return {"twice": 2 * settings["value"]}, {"line": np.arange(settings["value"])}


def some(log: Path, **first: Any) -> list[Job]:
    return [
        Job(f"job-{i}", count, {"value": i, "log": str(log), **(first if i == 0 else {})}) for i in range(3)
    ]


def test_jobs_run_once_and_again_when_their_settings_change(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "jobs"
    once, twice = run_jobs(some(log), folder), run_jobs(some(log), folder)
    assert (
        once is not None
        and twice is not None
        and once == twice
        and log.read_text().split() == ["0", "1", "2"]
    )
    assert [r.values["twice"] for r in twice.values()] == [0, 2, 4] and twice["job-2"].arrays[
        "line"
    ].tolist() == [0, 1]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"job-{i}.{end}" for i in range(3) for end in ("json", "npz")
    )
    changed = run_jobs(some(log, further=1), folder)
    assert changed is not None and log.read_text().split() == ["0", "1", "2", "0"]


@pytest.mark.parametrize("damage", ["json", "npz", "no npz"])
def test_damaged_results_are_made_again(damage: str, tmp_path: Path) -> None:
    jobs = some(tmp_path / "log")
    run_jobs(jobs, tmp_path / "jobs")
    path = tmp_path / "jobs" / f"job-2.{damage.split()[-1]}"
    path.unlink() if damage == "no npz" else path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert load(jobs[2], tmp_path / "jobs") is None
    assert run_jobs(jobs, tmp_path / "jobs") is not None and (tmp_path / "log").read_text().split() == [
        "0",
        "1",
        "2",
        "2",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_jobs_and_the_same_call_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    jobs = some(tmp_path / "log", signal=int(number))
    assert run_jobs(jobs, tmp_path / "jobs") is None
    assert (tmp_path / "log").read_text().split() == ["0"] and load(jobs[0], tmp_path / "jobs") is not None
    results = run_jobs(jobs, tmp_path / "jobs")
    assert (
        results is not None
        and list(results) == ["job-0", "job-1", "job-2"]
        and (tmp_path / "log").read_text().split() == ["0", "1", "2"]
    )


def test_a_job_that_stopped_half_way_finds_its_folder_again(tmp_path: Path) -> None:
    jobs = some(tmp_path / "log", unfinished=True)
    assert run_jobs(jobs, tmp_path / "jobs") is None
    assert [p.name for p in (tmp_path / "jobs").rglob("half")] == ["half"]
    assert run_jobs(jobs, tmp_path / "jobs") is not None
    assert not list((tmp_path / "jobs").rglob("half")) and (tmp_path / "log").read_text().split() == [
        "0",
        "0",
        "1",
        "2",
    ]


def test_mean_and_standard_error() -> None:
    mean, error = pages.mean_error([1.0, 2.0, 6.0])
    assert mean == 3 and error == pytest.approx(math.sqrt(7) / math.sqrt(3))  # s² = (4 + 1 + 9)/2
    assert pages.mean_error([4.0])[0] == 4 and math.isnan(pages.mean_error([4.0])[1])
    assert pages.shown([1.0, 2.0, 6.0]) == "3.000 ± 1.528" and pages.shown([4.0]) == "4.000"


@pytest.mark.parametrize(
    "a, b, text",
    [
        ([0.5, 0.6, 0.55], [0.9, 1.02, 0.95], "a is lower than b by -0.407 ± 0.007 (3 seeds)."),
        ([0.9, 1.02, 0.95], [0.5, 0.6, 0.55], "a is higher than b by +0.407"),
        ([0.5, 1.5, 0.9], [0.9, 1.0, 1.0], "no clear difference between a and b, +0.000"),
        ([0.5], [0.9], "one seed says nothing of chance"),
        ([0.5, 0.5], [0.5, 0.5], "no clear difference"),
    ],
)
def test_sentences_follow_the_numbers(a: list[float], b: list[float], text: str) -> None:
    assert text in pages.compare("a", a, "b", b, "W2")


def test_pairs_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="expected pairs"):
        pages.compare("a", [1.0], "b", [1.0, 2.0], "W2")


def test_tables_show_what_is_there() -> None:
    assert pages.table([{"a": 1.0, "b": [1.0, 3.0]}, {"a": "x"}], {"a": "A", "b": "B"}).splitlines() == [
        "| A | B |",
        "|---|---|",
        "| 1.000 | 2.000 ± 1.000 |",
        "| x | – |",
    ]


def test_two_way_decomposition() -> None:
    g = torch.Generator().manual_seed(0)
    rows, columns = torch.randn(40, generator=g).double(), torch.randn(30, generator=g).double()
    shares, means = wcfm.two_way(rows[:, None] + 2 * columns)
    assert sum(shares.values()) == pytest.approx(1) and shares["interaction"] < 1e-12
    assert shares["picture"] / shares["source"] == pytest.approx(
        float(4 * columns.var(correction=0) / rows.var(correction=0))
    )
    torch.testing.assert_close(means - means.mean(), 2 * (columns - columns.mean()))
    shares, _ = wcfm.two_way((rows - rows.mean())[:, None] * (columns - columns.mean()))
    assert shares["interaction"] == pytest.approx(1)


# ---- the recipe in the plane ---------------------------------------------------------------------


def test_draws_are_the_same_for_all_methods_and_independent_between_uses() -> None:
    a, b = toy.ends("normal", "moons", 1, 512), toy.ends("normal", "moons", 1, 512, toy.TEST)
    toy.ends.cache_clear()
    assert torch.equal(toy.ends("normal", "moons", 1, 512).data, a.data)
    for x, y in (
        (a.data, b.data),
        (a.source, b.source),
        (a.source, a.data),
        (a.source, toy.ends("normal", "moons", 2, 512).source),
    ):
        together = torch.stack([x[:, 0], y[:, 0]])
        assert abs(float(torch.corrcoef(together)[0, 1])) < 4 / math.sqrt(512)


def test_the_rate_is_constant_and_then_falls_to_nothing() -> None:
    assert [toy.rate(i, 10) for i in (0, 5, 7)] == pytest.approx([1, 1, 1])
    assert [toy.rate(i, 10) for i in (8, 9, 10)] == pytest.approx([2 / 3, 1 / 3, 0])


def test_path_energy_of_a_translation() -> None:
    """v = c: every sample is moved by c, one Euler step is exact, and PE = |c|²."""
    path, shift = LinearPath(), torch.tensor([3.0, -4.0])
    denoiser: Any = FunctionDenoiser(
        path, lambda x, t, cond: Prediction("velocity", shift.expand_as(x), x, t, path)
    )
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    made, energy = toy.converged(denoiser, x, steps=5)
    assert energy == pytest.approx(25)
    torch.testing.assert_close(made, x + shift)
    torch.testing.assert_close(toy.sample(denoiser, x, "euler", 1), x + shift)


def test_path_energy_of_a_contraction() -> None:
    """v = −x: x_t = e^{−t} x_0 and PE = E|x_0|² (1 − e^{−2})/2."""
    path = LinearPath()
    denoiser: Any = FunctionDenoiser(path, lambda x, t, cond: Prediction("velocity", -x, x, t, path))
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    energy = toy.converged(denoiser, x)[1]
    assert energy == pytest.approx(float(x.square().sum(1).mean()) * (1 - math.exp(-2)) / 2, rel=1e-3)


def exact_classes(off: float) -> Any:
    """The exact conditional denoiser of the eight Gaussians, aimed ``off`` classes beside the one asked
    for."""
    path, variance = LinearPath(), 0.1**0.5

    def fn(x: Tensor, t: Any, cond: Cond) -> Prediction:
        c = path.coefficients(t)
        a, s = expand(c.alpha, x), expand(c.sigma, x)
        angle = (cond.label + off) * (math.pi / 4)  # type: ignore[operator]
        mean = 5 * torch.stack([angle.cos(), angle.sin()], 1)
        return Prediction("data", mean + a * variance / (a**2 * variance + s**2) * (x - a * mean), x, t, path)

    return FunctionDenoiser(path, fn)


def test_class_measures_of_the_exact_model() -> None:
    right, wrong = (toy.conditional(exact_classes(off), seed=0, per_class=60) for off in (0, 1))
    assert right["accuracy_converged"] > 0.98 and wrong["accuracy_converged"] < 0.02
    assert right["w2_class_converged"] < 0.45  # two sets of 60 points of standard deviation 0.56
    # the distance of two centres
    assert wrong["w2_class_converged"] == pytest.approx(10 * math.sin(math.pi / 8), rel=0.05)


def test_a_network_without_t_has_one_answer_at_all_levels() -> None:
    x = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    for conditioning, same in (("none", True), ("time", False)):
        objective = build_objective(parameterization={"name": "velocity", "conditioning": conditioning})
        denoiser = Denoiser(toy.ToyNet(seed=0), objective.path, objective.parameterization)
        early, late = (denoiser.predict(x, t, Cond()).value for t in (0.1, 0.9))
        assert torch.equal(early, late) == same


def test_training_needs_as_many_pairs_as_it_uses() -> None:
    with pytest.raises(ValueError, match="3 steps × 8"):
        toy.train(build_objective(), toy.ToyNet(seed=0), toy.ends("normal", "moons", 0, 20), steps=3, batch=8)


# ---- pages ---------------------------------------------------------------------------------------


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("value",))
    return pages.table([{"job": r.name, "twice": r.values["twice"]} for r in results.values()])


LOG = "STUDIO_TEST_LOG"
own_page = Page("A page of its own", lambda quick: some(Path(os.environ[LOG]))[: 1 if quick else 3], write)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of three jobs in the registry, and a folder to work in."""
    monkeypatch.setitem(PAGES, "own-page", f"{__name__}:own_page")
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_page_is_written_and_written_again_from_what_is_kept(own: Path) -> None:
    written = command.reproduce("own-page", quiet=True)
    assert written.folder == Path("docs/results/own-page") and sorted(p.name for p in written.files) == [
        "README.md",
        "table.csv",
    ]
    text = (written.folder / "README.md").read_text()
    assert (
        "# A page of its own" in text
        and "| job-2 | 4 |" in text
        and "`studio reproduce own-page`" in text
        and "quick" not in text
    )
    assert (written.folder / "table.csv").read_text().splitlines()[3].startswith("job-2,2,4,")
    command.reproduce("own-page", quiet=True)
    assert (own / "log").read_text().split() == ["0", "1", "2"]


def test_a_quick_run_keeps_to_itself(own: Path) -> None:
    full = command.reproduce("own-page", quiet=True)
    before = {p: p.read_bytes() for p in full.folder.parent.rglob("*") if p.is_file()}
    quick = command.reproduce("own-page", quick=True, out="docs/results", quiet=True)
    assert quick.folder.name == "own-page-quick" and "quick run" in (quick.folder / "README.md").read_text()
    elsewhere = command.reproduce("own-page", quick=True, quiet=True)
    assert own not in elsewhere.folder.parents
    assert all(p.read_bytes() == content for p, content in before.items())
    assert sorted(p.name for p in (own / "runs" / "reproduce").iterdir()) == ["own-page"]


def test_a_readme_of_others_is_left_alone(own: Path) -> None:
    theirs = own / "docs" / "results" / "own-page" / "README.md"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(FileExistsError, match="--out"):
        command.reproduce("own-page")
    assert theirs.read_text() == "mine" and not (own / "log").exists()


def test_a_page_made_in_parts_and_kept_elsewhere(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = command.reproduce("own-page", cache="kept", only=["job-[12]"], quiet=True)
    assert (part.files, part.interrupted, part.done, part.jobs) == (
        (),
        False,
        2,
        3,
    ) and not part.folder.exists()
    assert [done for _, done in command.state("own-page", cache="kept")] == [False, True, True]
    assert (own / "log").read_text().split() == ["1", "2"] and not (own / "runs").exists()
    # exit code 0: what was asked for is there
    main(["reproduce", "own-page", "--jobs", "kept", "--only", "job-2", "--json", "--threads", "1"])
    assert json.loads(capsys.readouterr().out)["done"] == 2
    with pytest.raises(ValueError, match="--list shows them"):
        command.reproduce("own-page", only=["jop-*"])
    whole = command.reproduce("own-page", cache="kept", only=["job-0"], quiet=True)
    assert whole.files and (own / "log").read_text().split() == ["1", "2", "0"]


def test_the_command(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce", "--list", "--json"])
    assert json.loads(capsys.readouterr().out)["pages"].keys() == PAGES.keys()
    main(["reproduce", "own-page", "--list", "--json", "--threads", "1"])
    assert [(j["job"], j["done"]) for j in json.loads(capsys.readouterr().out)["jobs"]] == [
        (f"job-{i}", False) for i in range(3)
    ]
    main(["reproduce", "own-page", "--json", "--threads", "1"])
    assert json.loads(capsys.readouterr().out)["done"] == 3
    main(["reproduce", "own-page", "--list", "--threads", "1"])
    assert capsys.readouterr().out.count("done ") == 3
    for arguments, text in (
        (["reproduce", "wcmf"], "did you mean 'wcfm'?"),
        (["reproduce"], f"expected one of {', '.join(PAGES)}"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2 and text in capsys.readouterr().err


@pytest.mark.parametrize("name", list(PAGES))
def test_jobs_have_names_of_their_own_and_fit_into_twenty_minutes(name: str) -> None:
    page = command.find(name)
    for quick in (False, True):
        jobs = page.jobs(quick)
        assert len({j.name for j in jobs}) == len({j.key for j in jobs}) == len(jobs)
        assert all(j.minutes <= 20 for j in jobs)
    trained = [
        {j.key for j in page.jobs(quick) if not j.name.endswith("untrained")} for quick in (True, False)
    ]
    assert trained[0].isdisjoint(trained[1])
    assert sum(j.minutes for j in page.jobs(False)) <= 100


@pytest.mark.slow
def test_jobs_in_the_plane_run_on_every_method(tmp_path: Path) -> None:
    small = [
        j
        for jobs in (wcfm.jobs, noise_free.page.jobs)
        for j in jobs(True)
        if j.run in (wcfm.points, wcfm.labelled, wcfm.tilt, noise_free.points)
    ]
    for job in small:
        values, _ = job.run(job.settings, tmp_path)
        assert all(math.isfinite(v) for v in values.values() if isinstance(v, float)), job.name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["wcfm", "balanced", "noise-free-conditioning", "bridge", "ddpm", "noise-starts", "posterior", "protein"],
)
def test_a_whole_page_in_short(name: str, tmp_path: Path) -> None:
    written = command.reproduce(name, quick=True, out=tmp_path, quiet=True)
    text = (written.folder / "README.md").read_text()
    shown = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert shown and {p.name for p in written.files} == {"README.md", "table.csv", *shown}
    assert (
        "nan" not in text and len((written.folder / "table.csv").read_text().splitlines()) == 1 + written.jobs
    )


def test_memory_that_a_forward_pass_keeps_is_counted_once_and_freed() -> None:
    """exp saves its own output: 4 × 8 numbers of four bytes, which must not hold the graph that holds
    them."""

    class Exp(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
            self.made = weakref.ref(y := (x * torch.ones((), requires_grad=True)).exp())
            return y

    net = Exp()
    # x and the output; the factor
    assert kept_mb(net, torch.randn(4, 8), torch.zeros(4), Cond()) * 2**20 == pytest.approx(
        2 * 4 * 8 * 4, abs=8
    )
    assert net.made() is None
