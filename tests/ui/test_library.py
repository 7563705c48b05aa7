"""The Library: what was made is found, shown, marked and binned; what comes from files and links is no more
than text, and nothing outside of the output folder is shown."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import driving
import httpx
import numpy as np
import pytest
from later import Later
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from benchmarks.ui_library import many_pictures
from studio.jobs import Item
from studio.sampling.samples import save_png
from ui import library_html
from ui.engine import Engine

pages, early = Later("ui.library"), Later("ui.early")
RECIPE = {
    "model": "fashion-dit",
    "weights": "raw",
    "num_steps": 2,
    "sampler": "euler",
    "guidance": "",
    "dtype": "fp32",
    "seed": 1,
    "label": 8,
    "class": "Bag",
}
NASTY = "<img src=x onerror=alert(1)>\"'&amp;{{7*7}}${7*7}"


def picture(path: Path, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, Image.new("L", (8, 8), 90), {**RECIPE, **more}, durable=False)
    return path


@pytest.fixture
def library(tmp_path: Path) -> Any:
    """Of an output folder that is not there yet."""
    return pages.Library(Engine((str(tmp_path / "models"),), tmp_path / "out", device="cpu", dtype="fp32"))


def filled(library: Any, count: int = 3) -> list[str]:
    """So many pictures, taken in; the ids in the order in which they are shown."""
    for seed in range(count):
        picture(library.engine.out / "run" / f"seed-{seed:06d}.png", seed=seed)
    assert library.adopt() == count
    return [item.id for item in library.view(pages.asked({})).items]


def test_looking_makes_no_folder_and_says_what_to_do(library: Any) -> None:
    assert library.adopt() == 0 and "Create" in library.first({}) and library.choices() == ([], [])
    assert library.detail("x")["chosen"] == "" and str(library.bin()) == "the bin is empty"
    assert not library.engine.out.exists()
    filled(library, 1)
    told = [library.first({"show": k}) for k in ("bin", "starred")] + [library.first({"model": "no such"})]
    assert ["bin is empty" in told[0], "No star yet" in told[1], "Clear the filters" in told[2]] == [True] * 3


def test_filters_of_links_are_read_with_suspicion() -> None:
    good = pages.asked(
        {"model": "dit", "seed": "7", "since": "2026-11-30", "show": "bin", "page": "3", "odd": "x"}
    )
    assert good.wanted.seed == 7 and good.wanted.binned and not good.wrong and "odd" not in good.query
    wrong = {"seed": "-1", "since": "soon", "until": "9" * 50, "show": "all of it", "text": "x" * 2_000_000}
    bad = pages.asked(wrong)
    assert len(bad.wrong) == 5 and bad.query == {} and bad.wanted == pages.asked({}).wanted
    assert all("expected" in words and "Error" not in words for words in bad.wrong)


def test_a_page_at_a_time_and_links_lead_to_the_others(library: Any) -> None:
    ids = filled(library, pages.PAGE + 5)
    first, last = (library.view(pages.asked({}), number) for number in (1, 99))
    assert (len(first.items), len(last.items), last.number, first.pages) == (pages.PAGE, 5, 2, 2) and ids
    html = library.first({"model": "fashion-dit", "page": "2"})
    links = [unescape(part.partition('"')[0]) for part in html.split('href="')[1:]]
    back = next(link for link in links if "item=" not in link)
    assert parse_qs(urlsplit(back).query) == {"model": ["fashion-dit"], "page": ["1"]}
    assert html.count("<li>") == 5 and "65 items" in html and 'class="pixels"' in html


def test_what_comes_from_files_is_text(library: Any) -> None:
    picture(library.engine.out / "'&\"<b>" / "seed.png", model=NASTY, **{"class": NASTY})
    library.adopt()
    item = library.view(pages.asked({})).items[0]
    library.mark(item.id, note=NASTY)
    pieces = [library.first({"item": item.id, "text": NASTY}), library.first({"text": NASTY + "no"})]
    shown = library.detail(item.id)
    assert item.id in pieces[0]
    for piece in (*pieces, shown["large"], shown["links"], shown["told"]):
        assert "<img src=x" not in piece and "<b>" not in piece.partition("<figure>")[0]
    assert "%27%26%22%3Cb%3E" in shown["links"]  # the address of the file
    assert "is not here; its recipe is shown" in shown["told"] and shown["recipe"]["value"]["model"] == NASTY


def test_small_pictures_are_in_the_page_and_large_ones_are_links(library: Any) -> None:
    out = library.engine.out
    small = picture(out / "run" / "small.png", seed=1)
    noise = np.random.default_rng(0).integers(0, 256, (200, 100, 3), dtype=np.uint8)
    save_png(out / "run" / "wide #1?.png", Image.fromarray(noise), {**RECIPE, "seed": 2}, durable=False)
    library.adopt()
    html = library.first({})
    assert f"base64,{base64.b64encode(small.read_bytes()).decode()}" in html
    assert f'width="100" height="200" src="/gradio_api/file={out}/run/wide%20%231%3F.png"' in html
    assert html.count('class="pixels"') == 1


def test_star_note_bin_and_back(library: Any) -> None:
    a, b, c = filled(library)
    library.mark(a, star=True)
    library.mark(a, note="for the paper")
    assert [i.id for i in library.view(pages.asked({"show": "starred"})).items] == [a]
    assert [i.id for i in library.view(pages.asked({"text": "PAPER"})).items] == [a]
    assert library.beside(pages.asked({}), 1, b) == c and library.beside(pages.asked({}), 1, c) == b
    library.mark(b, binned=True)
    assert [i.id for i in library.view(pages.asked({"show": "bin"})).items] == [b]
    assert library.detail(b)["delete"]["value"] == "Restore" and len(library.view(pages.asked({})).items) == 2
    assert "1 item: 1 file" in str(library.bin())
    gone = library.empty()
    assert [p.name for p in gone.files] == ["seed-000001.png"] and library.item(b) is None
    for change in ({"star": True}, {"note": "x"}):
        with pytest.raises(ValueError, match="not there any more"):
            library.mark(b, **change)
    assert library.detail(b)["item"]["visible"] is False


def test_only_what_lies_below_the_output_folder_is_shown(library: Any, tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret.png")
    filled(library, 1)
    (library.engine.out / "link").symlink_to(tmp_path)
    files = ("../secret.png", str(secret), "link/secret.png", ".jobs/index.db", "lost.png")
    library.engine.index.keep(Item(f"x{k}", "j", f, "image", "m", "", k, 3e9) for k, f in enumerate(files))
    html = library.first({})
    assert html.count("not below the output folder") == 4 and html.count("not there any more") == 1
    assert "secret" not in html and html.count("<img") == 1
    for k in range(5):
        shown = library.detail(f"x{k}")
        assert (
            "<img" not in shown["large"] and shown["recipe"]["visible"] is False and "note" in shown["told"]
        )


def test_a_dropped_picture_is_looked_at_before_anything_is_set(library: Any, tmp_path: Path) -> None:
    here = library.dropped(str(picture(tmp_path / "ours.png")))
    link = parse_qs(urlsplit(unescape(here["links"].split('href="')[1].partition('"')[0])).query)
    assert (
        json.loads(link["recipe"][0]) == RECIPE and here["chosen"] == "" and here["star"]["visible"] is False
    )
    assert here["command"]["value"].startswith("studio sample fashion-dit")
    assert "model.sample(" in here["python"]["value"] or ".sample(" in here["python"]["value"]
    missing = library.dropped(str(picture(tmp_path / "theirs.png", model="runs/elsewhere")))
    assert missing["links"] == "" and "runs/elsewhere" in missing["told"] and missing["recipe"]["visible"]
    many = library.dropped(
        str(picture(tmp_path / "many.png", seed=list(range(9000)), label=None, **{"class": None}))
    )
    assert many["links"] == "" and "use the command" in many["told"]
    (tmp_path / "none.png").write_text("no picture")
    plain = Image.new("L", (4, 4))
    plain.save(tmp_path / "plain.png")
    for name, words in (("none.png", "not a readable picture"), ("plain.png", "carries no recipe")):
        told = library.dropped(str(tmp_path / name))
        assert (
            words in told["told"] and told["recipe"]["visible"] is False and str(tmp_path) not in told["told"]
        )
    assert not library.engine.out.exists()


@pytest.mark.parametrize(
    ("body", "there"),
    [
        ('{"current_page":"library"}<body><gradio-app></gradio-app>', True),
        ('{"current_page":"","auth_required":true}<body><gradio-app></gradio-app>', False),  # not signed in
        ('{"current_page":"library"}', False),
    ],
)
def test_the_first_thumbnails_are_in_the_page_only_for_whom_may_see_it(body: str, there: bool) -> None:
    asked_for: list[dict[str, str]] = []

    def first(query: dict[str, str]) -> str:
        asked_for.append(query)
        return "<p>thumbnails</p>"

    app = Starlette(routes=[Route(p, lambda request: HTMLResponse(body)) for p in ("/library", "/")])
    client = TestClient(early.Early(app, first))
    found = client.get("/library?model=a%26b&page=2")
    assert ("thumbnails" in found.text) is there and len(found.content) == int(
        found.headers["content-length"]
    )
    assert found.text.replace(found.text.partition("<body>")[2].partition("<gradio-app")[0], "") == body
    assert asked_for == ([{"model": "a&b", "page": "2"}] if there else [])
    assert client.get("/").text == body


def test_what_is_sent_is_changed_in_pages_alone() -> None:
    page = "<html><head><title>a</title></head><body></body>"

    async def pieces() -> AsyncIterator[str]:
        for piece in ("<head>", "a", "b"):
            yield piece

    def shown(request: Request) -> Response:
        return HTMLResponse(page, 404 if "404" in request.url.path else 200)

    def streamed(request: Request) -> Response:
        return StreamingResponse(pieces(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/stream", streamed), Route("/{path:path}", shown)])
    client = TestClient(early.Early(app, lambda query: ""))
    found = client.get("/bridge")
    assert found.text.replace(early.CALM.decode(), "", 1) == page != found.text
    assert len(found.content) == int(found.headers["content-length"])
    assert found.text.index("requestAnimationFrame") < found.text.index("<title>")
    assert client.get("/404").text == page and client.get("/stream").text == "<head>ab"


# ---- in a browser


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """A page over 70 pictures."""
    home = tmp_path_factory.mktemp("library")
    engine = Engine((str(home / "models"),), home / "out", device="cpu", dtype="fp32")
    draws = np.random.default_rng(0)
    for seed in range(70):
        path = engine.out / "run" / f"seed-{seed:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(draws.integers(0, 256, (8, 8), dtype=np.uint8))
        save_png(path, pixels, {**RECIPE, "seed": seed}, durable=False)
    library = pages.Library(engine)
    library.adopt()
    with driving.serve(engine) as url:
        yield url, library


@pytest.fixture
def tab(browser: Any, shown: tuple[str, Any]) -> Iterator[Any]:
    """The Library."""
    with driving.watched(browser, shown[0]) as page:
        yield driving.library(page, shown[0])


def chosen(page: Any, seed: int) -> None:
    page.wait_for_function(
        f"document.querySelector('#large .facts')?.innerText.includes('seed-{seed:06d}.png')"
    )


def test_served_are_the_pictures_and_not_the_index(shown: tuple[str, Any]) -> None:
    url, library = shown
    out = library.engine.out
    picture(out.parent / "secret.png")
    answers = [
        httpx.get(f"{url}gradio_api/file={path}").status_code
        for path in (out / "run" / "seed-000001.png", out / ".jobs" / "index.db", out.parent / "secret.png")
    ]
    assert answers[0] == 200 and all(status in (403, 404) for status in answers[1:])


@pytest.mark.slow
def test_arrows_walk_and_a_reload_shows_the_same(tab: Any) -> None:
    tab.locator("#grid [data-id]").first.click()
    chosen(tab, 0)
    tab.keyboard.press("ArrowRight")
    chosen(tab, 1)
    for _ in range(6):  # faster than the server tells
        tab.keyboard.press("ArrowRight")
        tab.wait_for_timeout(80)
    chosen(tab, 7)
    tab.keyboard.press("End")
    chosen(tab, 59)
    tab.keyboard.press("ArrowRight")  # over the edge
    chosen(tab, 60)
    assert tab.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    assert "page=2" in tab.url and "item=" in tab.url
    tab.reload()
    tab.wait_for_selector("#early", state="detached")
    chosen(tab, 60)
    assert tab.locator("#grid [data-id]").count() == 10
    assert tab.locator("#grid [aria-current]").count() == 1


@pytest.mark.slow
def test_a_click_before_the_first_answer_counts(tab: Any, shown: tuple[str, Any]) -> None:
    tab.goto(f"{shown[0]}library")
    tab.wait_for_selector("#grid [data-id]")
    tab.evaluate("document.querySelectorAll('#grid [data-id]')[3].click()")
    chosen(tab, 3)
    tab.wait_for_timeout(500)
    assert tab.locator("#grid [aria-current]").count() == 1 and "item=" in tab.url
    assert "seed-000003" in tab.inner_text("#large .facts")


@pytest.mark.slow
def test_marks_and_the_bin_from_the_keyboard(tab: Any, shown: tuple[str, Any]) -> None:
    library = shown[1]
    tab.locator("#grid [data-id]").nth(4).click()
    chosen(tab, 4)
    tab.keyboard.press("s")
    tab.wait_for_selector("#grid [aria-current] .star")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Delete")  # of what is highlighted, whatever is still shown large
    tab.wait_for_function("document.querySelector('#grid [role=status]').innerText.includes('69')")
    chosen(tab, 6)
    tab.fill("#thing-note textarea", "kept")
    tab.locator("#thing-note textarea").blur()
    tab.wait_for_selector("#grid [title=kept]")
    items = {i.seed: i for i in library.engine.index.items()}
    assert items[4].star and items[6].note == "kept" and 5 not in items
    tab.get_by_label("Bin").check()
    tab.wait_for_function("document.querySelectorAll('#grid [data-id]').length === 1")
    tab.click("text=Empty the bin …")
    tab.wait_for_selector("text=This removes from the disk")
    assert (library.engine.out / "run" / "seed-000005.png").is_file()
    tab.click("text=Remove for good")
    tab.wait_for_selector("text=The bin is empty")
    assert not (library.engine.out / "run" / "seed-000005.png").exists()


@pytest.mark.slow
def test_a_phone_has_room_for_all_and_fingers_for_none_too_small(tab: Any, shown: tuple[str, Any]) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    driving.library(tab, shown[0])
    assert not tab.get_by_label("Seed").is_visible()
    tab.click(".more")
    assert tab.get_by_label("Seed").is_visible()
    driving.library(tab, shown[0], "?class=Bag")
    assert tab.get_by_label("Seed").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.locator("#grid [data-id]").nth(1).click()
    tab.wait_for_selector("#large img")
    assert driving.looks(tab)["small"] == []
    assert tab.locator("#large img").bounding_box()["width"] > 250
    tab.click(".back")
    tab.wait_for_function("!document.body.classList.contains('thing-open')")
    assert tab.evaluate("document.activeElement.dataset.id !== undefined")


@pytest.mark.slow
def test_a_link_is_a_page_before_any_script_has_run(browser: Any, shown: tuple[str, Any]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{shown[0]}library?class=Bag")
    page.locator("#early .pages a", has_text="Next").first.click()
    page.wait_for_url("**/library?class=Bag&page=2")
    assert page.locator("#early li img").first.evaluate("i => i.naturalWidth") == 8
    context.close()


@pytest.mark.slow
def test_of_twenty_five_thousand_the_first_and_the_last_page(browser: Any, tmp_path: Path) -> None:
    many_pictures(tmp_path / "out", 25_000)
    engine = Engine((str(tmp_path / "models"),), tmp_path / "out", device="cpu", dtype="fp32")
    assert pages.Library(engine).adopt() == 0  # all are some job's
    with driving.serve(engine) as url, driving.watched(browser, url) as page:
        driving.library(page, url)
        assert "25,000" in page.inner_text("#grid [role=status]")
        assert page.locator("#grid [data-id]").count() == pages.PAGE
        page.locator("#grid [name=page]").first.fill("417")
        page.keyboard.press("Enter")
        page.wait_for_selector("#grid [data-id=i000000]")
        assert page.locator("#grid [data-id]").count() == 40 and "page=417" in page.url


def test_names_are_never_markup() -> None:
    view = library_html.View((), 0, 1, 1, {"model": NASTY, "text": NASTY})
    assert "<img src" not in library_html.grid(view, Path("/nowhere"))
