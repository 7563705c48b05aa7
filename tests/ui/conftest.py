"""Two tiny models, trained once: 8 × 8 pictures of three classes, and points in the plane."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import driving
import numpy as np
import pytest

import studio
from ui.engine import Engine
from ui.jobs import Jobs


@dataclass(frozen=True)
class Shelf:
    """A folder of runs, and the two in it."""

    roots: tuple[str, ...]
    pictures: str
    points: str


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    home = tmp_path_factory.mktemp("shelf")
    draws = np.random.default_rng(0)
    labels = np.arange(96) % 3
    pixels = (draws.random((96, 1, 8, 8)) * 60 + labels[:, None, None, None] * 90).astype(np.uint8)
    np.savez(home / "squares.npz", images=pixels, labels=labels)
    common = {
        "batch_size": 16,
        "warmup": 1,
        "preview": False,
        "eval_every": 0,
        "ema": ["0.9"],
        "dtype": "fp32",
    }
    tree = {
        "name": "squares",
        "data": {"name": "npz", "path": str(home / "squares.npz")},
        "backbone": {"name": "dit", "hidden_size": 16, "depth": 1, "num_heads": 2, "patch_size": 4},
        "objective": {"path": "linear", "parameterization": "velocity", "cond_drop": 0.1},
        "train": {**common, "steps": 4, "save_every": 2},
        "sample": {"sampler": "heun", "num_steps": 5, "guidance": "cfg=1.5,interval=0.1:0.9"},
    }
    pictures = studio.train(tree, out=home / "runs" / "squares", quiet=True).folder
    points = studio.train(
        "points",
        [
            f"train.{k}={v}"
            for k, v in {"steps": 2, "batch_size": 16, "preview": "false", "eval_every": 0}.items()
        ]
        + ["data.count=200"],
        out=home / "runs" / "points",
        quiet=True,
    ).folder
    return Shelf((str(home / "runs"),), str(Path(pictures)), str(Path(points)))


@pytest.fixture(scope="session")
def serving(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Jobs]]:
    """The address of a page over the shelf, and its jobs."""
    engine = Engine(shelf.roots, tmp_path_factory.mktemp("served") / "out", device="cpu", dtype="fp32")
    jobs = Jobs(engine)
    with driving.serve(engine, jobs) as url:
        yield url, jobs


@pytest.fixture(scope="session")
def served(serving: tuple[str, Jobs]) -> tuple[str, Engine]:
    """The same, and its engine."""
    return serving[0], serving[1].engine


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium of this machine, driven by playwright; skipped where there is none. One that is left open
    goes on drawing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'drift-studio[dev]'")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser: Any, serving: tuple[str, Jobs]) -> Iterator[Any]:
    """A tab for the page over the shelf, in which nothing may go wrong."""
    with driving.watched(browser, serving[0]) as page:
        yield page
