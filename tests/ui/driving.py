"""A page that is served, and tabs of a real browser that tell what they should not have done."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from later import Later

from ui.engine import Engine
from ui.jobs import Jobs

app = Later("ui.app")
LOOKS = Path(__file__).with_name("looks.js").read_text()  # what is measured in a page
# gradio says that a page was left while it asked for the running job, or that its editor was given layers
# anew while it still loaded them, which it draws then
LET_PASS = (
    "AbortError: signal is aborted",
    "Unexpected error Connection errored out",
    "No draw texture found for layer",
)
# and, of a page that was left then, that its streams were cut while events still waited
CUT = (
    "Unexpected error 404",
    "Failed to load resource: net::ERR_INCOMPLETE_CHUNKED_ENCODING",
    "TypeError: network error",
)


@contextmanager
def serve(engine: Engine, jobs: Jobs | None = None, **options: Any) -> Iterator[str]:
    """The address of a page over an engine, which is taken down afterwards."""
    jobs = jobs or Jobs(engine)
    page = app.build_app(engine, jobs)
    launched = app.launch_options(engine, **options)
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launched)
    try:
        yield url
    finally:
        page.close()
        jobs.queue.close()


@contextmanager
def watched(browser: Any, url: str, width: int = 1400, height: int = 900, **options: Any) -> Iterator[Any]:
    """A tab in a browser of its own, which must not have an error nor ask another host; ``page.wrong`` is
    what was wrong so far, in this tab and those that it opens."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(90_000)

    def left(_: Any) -> None:
        wrong[:] = [text for text in wrong if not text.startswith(CUT)]

    def said(message: Any) -> None:
        if message.type == "error" and not message.text.startswith(LET_PASS):
            wrong.append(message.text)

    context.on("page", lambda tab: tab.on("domcontentloaded", left))
    context.on("weberror", lambda found: wrong.append(str(found.error)))
    context.on("console", said)
    context.on("request", lambda r: r.url.startswith((url, "data:", "blob:")) or wrong.append(r.url))
    page = context.new_page()
    page.wrong = wrong
    yield page
    assert wrong == [], wrong
    context.close()


def create(page: Any, url: str, **said: Any) -> Any:
    """Create, opened and filled by a link that says these settings."""
    page.goto(f"{url}?recipe={quote(json.dumps(said))}" if said else url)
    page.wait_for_selector("#card .chips")
    settled(page)
    return page


def bridge(page: Any, url: str, query: str = "") -> Any:
    page.goto(f"{url}bridge{query}")
    page.wait_for_selector("#bridge-card .chips")
    settled(page, "translate")
    return page


def library(page: Any, url: str, query: str = "") -> Any:
    page.goto(f"{url}library{query}")
    page.wait_for_selector("#grid .things")
    page.wait_for_selector("#early", state="detached")
    return page


def settled(page: Any, form: str = "sample") -> None:
    page.wait_for_function(f"drift.settled({json.dumps(form)}).then(() => true)")


def field(name: str) -> str:
    """The text field of a control."""
    return f"#{name} textarea, #{name} input"


def pick(page: Any, name: str, control: str = "model") -> None:
    page.click(f"#{control} input")
    page.locator(f"#{control} [role=option]", has_text=name).first.click()


def told(page: Any, words: str, within: str = "#status", timeout: float = 60_000) -> None:
    """Wait until a part of the page says these words."""
    page.wait_for_function(
        "([within, words]) => document.querySelector(within)?.innerText.includes(words)",
        arg=[within, words],
        timeout=timeout,
    )


def pictures(page: Any, count: int, gallery: str = "gallery") -> None:
    """Wait until a gallery shows so many."""
    page.wait_for_function(
        f"document.querySelectorAll('#{gallery} .thumbnail-item').length == {count}", timeout=60_000
    )


def looks(page: Any) -> dict[str, list[str]]:
    """What is wrong with how a page looks now: targets that are ``small`` for a finger, texts that are
    ``faint``, controls that show no ``focus``, and whether it is ``wide``r than its window."""
    return page.evaluate(LOOKS)


def nameless(page: Any) -> list[str]:
    """Roles of what a screen reader has no name for."""
    roles = ("button textbox combobox checkbox radio slider spinbutton link tab img listbox").split()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return [
        node["role"]["value"]
        for node in tree
        if not node["ignored"] and node["role"]["value"] in roles and not node.get("name", {}).get("value")
    ]
