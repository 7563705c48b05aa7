"""Create: the first page, the first picture, Stop, another model, and what looking costs."""

import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.ui_server import WINDOW, Served, served

READY = "window.drift && document.querySelector('#card .chips') && drift.settled('sample').then(() => true)"
SHOWN = """() => {
  const shown = [...document.querySelectorAll("#gallery .thumbnail-item img")];
  return shown.length > 0 && shown.every((image) => image.complete && image.naturalWidth > 0);
}"""
STATUS = "document.querySelector('#status')?.innerText ?? ''"
MINUTES = 600_000  # milliseconds


def _form(browser: Any, page: Served, **asked: Any) -> Any:
    """A tab of its own with the form filled."""
    tab = browser.new_context(viewport=WINDOW).new_page()
    tab.goto(f"{page.url}/?recipe={quote(json.dumps({'model': 'fashion-dit', **asked}))}")
    tab.wait_for_function(READY, timeout=MINUTES)
    return tab


def _ended(tab: Any) -> float:
    """Waits for the run of a tab; the seconds that it took by itself."""
    tab.wait_for_function(f"/samples?.*evaluations/.test({STATUS})", timeout=MINUTES)
    said = re.search(r"([\d.]+) s ·", tab.evaluate(STATUS))
    assert said is not None
    return float(said[1])


def first(browser: Any, home: Path, quick: bool) -> dict[str, float]:
    pages, pictures = [], []
    for k in range(3 if quick else 7):
        began = time.perf_counter()
        with served(home / f"out{k}", home) as page:
            tab = browser.new_context(viewport=WINDOW).new_page()
            tab.goto(page.url)
            tab.wait_for_function(READY, timeout=MINUTES)
            pages.append(time.perf_counter() - began)
            began = time.perf_counter()
            tab.click("#generate")
            tab.wait_for_function(SHOWN, timeout=MINUTES)
            pictures.append(time.perf_counter() - began)
            tab.context.close()
    print(
        f"  first: page {pages[0]:.2f} s with cold files, then {min(pages):.2f} to {max(pages):.2f}",
        file=sys.stderr,
    )
    return {
        "first_page_seconds": statistics.median(pages[1:]),
        "first_picture_seconds": statistics.median(pictures),
    }


def stop(browser: Any, home: Path, quick: bool) -> dict[str, float]:
    later = []
    with served(home / "out", home) as page:
        for _ in range(3 if quick else 7):
            tab = _form(browser, page, seeds="0-63", num_steps=250, sampler="euler", guidance="")
            tab.click("#generate")
            tab.wait_for_function(f"+(/step (\\d+) of/.exec({STATUS})?.[1] ?? 0) >= 3", timeout=MINUTES)
            at = int(
                tab.evaluate(f"document.querySelector('#stop').click(), /step (\\d+) of/.exec({STATUS})[1]")
            )
            ended = tab.wait_for_function(f"/after step (\\d+)/.exec({STATUS})?.[1]", timeout=MINUTES)
            later.append(int(ended.json_value()) - at)
            tab.context.close()
    return {"click_to_stop_steps": float(max(later))}


def switch(browser: Any, home: Path, quick: bool) -> dict[str, float]:
    seconds = []
    with served(home / "out", home) as page:
        for model in ("fashion-dis", "fashion-dit"):  # which keeps both
            tab = _form(browser, page, model=model, seeds="0", num_steps=1, guidance="")
            tab.click("#generate")
            _ended(tab)
            tab.context.close()
        tab = _form(browser, page, seeds="0-63", num_steps=250, guidance="")
        tab.click("#generate")
        tab.wait_for_function(f"/step \\d+ of/.test({STATUS})", timeout=MINUTES)
        for k in range(6 if quick else 14):
            name = ("fashion-dis", "fashion-dit")[k % 2]
            tab.click("#model input")
            chosen = tab.locator("[role=option]", has_text=name).first
            chosen.wait_for()
            began = time.perf_counter()
            chosen.click()
            tab.wait_for_function(
                f"document.querySelector('#card').innerText.includes('{name[8:]}') && {READY}"
            )
            seconds.append(time.perf_counter() - began)
        tab.click("#stop")
        tab.wait_for_function(f"{STATUS}.includes('Stopped')", timeout=MINUTES)
        tab.context.close()
    return {"switch_seconds": statistics.median(seconds)}


def preview(browser: Any, home: Path, quick: bool) -> dict[str, float]:
    """Runs with and without, in turn; each by its own clock, from its first step to its last."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    with served(home / "out", home) as page:
        tab = _form(browser, page, seeds="0-39", num_steps=20)
        for k in range(9 if quick else 17):
            live = bool(k % 2)
            tab.locator("#live input").set_checked(live)
            tab.click("#generate")
            tab.wait_for_function(f"!/samples?.*evaluations/.test({STATUS})")
            seconds = _ended(tab)
            if k:  # the first one loads the model
                taken[live].append(seconds)
        tab.context.close()
    with_it, without = (statistics.median(taken[live]) for live in (True, False))
    print(f"  preview: {with_it:.2f} s with, {without:.2f} s without", file=sys.stderr)
    return {"preview_share": with_it / without - 1}
