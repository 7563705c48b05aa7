"""The page in a real Chromium: what is typed stays, what is shown is what was run, and nothing is cut off."""

from typing import Any

import pytest

from ui.engine import Engine

FIELDS = {name: f"#{name} textarea, #{name} input" for name in ("seeds", "guidance")}
CLIPPED = """() => {
  const frame = document.querySelector("#gallery").getBoundingClientRect();
  const items = [...document.querySelectorAll("#gallery .thumbnail-item")];
  return items.filter(item => [item, item.querySelector("img")].some(part => {
    const box = part.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.width < 40 || box.height < 40;
  })).length;
}"""


@pytest.fixture
def page(browser: Any, served: tuple[str, Engine]) -> Any:
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    tab.goto(served[0])
    tab.wait_for_selector("#card .chips")
    yield tab
    tab.close()


def pick(page: Any, name: str) -> None:
    page.click("#model input")
    page.locator("#model [role=option]", has_text=name).first.click()


def test_what_is_typed_after_a_pick_stays_in_twenty_of_twenty(page: Any) -> None:
    calls: list[str] = []
    page.on("request", lambda r: calls.append(r.post_data) if "queue/join" in r.url and '"ticket"' in (r.post_data or "") else None)
    names = ("squares", "fashion-dit")
    for k in range(20):
        field, text = ("seeds", f"{k}-{k + 3}") if k % 3 else ("guidance", f"cfg={k + 2}")
        pick(page, names[k % 2])
        page.fill(FIELDS[field], text)
        page.wait_for_function(f"document.querySelector('#card').innerText.includes('{('8 × 8', '28 × 28')[k % 2]}')")
        page.wait_for_function("drift.settled('sample').then(() => true)")
        assert page.input_value(FIELDS[field]) == text and page.input_value("#model input").startswith(names[k % 2])
    assert len(calls) == 20  # one a pick


def test_the_newest_of_many_picks_counts_and_the_run_waits_for_it(page: Any, served: tuple[str, Engine]) -> None:
    for name in ("squares", "fashion-dit", "squares"):
        pick(page, name)
    page.fill(FIELDS["seeds"], "3-4")
    page.click("#generate")
    page.wait_for_function("document.querySelector('#status').innerText.includes('2 samples')")
    asked = page.inner_text("#status")
    assert all(words in asked for words in ("model squares", "seeds 3-4", "sampler heun", "steps 5"))
    assert "seed-000003.png" in page.inner_text("#download")


@pytest.mark.parametrize("count", [1, 10, 40, 200])
def test_the_gallery_never_clips(page: Any, count: int) -> None:
    pick(page, "squares")
    page.fill(FIELDS["seeds"], f"0-{count - 1}")
    page.click("#generate")
    page.wait_for_function(f"document.querySelectorAll('#gallery .thumbnail-item').length == {count}", timeout=60_000)
    for width in (390, 768, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(150)
        assert page.evaluate(CLIPPED) == 0, width
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    assert page.locator("button[aria-label*=hare], button[title*=hare]").count() == 0
