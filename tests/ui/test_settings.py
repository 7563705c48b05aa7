"""Presets, what a run will take, and the prior model, in a real Chromium."""

from typing import Any

import pytest
from driving import create, watched

from ui.jobs import Jobs

pytestmark = pytest.mark.slow
LINE = "#guidance textarea, #guidance input"


def pick(page: Any, control: str, option: str) -> None:
    page.click(f"#{control} input")
    page.locator("[role=option]", has_text=option).first.click()


def test_presets_estimate_and_prior(browser: Any, serving: tuple[str, Jobs]) -> None:
    url, jobs = serving
    with watched(browser, url, 1400, 1100) as page:
        create(page, url, model="fashion-dit", seeds="0-3")
        page.wait_for_function("document.querySelector('#estimate')?.innerText.includes('4 samples')")
        assert "20 evaluations" in page.inner_text("#estimate")

        pick(page, "preset", "fast")
        page.wait_for_function("document.querySelector('#num_steps input[type=number]').value == '10'")
        page.wait_for_function("document.querySelector('#estimate').innerText.includes('10 evaluations')")
        assert page.input_value("#seeds textarea, #seeds input") == "0-3"

        page.click("#preset-saving > button")
        page.locator("#preset-name input, #preset-name textarea").press_sequentially("mine")
        page.click("#preset-save")
        page.wait_for_function("document.querySelector('#preset-note').innerText.includes('saved as mine')")
        page.locator("#preset-name input, #preset-name textarea").press_sequentially("mine")
        page.click("#preset-save")
        page.wait_for_selector("#preset-replace", state="visible")
        page.click("#preset-leave")
        page.wait_for_selector("#preset-replace", state="hidden")
        page.fill("#num_steps input[type=number]", "33")
        page.keyboard.press("Tab")
        pick(page, "preset", "mine")
        page.wait_for_function("document.querySelector('#num_steps input[type=number]').value == '10'")
        page.wait_for_selector("#preset-delete", state="visible")
        page.click("#preset-delete")
        page.click("#preset-yes")
        page.wait_for_function("document.querySelector('#preset-note').innerText.includes('mine is deleted')")
        assert not list(jobs.engine.out.rglob("mine.json"))

        page.fill(LINE, "")
        page.keyboard.press("Tab")
        page.wait_for_selector("#guidance-0", state="detached")
        page.wait_for_selector("#prior input", state="visible")
        pick(page, "prior", "fashion-ddpm")
        page.wait_for_function(f"document.querySelector('{LINE}').value == 'prior=fashion-ddpm,cfg=2'")
        page.wait_for_selector("#guidance-1")
        pick(page, "prior", "none")
        page.wait_for_function(f"document.querySelector('{LINE}').value == 'cfg=2'")
        page.fill(LINE, "prior=fashion-dis,cfg=2")
        page.keyboard.press("Tab")
        page.wait_for_function("document.querySelector('#prior input').value == 'fashion-dis'")
        page.fill(LINE, "prior=moses-graph-dit,cfg=2")
        page.keyboard.press("Tab")
        page.wait_for_selector("#prior-note .note.bad")
