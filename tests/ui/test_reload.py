"""In a real Chromium: a reload takes up the form and the run, links fill the form and run nothing, and the
keys do what they say."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from driving import create, field, pictures, told

from ui.jobs import Jobs


def test_a_reload_at_half_a_run_takes_up_the_form_and_the_job(
    tab: Any, serving: tuple[str, Jobs], shelf: Any
) -> None:
    url, jobs = serving
    said = {
        "model": shelf.pictures,
        "seeds": "0-639",
        "num_steps": 250,
        "sampler": "euler",
        "guidance": "cfg=2",
    }
    page = create(tab, url, **said)
    assert page.input_value(field("seeds")) == "0-639" and jobs.queue.line() == []  # a link runs nothing
    page.click("#generate")
    page.wait_for_function("document.querySelector('#status')?.innerText.includes('step')")
    job = page.evaluate("drift.job()")
    assert page.url == url  # the link is done with
    page.reload()
    page.wait_for_function("document.querySelector('#status')?.innerText.includes('step')")
    page.wait_for_function("document.querySelector('#running')?.innerText.includes('yours')")
    page.wait_for_function("drift.settled('sample').then(() => true)")
    assert page.input_value(field("seeds")) == "0-639" and page.input_value(field("guidance")) == "cfg=2"
    assert page.evaluate("drift.job()") == job and [live.job.id for live in jobs.queue.line()] == [job]
    until_kept = "parseInt(document.querySelector('#status').innerText.match(/step (\\d+)/)?.[1] ?? 0) > 250"
    page.wait_for_function(until_kept, timeout=60_000)
    page.keyboard.press("Escape")
    told(page, "of 640 samples were finished")
    finished = re.search(r"(\d+) of 640 samples were finished", page.inner_text("#status"))
    assert finished and int(finished[1]) > 0
    pictures(page, int(finished[1]))
    page.reload()
    pictures(page, int(finished[1]))
    other = create(tab.context.browser.new_page(), f"{url}?job={job}")  # of another person
    pictures(other, int(finished[1]))
    assert other.input_value(field("seeds")) == "0-639"
    other.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "link",
    [
        "recipe={",
        "recipe=[]",
        'recipe={"model":"/etc/passwd"}',
        "recipe=" + "[" * 5000,
        "job=nothing",
        "item=../../x",
    ],
    ids=["cut", "list", "elsewhere", "deep", "job", "item"],
)
def test_a_link_that_says_nothing_is_told_in_words(tab: Any, serving: tuple[str, Jobs], link: str) -> None:
    name, _, value = link.partition("=")
    page = create(tab, f"{serving[0]}?{name}={quote(value)}")
    page.wait_for_selector(".toast-body")
    text = page.inner_text(".toast-body")
    assert "does not fill the form" in text and "Error" not in text.replace("Warning", "")
    assert page.input_value(field("seeds")) == "0-9"


@pytest.mark.slow
def test_keys(tab: Any, serving: tuple[str, Jobs]) -> None:
    page = create(tab, serving[0])
    page.click("body")
    page.keyboard.press("?")
    assert "Ctrl + Enter" in page.inner_text("dialog.keys")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog.keys", state="detached")
    page.fill(field("seeds"), "0-1")
    page.focus(field("seeds"))
    page.keyboard.type("?")
    assert page.locator("dialog.keys").count() == 0  # a person writes
    page.fill(field("seeds"), "0-1")
    page.keyboard.press("Control+Enter")
    pictures(page, 2)
    page.locator(field("seeds")).blur()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#gallery .preview .selected")
    page.keyboard.press("ArrowRight")
    told(page, "seed-000001.png", "#download")
