"""Plain values come back from a pickle, and nothing else is called."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.runtime.plain_pickle import read


def pickled(path: Path, what: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(what, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol: int, tmp_path: Path) -> None:
    arrays = {
        "rows": np.arange(6, dtype=">i4").reshape(2, 3),
        "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "half": np.array([0.5, np.nan], np.float16),
        "yes": np.array([True, False]),
        "none": np.zeros((0, 3)),
    }
    plain = {"name": "cell", "list": [1, 2.5, None, True, (3, b"x")], "big": 2**80, "one": np.float64(0.25)}
    found = read(pickled(tmp_path / "x.pkl", {**plain, **arrays}, protocol))
    assert {k: found[k] for k in plain} == plain and type(found["one"]) is float
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.asarray(found[name]), array)
        assert np.asarray(found[name]).dtype == array.dtype
    old = pickle.dumps(arrays, protocol=2).replace(b"numpy._core.", b"numpy.core.")
    (tmp_path / "old.pkl").write_bytes(old)
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "old.pkl")["rows"]), arrays["rows"])


class Calls:
    def __reduce__(self) -> Any:
        return os.mkdir, (str(Path(os.environ["MADE"])),)


@pytest.mark.parametrize(
    "what, told",
    [
        (Calls(), r"holds a posix\.mkdir"),
        (Path("x"), r"holds a pathlib\.\w+"),
        (OrderedDict(a=1), r"holds a collections\.OrderedDict"),
        (np.array([{}], object), "holds an array of object"),
        (np.array(["text"]), "holds an array of <?U"),
        (np.zeros(2, "f4,f8"), r"holds an array of \|V12"),
        (np.array(["2020-01-01"], "M8[D]"), "holds an array of datetime64"),
        (np.float64, r"holds a numpy\.float64"),
    ],
)
def test_nothing_else_is_loaded(
    what: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    with pytest.raises(ValueError, match=told + "|holds a numpy"):
        read(pickled(tmp_path / "x.pkl", {"a": [what]}))
    assert not (tmp_path / "made").exists()


def test_what_a_file_sets_is_gone_with_it(tmp_path: Path) -> None:
    """A pickle may set attributes of what it has named (BUILD): here, of functions that are its own."""
    names = b"\x80\x02c_codecs\nencode\n"
    sets = names + b"(N}X\x0c\x00\x00\x00__defaults__X\x01\x00\x00\x00a\x85stb."
    (tmp_path / "bad.pkl").write_bytes(sets)
    (tmp_path / "good.pkl").write_bytes(names + b".")
    assert read(tmp_path / "bad.pkl").__defaults__ == ("a",)
    assert read(tmp_path / "good.pkl").__defaults__ is None


def test_what_is_no_pickle(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(100.0)})
    for content in (whole[:-20], b"", b"no pickle", b"\x80\x04cnumpy\nndarray\n)R"):
        (tmp_path / "x.pkl").write_bytes(content)
        with pytest.raises(ValueError, match="is not a readable pickle"):
            read(tmp_path / "x.pkl")
    with pytest.raises(ValueError, match="does not exist"):
        read(tmp_path / "no.pkl")
