"""Tables of labels in every dialect give the same labels, and what does not fit is told with its line."""

import csv
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.data import Data, load_data
from studio.data.folders import listing
from studio.data.notes import of_data

FILES = {
    "0.png": "cat",
    "sub/café.png": "dog, small",
    "sub/b.PNG": "cat",
    "c.png": "Röntgen",
    "d.png": "dog, small",
}
KEYS = list(FILES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i, name in enumerate(FILES):
        path = tmp_path / "set" / unicodedata.normalize("NFD", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * i, np.uint8)).save(path)
    return tmp_path / "set"


def load(root: Path, **options: object) -> Data:
    return load_data({"name": "images", "path": str(root), "held_out": 0.0, "cache": False, **options})


def labels(root: Path) -> dict[str, str]:
    found = listing(root)
    return {
        unicodedata.normalize("NFC", f.relative_to(root).as_posix()): found.classes[k]
        for f, k in zip(found.files, found.labels)
    }


def quoted(separator: str) -> Callable[[str], str]:
    return lambda cell: f'"{cell}"' if separator in cell else cell


def rows(
    separator: str = ",",
    *,
    swap: bool = False,
    index: bool = False,
    header: tuple[str, ...] | None = ("file", "label"),
    space: str = "",
    change: Callable[[str], str] = str,
) -> str:
    lines = [] if header is None else [list(header)]
    lines += [[change(name), label] for name, label in FILES.items()]
    lines = [line[::-1] if swap else line for line in lines]
    if index:
        lines = [["" if header and i == 0 else str(i - bool(header)), *line] for i, line in enumerate(lines)]
    return "".join((separator + space).join(map(quoted(separator), line)) + "\n" for line in lines)


DIALECTS = {
    "plain": rows(),
    "mark": "\ufeff" + rows(),
    "semicolon": rows(";"),
    "tab": rows("\t"),
    "bar": rows("|"),
    "swapped": rows(swap=True),
    "bare": rows(header=None),
    "swapped and bare": rows(header=None, swap=True),
    "index": rows(index=True),
    "index, bare": rows(index=True, header=None),
    "index, named": rows(index=True).replace(",file", "Unnamed: 0,file", 1),
    "dotted": rows(change=lambda n: "./" + n),
    "backslashes": rows(change=lambda n: n.replace("/", "\\")),
    "both": rows(change=lambda n: ".\\" + n.replace("/", "\\")),
    "NFD": rows(change=lambda n: unicodedata.normalize("NFD", n)),
    "spaced": rows(space=" "),
    "spaced, bare": rows(space=" ", header=None),
    "spaced below the header": rows(space=" ").replace("file, label", "file,label"),
    "own folder": rows(change=lambda n: "set/" + n),
    "absolute": rows(change=lambda n: "/home/someone/set/" + n),
    "excel": "sep=;\n" + rows(";"),
    "returns": rows().replace("\n", "\r\n"),
    "old returns": rows().replace("\n", "\r"),
    "blank lines": rows().replace("\n", "\n\n"),
    "other names": rows(header=("image_path", "class_name")),
    "case": rows(change=str.upper),
    "no suffix": rows(change=lambda n: n.rpartition(".")[0]),
    "swapped and indexed": rows(swap=True, index=True),
    "indexed tab": rows("\t", index=True),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_says_the_same(root: Path, dialect: str) -> None:
    (root / "labels.csv").write_bytes(DIALECTS[dialect].encode())
    assert labels(root) == FILES


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32", "cp1252", "latin-1"]
)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_every_encoding_says_the_same(root: Path, encoding: str, separator: str) -> None:
    (root / "labels.csv").write_bytes(rows(separator).encode(encoding))
    data = load(root)
    assert labels(root) == FILES and data.classes == ("Röntgen", "cat", "dog, small")
    guessed = [n for n in data.notes if "labels.csv is read as" in n]
    assert len(guessed) == (encoding in ("utf-16-le", "utf-16-be", "cp1252", "latin-1"))


def test_more_columns_than_two(root: Path) -> None:
    text = "id,width,label,file_name,height\n" + "".join(
        f"{7 * i},4,{quoted(',')(FILES[n])},{n},4\n" for i, n in enumerate(KEYS)
    )
    (root / "labels.csv").write_text(text)
    assert labels(root) == FILES
    (root / "labels.csv").write_text(text.replace("label", "what"))
    with pytest.raises(
        ValueError, match="columns id, width, what, file_name, height, expected file and label"
    ):
        labels(root)


def test_metadata_of_hugging_face(root: Path) -> None:
    (root / "metadata.csv").write_text(rows(header=("file_name", "label")))
    assert labels(root) == FILES
    (root / "metadata.csv").unlink()
    objects = [{"file_name": n, "label": FILES[n], "text": "a picture"} for n in KEYS]
    (root / "metadata.jsonl").write_text("\n".join(json.dumps(o, ensure_ascii=False) for o in objects))
    assert labels(root) == FILES and "from metadata.jsonl" in of_data(load(root))
    numbers = [{"label": i % 2, "file_name": n} for i, n in enumerate(KEYS)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, numbers)))
    assert labels(root) == {n: str(i % 2) for i, n in enumerate(KEYS)}
    (root / "metadata.jsonl").write_text(
        "\n".join(map(json.dumps, [*numbers[:2], {"file_name": KEYS[2], "label": None}, *numbers[3:]]))
    )
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 3: got no label for 'sub/b.PNG'"):
        labels(root)
    (root / "metadata.jsonl").write_text('{"file_name": "0.png", "label": 1}\n{"file_name": ')
    with pytest.raises(ValueError, match="metadata.jsonl is not readable: line 2"):
        labels(root)


def test_metadata_of_captions_says_nothing_of_classes(tmp_path: Path) -> None:
    for name in ("cat/0.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,text\ncat/0.png,a cat\ndog/1.png,a dog\n")
    data = load(tmp_path)
    assert (
        data.classes == ("cat", "dog")
        and "metadata.csv has no column of labels; data.captions=COLUMN reads its texts" in data.notes
    )


def test_parts_with_tables_of_their_own(tmp_path: Path) -> None:
    for part, names in (("train", "abcd"), ("test", "ab")):
        (tmp_path / part).mkdir()
        for i, n in enumerate(names):
            Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / part / f"{n}.png")
        (tmp_path / part / "metadata.csv").write_text(
            "file_name,label\n" + "".join(f"{n}.png,{'xy'[i % 2]}\n" for i, n in enumerate(names))
        )
    data = load_data({"name": "images", "path": str(tmp_path), "cache": False})
    assert (data.classes, data.train.labels.tolist(), data.held_out.labels.tolist()) == (
        ("x", "y"),
        [0, 1, 0, 1],
        [0, 1],
    )
    for part in ("train", "test"):
        (tmp_path / part / "metadata.csv").unlink()
    (tmp_path / "labels.csv").write_text(
        "".join(f"{p},{p.stem}\n" for p in (f.relative_to(tmp_path) for f in sorted(tmp_path.rglob("*.png"))))
    )
    data = load_data({"name": "images", "path": str(tmp_path), "cache": False})
    assert data.classes == tuple("abcd") and (len(data.train), len(data.held_out)) == (4, 2)


def test_conflicts_empty_labels_and_absent_files_are_told(root: Path) -> None:
    table = root / "labels.csv"
    table.write_text(rows() + "./0.png,dog\n")
    with pytest.raises(
        ValueError,
        match=r"line 7: got the label 'dog' for 0.png, which is 'cat' further up \(line 2\); expected one "
        r"label each",
    ):
        labels(root)
    table.write_text(rows() + ".\\0.png,cat\n")  # says the same twice
    assert labels(root) == FILES
    table.write_text(rows().replace("0.png,cat", "0.png, "))
    with pytest.raises(
        ValueError,
        match=r"labels.csv, line 2: got no label for '0.png' \(1 of 5 labels are empty\), expected one",
    ):
        labels(root)
    table.write_text(rows() + "away/e.png,cat\nf.png,dog\n")
    data = load(root)
    assert "2 of its rows name no picture that is there, first away/e.png" in of_data(data)
    left = list(csv.reader(data.beside["files-left-out.csv"].splitlines()))
    assert [r[0] for r in left[1:]] == ["away/e.png", "f.png"] and all("not there" in r[1] for r in left[1:])
    assert sum("labels.csv names it, but it is not there" in n for n in data.notes) == 1
    table.write_text(rows().replace("c.png,Röntgen\n", ""))
    with pytest.raises(ValueError, match=r"has no label for c.png \(1 are missing\)"):
        labels(root)


def test_two_tables_and_no_tables(root: Path) -> None:
    (root / "labels.csv").write_text(rows())
    (root / "metadata.csv").write_text(rows(header=("file_name", "label")).replace("cat", "horse"))
    assert labels(root) == FILES and "metadata.csv is not read: labels.csv has the labels" in load(root).notes
    for content, text in (
        (b"", "holds no rows"),
        (bytes(50), "no text"),
        (b'"' + b"x" * 200_000, "labels.csv is not readable"),
    ):
        (root / "labels.csv").write_bytes(content)
        with pytest.raises(ValueError, match=text):
            labels(root)


@pytest.mark.parametrize("sizes", [(20,) * 12, (200, 10, 3, 1), (50, 50, 1, 1), (3, 3)])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_held_out_pictures_share_every_class(tmp_path: Path, sizes: tuple[int, ...], share: float) -> None:
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    np.savez(
        tmp_path / "a.npz",
        images=np.arange(len(y) * 16, dtype=np.uint32).astype(np.uint8).reshape(-1, 4, 4),
        labels=y,
    )
    data = load_data({"name": "npz", "path": str(tmp_path / "a.npz"), "held_out": share})
    held = np.bincount(data.held_out.labels if data.held_out is not None else [], minlength=len(sizes))
    train = np.bincount(data.train.labels, minlength=len(sizes))
    assert (held + train == sizes).all() and (train >= 1).all()
    total = round(share * len(y))
    assert held.sum() == min(total, sum(s - 1 for s in sizes))
    for size, some in zip(sizes, held):
        assert abs(some - share * size) <= 1 + sum(s == 1 for s in sizes) or total < len(sizes)
        assert some >= 1 or size == 1 or total < len(sizes)
    again = load_data({"name": "npz", "path": str(tmp_path / "a.npz"), "held_out": share})
    assert np.array_equal(again.train.labels, data.train.labels)


def test_an_older_run_keeps_what_it_held_out(tmp_path: Path) -> None:
    """Runs that recorded no word of it were trained on a part that was drawn from all pictures together."""
    from tiny import dit_config, write_pictures

    import studio
    from studio.data.arrays import split
    from studio.training.prepare import _read

    pictures = write_pictures(tmp_path / "p.npz", count=62)
    run = studio.train(
        dit_config(pictures, steps=1, save_every=0, log_every=1), out=tmp_path / "run", quiet=True
    )
    meta = json.loads((run.folder / "meta.json").read_text())
    assert meta["stratified"] is True
    assert np.array_equal(
        _read(run.config, run.config, run.folder).rows[1], load_data(run.config.data).rows[1]
    )
    del meta["stratified"]
    (run.folder / "meta.json").write_text(json.dumps(meta))
    assert np.array_equal(_read(run.config, run.config, run.folder).rows[1], split(62, 0.25)[1])
