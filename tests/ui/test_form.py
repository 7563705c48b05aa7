"""The form in a real Chromium: made from the model, and what its controls say is what a run is asked for."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from ui.jobs import Jobs

pytestmark = pytest.mark.slow
LINE = "#conditions textarea, #conditions input"


@pytest.fixture
def page(browser: Any, serving: tuple[str, Jobs]) -> Any:
    tab = browser.new_page(viewport={"width": 1400, "height": 1100})
    said = {"model": "moses-graph-dit", "conditions": "logP=2.5"}
    tab.goto(f"{serving[0]}?recipe={quote(json.dumps(said))}")
    tab.wait_for_selector("#field-3")
    tab.wait_for_function("drift.settled('sample').then(() => true)")
    yield tab
    tab.close()


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
