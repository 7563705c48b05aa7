"""What is wrong with a line is said at its field, and what a run is refused for where its status stands."""

from typing import Any

import pytest
from later import Later

noting, handling, html = Later("ui.noting"), Later("ui.handlers"), Later("ui.html")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0-9", ""),
        ("", ""),
        ("7, 12", ""),
        ("x", "got seeds &#x27;x&#x27;"),
        ("9-3", "9-3"),
        ("0-999999999", "seeds"),
    ],
)
def test_seeds(line: str, words: str) -> None:
    said = noting.seeds(line)
    assert (said == "") == (words == "") and words.replace("&#x27;", "'") in said


def test_conditions_of_a_model(served: Any) -> None:
    find = served[1].card
    assert noting.asked(find, "moses-graph-dit", "logP=2.5, atoms=9") == ""
    assert "expected one of logP" in noting.asked(find, "moses-graph-dit", "colour=3")
    assert "expected name=number" in noting.asked(find, "moses-graph-dit", "logP=high")
    assert noting.asked(find, "moses-graph-dit", "{" * 5000).startswith(
        '<div class="note bad" role="status">'
    )
    assert noting.asked(find, "/etc", "a=1") != ""


def test_a_refusal_is_an_alert() -> None:
    assert html.alert("<b>") == '<div class="note bad" role="alert">&lt;b&gt;</div>'
