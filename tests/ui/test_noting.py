"""What is wrong with a line is said at its field, and what a run is refused for where its status stands."""

from typing import Any

import pytest
from later import Later

from ui import answers, html, noting
from ui.engine import Engine
from ui.jobs import Jobs

handling = Later("ui.handlers")


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


def test_guidance_and_sampler_in_plain_words(served: tuple[str, Engine]) -> None:
    def notes(sampler: str = "euler", guidance: str = "") -> dict[str, str]:
        form = {"model": "fashion-dit", "seeds": "0", "sampler": sampler, "guidance": guidance}
        return noting.notes(served[1], form)

    for right in (notes(), notes("ddim(eta=0.5)"), notes(guidance="cfg=2.0, interval=0.1:0.9")):
        assert right.pop("estimate") and set(right.values()) == {""}
    assert "did you mean 'cfg'" in notes(guidance="cgf=2")["guidance_note"]
    assert "understood as cfg=2" in notes(guidance="cfg(scale=2)")["guidance_note"]
    assert "did you mean 'euler'" in notes("eulr")["sampler_note"]
    assert "&lt;b&gt;" in notes("<b>")["sampler_note"] and notes("<b>")["estimate"] == ""


def test_an_answer_brings_the_notes_of_what_it_sets(serving: tuple[str, Jobs]) -> None:
    engine, handlers = serving[1].engine, handling.Handlers(serving[1])
    answer = answers.model(engine, "fashion-dit", "0-3", 1)
    values = {name: update.get("value") for name, update in answer["controls"].items()}
    asked = handlers.notes([values.get(name) for name in (*noting.NOTED, *noting.PICTURE)])
    assert dict(zip(noting.NOTES, asked)) == {k: told["value"] for k, told in answer["notes"].items()}
    assert "4 samples" in answer["notes"]["estimate"]["value"]
    assert answers.only(answer, "guidance")["controls"].keys() == {"guidance", "guidance_stack"}
    assert not answers.only(answer, "guidance").get("notes")  # of controls that stay as they are


def test_a_refusal_is_an_alert() -> None:
    assert html.alert("<b>") == '<div class="note bad" role="alert">&lt;b&gt;</div>'
