"""The form in a real Chromium: made from the model, and what its controls say is what a run is asked for."""

import json
from typing import Any

import driving
import pytest

from ui.jobs import Jobs

pytestmark = pytest.mark.slow
LINE = "#conditions textarea, #conditions input"


@pytest.fixture
def page(browser: Any, serving: tuple[str, Jobs]) -> Any:
    with driving.watched(browser, serving[0], height=1100) as tab:
        driving.create(tab, serving[0], model="moses-graph-dit", conditions="logP=2.5")
        tab.wait_for_selector("#field-3")
        yield tab


def line_is(page: Any, said: dict[str, Any]) -> None:
    words = json.dumps(json.dumps(said, separators=(",", ":")) if said else "")
    page.wait_for_function(f"document.querySelector('{LINE}').value == {words}")


def test_numbers_are_given_or_not(page: Any) -> None:
    assert page.is_checked("#field-0-on input") and not page.is_checked("#field-3-on input")
    page.check("#field-3-on input")
    line_is(page, {"logP": 2.5, "atoms": 14})
    page.fill("#field-1 input[type=number]", "0.8")  # which gives it
    line_is(page, {"logP": 2.5, "atoms": 14, "QED": 0.8})
    assert page.is_checked("#field-1-on input")
    for k in (0, 1, 3):
        page.uncheck(f"#field-{k}-on input")
    line_is(page, {})


def test_a_line_that_is_typed_sets_the_controls(page: Any) -> None:
    page.fill(LINE, "TPSA=40")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('#field-2-on input')?.checked")
    assert page.input_value("#field-2 input[type=number]") == "40"
    assert not page.is_checked("#field-0-on input")
    page.fill(LINE, "colour=3")
    page.keyboard.press("Tab")
    page.wait_for_selector(".toast-body")
    assert "expected one of logP" in page.inner_text(".toast-body")


GUIDANCE = "#guidance textarea, #guidance input"


def guidance_is(page: Any, line: str) -> None:
    page.wait_for_function(f"document.querySelector('{GUIDANCE}').value == {json.dumps(line)}")


def picked(page: Any, control: str, name: str) -> None:
    page.click(f"#{control} input")
    page.locator("[role=option]", has_text=name).first.click()


def test_rules_are_stacked_edited_and_removed_and_the_line_says_the_same(page: Any) -> None:
    page.fill("#guidance-0-0 input", "3")
    guidance_is(page, "cfg=3")
    picked(page, "rule", "rescale")
    page.wait_for_selector("#guidance-1-0")
    guidance_is(page, "cfg=3,rescale")
    page.fill("#guidance-1-0 input", "0.4")
    guidance_is(page, "cfg=3,rescale=0.4")
    page.click("#guidance-0 button:has-text('More options')")
    page.locator("#guidance-0-1 input, #guidance-0-1 textarea").press_sequentially("0.2:0.8")
    guidance_is(page, "cfg=3,interval=0.2:0.8,rescale=0.4")
    page.click("#guidance-1-remove")
    page.wait_for_selector("#guidance-1", state="detached")
    guidance_is(page, "cfg=3,interval=0.2:0.8")
    page.fill(GUIDANCE, "cfg=1.5,rescale=0.9")  # and back
    page.keyboard.press("Tab")
    page.wait_for_selector("#guidance-1-0")
    assert page.input_value("#guidance-1-0 input") == "0.9"


def test_options_of_the_sampler(page: Any) -> None:
    page.click("#sampler-0 button")
    page.fill("#sampler-0-0 input", "0.5")
    page.wait_for_function("document.querySelector('#sampler input').value == 'graph(renoise=0.5)'")


def test_seeds_are_a_number_and_a_start(page: Any) -> None:
    def says(line: str) -> None:
        page.wait_for_function(
            f"document.querySelector('#seeds input, #seeds textarea').value == {json.dumps(line)}"
        )

    page.fill("#start input", "5")
    says("5-14")
    page.fill("#count input", "3")
    says("5-7")
    page.click("#next")
    says("8-10")
    page.wait_for_function("document.querySelector('#start input').value == '8'")
    page.click("#dice")
    page.wait_for_function("document.querySelector('#start input').value != '8'")
    first, last = page.input_value("#seeds input, #seeds textarea").split("-")
    assert int(last) - int(first) == 2
    page.locator("#seeds input, #seeds textarea").fill("4,9")  # more than a range says
    page.wait_for_timeout(300)
    assert page.input_value("#count input") == "3"


def test_molecules_are_made_of_what_the_form_asks_for(page: Any) -> None:
    page.fill(driving.field("seeds"), "0-1")
    page.fill("#num_steps input[type=number]", "3")
    page.click("#generate")
    driving.told(page, "2 samples")
    driving.pictures(page, 2)
    assert "conditions" in page.inner_text("#status") and "samples.csv" in page.inner_text("#download")
    driving.told(page, "logP=2.5", "#command")
