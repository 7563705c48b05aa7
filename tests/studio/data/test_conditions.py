"""Conditions of any kind: what is shown is read back, values are fitted on what trains, and the schema goes
through ``meta.json``."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from studio.checkpoints.build import Info
from studio.data import load_data
from studio.data.arrays import from_arrays
from studio.data.conditions import Field, asked, field_of, fitted, kind_of, missing
from studio.data.own import from_dataset

NASTY = ("a, b", "x=y", "none", "0-3", " padded ", "[1]", "@file", "Ä", "ä ", "7", "-", "'\"")
WORDS = ("a", "blue", "none", "red", "=", "@", "[", "]", ",", '"', "é", "=x", "ss", "-", "7")
CAPTIONS = (
    *(
        "red, BLUE",
        "a=b",
        ["none"],
        "[red]",
        '["red"]',
        ["@red"],
        ['["red"]'],
        "É",
        "é",
        "a zebra",
        "<?>",
        "straße",
        "'\"",
    ),
    *("a" * 3 + " a" * 7, "=", "a - 7", "  red\n\tblue ", "İ", '["red", 7'),
)
G = np.random.default_rng(0)
LAWS: list[tuple[Field, Any]] = [
    *((Field("kind", "class", names=NASTY), i) for i in range(len(NASTY))),
    *((Field("t", "number", mean=3.3, std=0.7), v) for v in (0.1, -1e-300, 12345.678901234567, 1e300, 3)),
    (Field("a", "array", (3,)), [0.1, -2.5, 1e-30]),
    (Field("a", "array", (2, 3, 1)), G.standard_normal((2, 3, 1)).astype(np.float32)),
    (Field("a", "array", (2,)), [1.0, float("nan")]),
    (Field("map", "image", (3, 4, 5)), G.integers(0, 256, (3, 4, 5), dtype=np.uint8)),
    (Field("map", "image", (1, 2, 2)), torch.rand(1, 2, 2)),
    (Field("m", "field", (2, 3), mean=3.0, std=0.1), [[0.1, None, 1e-30], [-7, 1e30, 5]]),
    (Field("s", "set", (4, 2)), [[0.1, -2.5], [1e-30, 3e38]]),
    (Field("s", "set", (2, 1)), [[0.1], [0.2], [0.3]]),  # more than training had
    (Field("s", "set", (4, 2)), [[math.nan] * 2, [1.0, 2.0], [math.nan] * 2, [3.0, 4.0]]),
    (Field("v", "tokens", (4, 2)), [[1.0, 2.0], [math.nan] * 2, [3.0, 4.0]]),
    *((Field("c", "tokens", (4,), names=WORDS), text) for text in CAPTIONS),
    (Field("e", "sentence", (3,), mean=0.1, std=0.01), [0.1, -0.2, 0.3]),
]


@pytest.mark.parametrize("field, given", LAWS, ids=lambda v: getattr(v, "kind", None))
def test_what_is_shown_is_read_back(field: Field, given: Any) -> None:
    kind = kind_of(field)
    value = kind.parse(field, given)
    shown = kind.show(field, value)
    again = kind.parse(field, json.loads(json.dumps(shown)))  # as a recipe keeps it
    assert torch.equal(again.nan_to_num(-7), value.nan_to_num(-7)) and again.dtype == value.dtype
    assert not missing(value)
    on_a_line = kind.parse(field, shown if isinstance(shown, str) else repr(shown))
    assert torch.equal(on_a_line.nan_to_num(-7), value.nan_to_num(-7))
    assert "=" not in str(shown) or str(shown).startswith("[")


@pytest.mark.parametrize("field", dict(LAWS).keys(), ids=lambda f: f.kind)
def test_the_schema_goes_through_json_and_nothing_is_missing(field: Field) -> None:
    assert field_of(json.loads(json.dumps(asdict(field)))) == field
    kind = kind_of(field)
    assert missing(kind.parse(field, None)) and kind.hint(field)


@pytest.mark.parametrize(
    "field, given, message",
    [
        (Field("kind", "class", names=("a", "b")), "c", "got class 'c', expected 0 to 1 or one of a, b"),
        (Field("kind", "class", names=("a", "b")), "a,b", "got 2 classes for kind, expected one"),
        (Field("t", "number"), "warm", "got condition t='warm', expected a number"),
        (Field("a", "array", (2,)), [1.0], r"got a of shape \(1,\), expected \(2,\)"),
        (Field("a", "array", (2,)), "here", r"got a='here', expected numbers such as \[1, 2.5\], or @FILE"),
        (Field("a", "array", (2,)), [1.0, float("inf")], "got infinite numbers in a"),
        (Field("a", "array", (2,)), "@nowhere.npy", "nowhere.npy for a cannot be read"),
        (
            Field("map", "image", (1, 2, 2)),
            np.zeros((2, 2)),
            r"got map of shape \(2, 2\), expected \(1, 2, 2\)",
        ),
    ],
)
def test_what_is_no_value_is_refused(field: Field, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind_of(field).parse(field, given)


def test_files_are_read_and_not_for_strangers(tmp_path: Path) -> None:
    array, picture = np.float32([[1.5, -2]]), np.uint8([[0, 255]])
    np.save(tmp_path / "a=b.npy", array)
    (tmp_path / "a.json").write_text("[[1.5, -2]]")
    Image.fromarray(picture).save(tmp_path / "p.png")
    rows, seen = Field("a", "array", (1, 2)), Field("map", "image", (1, 1, 2))
    for name in ("a=b.npy", "a.json"):
        assert kind_of(rows).parse(rows, f"@{tmp_path / name}").tolist() == array.tolist()
    for given in (f"@{tmp_path / 'p.png'}", Image.open(tmp_path / "p.png"), picture[None]):
        assert kind_of(seen).parse(seen, given).tolist() == [[[-1.0, 1.0]]]
    for field, name in ((rows, "a.json"), (seen, "p.png")):
        with pytest.raises(ValueError, match="files are not read here"):
            kind_of(field).parse(field, f"@{tmp_path / name}", files=False)


def test_fields_are_fitted_on_the_training_part_alone() -> None:
    field, column = fitted(Field("kind", "class"), ["b", None, "a", "b"], range(4))
    assert field.names == ("a", "b") and column.tolist() == [1, -1, 0, 1]
    with pytest.raises(ValueError, match="item 3: got class 'c'"):
        fitted(Field("kind", "class"), ["b", "a", "a", "c"], range(3))
    with pytest.raises(ValueError, match="expected their names too"):
        fitted(Field("kind", "class"), [0, 1], range(2))
    for name in ("label", "known", "", "a=b", " a"):
        with pytest.raises(ValueError, match="got a condition called"):
            fitted(Field(name, "array"), [[1.0]], range(1))
    with pytest.raises(ValueError, match="got the condition 't' of the kind number, .* give it as numbers"):
        fitted(Field("t", "number"), [1.0], range(1))
    with pytest.raises(ValueError, match="kind of the condition 'a' 'sound', expected one of array, class"):
        fitted(Field("a", "sound"), [1.0], range(1))


def info() -> Info:
    return Info(
        "points",
        (2,),
        ("x",),
        {},
        numeric=("t",),
        numeric_mean=(1.0,),
        numeric_std=(2.0,),
        numeric_range=((0.0, 5.0),),
        fields=(Field("season", "class", names=("spring", "autumn")), Field("wind", "array", (2,))),
    )


def test_one_value_for_all_or_one_for_each() -> None:
    found = asked(info(), {"wind": [[1, 2], [3, 4], [5, 6]], "season": "autumn", "t": "9"}, 3)
    assert found.columns["wind"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert found.columns["season"].tolist() == [1, 1, 1] and found.numeric == (4.0,)
    assert found.texts == {"season": ("autumn",) * 3, "wind": ("[1.0,2.0]", "[3.0,4.0]", "[5.0,6.0]")}
    assert found.values == (("t", 9.0),) and found.beyond == {"t": ("9", "0 to 5")}
    nothing = asked(info(), {"t": None}, 2)
    assert nothing.columns["wind"].isnan().all() and nothing.columns["season"].tolist() == [-1, -1]
    assert nothing.values == () and nothing.numeric is not None and np.isnan(nothing.numeric[0])
    assert nothing.texts == {"season": ("", ""), "wind": ("", "")}
    with pytest.raises(ValueError, match="'wnd', expected one of t, season, wind; did you mean 'wind'"):
        asked(info(), {"wnd": 1}, 1)
    with pytest.raises(ValueError, match=r"expected \(2,\); or 3 of them, one for each sample"):
        asked(info(), {"wind": [[1, 2], [3, 4]]}, 3)


def test_meta_keeps_them_and_reads_what_was_written_before() -> None:
    tree = json.loads(json.dumps(info().tree()))
    assert Info.from_meta(tree) == info() and tree["classes"] == ["x"] and tree["numeric"] == ["t"]
    assert [f.name for f in info().conditions] == ["label", "t", "season", "wind"]
    older = Info.from_meta({**tree, "fields": {"tokens": [4, 8], "image": [1, 2, 2]}})
    assert older.fields == (Field("tokens", "array", (4, 8)), Field("image", "image", (1, 2, 2)))


def test_an_npz_brings_them(tmp_path: Path) -> None:
    pictures, winds = np.zeros((6, 4, 4), np.uint8), np.arange(12.0).reshape(6, 2)
    np.savez(tmp_path / "a.npz", images=pictures, wind=winds, season=np.array(["a", "b"] * 3))
    spec = {"name": "npz", "path": str(tmp_path / "a.npz"), "held_out": 0}
    data = load_data({**spec, "conditions": ["wind:array", "season:class"]})
    assert data.fields == (Field("wind", "array", (2,)), Field("season", "class", names=("a", "b")))
    cond = data.train.__getitems__([1, 4])[1]
    assert cond.named["wind"].tolist() == [[2, 3], [8, 9]] and cond.named["season"].tolist() == [1, 0]
    for line, message in (
        ("wnd:array", "'wnd' among them as data.conditions says; did you mean 'wind'"),
        ("wind:arry", "got kind of the condition 'wind' 'arry', expected one of .*did you mean 'array'"),
        ("wind", "got data.conditions with 'wind', expected NAME:KIND, such as wind:array"),
    ):
        with pytest.raises(ValueError, match=message):
            load_data({**spec, "conditions": [line]})


def test_arrays_and_own_items_bring_them() -> None:
    values = G.standard_normal((20, 2)).astype(np.float32)
    seasons, winds = ["spring", "autumn"] * 10, G.standard_normal((20, 2)).astype(np.float32)
    data = from_arrays(
        "made",
        values,
        None,
        (),
        held_out=0.2,
        task="points",
        codec={"name": "scale"},
        conditions={"season": ("class", seasons), "wind": ("array", winds)},
    )
    assert data.fields == (Field("season", "class", names=("autumn", "spring")), Field("wind", "array", (2,)))
    assert data.rows is not None
    for part, rows in zip((data.train, data.held_out), data.rows):
        _, cond = part.__getitems__(range(len(part)))
        assert np.array_equal(cond.named["wind"].numpy(), winds[rows])
        assert cond.named["season"].tolist() == [int(seasons[i] == "spring") for i in rows]
    with pytest.raises(ValueError, match="got 19 values of the condition 'wind', expected 20"):
        from_arrays(
            "made",
            values,
            None,
            (),
            held_out=0,
            task="points",
            codec={},
            conditions={"wind": ("array", winds[1:])},
        )

    class Items(list):
        conditions = {"season": "class", "wind": Field("", "array", (2,)), "t": "number"}

    own = from_dataset(Items((v, {"season": s, "wind": w}) for v, s, w in zip(values, seasons, winds)))
    assert own.fields == data.fields and own.numeric == () and own.classes == ()
    _, cond = own.train.fetch([3, 0], [0, 0], 0)
    assert np.array_equal(cond.named["wind"].numpy(), winds[[3, 0]]) and cond.named["season"].tolist() == [
        0,
        1,
    ]
    other = from_dataset(Items((v, {"season": s, "wind": -w}) for v, s, w in zip(values, seasons, winds)))
    assert other.hash != own.hash
    wrong = Items(
        [
            (values[0], {"season": "spring", "wind": winds[0]}),
            (values[1], {"season": "spring", "wind": [1.0]}),
        ]
    )
    with pytest.raises(ValueError, match=r"item 1: got wind of shape \(1,\), expected \(2,\)"):
        from_dataset(wrong).train.fetch([1], [0], 0)
    numbers = from_dataset(Items((v, {"t": float(i), "season": "spring"}) for i, v in enumerate(values)))
    assert numbers.numeric == ("t",) and [f.name for f in numbers.fields] == ["season", "wind"]
    Items.conditions = {"season": "classes"}
    with pytest.raises(ValueError, match="did you mean 'class'"):
        from_dataset(Items([(values[0], {"season": "spring"})]))
