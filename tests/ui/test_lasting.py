"""In a real Chromium: runs outlast the server, tabs have a run each, and a picture that is dropped is shown
before it sets the form."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import create, field, pictures, settled, told, watched
from PIL import Image
from processes import free, paged

import studio
from ui.jobs import Jobs

pytestmark = pytest.mark.slow
LONG = {"num_steps": 500, "sampler": "euler", "guidance": "cfg=2", "dtype": "fp32"}
ONE_BATCH = "parseInt(document.querySelector('#status')?.innerText.match(/step (\\d+)/)?.[1] ?? 0) > 500"


def test_a_run_outlasts_the_server_to_the_same_bytes(browser: Any, shelf: Any, tmp_path: Path) -> None:
    """Killed in the second of three batches, and served anew; the tab takes up its form and its run."""
    port = free()
    with ExitStack() as stack:
        first = stack.enter_context(paged(shelf.roots[0], tmp_path, port))
        page = stack.enter_context(watched(browser, first.url))
        create(page, first.url, model=shelf.pictures, seeds="0-149", **LONG)
        page.click("#generate")
        page.wait_for_function(ONE_BATCH, timeout=120_000)
        job = page.evaluate("drift.job()")
        first.process.kill()
        first.process.wait(30)
        stack.enter_context(paged(shelf.roots[0], tmp_path, port))
        page.reload()
        told(page, "150 samples", timeout=240_000)
        page.wrong.clear()  # that nobody answered meanwhile
        settled(page)
        assert page.evaluate("drift.job()") == job and page.input_value(field("seeds")) == "0-149"
        assert page.input_value(field("guidance")) == "cfg=2"
    model = studio.load(shelf.pictures, device="cpu", dtype="fp32")
    own = model.sample(seeds=range(150), num_steps=500, sampler="euler", guidance="cfg=2")
    made = sorted((tmp_path / "out").glob("*/seed-*.png"))
    assert len(made) == 150 and len({path.parent for path in made}) == 1
    assert all(np.array_equal(np.asarray(Image.open(p)), v[0].numpy()) for p, v in zip(made, own.values))


def test_two_tabs_have_a_run_each(tab: Any, serving: tuple[str, Jobs], shelf: Any) -> None:
    create(tab, serving[0], model=shelf.pictures, seeds="0-639", **LONG)
    tab.click("#generate")
    told(tab, "yours", "#running")
    other = create(tab.context.new_page(), serving[0], model=shelf.pictures, seeds="7-8", num_steps=2)
    told(other, "step", "#running")
    assert "yours" not in other.inner_text("#running") and not other.is_visible("#gallery")
    other.click("#generate")
    told(other, "yours is number 2 in the queue", "#running")
    told(other, "Place 1 in the queue")
    tab.wait_for_function(ONE_BATCH, timeout=120_000)
    assert tab.is_enabled("#stop")
    tab.click("#stop")
    told(tab, "of 640 samples were finished")
    told(other, "2 samples")
    pictures(other, 2)
    assert tab.evaluate("drift.job()") != other.evaluate("drift.job()")
    assert "seed-000007.png" in other.inner_text("#download")
    assert "seed-000000.png" in tab.inner_text("#download")


@pytest.fixture
def made(tab: Any, serving: tuple[str, Jobs], shelf: Any) -> Iterator[Any]:
    """A tab that has made a picture."""
    create(tab, serving[0], model=shelf.pictures, seeds="3", num_steps=2, guidance="cfg=2")
    tab.click("#generate")
    told(tab, "1 sample ")
    yield tab


def test_a_picture_that_is_dropped_is_shown_first(made: Any, serving: tuple[str, Jobs]) -> None:
    file = max(serving[1].engine.out.glob("*/seed-000003.png"), key=lambda path: path.stat().st_mtime)
    made.fill(field("seeds"), "5-6")
    made.fill("#num_steps input[type=number]", "9")
    made.set_input_files("#drop input[type=file]", file)
    told(made, "--seeds 3", "#found-command")
    assert made.input_value(field("seeds")) == "5-6"
    made.click("#apply")
    made.wait_for_function("document.querySelector('#num_steps input[type=number]').value == '2'")
    settled(made)
    assert made.input_value(field("seeds")) == "3" and made.input_value(field("guidance")) == "cfg=2"
