"""Plans: what they know of a run, and what they refuse."""

import re
from typing import Any

import pytest

from backbones.caching.plan import Plan


def test_rows_follow_the_evaluations_of_each_step() -> None:
    plan = Plan((2, 1, 2))
    assert [plan.row(*place) for place in ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1))] == [0, 1, 2, 3, 4]
    assert plan.row(1, 1) is None and plan.row(3, 0) is None


def test_a_file_holds_all_of_a_plan() -> None:
    plan = Plan((1, 1, 1), ("FF", "TW", "CB"), "FRL", "FLR", window=4, tile=2)
    assert Plan.of(plan.tree()) == plan and not plan.empty and plan.layers == 2
    assert Plan((1, 1), ("FF", "FF"), "FF", "FF").empty and Plan.full((1, 1)).empty


@pytest.mark.parametrize(
    "rows, rest, output",
    [
        (("F", "W"), [True, False], [False, False]),
        (("F", "T", "W"), [True, True, False], [True, False, False]),
        (("F", "F", "W"), [False, True, False], [False, False, False]),
        (("F", "W", "T"), [True, False, False], [False, True, False]),
        (("F", "B", "C"), [False, True, False], [False, True, True]),
    ],
)
def test_what_is_kept_is_what_is_asked_for_later(
    rows: tuple[str, ...], rest: list[bool], output: list[bool]
) -> None:
    plan = Plan((1,) * len(rows), rows, window=1)
    assert [plan.needs_rest(i, 0) for i in range(len(rows))] == rest
    assert [plan.needs_output(i, 0) for i in range(len(rows))] == output


def test_an_attention_that_is_passed_over_asks_for_nothing() -> None:
    assert Plan((1, 1, 1), ("F", "F", "W"), "FRF").needs_rest(0, 0)


@pytest.mark.parametrize(
    "tree, message",
    [
        ({"evaluations": [1, 0]}, "evaluations (1, 0), expected whole numbers from 1"),
        ({"evaluations": [1, 1], "trunk": "F"}, "trunk for 1 evaluations, expected one letter for each of 2"),
        ({"evaluations": [1, 1], "uncond": "FX"}, "uncond with 'X', expected F, R, L"),
        ({"evaluations": [1, 1], "trunk": "RF"}, "trunk that begins with 'R', expected F"),
        ({"evaluations": [1, 1], "attention": ["FF", "T"]}, "rows of attention of different lengths"),
        ({"evaluations": [1, 1], "attention": ["FF"]}, "attention for 1 evaluations"),
        ({"evaluations": [1, 1], "attention": ["FT", "FF"]}, "attention that begins with 'T'"),
        ({"evaluations": [1, 1], "attention": [["F"], ["F"]]}, "attention that is no text"),
        ({"evaluations": [1, 1], "trunk": 3}, "got trunk 3, expected a text"),
        ({"evaluations": [1], "window": -1}, "window (-1,), expected whole numbers from 0"),
        ({"evaluations": [True]}, "expected whole numbers from 1"),
        ({"evaluations": 3}, "evaluations 3, expected whole numbers"),
        ({"trunk": "F"}, "got no evaluations"),
        ({"evaluations": [1], "layers": 3}, "got layers, expected"),
    ],
)
def test_a_file_edited_by_hand_is_refused_where_it_is_no_plan(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Plan.of(tree)
