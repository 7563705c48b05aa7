"""How every page looks in a real Chromium, wide, dark and on a phone: texts can be read, fingers hit what
they want, the keyboard shows where it is, a screen reader has a name for all, and nothing is fetched
elsewhere."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import driving
import pytest

from studio.jobs.recipe import Recipe
from studio.jobs.translation import Translation
from studio.model import catalog
from ui.engine import Engine
from ui.jobs import Jobs

pytestmark = pytest.mark.slow
BUTTONS = {"create": "#generate", "bridge": "#translate"}
STATUS = {"create": "#status", "bridge": "#bridge-status"}
KINDS = {"light": {}, "dark": {"color_scheme": "dark"}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def shown(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """For each page how it is opened with something on it."""
    engine = Engine(shelf.roots, tmp_path_factory.mktemp("looks") / "out", device="cpu", dtype="fp32")
    jobs = Jobs(engine)
    bridge = next(name for name in engine.bridges() if name.endswith("fashion-restore"))
    sources = [str(p) for p in catalog.examples_of(engine.bridges()[bridge])[:2]]
    made = jobs.sample(Recipe("fashion-dit", seeds="0-3", num_steps=2, dtype="fp32"), "me")
    translated = jobs.translate(Translation(bridge, num_steps=2), sources, None, "me")
    for job in (made, translated):
        list(jobs.queue.watch(job))
    item = engine.index.items()[0].id

    def create(page: Any, url: str) -> None:
        page.goto(f"{url}?job={made}")
        driving.pictures(page, 4)
        driving.settled(page)
        page.wait_for_selector("#guidance-0-0")

    def translate(page: Any, url: str) -> None:
        driving.bridge(page, url, f"?job={translated}")
        page.wait_for_selector("#bridge-pair .pair")

    def look(page: Any, url: str) -> None:
        driving.library(page, url, f"?item={item}")
        page.wait_for_selector("#large .facts")

    with driving.serve(engine, jobs) as url:
        ways = {"create": create, "bridge": translate, "library": look}
        yield {"url": url, **{name: partial(way, url=url) for name, way in ways.items()}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["create", "bridge", "library"])
def test_a_page_can_be_read_touched_and_walked(
    name: str, kind: str, browser: Any, shown: dict[str, Any]
) -> None:
    with driving.watched(browser, shown["url"], **KINDS[kind]) as page:
        shown[name](page)
        page.wait_for_timeout(500)
        found = driving.looks(page)
        assert found["faint"] == [] and found["focus"] == [] and found["wide"] == []
        assert kind != "phone" or found["small"] == []
        assert kind != "light" or driving.nameless(page) == []
        if kind == "phone" and name != "library":  # the result comes right below the button
            button = page.locator(BUTTONS[name]).bounding_box()
            below = page.locator(STATUS[name]).bounding_box()["y"] - button["y"] - button["height"]
            assert 0 < below < 150
