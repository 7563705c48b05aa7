"""The page in a real Chromium: what is typed stays, what is shown is what was run, and nothing is cut off."""

from collections.abc import Iterator
from typing import Any

import pytest
from driving import create, field, pick, pictures, settled, told, watched

from ui.engine import Engine

CLIPPED = """() => {
  const frame = document.querySelector("#gallery").getBoundingClientRect();
  const items = [...document.querySelectorAll("#gallery .thumbnail-item")];
  return items.filter(item => [item, item.querySelector("img")].some(part => {
    const box = part.getBoundingClientRect();
    const out = box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || \
box.bottom > frame.bottom + 1;
    return out || box.width < 40 || box.height < 40;
  })).length;
}"""


@pytest.fixture
def page(tab: Any, served: tuple[str, Engine]) -> Any:
    return create(tab, served[0])


@pytest.fixture(scope="module")
def gallery(browser: Any, served: tuple[str, Engine]) -> Iterator[Any]:
    """A page for galleries of all sizes, one after the other, as it takes seconds to build."""
    with watched(browser, served[0]) as tab:
        yield create(tab, served[0])


@pytest.mark.slow
def test_a_page_that_is_only_open_asks_for_few_frames(tab: Any, served: tuple[str, Engine]) -> None:
    tab.add_init_script(
        """window.asked = 0;
        const frame = window.requestAnimationFrame.bind(window);
        window.requestAnimationFrame = (call) => (window.asked++, frame(call));"""
    )
    page = create(tab, served[0])
    page.wait_for_timeout(3000)
    page.evaluate("window.asked = 0")
    page.wait_for_timeout(4000)
    assert page.evaluate("window.asked") < 40  # a clock that counts at every frame asks for more


@pytest.mark.slow
def test_what_is_typed_after_a_pick_stays_in_twenty_of_twenty(page: Any) -> None:
    calls: list[str] = []
    page.on(
        "request",
        lambda r: (
            calls.append(r.post_data) if "queue/join" in r.url and '"rest"' in (r.post_data or "") else None
        ),
    )
    names = ("squares", "fashion-dit")
    for k in range(20):
        name, text = ("seeds", f"{k}-{k + 3}") if k % 3 else ("guidance", f"cfg={k + 2}")
        pick(page, names[k % 2])
        page.wait_for_timeout(200 + 140 * k)  # 0.2 to 3 seconds
        page.fill(field(name), text)
        page.wait_for_function(
            f"document.querySelector('#card').innerText.includes('{('8 × 8', '28 × 28')[k % 2]}')"
        )
        settled(page)
        assert page.input_value(field(name)) == text and page.input_value("#model input").startswith(
            names[k % 2]
        )
    assert len(calls) == 20  # one a pick


@pytest.mark.slow
def test_the_newest_of_many_picks_counts_and_the_run_waits_for_it(
    page: Any, served: tuple[str, Engine]
) -> None:
    for name in ("squares", "fashion-dit", "squares"):
        pick(page, name)
    page.fill(field("seeds"), "3-4")
    page.click("#generate")
    told(page, "2 samples")
    asked = page.inner_text("#status")
    assert all(words in asked for words in ("model squares", "seeds 3-4", "sampler heun", "steps 5"))
    assert "seed-000003.png" in page.inner_text("#download")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 10, 40, 200])
def test_the_gallery_never_clips(gallery: Any, count: int) -> None:
    page = gallery
    pick(page, "squares")
    page.fill(field("seeds"), f"0-{count - 1}")
    page.click("#generate")
    pictures(page, count)
    for width in (390, 768, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(150)
        assert page.evaluate(CLIPPED) == 0, width
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        page.locator("#gallery .thumbnail-item").first.click()
        page.wait_for_selector("#gallery .preview")
        # one picture, as large as a screen has room for
        assert 300 < page.locator("#gallery .preview").bounding_box()["height"] < 450
        page.keyboard.press("Escape")
        page.wait_for_selector("#gallery .preview", state="detached")
    assert page.locator("button[aria-label*=hare], button[title*=hare]").count() == 0


@pytest.mark.slow
def test_a_stop_in_the_third_of_five_batches_keeps_two_and_the_page_is_ready_again(
    tab: Any, served: tuple[str, Engine], shelf: Any
) -> None:
    page = create(tab, served[0], model=shelf.pictures, seeds="0-319", num_steps=1000, sampler="euler")
    page.click("#generate")
    page.wait_for_function(
        "parseInt(document.querySelector('#status').innerText.match(/(\\d+) of 5000/)?.[1] ?? 0) > 2000",
        timeout=120_000,
    )
    assert page.is_disabled("#generate") and not page.is_visible("#bottom")
    page.click("#stop")
    told(page, "128 of 320 samples were finished")
    pictures(page, 128)
    assert page.is_enabled("#generate") and page.is_disabled("#stop")


@pytest.mark.slow
def test_the_recipe_is_always_of_the_pictures_that_are_shown(page: Any) -> None:
    """Also where a picture is clicked just when another run begins."""
    pick(page, "squares")
    for first in (10, 30, 50):
        page.fill(field("seeds"), f"{first}-{first + 3}")
        page.click("#generate")
        page.wait_for_function(
            f"document.querySelector('#recipe')?.innerText.includes('seed-0000{first}.png')"
        )
        page.locator("#gallery .thumbnail-item").nth(2).click()
        page.wait_for_function(
            f"document.querySelector('#recipe')?.innerText.includes('seed-0000{first + 2}.png')"
        )
        assert f"--seeds {first + 2}" in page.inner_text(
            "#command"
        ) and f"seed-0000{first + 2}.png" in page.inner_text("#download")
        page.keyboard.press("Escape")
        page.fill(field("seeds"), f"{first + 5}-{first + 8}")
        page.evaluate(
            "document.querySelectorAll('#gallery .thumbnail-item')[3].click(); "
            "document.querySelector('#generate').click()"
        )
        page.wait_for_function(f"document.querySelector('#status').innerText.includes('seeds {first + 5}')")
        page.wait_for_function("document.querySelector('#status').innerText.includes('4 samples')")
        page.wait_for_timeout(300)
        page.wait_for_function(
            f"document.querySelector('#recipe')?.innerText.includes('seed-0000{first + 5}.png')",
            timeout=5000,
        )
        assert f"--seeds {first + 5}" in page.inner_text("#command")
        page.keyboard.press("Escape")
    # gradio cancels by its number what has none yet: the click of a moment before
    page.wrong[:] = [text for text in page.wrong if "422 (Unprocessable" not in text]
