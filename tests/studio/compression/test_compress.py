"""`studio compress` and its plans: used by name, refused where they do not belong, gone on with, edited."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import files_below, run_studio

import studio
from backbones.caching.plan import Plan
from studio.checkpoints import plans
from studio.compression import Compressed, compress
from studio.model.model import Model
from studio.runtime.recipes import read_recipe
from studio.sampling.commands import command_of
from studio.training.run import Run


@pytest.fixture(scope="module")
def found(model: Model) -> Compressed:
    return compress(model, "error=0.3", name="fast", num_steps=8, calibration=2)


def test_a_plan_lies_in_the_models_folder_with_what_was_measured(model: Model, found: Compressed) -> None:
    assert found.path == model.folder / "plans" / "fast.json" and found.map.is_file()
    measured = found.saved.measured
    assert 0 < measured["error"] <= 0.3 and measured["flops"] < 1 and measured["budget"] == "error=0.3"
    assert found.after.flops == pytest.approx(measured["flops"] * found.before.flops, rel=1e-4)
    assert plans.read(found.path) == found.saved
    assert not list(found.path.parent.glob(".*"))  # nothing of the search is left


def test_samples_follow_it_and_say_so(model: Model, found: Compressed, tmp_path: Path) -> None:
    """By name, by file and by auto; the recipe's command makes the same bytes again."""
    here = model.planned("fast").sample(seeds="0-3", num_steps=8)
    plain = model.sample(seeds="0-3", num_steps=8)
    assert here.recipes[0]["plan"] == "fast" and here.recipes[0]["plan_hash"] == found.saved.plan.hash
    assert "plan" not in plain.recipes[0] and not torch.equal(here.values, plain.values)
    for other in (str(found.path), "auto"):
        assert torch.equal(model.planned(other).sample(seeds="0-3", num_steps=8).values, here.values)
    assert torch.equal(model.planned("none").sample(seeds="0-3", num_steps=8).values, plain.values)
    line = ("sample", model.folder, "--dtype", "fp32", "--seeds", "0-3", "--num-steps", 8, "--plan", "fast")
    done = run_studio(*line, "--out", tmp_path / "first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipe = read_recipe(tmp_path / "first" / "seed-000002.png")
    command = command_of(recipe)
    assert "--plan fast" in command
    words = command.split()[1:]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert run_studio(*words, cwd=tmp_path).returncode == 0
    names = [tmp_path / where / "seed-000002.png" for where in ("first", "again")]
    assert pixels(names[0]) == pixels(names[1])


def pixels(path: Path) -> bytes:
    from PIL import Image

    return Image.open(path).tobytes()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_steps": 6}, "steps 8, not 6"),
        ({"sampler": "euler"}, "sampler ab2, not euler"),
        ({"guidance": "cfg=4"}, "guidance cfg=1.5,interval=0.1:0.9, not cfg=4"),
        ({"guidance": None}, "not none"),
    ],
)
def test_a_plan_that_does_not_belong_is_refused_before_anything_is_made(
    model: Model, found: Compressed, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="the plan fast is for other runs") as error:
        model.planned("fast").refuse(tmp_path / "out", **{"num_steps": 8, **options})
    assert message in str(error.value)
    with pytest.warns(UserWarning, match=f"it runs without; the nearest is fast: .*{message}"):
        samples = model.planned("auto").sample(seeds=[0], **{"num_steps": 8, **options})
    assert "plan" not in samples.recipes[0]


def test_of_other_weights_it_is_refused(model: Model, found: Compressed) -> None:
    raw = studio.load(model.folder, weights="raw", dtype="fp32", device="cpu")
    with pytest.raises(ValueError, match=f"weights {model.hash}, not {raw.hash}"):
        raw.planned(found.path).sample(seeds=[0], num_steps=8)


def test_a_name_that_is_not_there_is_told_with_those_that_are(model: Model, found: Compressed) -> None:
    with pytest.raises(ValueError, match="got plan 'fats', expected auto, none, a file, or one of .*: fast"):
        model.planned("fats")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t["plan"].update(trunk="X" + t["plan"]["trunk"][1:]), "got trunk with 'X'"),
        (lambda t: t["plan"].update(evaluations=[1]), "expected one letter for each of 1"),
        (lambda t: t["plan"].pop("evaluations"), "got no evaluations"),
        (lambda t: t["key"].update(num_steps="8"), "got num_steps '8' in its key"),
        (lambda t: t["key"].update(more=1), "got more in its key"),
        (lambda t: t.update(format=9), "got format 9, expected 1"),
        (lambda t: t.pop("key"), "it has no key"),
    ],
)
def test_a_plan_that_was_edited_by_hand_is_refused(
    model: Model, found: Compressed, change: Any, message: str, tmp_path: Path
) -> None:
    tree = json.loads(found.path.read_text())
    change(tree)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match="edited.json is no plan") as error:
        model.planned(path).sample(seeds=[0], num_steps=8)
    assert message in str(error.value)
    path.write_text("no json")
    with pytest.raises(ValueError, match="edited.json is no plan: it is not JSON"):
        model.planned(path).sample(seeds=[0], num_steps=8)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_set_pins_it(workers: int, model: Model, found: Compressed, tmp_path: Path) -> None:
    """Workers follow it too, a set without it is another one, and so is one by another plan of the name."""
    options: dict[str, Any] = {"num_steps": 8, "dtype": "fp32", "quiet": True}
    first = studio.generate(
        str(model.folder), tmp_path / "set", num=6, plan="fast", workers=workers, **options
    )
    assert first.missing == 0
    pinned = json.loads((tmp_path / "set" / "manifest.json").read_text())["pinned"]
    assert pinned["plan"] == "fast" and pinned["plan_hash"] == found.saved.plan.hash
    there = files_below(tmp_path / "set")
    again = studio.generate(str(model.folder), tmp_path / "set", num=6, plan="fast", **options)
    assert again.written == 0 and files_below(tmp_path / "set") == there
    with pytest.raises(ValueError, match="was begun with other settings .*plan"):
        studio.generate(str(model.folder), tmp_path / "set", num=6, **options)
    sampled = model.planned("fast").sample(seeds=[3], labels=[3], num_steps=8)
    picture = next((tmp_path / "set").rglob("*3.png"))
    assert pixels(picture) == sampled[0].picture.tobytes()


def test_an_interrupted_search_goes_on(model: Model) -> None:
    """What was tried is not tried again, and the plan is that of a search that ran through."""
    told: list[str] = []

    def stop(text: str) -> None:
        told.append(text)
        if len(told) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(model, "error=0.2", name="broken", num_steps=6, calibration=2, on_trial=stop)
    notes = model.folder / "plans" / ".broken.search"
    known = json.loads(notes.read_text())["tried"]
    assert len(known) == 3
    from studio.compression.trial import Trial

    runs: list[Plan | None] = []
    plain = Trial.run

    def counted(self: Trial, plan: Plan | None, *around: Any) -> Any:
        runs.append(plan)
        return plain(self, plan, *around)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trial, "run", counted)
        later = compress(model, "error=0.2", name="broken", num_steps=6, calibration=2)
        resumed = len(runs)
        whole = compress(model, "error=0.2", name="whole", num_steps=6, calibration=2)
    assert len(runs) - resumed == resumed + 3
    assert later.saved.plan == whole.saved.plan and not notes.exists()


@pytest.mark.parametrize(
    "budget", ["error=0", "error=-1", "flops=0", "flops=1.5", "speed=2", "error", "error=x"]
)
def test_a_budget_that_is_none_is_refused(model: Model, budget: str) -> None:
    with pytest.raises(ValueError, match="got budget .*, expected error=NUMBER above 0"):
        compress(model, budget)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"methods": ["blocs"]}, "got method 'blocs', expected blocks, uncond, attention.*blocks"),
        ({"methods": []}, "got no methods"),
        ({"search": "greed"}, "got search='greed', expected local or greedy"),
        ({"schedule": "often"}, "got schedule='often', expected adaptive or interval"),
        ({"calibration": 3}, "got calibration=3, expected an even number"),
        ({"name": "auto"}, "got name 'auto'"),
        ({"name": "../x"}, "got name '../x'"),
        ({"sampler": "torchdiffeq"}, "chooses its steps on the way"),
        ({"window": 0}, "window"),
    ],
)
def test_what_does_not_fit_is_refused(model: Model, options: dict[str, Any], message: str) -> None:
    before = files_below(model.folder)
    with pytest.raises(ValueError, match=message):
        compress(model, "error=0.1", **options)
    assert files_below(model.folder) == before


def test_a_name_that_is_taken_is_kept(model: Model, found: Compressed) -> None:
    before = found.path.read_bytes()
    with pytest.raises(FileExistsError, match="fast.json exists already; choose another --name"):
        compress(model, "error=0.3", name="fast", num_steps=8)
    assert found.path.read_bytes() == before


def test_a_share_of_the_operations_is_kept_to(model: Model) -> None:
    done = compress(model, "flops=0.6", num_steps=8, calibration=2, overwrite=True)
    assert done.saved.measured["flops"] <= 0.6 and done.path.stem == "ab2-8-flops=0.6"


def test_every_nth_step_is_a_schedule_too(model: Model) -> None:
    """The cheapest of the fixed ones within the error, from the cheapest on."""
    told: list[str] = []
    done = compress(
        model,
        "error=0.4",
        name="every",
        num_steps=8,
        calibration=2,
        schedule="interval",
        methods=["blocks", "uncond"],
        on_trial=told.append,
    )
    assert done.saved.measured["error"] <= 0.4 and done.saved.measured["schedule"] == "interval"
    shares = [float(text.split(": ")[1].split("%")[0]) for text in told if text.startswith("interval")]
    assert shares == sorted(shares) and len(shares) >= 1
    assert set(done.saved.plan.trunk + done.saved.plan.uncond) <= {"F", "L"}


def test_a_window_wider_than_the_sequence_is_fine(model: Model) -> None:
    done = compress(
        model, "error=0.3", name="wide", num_steps=4, calibration=2, methods=["attention"], window=100
    )
    assert done.saved.plan.window == 100


def test_a_model_without_attention_is_told_what_remains(points_run: Run, tmp_path: Path) -> None:
    """An MLP of points without conditions has blocks only."""
    model, told = studio.load(points_run.folder, dtype="fp32", device="cpu"), []
    done = compress(
        model, "error=0.5", name="dots", num_steps=6, calibration=2, overwrite=True, on_trial=told.append
    )
    assert "has no attention that a plan could cut; what remains: blocks, uncond" in told[0]
    assert set(done.saved.plan.uncond) <= {"F"} and not done.saved.plan.attention
    with pytest.raises(ValueError, match="has no attention that a plan could cut; choose other methods"):
        compress(model, "error=0.5", methods=["attention"])


def test_the_command_line(model: Model, tmp_path: Path) -> None:
    line = ("compress", model.folder, "--budget", "error=0.4", "--num-steps", 4, "--calibration", 2)
    done = run_studio(*line, "--name", "typed", "--dtype", "fp32", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["command"].endswith("--num-steps 4 --plan typed") and Path(result["map"]).is_file()
    assert "% of the operations, error" in done.stderr
    shown = run_studio("evaluate", model.folder, "--plan", "fats", "--ref", "x", "--num", 8, cwd=tmp_path)
    assert shown.returncode == 2 and "got plan 'fats'" in shown.stderr


def test_a_bundled_models_plan_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written into the package."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    bundled = studio.load("fashion-dit", dtype="fp32", device="cpu")
    done = compress(bundled, "error=0.5", name="own", num_steps=4, calibration=2, methods=["blocks"])
    assert tmp_path in done.path.parents and bundled.planned("own").plan == "own"


def test_two_threads_with_different_plans_do_not_touch_each_other(model: Model, found: Compressed) -> None:
    """All that a run keeps lies in its own context."""
    from concurrent.futures import ThreadPoolExecutor

    compress(model, "flops=0.5", name="other", num_steps=8, calibration=2, overwrite=True)
    models = [model.planned(name) for name in ("fast", "other", "none")]

    def sampled(one: Model) -> torch.Tensor:
        return one.sample(seeds="0-7", num_steps=8).values

    alone = [sampled(one) for one in models]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(sampled, models * 2))
    assert all(torch.equal(a, b) for a, b in zip(together, alone * 2, strict=True))
    assert not torch.equal(alone[0], alone[1])
