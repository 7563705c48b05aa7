"""Seeds are counted before they are listed, and what cannot be meant is refused before a model is asked for
anything."""

import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studio.cli.info import brief
from studio.cli.main import main
from studio.data.labels import listed
from studio.model.model import Model
from studio.runtime.seeds import AT_ONCE, MOST, parse_seeds
from studio.sampling.engine import Request, micro_batches
from studio.tasks.base import names_of


def quick(call: Callable[[], Any]) -> str:
    began = time.process_time()
    with pytest.raises(ValueError, match="expected at most|expected a whole number") as error:
        call()
    assert time.process_time() - began < 1 and len(str(error.value)) < 400
    return str(error.value)


MANY: list[Any] = [
    "0-100000",
    "0-1999999",
    "5-2000004",
    "0-99999,200000",
    "0-9223372036854775807",
    "1-9223372036854775807,3",
    "0-99999,0-99999",
    ",".join(map(str, range(100_001))),
    range(100_001),
    range(2_000_000_000),
    range(0, 10**12, 2),
    [0] * 100_001,
    np.arange(150_000),
    torch.arange(150_000),
    itertools.count(),
    iter(range(100_001)),
]


@pytest.mark.parametrize("seeds", MANY, ids=range(len(MANY)))
def test_more_than_a_call_holds_are_refused_at_once_naming_generate(seeds: Any, picture_model: Model) -> None:
    told = quick(lambda: picture_model.request(seeds=seeds))
    assert "expected at most 100,000 at once" in told and "studio generate MODEL --out DIR" in told


def test_the_command_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seeds, option in (("0-1999999", "--num 2000000"), ("7-300000", "--seeds 7-300000")):
        with pytest.raises(SystemExit) as stopped:
            main(["sample", "fashion-dit", "--out", str(tmp_path / "out"), "--seeds", seeds])
        told = capsys.readouterr().err
        assert (
            stopped.value.code == 2
            and f"studio generate MODEL --out DIR {option}`" in told
            and told.count("\n") == 1
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "seeds", ["0-9999999,10000000", "0-9223372036854775807", range(MOST + 1), itertools.count()], ids=range(4)
)
def test_sets_have_a_limit_too(seeds: Any) -> None:
    if isinstance(seeds, itertools.count):
        seeds = itertools.count(2**63)
    quick(lambda: parse_seeds(seeds))


def test_a_call_holds_as_many() -> None:
    assert (
        parse_seeds("0-99999", most=AT_ONCE)
        == tuple(range(100_000))
        == parse_seeds(range(100_000), most=AT_ONCE)
    )
    assert parse_seeds(iter(range(100_000)), most=AT_ONCE) == tuple(range(100_000))
    for form in (
        "3,1-2",
        [3, 1, 2],
        np.array([3, 1, 2]),
        torch.tensor([3, 1, 2]),
        iter([3, 1, 2]),
        [np.int64(3), 1.0, torch.tensor(2)],
    ):
        assert parse_seeds(form) == (3, 1, 2)
    for one in (5, "5", np.int32(5), np.array(5), torch.tensor(5), 5.0):
        assert parse_seeds(one) == (5,)


@pytest.mark.parametrize(
    "seeds",
    [
        "3-1",
        "a",
        "1;2",
        "-1",
        "1.5",
        "9" * 5000,
        "0-" + "9" * 5000,
        "",
        [1.5],
        [-1],
        [True],
        None,
        b"1",
        {1: 2},
    ],
)
def test_what_is_no_seed(seeds: Any) -> None:
    with pytest.raises(ValueError, match="got (the )?seed") as error:
        parse_seeds(seeds)
    assert len(str(error.value)) < 250


def first_free(seeds: tuple[int, ...], size: int) -> list[list[int | None]]:
    """The layout as its definition says it."""
    batches: list[list[int | None]] = []
    for i, seed in enumerate(seeds):
        batch = next((b for b in batches if b[seed % size] is None), None)
        if batch is None:
            batch = [None] * size
            batches.append(batch)
        batch[seed % size] = i
    return batches


def test_fixed_batches_are_laid_out_as_before_in_linear_time() -> None:
    rng = np.random.default_rng(0)
    for size, high in ((8, 40), (32, 1000), (8, 3)):
        seeds = tuple(int(s) for s in rng.integers(0, high, 200))
        assert micro_batches(Request(seeds, deterministic=True), size=size) == first_free(seeds, size)
    began = time.process_time()
    for seeds in (tuple(range(200_000)), (8,) * 200_000):
        laid = micro_batches(Request(seeds, deterministic=True), size=8)
        assert sorted(i for b in laid for i in b if i is not None) == list(range(200_000))
    assert time.process_time() - began < 5


def test_files_of_many_seeds_are_named_in_linear_time() -> None:
    began = time.process_time()
    names = names_of([{"seed": s // 2, "label": 1} for s in range(100_000)])
    assert (
        len(set(names)) == 100_000
        and names[1] == "seed-000000-class-1-0001"
        and time.process_time() - began < 5
    )


@pytest.mark.parametrize("given", [{"strength": 0.5}, {"strength": 1.0}, {"strength": 7.0}])
def test_a_strength_without_a_picture_is_refused(
    given: dict[str, Any], picture_model: Model, points_model: Model
) -> None:
    for model in (picture_model, points_model):
        with pytest.raises(
            ValueError, match="without a picture to start from; give it with --init, or leave --strength out"
        ):
            model.sample(seeds=[0], **given)
    with pytest.raises(ValueError, match="got a mask without a picture"):
        picture_model.request(seeds=[0], mask=np.ones((8, 8), bool))


def test_many_classes_are_a_few_names_and_how_many() -> None:
    names = [f"class {i}" for i in range(300)]
    told = brief(
        {
            "classes": names,
            "seed": list(range(500)),
            "class": names,
            "command": "x" * 500,
            "step": 3,
            "weights": {"a": names},
        }
    )
    assert (
        told["classes"] == listed(names)
        and told["classes"].endswith("(300 classes)")
        and told["seed"] == "0-499"
        and told["command"] == "x" * 500
    )
    assert len(str(told["class"])) < 200 and len(str(told["weights"])) < 200 and told["step"] == 3
    assert brief({"classes": ["a", "b"]})["classes"] == "a, b" and brief({"classes": []})["classes"] == "none"


def test_info_of_a_model_of_many_classes(
    picture_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    run = tmp_path / "many"
    shutil.copytree(picture_run.folder, run)
    for path in run.rglob("meta.json"):
        meta = json.loads(path.read_text())
        if "classes" in meta:
            path.write_text(json.dumps({**meta, "classes": [f"class {i}" for i in range(300)]}))
    main(["info", str(run)])
    told = capsys.readouterr().out
    assert "(300 classes)" in told and "class 299" not in told
    main(["info", str(run), "--json"])
    assert len(json.loads(capsys.readouterr().out)["classes"]) == 300
