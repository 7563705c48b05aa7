"""What a plan costs, as it is told by `studio flops` and `studio info`, and held to by ``--cache-limit``."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import files_below, run_studio
from torch.utils.flop_counter import FlopCounterMode

import studio
from studio.checkpoints import plans
from studio.cli.info import brief
from studio.compression import compress
from studio.compression.cost import CPU
from studio.model.cache_limit import bytes_of, size
from studio.model.model import Model


@pytest.fixture(scope="module")
def saved(model: Model) -> plans.Saved:
    """Of the blocks, for the model's own settings."""
    found = compress(model, "error=0.5", name="small", methods=["blocks"], calibration=2)
    assert found.saved.plan.trunk.strip("F")
    return found.saved


def each(saved: plans.Saved) -> int:
    """Bytes of one sample."""
    return int(saved.measured["memory"])


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ("500MB", 5e8),
        ("2GB", 2e9),
        ("1.5 kb", 1500),
        ("1KiB", 1024),
        ("12", 12),
        (7, 7),
        (np.int64(7), 7),
        (1e9, 1e9),
        (None, None),
    ],
)
def test_sizes_are_read(limit: Any, count: float | None) -> None:
    assert bytes_of(limit) == count


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "0.2", "5 apples", "nan", "-2GB", 0, -1, True])
def test_what_is_no_size_is_refused(model: Model, saved: plans.Saved, limit: Any) -> None:
    with pytest.raises(ValueError, match="got cache limit .*, expected a size above 0, such as 500MB"):
        model.planned("small", limit)


@pytest.mark.parametrize("count", [1, 16, 999, 8192, 12_345_678, 2_000_000_001])
def test_a_size_that_is_told_is_enough(count: int) -> None:
    assert count <= (bytes_of(size(count)) or 0) <= 1.1 * count + 1


def test_batches_are_made_smaller(model: Model, saved: plans.Saved) -> None:
    for limit, batch in ((3 * each(saved), 3), (4 * each(saved) - 1, 3), ("1GB", 64)):
        request, _ = model.planned("small", limit).request(seeds="0-9")
        assert request.batch == batch and request.plan == saved.plan
    limited = model.planned("small", 3 * each(saved)).sample(seeds="0-9")
    free = model.planned("small").sample(seeds="0-9")
    assert (limited.values.int() - free.values.int()).abs().max() <= 1 and limited.recipes == free.recipes


def test_what_cannot_fit_is_refused_before_anything_is_made(
    model: Model, saved: plans.Saved, tmp_path: Path
) -> None:
    """A single sample, and a micro-batch whose size is fixed."""
    least = each(saved)
    with pytest.raises(
        ValueError, match=f"keeps {size(least)} a sample: more .* allow {size(least)}, choose"
    ):
        model.planned("small", least - 1).refuse(tmp_path / "out", seeds="0-3")
    for loaded, options in (
        (model, {"deterministic": True}),
        (studio.load(model.folder, dtype="bf16", device="cpu"), {}),
    ):
        with pytest.raises(
            ValueError, match=f"{size(8 * least)} for a micro-batch of 8, whose size is fixed"
        ):
            loaded.planned("small", 8 * least - 1).refuse(tmp_path / "out", seeds="0-3", **options)
        request, _ = loaded.planned("small", 8 * least).request(seeds="0-3", **options)
        assert request.batch == 64
    line = ("--plan", "small", "--dtype", "fp32", "--cache-limit")
    for command in (("sample",), ("generate", "--num", 4)):
        for limit, words in (("1B", "more than the cache limit of 1B"), ("x", "got cache limit 'x'")):
            name, *rest = command
            done = run_studio(
                name, model.folder, "--out", tmp_path / "out", *rest, *line, limit, cwd=tmp_path
            )
            assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_deterministic_bytes_do_not_know_the_limit(model: Model, saved: plans.Saved) -> None:
    options: dict[str, Any] = {"seeds": "0-9", "deterministic": True}
    limited = model.planned("small", 8 * each(saved)).sample(**options)
    assert torch.equal(limited.values, model.planned("small").sample(**options).values)


def test_a_limit_without_a_plan_is_refused_and_auto_may_find_none(model: Model, saved: plans.Saved) -> None:
    with pytest.raises(ValueError, match="got a cache limit without a plan"):
        model.planned("none", "1GB")
    with pytest.warns(UserWarning, match="it runs without"):
        request, _ = model.planned("auto", 1).request(seeds=[0], num_steps=5)
    assert request.plan is None and request.batch == 64


def test_a_plan_that_does_not_say_what_it_keeps(model: Model, saved: plans.Saved, tmp_path: Path) -> None:
    for value in ("much", -1, None, True):
        path = plans.write(tmp_path, replace(saved, measured={**saved.measured, "memory": value}))
        with pytest.raises(ValueError, match="the plan small does not say what it keeps"):
            model.planned(path, "1GB").request(seeds=[0])
        assert model.planned(path).request(seeds=[0])[0].plan == saved.plan
        done = run_studio("flops", model.folder, "--plan", path, cwd=tmp_path)
        assert done.returncode == 2 and "does not say memory" in done.stderr


@pytest.mark.slow
def test_a_set_is_the_same_with_a_limit(model: Model, saved: plans.Saved, tmp_path: Path) -> None:
    """Workers keep to it, and nothing pins it."""
    options: dict[str, Any] = {"num": 6, "dtype": "fp32", "quiet": True, "plan": "small"}
    limit = 2 * each(saved)
    first = studio.generate(str(model.folder), tmp_path / "set", workers=2, cache_limit=limit, **options)
    there = files_below(tmp_path / "set")
    again = studio.generate(str(model.folder), tmp_path / "set", **options)
    assert first.written == 6 and again.written == 0 and files_below(tmp_path / "set") == there
    assert "cache" not in (tmp_path / "set" / "manifest.json").read_text()


def test_flops_of_a_run_are_what_is_executed(model: Model, saved: plans.Saved, tmp_path: Path) -> None:
    done = run_studio("flops", model.folder, "--plan", "small", "--batch", 10, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["plan"]
    for loaded, key in ((model, "gflops_before"), (model.planned("small"), "gflops")):
        request, _ = loaded.request(seeds=[0])
        counter = FlopCounterMode(display=False, custom_mapping=CPU)
        with counter, torch.no_grad():
            list(loaded.stream(request))
        assert found[key] == pytest.approx(counter.get_total_flops() / 1e9, abs=1e-6)
    assert found["memory"] == each(saved) and found["batch_memory"] == 10 * each(saved)
    told = run_studio("flops", model.folder, "--plan", "small", cwd=tmp_path).stdout
    assert f"keeps:        {size(each(saved))} a sample, {size(64 * each(saved))} for a batch of 64" in told
    assert (
        "for:          4 steps of ab2, guidance cfg=1.5,interval=0.1:0.9" in told and "GFLOP a sample" in told
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--plan", "smal"], "got plan 'smal', expected a file, or one of .*small; did you mean 'small'"),
        (["--plan", "gone.json"], "got plan 'gone.json'"),
        (["--plan", "small", "--batch", "0"], "got batch=0"),
        (["backbone.depth=3", "--plan", "small"], "got overrides with --plan"),
    ],
)
def test_flops_refuse(
    model: Model, saved: plans.Saved, options: list[str], words: str, tmp_path: Path
) -> None:
    done = run_studio("flops", model.folder, *options, cwd=tmp_path)
    assert done.returncode == 2 and re.search(words, done.stderr), done.stderr


def test_info_lists_plans(model: Model, saved: plans.Saved, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(model.folder, folder)
    away = replace(saved, name="away", key=replace(saved.key, model="0" * 16), measured={})
    plans.write(folder / "plans", away)
    (folder / "plans" / "cut.json").write_text("{")
    listed = json.loads(run_studio("info", folder, "--json", cwd=tmp_path).stdout)["plans"]
    assert set(listed) == {"small", "away", "cut"}
    assert listed["small"]["flops"] == saved.measured["flops"] and listed["small"]["num_steps"] == 4
    told = run_studio("info", folder, cwd=tmp_path).stdout
    share, error = saved.measured["flops"], saved.measured["error"]
    assert f"plan small:   4 steps of ab2, guidance cfg=1.5,interval=0.1:0.9, {share:.0%} of the" in told
    assert f"error {error:.3g}" in told and "for other weights (0000000000000000)" in told
    assert "cut.json is no plan" in told


def test_a_strangers_plans_are_only_words() -> None:
    assert brief({"plans": {"a": 1}}) == {"plans": {"a": 1}}
