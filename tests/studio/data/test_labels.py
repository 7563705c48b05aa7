"""Every class of any data set can be asked for, however it is called, and what asks for it parses back."""

import dataclasses
import json
import random
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from studio.cli.main import app
from studio.data.labels import labels_text, no_label, parse_labels
from studio.generation.label_rules import parse_rule
from studio.generation.plan import make_plan
from studio.model.model import Model
from studio.runtime.recipes import read_recipe

NASTY = (
    "A",
    "a",
    " a",
    "a ",
    "a,b",
    "b",
    "a, b",
    "0",
    "1",
    "7",
    "-1",
    "-x",
    "--my_class",
    "0-9",
    "5-9",
    "none",
    "None ",
    "(none)",
    "balanced",
    "random",
    "default",
    "each seed its own",
    "labels.txt",
    "x.npy",
    "",
    " ",
    ",",
    ",,",
    "[1]",
    '["a"]',
    "[",
    "]",
    '{"a": 1}',
    "null",
    "true",
    "1.5",
    "1e3",
    "nan",
    "inf",
    "'",
    '"',
    "it's",
    '"q"',
    "$(echo hi)",
    "`id`",
    "a\nb",
    "\t",
    "a\\nb",
    "\u00e9",
    "e\u0301t",
    "\u00c9",
    "ß",
    "SS",
    "ﬁ",
    "fi ",
    "İ",
    "日本",
    "🙂",
    "\u2028",
    "\ud800",
    "x" * 300,
    "label=3",
    "*",
    "~",
    "#",
    "!",
    "a;b",
    "a|b",
)


def tables(count: int, seed: int) -> list[tuple[str, ...]]:
    """Draws of nasty names, each name once, in an order of their own."""
    draws = random.Random(seed)
    letters = "aA ,0-9[]\"'\n"
    found = []
    for _ in range(count):
        made = {
            "".join(draws.choice(letters) for _ in range(draws.randint(0, 3)))
            for _ in range(draws.randint(0, 6))
        }
        names = sorted({*draws.sample(NASTY, draws.randint(1, 8)), *made})
        draws.shuffle(names)
        found.append(tuple(names))
    return found


TABLES = [NASTY, tuple(reversed(NASTY)), *tables(40, 0)]


@pytest.mark.parametrize("part", range(4))
def test_an_exact_name_is_its_class_in_every_way_in(part: int) -> None:
    for classes in TABLES[part::4]:
        for k, name in enumerate(classes):
            wanted = (k, k)
            assert parse_labels(name, classes, (0, 1)) == wanted, (name, classes)
            assert (
                parse_labels([name], classes, (0, 1))
                == parse_labels(json.dumps([name]) + " ", classes, (0, 1))
                == wanted
            )
            assert (
                parse_labels(k, classes, (0, 1))
                == parse_labels(f"[ {k} ]  ", classes, (0, 1))
                == parse_labels(np.int64(k), classes, (0, 1))
                == wanted
            )
            assert parse_rule(name, classes, 2).of((0, 1), (0, 1)) == wanted
        assert (
            parse_labels(no_label(classes), classes, (0,))
            == parse_labels(-1, classes, (0,))
            == parse_labels([None], classes, (0,))
            == (-1,)
        )


@pytest.mark.parametrize("part", range(4))
def test_the_text_of_labels_is_read_as_the_same_labels(part: int) -> None:
    draws = random.Random(part)
    for classes in TABLES[part::4]:
        lists = [[k] for k in range(-1, len(classes))] + [
            draws.choices(range(-1, len(classes)), k=draws.randint(2, 5)) for _ in range(12)
        ]
        for labels in map(tuple, lists):
            known = {k: no_label(classes) if k == -1 else classes[k] for k in labels}
            for text in (labels_text(labels, classes), labels_text(labels, known)):
                assert parse_labels(text, classes, range(len(labels))) == labels, (labels, text, classes)
                assert (
                    text.isprintable()
                    and text
                    and not text.startswith("-")
                    and shlex.split(shlex.quote(text)) == [text]
                )
                assert (
                    parse_rule(text, classes, len(labels)).of(range(len(labels)), range(len(labels)))
                    == labels
                )


def test_short_texts_stay_plain() -> None:
    classes = ("bar", "dot", "ring", "wedge")
    assert (
        labels_text([1, 0, -1, 3], classes) == "dot,bar,none,wedge"
        and labels_text([2, 2, 2], classes) == "ring"
    )
    assert labels_text([1, -1], ("none", "x")) == "x,(none)" and labels_text([0], ("a, b",)) == "a, b"
    assert (
        labels_text([0, 1], ("a, b", "c")) == '["a, b", "c"]'
        and labels_text([5, 2], {5: "five"}) == '["five", 2]'
    )
    assert labels_text([10**15], {}) == "[1000000000000000]"  # what a stranger's file says costs nothing


def test_of_names_that_differ_in_case_the_exact_one() -> None:
    letters = tuple("ABCabc")
    assert parse_labels("a,A,c", letters, range(3)) == (3, 0, 5)
    with pytest.raises(ValueError, match=r"got class ' É', which could be 'É ' or 'é'; write it exactly"):
        parse_labels(" É", ("É ", "é"), (0,))
    assert parse_labels("RING, Dot", ("dot", "ring"), range(2)) == (1, 0)
    # typed on a machine that takes letters apart
    assert parse_labels("e\u0301t", ("\u00e9t", "x"), (0,)) == (0,)
    with pytest.raises(ValueError, match="between commas, which could be ' b' or 'b'"):
        parse_labels("a, b", ("a", "b", " b"), range(2))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "got the label True"),
        ([0, False], "got the label False"),
        (1.7, "got the label 1.7"),
        ([0, 1.5], "got the label 1.5"),
        (float("nan"), "got the label nan"),
        (4, "got class 4, expected 0 to 3"),
        (-2, "got class -2"),
        ("3-1", "a range that runs backwards, expected such as 1-3"),
        ("0-1,9-5", "runs backwards"),
        ("2-4", "got class 4"),
        ("0-99999999999999", "got class 99999999999999"),
        ('["rong"]', "did you mean 'ring'"),
        ('["0"]', "got class '0'"),
        ("[0.5]", "got the label 0.5"),
        ("[true]", "got the label True"),
        ("1,,2", "got class ''"),
        ({"a": 1}, "got labels of dict"),
        ("²", "got class '²'"),
        ("1.0", "got class '1.0'"),
        (b"ring", "got labels of bytes"),
        (torch.tensor([0.5]), "got the label 0.5"),
        ([[0]], r"got the label \[0\]"),
    ],
)
def test_what_is_no_class_is_refused(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_labels(value, ("bar", "dot", "ring", "wedge"), (0,))


def test_an_error_lists_a_few_of_many_classes() -> None:
    with pytest.raises(
        ValueError, match=r"or one of c0, .*, c11 … \(300 classes\); did you mean 'c299'"
    ) as caught:
        parse_labels("c2999", tuple(f"c{i}" for i in range(300)), (0,))
    assert len(str(caught.value)) < 200


def test_a_model_without_classes_takes_no_labels() -> None:
    for none in (None, "", "none", -1, [-1, None], np.array([-1]), "-1"):
        assert parse_labels(none, (), range(2)) is None
    for some in ("bar", 0, [0], "balanced"):
        with pytest.raises(ValueError, match="this model has no classes"):
            parse_labels(some, (), range(2))
    assert parse_rule("balanced", (), 4).of((0,), (0,)) is None


def test_files_of_labels_hold_any_name(tmp_path: Path) -> None:
    classes = ("a, b", " c", "none", "3", "x", "")
    names = [classes[i] for i in (0, 1, 2, 3, 4)]
    (tmp_path / "l.txt").write_bytes(("\r\n".join(names) + "\r\n\r\n").encode())
    (tmp_path / "l.csv").write_text('"a, b"\n" c"\nnone\n3\nx\n')
    (tmp_path / "l.json").write_text(json.dumps([*names[:4], 4, 5, None, ""]))
    np.save(tmp_path / "l.npy", np.array(names))
    for file in ("l.txt", "l.csv", "l.json", "l.npy"):
        assert parse_rule(str(tmp_path / file), classes, 5).values[:5] == (0, 1, 2, 3, 4), file
    assert parse_rule(str(tmp_path / "l.json"), classes, 5).values[5:] == (5, -1, 5)
    (tmp_path / "two.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="two.csv is not a readable file of labels .got 2 columns"):
        parse_rule(str(tmp_path / "two.csv"), classes, 1)


def test_rules_are_called_otherwise_where_a_class_has_their_name() -> None:
    classes = ("random", "Balanced")
    assert (
        parse_rule("random", classes, 2).values == (0,)
        and parse_rule("(random)", classes, 2).rule == "random"
    )
    assert (
        parse_rule("balanced", classes, 2).values == (1,) and parse_rule(None, classes, 2).rule == "balanced"
    )


@pytest.fixture(scope="module")
def nasty_model(picture_model: Model) -> Model:
    """A trained model whose classes have other names: what is asked for is a matter of names only."""
    return dataclasses.replace(
        picture_model, info=dataclasses.replace(picture_model.info, classes=("none", "a, b", "-1", "Random"))
    )


def test_every_class_is_sampled_and_recorded_by_its_number(nasty_model: Model) -> None:
    samples = nasty_model.sample(
        labels=["none", "a, b", "-1", "Random", -1], seeds=[5] * 5, num_steps=2, guidance=None
    )
    assert [(r["label"], r["class"]) for r in samples.recipes] == [
        (0, "none"),
        (1, "a, b"),
        (2, "-1"),
        (3, "Random"),
        (-1, "(none)"),
    ]
    by_number = nasty_model.sample(labels=[0, 1, 2, 3, -1], seeds=[5] * 5, num_steps=2, guidance=None)
    assert torch.equal(samples.values, by_number.values) and not torch.equal(
        samples.values[0], samples.values[4]
    )
    for text in ("-1", "[2]"):
        assert nasty_model.request(labels=text, seeds=[0])[0].labels == (2,)
    assert nasty_model.request(conditions={"label": '["none", -1]'}, seeds=[0, 1])[0].labels == (0, -1)
    with pytest.raises(ValueError, match="got the label twice"):
        nasty_model.request(labels=0, conditions={"class": "none"}, seeds=[0])
    plan = make_plan(nasty_model, num=2, labels='["a, b", -1]')
    assert plan.batch([0, 1]).labels == (1, -1)


def test_the_command_line_takes_names_that_look_like_options(picture_run: Any, tmp_path: Path) -> None:
    meta = picture_run.folder / "meta.json"
    before = meta.read_text()
    names = ("--my_class", "a, b", "none", "9-5")
    try:
        meta.write_text(json.dumps({**json.loads(before), "classes": names}))
        for k, text in enumerate([*names, "(none)"]):
            out = tmp_path / str(k)
            done = CliRunner().invoke(
                app,
                [
                    "sample",
                    str(picture_run.folder),
                    "--out",
                    str(out),
                    "--seeds",
                    "3",
                    "--num_steps",
                    "1",
                    "--labels",
                    text,
                ],
            )
            assert done.exit_code == 0, done.output
            recipe = read_recipe(out / "seed-000003.png")
            assert (recipe["label"], recipe["class"]) == ((k, text) if k < 4 else (-1, "(none)"))
    finally:
        meta.write_text(before)
