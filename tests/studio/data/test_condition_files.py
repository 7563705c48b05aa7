"""What files say of conditions, and what is plainly refused of them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from studio.data.condition_files import MOST_NUMBERS, MOST_TEXT
from studio.data.conditions import Field
from studio.data.kinds import ArrayKind
from studio.data.number_kinds import FieldKind
from studio.data.row_kinds import SetKind, TokensKind

SET, MAP = Field("seen", "set", (4, 2)), Field("map", "field", (1, 3, 2))
TEXT = Field("caption", "tokens", (3,), names=("box", "red"))


def test_a_table_is_a_field_of_one_channel(tmp_path: Path) -> None:
    """Of every form of file the same."""
    table = np.array([[1.0, 2.0], [3.0, 4.5], [0.0, -1.0]], np.float32)
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "a.npz", map=table)
    np.savetxt(tmp_path / "a.csv", table, delimiter=",")
    np.savetxt(tmp_path / "a.txt", table)
    (tmp_path / "a.json").write_text(str(table.tolist()))
    for form in ("npy", "npz", "csv", "txt", "json"):
        np.testing.assert_array_equal(FieldKind().parse(MAP, f"@{tmp_path / f'a.{form}'}")[0].numpy(), table)


@pytest.mark.parametrize(
    "kind, field, name, content, message",
    [
        (FieldKind(), MAP, "no.json", None, "no.json for map cannot be read: No such file"),
        (TokensKind(), TEXT, "no.txt", None, "no.txt for caption cannot be read: No such file"),
        (TokensKind(), TEXT, "empty.txt", b" \n", "empty.txt for caption is empty, expected a text"),
        (
            TokensKind(),
            TEXT,
            "a.npy",
            b"\x93NUMPY\0\0\0",
            "a.npy for caption: it is no text, expected a text; try",
        ),
        (
            SetKind(),
            SET,
            "a.json",
            b"[[1, 2], [3]]",
            "got seen with rows of 1 and 2 numbers, expected as many",
        ),
        (FieldKind(), MAP, "b.json", b"[[1, 2], [3], []]", "got map with rows of 0 and 1 and 2 numbers"),
        (SetKind(), SET, "a.csv", b"1,2\n3\n", "a.csv for seen, line 2: got 1 columns, expected 2"),
        (SetKind(), SET, "b.csv", b"1,2,3\n", r"got seen of shape \(1, 3\), expected rows \(K, 2\)"),
        (SetKind(), SET, "c.csv", b"1,\n3,4\n", "got row 0 of seen with some numbers missing"),
        (SetKind(), SET, "empty.csv", b"", "empty.csv for seen is empty, expected a row of numbers a line"),
    ],
)
def test_what_is_refused(
    kind: ArrayKind, field: Field, name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        kind.parse(field, f"@{tmp_path / name}")


def test_files_that_say_they_are_huge_are_refused_unread(tmp_path: Path) -> None:
    """Headers of terabytes, an archive that unpacks to gigabytes, a text beyond all bounds, and pickles."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    (tmp_path / "huge.npy").write_bytes(header.getvalue() + bytes(80))
    with zipfile.ZipFile(tmp_path / "header.npz", "w") as archive:
        archive.writestr("seen.npy", header.getvalue() + bytes(80))
    np.savez_compressed(tmp_path / "bomb.npz", seen=np.zeros(10))
    with zipfile.ZipFile(tmp_path / "bomb.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.npy", bytes(10))
        archive.infolist()[-1].file_size = 10**12
    with open(tmp_path / "long.csv", "wb") as file:
        file.truncate(MOST_TEXT + 1)
    with open(tmp_path / "sparse.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (MOST_NUMBERS + 1,)}
        )
        file.truncate(file.tell() + MOST_NUMBERS + 1)
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "cell.csv").write_text("1," + "2" * 200_000)
    words = {
        "huge.npy": "holds no array",
        "header.npz": "no .npz of plain arrays",
        "bomb.npz": "has 1,000,000,000,2.. bytes, expected at most 512,000,000",
        "long.csv": "has 64,000,001 bytes",
        "sparse.npy": "has 64,000,001 numbers",
        "pickle.npy": "holds no array",
        "cell.csv": "no table of numbers",
    }
    for name, told in words.items():
        with pytest.raises(ValueError, match=told):
            SetKind().parse(SET, f"@{tmp_path / name}")


def test_complex_numbers_are_not_cut_short() -> None:
    with pytest.raises(ValueError, match="got complex numbers in seen, expected real ones"):
        SetKind().parse(SET, np.ones((2, 2)) * 1j)
