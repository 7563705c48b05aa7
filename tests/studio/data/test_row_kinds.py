"""Sets, captions, vectors in a row and fields: what data tells of them, the files that they are read from,
what is refused, and how values of different length make a batch."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from studio.checkpoints.build import Info
from studio.data.arrays import from_arrays
from studio.data.conditions import Field, asked, encoders_of, field_of, fitted, kind_of, missing, stacked
from studio.data.own import from_dataset
from studio.data.row_kinds import UNKNOWN, words_of

NAN = float("nan")
SET = Field("s", "set", (3, 2), names=("t", "y"), range=(2, 3))
CAPTION = Field("c", "tokens", (3,), names=("a", "blue", "red"), range=(1, 3))
G = np.random.default_rng(0)


def parsed(field: Field, given: Any, **options: Any) -> list[Any]:
    return torch.nan_to_num(kind_of(field).parse(field, given, **options), nan=-9).tolist()


def test_a_vocabulary_is_made_of_the_captions_that_train() -> None:
    field, column = fitted(
        Field("c", "tokens"), ["A red circle", "a Blue, blue square", None, "green zebra", ""], [0, 1, 2, 4]
    )
    assert field.names == (",", "a", "blue", "circle", "red", "square")
    assert field.shape == (5,) and field.range == (3, 5)
    new = len(field.names)
    assert column.tolist() == [
        [1, 4, 3, -1, -1],
        [1, 2, 0, 2, 5],
        [-1] * 5,
        [new, new, -1, -1, -1],
        [-1] * 5,
    ]
    kind = kind_of(field)
    assert kind.show(field, torch.tensor([new, 4, -1])) == f"{UNKNOWN} red"
    assert "6 words: ,, a, blue" in kind.beyond(field, kind.parse(field, "a green circle"))
    assert kind.beyond(field, kind.parse(field, "a a a a a a")) == "at most 5 words"
    assert kind.beyond(field, kind.parse(field, "a red circle")) == ""
    assert words_of("Don't <?> x_1") == ["don", "'", "t", UNKNOWN, "x_1"]
    assert parsed(field, '["a", "red circle"]') == parsed(field, ["a red circle"]) == [1, 4, 3, -1, -1]
    assert parsed(field, np.array([1, 4, -1])) == [1, 4, -1, -1, -1]
    with pytest.raises(ValueError, match="got no value for the condition 'c'"):
        fitted(Field("c", "tokens"), ["", " "], [0, 1])


def test_sets_are_fitted_by_column_and_vectors_keep_their_places() -> None:
    sets = [[[0, 10], [2, 30]], None, [[4, 20]], [[NAN, NAN], [900, 9], [1, 1], [1, 1], [1, 1]]]
    field, column = fitted(Field("s", "set"), sets, [0, 1, 2])
    assert field.shape == (2, 2) and field.range == (1, 2)
    assert field.means == (2, 20) and np.allclose(field.stds, np.std([[0, 10], [2, 30], [4, 20]], 0))
    assert column.shape == (4, 4, 2) and np.isnan(column[1]).all()  # the last is longer than those that train
    assert np.allclose(column[0, :2], [[-1.2247, -1.2247], [0, 1.2247]], atol=1e-4)
    assert np.isnan(column[0, 2:]).all() and np.isnan(column[2, 1:]).all() and not np.isnan(column[3]).any()
    vectors, column = fitted(Field("v", "tokens"), [[[1, 2], [NAN, NAN], [3, 4]], [[5, 6]]], [0, 1])
    assert vectors.shape == (3, 2) and np.isnan(column[0, 1]).all() and np.isnan(column[1, 1:]).all()
    rows = np.float32([[NAN, NAN], [1, 2], [NAN, NAN]])
    assert parsed(SET, rows) == [[1, 2], [-9, -9], [-9, -9]]
    assert parsed(Field("v", "tokens", (3, 2)), rows) == [[-9, -9], [1, 2], [-9, -9]]
    assert field_of(json.loads(json.dumps(asdict(field)))) == field
    for kind in ("set", "tokens"):
        with pytest.raises(ValueError, match="got no value for the condition 's'"):
            fitted(Field("s", kind), [None, np.zeros((0, 2))], [0, 1])


def test_fields_have_axes_and_a_unit() -> None:
    frames = G.normal(5, 2, (6, 3, 2, 4, 4))
    field, column = fitted(Field("past", "field"), list(frames), range(4))
    assert field.shape == (3, 2, 4, 4) and np.isclose(field.mean, frames[:4].mean())
    assert np.allclose(column, (frames - frames[:4].mean()) / frames[:4].std(), atol=1e-5)
    told = kind_of(field).encoder(field)
    assert told == {"encoder": "field", "sides": [3, 4, 4], "channels": 2, "frames": True}
    for shape, axes, sides, channels in (
        ((5,), None, [5], None),
        ((2, 5), None, [2, 5], None),
        ((2, 5), 1, [5], 2),
        ((2, 5, 6), None, [5, 6], 2),
        ((2, 5, 6), 3, [2, 5, 6], None),
    ):
        made = Field("f", "field", shape, options={} if axes is None else {"axes": axes, "patch": 2})
        told = kind_of(made).encoder(made)
        assert told["sides"] == sides and told.get("channels") == channels and "axes" not in told
    assert "numbers of" in kind_of(field).beyond(field, torch.full(field.shape, 99.0))
    assert kind_of(field).beyond(field, torch.full(field.shape, 5.0)) == ""
    for shape, axes in (((2, 3, 4, 5, 6), None), ((2, 5), 3)):
        with pytest.raises(ValueError, match=r"got f of shape .*, expected one to three axes"):
            fitted(Field("f", "field", options={"axes": axes} if axes else {}), [np.ones(shape)], [0])


def test_files(tmp_path: Path) -> None:
    rows = np.float32([[1, 2], [3, 4]])
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", s=rows, other=rows[:1], mask=np.array([True, False]))
    np.savez(tmp_path / "one.npz", rows=rows)
    for name, text in {
        "a.json": "[[1, 2], [3, 4]]",
        "a.csv": "1,2\n3,4\n",
        "b.csv": "y;id;t\n2;7;1\n4;8;3\n",
        "a.txt": "1 2\n 3   4\n",
        "gap.csv": "1,\n3,4\n",
        "caption.txt": "red  circle\n",
        "caption.json": '["red", "circle"]',
        "numbers.csv": "0.5\n1.5\n",
    }.items():
        (tmp_path / name).write_text(text)
    for name in ("a.npy", "one.npz", "a.json", "a.csv", "b.csv", "a.txt"):
        assert parsed(SET, f"@{tmp_path / name}") == [[1, 2], [3, 4], [-9, -9]], name
    assert parsed(SET, f"@{tmp_path / 'a.npz'}") == [[1, 2], [-9, -9], [-9, -9]]
    for name in ("caption.txt", "caption.json"):
        assert parsed(CAPTION, f"@{tmp_path / name}") == [2, 3, -1], name
    assert parsed(Field("a", "array", (2,)), f"@{tmp_path / 'numbers.csv'}") == [0.5, 1.5]
    assert parsed(Field("m", "field", (2, 2)), f"@{tmp_path / 'gap.csv'}") == [[1, -9], [3, 4]]
    Image.fromarray(np.uint8([[0, 255], [7, 9]])).save(tmp_path / "p.png")
    assert parsed(Field("m", "field", (2, 2)), f"@{tmp_path / 'p.png'}") == [[0, 255], [7, 9]]
    assert parsed(Field("m", "field", (3, 2, 2)), Image.open(tmp_path / "p.png").convert("RGB"))[2][1] == [
        7,
        9,
    ]
    for field, name in ((SET, "a.csv"), (CAPTION, "caption.txt"), (Field("m", "field", (2, 2)), "p.png")):
        with pytest.raises(ValueError, match="files are not read here"):
            kind_of(field).parse(field, f"@{tmp_path / name}", files=False)


BAD = {
    "columns.npy": (
        np.zeros((3, 5), np.float32),
        r"got s of shape \(3, 5\), expected rows \(K, 2\): 2 numbers each",
    ),
    "axes.npy": (np.zeros((2, 3, 2), np.float32), r"got s of shape \(2, 3, 2\)"),
    "partly.npy": (np.float32([[1, 2], [NAN, 1]]), "got row 1 of s with some numbers missing"),
    "inf.npy": (np.float32([[1, np.inf]]), "got infinite numbers in s"),
    "words.npy": (np.array([["a", "b"]]), "got s of ndarray, expected an array"),
    "text.csv": ("1,2\n3,warm\n", "text.csv for s, line 2: got 'warm', expected a number"),
    "ragged.csv": ("1,2\n3\n", "ragged.csv for s, line 2: got 1 columns, expected 2"),
    "empty.csv": ("\n", "empty.csv for s is empty"),
    "header.csv": ("t,y\n", "header.csv for s has no row below its header"),
    "other.csv": ("t,x\n1,2\n", "other.csv for s has the columns t, x, expected t, y"),
    "none.json": ("[[1, 2]", "none.json for s holds no array"),
    "no.npy": ("hello", "no.npy for s holds no array"),
    "no.npz": ("hello", "no.npz for s is no .npz of plain arrays"),
    "picture.png": ("PNG", "picture.png for s holds no array, expected .npy, .npz, .json, .csv or .txt"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        kind_of(SET).parse(SET, f"@{tmp_path / name}")


def test_other_bad_values(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2))
    np.savez(tmp_path / "mask.npz", s=np.ones((2, 2)), mask=np.ones(3, bool))
    np.savez(tmp_path / "scores.npz", s=np.ones((2, 2)), mask=np.array([0.5, 1]))
    np.savez(tmp_path / "pickled.npz", s=np.array([{}], dtype=object))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for field, given, message in (
        (SET, "@nowhere.csv", "nowhere.csv for s cannot be read: No such file"),
        (SET, "@nowhere.npz", "nowhere.npz for s cannot be read: No such file"),
        (SET, f"@{tmp_path}", "cannot be read: Is a directory"),
        (SET, f"@{tmp_path / 'two.npz'}", "two.npz holds a, b, expected one array, or one called s"),
        (SET, f"@{tmp_path / 'mask.npz'}", r"got a mask of shape \(3,\) for rows of shape \(2, 2\)"),
        (SET, f"@{tmp_path / 'scores.npz'}", "got a mask of float64, expected bool"),
        (SET, f"@{tmp_path / 'pickled.npz'}", "is no .npz of plain arrays"),
        (SET, "rows", r"got s='rows', expected numbers such as \[1, 2.5\]"),
        (CAPTION, "@nowhere.txt", "nowhere.txt for c cannot be read"),
        (CAPTION, 7, "got c of int, expected a text, or @FILE.txt"),
        (CAPTION, ["red", "blue"], "got c of list, expected a text, or @FILE.txt"),
        (CAPTION, np.array([9]), r"expected whole ones from −1 \(none\) to 3"),
        (CAPTION, np.array([0.5]), r"expected whole ones from −1 \(none\) to 3"),
        (Field("m", "field", (2, 2)), f"@{tmp_path / 'broken.png'}", "broken.png for m cannot be read"),
        (Field("m", "field", (2, 2)), "@nowhere.png", "nowhere.png for m cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            kind_of(field).parse(field, given)


def test_values_of_different_length_make_a_batch() -> None:
    info = Info("points", (2,), (), {}, fields=(SET, CAPTION))
    long = [[1, 1]] * 5
    found = asked(info, {"s": [[[1, 2]], long, None], "c": ["red", "a a a a a", "zebra"]}, 3)
    assert found.columns["s"].shape == (3, 5, 2) and found.columns["c"].tolist() == [
        [2, -1, -1, -1, -1],
        [0] * 5,
        [3, -1, -1, -1, -1],
    ]
    assert missing(found.columns["s"][2]) and found.texts["c"] == ("red", "a a a a a", UNKNOWN)
    assert found.texts["s"][0] == "[[1.0,2.0]]" and found.texts["s"][2] == ""
    assert found.beyond["s"] == ("[[1.0,2.0]]", "2 to 3 rows") and found.beyond["c"][1] == "at most 3 words"
    alone = asked(info, {"s": [[1, 2], [3, 4]]}, 3)
    assert alone.columns["s"].shape == (3, 3, 2) and alone.beyond == {}
    assert stacked([torch.tensor(1.0), torch.tensor(2.0)]).tolist() == [1, 2]
    assert {e["encoder"] for e in encoders_of(info)} == {"set", "words"}


def test_options_go_through_meta_and_reach_the_encoder() -> None:
    made = Field("s", "set", (3, 2), options={"pooling": "attention"})
    info = Info("points", (2,), (), {}, fields=(made,))
    again = Info.from_meta(json.loads(json.dumps(info.tree())))
    assert again == info and encoders_of(again) == [
        {"name": "s", "encoder": "set", "features": 2, "pooling": "attention"}
    ]
    longer = Field("s", "set", (9, 2), options={"pooling": "attention"})
    assert made.form == longer.form != Field("s", "set", (3, 2)).form  # a network takes sets of any length
    assert hash(made) == hash(Field("s", "set", (3, 2)))


def test_sentences_are_vectors_and_need_a_model_only_for_texts(tmp_path: Path) -> None:
    vectors = G.normal(3, 0.1, (4, 6)).astype(np.float32)
    field, column = fitted(Field("e", "sentence"), list(vectors), range(4))
    assert np.allclose(column.mean(), 0, atol=1e-5) and np.allclose(column.std(), 1, atol=1e-4)
    np.save(tmp_path / "v.npy", vectors[1])
    assert parsed(field, f"@{tmp_path / 'v.npy'}") == vectors[1].tolist()
    with pytest.raises(ValueError, match="got the sentence 'a cat' for e and no model, expected a folder"):
        kind_of(field).parse(field, "a cat")
    absent = Field("e", "sentence", (6,), options={"model": str(tmp_path / "nowhere")})
    with pytest.raises(ValueError, match="nowhere', expected a folder"):
        kind_of(absent).parse(absent, "a cat")


@pytest.mark.filterwarnings("error:.*not writable")
def test_a_sentence_is_what_its_model_says_of_it(tmp_path: Path) -> None:
    """A model in a folder, of words whose vectors are known; the mean of them stands for a sentence."""
    sentences = pytest.importorskip("sentence_transformers", reason="pip install 'drift-studio[text]'")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["?", "cold", "hot", "day"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="?")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    static = pytest.importorskip("sentence_transformers.models").StaticEmbedding(
        tokenizer, embedding_weights=np.eye(4, dtype=np.float32)
    )
    sentences.SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path / "model"))
    field = Field("says", "sentence", (4,), options={"model": str(tmp_path / "model")})
    assert kind_of(field).parse(field, "hot day").tolist() == [0, 0, 0.5, 0.5]
    (tmp_path / "said.txt").write_text("cold")
    assert kind_of(field).parse(field, f"@{tmp_path / 'said.txt'}").tolist() == [0, 1, 0, 0]
    assert kind_of(field).control(field) == "text"


def test_data_brings_them() -> None:
    values = G.standard_normal((8, 2)).astype(np.float32)
    captions, sets = ["red", "blue circle"] * 4, G.standard_normal((8, 3, 2))
    sets[::2, 1:] = NAN
    data = from_arrays(
        "made",
        values,
        None,
        (),
        held_out=0.25,
        task="points",
        codec={"name": "scale"},
        conditions={"c": ("tokens", captions), "s": (Field("", "set", names=("t", "y")), sets)},
    )
    assert [f.name for f in data.fields] == ["c", "s"] and data.fields[1].names == ("t", "y")
    assert data.train.named["s"].shape == (6, 3, 2) and data.held_out.named["c"].shape == (2, 2)

    class Items(list):
        conditions = {"c": "tokens", "s": "set"}

    own = from_dataset(Items((v, {"c": c, "s": s}) for v, c, s in zip(values, captions, sets)))
    assert own.fields[0].names == ("blue", "circle", "red")
    _, cond = own.train.fetch([0, 1], [0, 0], 0)
    assert cond.named["c"].tolist() == [[2, -1], [0, 1]] and cond.named["s"].shape == (2, 3, 2)
