"""What a run made, seen otherwise: a task of one's own brings views, and the page shows them without a word
about it; points and molecules in a real Chromium."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import driving
import numpy as np
import pytest
from later import Later
from PIL import Image
from torch import Tensor

import studio
from studio.data import from_arrays
from studio.jobs.recipe import Recipe
from studio.tasks import REGISTRY
from studio.tasks.base import Task
from studio.tasks.views import FORMS, Seen, View, table
from ui.engine import Engine
from ui.jobs import Jobs

views, gr = Later("ui.views"), Later("gradio")


def ranked(path: Path, seen: Seen) -> None:
    table(
        path, ("seed", "height"), sorted(zip((r["seed"] for r in seen.recipes), seen.values[:, 0].tolist()))
    )


class Heights(Task):
    """One number each, of which the page knows nothing."""

    name, together = "heights", True

    def pictures(self, values: Tensor) -> list[Image.Image]:
        return [self.sheet(values)]

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        return Image.new("L", (8, 8))

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        return (View("Ranked", "sheet.ranked.csv", "table", ranked),)


@pytest.fixture(scope="module")
def heights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Jobs, str]]:
    """A finished run of a model of one's own task."""
    home = tmp_path_factory.mktemp("heights")
    values = np.random.default_rng(0).standard_normal((64, 1)).astype(np.float32)
    train = {"steps": 1, "batch_size": 8, "preview": False, "eval_every": 0, "dtype": "fp32"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRY, "heights", f"{__name__}:Heights")
        data = from_arrays("heights", values, task="heights", codec={"name": "scale", "std": 1.0})
        tree = {"name": "heights", "backbone": {"name": "mlp", "width": 8, "depth": 1}, "train": train}
        folder = studio.train(tree, data=data, out=home / "runs" / "heights", quiet=True).folder
        jobs = Jobs(Engine((str(home / "runs"),), home / "out", device="cpu", dtype="fp32"))
        job = jobs.sample(Recipe(str(folder), seeds="3-5", num_steps=1, dtype="fp32"), "me")
        list(jobs.queue.watch(job))
        yield jobs, job
        jobs.queue.close()


def test_a_task_of_ones_own_brings_its_view(heights: tuple[Jobs, str]) -> None:
    jobs, job = heights
    result = jobs.result(job)
    assert not list(result.folder.glob("sheet.*"))  # nothing is drawn before it is looked at
    tabs = views.shown(job, result)
    assert [tabs[f"view-{k}"].get("label") for k in range(3)] == ["Ranked", "Files", None]
    held = views.Views(jobs).open(tabs["views"] | {"at": 0})
    assert held["form"] == "table"
    columns, *rows = csv.reader(Path(held["value"]).read_text().splitlines())
    assert columns == ["seed", "height"] and [row[0] for row in rows] == ["3", "4", "5"]
    files = views.Views(jobs).open(tabs["views"] | {"at": 1})
    assert [Path(p).name for p in files["value"]] == ["samples.npz"]
    with gr.Blocks() as page:
        for found in (None, held, files):
            views.draw(found)
    shown = [block for block in page.blocks.values() if isinstance(block, gr.Dataframe | gr.HTML)]
    assert [type(block).__name__ for block in shown] == ["Dataframe", "HTML"]
    assert set(FORMS) < set(views.DRAWN)


def test_what_is_not_there_is_told(heights: tuple[Jobs, str]) -> None:
    jobs, job = heights
    for asked in (None, [job], *({"job": job, "at": at} for at in (4, -1, 99, None, "0"))):
        assert views.Views(jobs).open(asked) is None
    for odd in ("", "nothing", "../..", "\ud800", 7, None):
        held = views.Views(jobs).open({"job": odd, "at": 0})
        assert held["form"] == "note" and "expected one that has made something" in held["value"]


# ---- in a browser


def tab(page: Any, name: str) -> str:
    """Opens a tab of the result; what stands in it, when it is there."""
    page.locator("#results [role=tab]", has_text=re.compile(f"^{name}$")).first.click()
    page.wait_for_selector(f"#results [role=tab][aria-selected=true]:text-is('{name}')")
    page.locator("#view").locator("img, table, .links").first.wait_for()
    return "#view"


@pytest.mark.slow
def test_points_and_molecules_are_seen_as_what_they_are(browser: Any, serving: Any, shelf: Any) -> None:
    url, jobs = serving
    with driving.watched(browser, url) as page:
        driving.create(page, url, model=shelf.points, seeds="0-49", num_steps=3)
        page.click("#generate")
        driving.told(page, "50 samples")
        for name in ("Density", "Field"):
            place = tab(page, name)
            page.wait_for_function(f"document.querySelector('{place} img')?.naturalWidth > 400")
        place = tab(page, "Table")
        driving.told(page, "x2", f"{place} thead")
        page.fill("#seeds textarea, #seeds input", "7-9")  # of another run the same tab, without a click
        page.click("#generate")
        driving.told(page, "3 samples")
        page.wait_for_function(f"/x2\\s+7\\s/.test(document.querySelector('{place}')?.innerText)")

        driving.create(page, url, model="moses-graph-dit", seeds="0-3", num_steps=4, conditions="logP=2")
        page.click("#generate")
        driving.pictures(page, 4)
        place = tab(page, "Table")
        driving.told(page, "asked_logP", f"{place} thead")
        assert re.findall(r"seed-0+(\d)", page.inner_text(place)) == ["0", "1", "2", "3"]
        place = tab(page, "Files")
        with page.expect_download() as got:
            page.locator(f"{place} a", has_text="samples.sdf").click()
        assert got.value.path().read_text().count("$$$$") == 4
        with page.expect_download() as got:
            page.click("#zip")
        assert got.value.suggested_filename.endswith(".zip")
