"""What ``NAME=VALUE`` and ``NAME=@FILE`` say of a condition: numbers as JSON, or a file of numbers or text.

.npy and .npz hold arrays, .json nested lists (null is missing), .csv and .txt a row a line: with commas,
semicolons, tabs or spaces, an empty cell or ``nan`` missing, and in a .csv a line of column names on top
where there is one. A file may come from a stranger: its size, and what it says of the sizes of its arrays,
are looked at before anything is read, and pickles are never loaded.
"""

import csv
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from backbones.registry import suggest
from studio.data.conditions import Field
from studio.runtime.text import decoded

EXPECTED = "expected .npy, .npz, .json, .csv or .txt"
SEPARATORS = ",;\t "
MOST_NUMBERS = 64_000_000  # of an array, as many as a picture may have pixels
MOST_BYTES, MOST_TEXT = 8 * MOST_NUMBERS, 64_000_000  # of what an archive unpacks to; of a file of text


def numbers_in(field: Field, text: str, files: bool) -> Any:
    """An array or nested lists of what a text says: JSON, or the contents of ``@FILE``. Raises
    ``ValueError``."""
    if not text.startswith("@"):
        try:
            return _filled(json.loads(text))
        except (ValueError, RecursionError):
            raise ValueError(
                f"got {field.name}={text[:60]!r}, expected numbers such as [1, 2.5], or @FILE"
            ) from None
    path = path_of(field, text, files)
    if path.suffix.lower() in (".csv", ".txt"):
        return _table(field, path)
    if path.suffix.lower() == ".npz":
        return _archive(field, path)
    said = _read(field, path) if path.suffix.lower() == ".json" else None
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False) if said is None else None
        if found is None:
            return _filled(json.loads(said or ""))
    except OSError as error:
        raise unread(field, path, error) from None
    except Exception:  # whatever a damaged file makes numpy raise
        raise ValueError(f"{path} for {field.name} holds no array, {EXPECTED}") from None
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{path} for {field.name} holds no array, {EXPECTED}")
    _bounded(field, path, found.size, MOST_NUMBERS, "numbers")
    return np.array(found)


def text_in(field: Field, text: str, files: bool) -> Any:
    """A text as it stands; of ``@FILE.txt`` its contents, of ``@FILE.json`` what is written there. Raises
    ``ValueError``."""
    if not text.startswith("@"):
        return text
    path = path_of(field, text, files)
    told = _read(field, path).strip()
    if not told:
        raise ValueError(
            f"{path} for {field.name} is empty, expected a text; leave the condition out for none"
        )
    if path.suffix.lower() != ".json":
        return told
    try:
        return json.loads(told)
    except (ValueError, RecursionError):
        raise ValueError(f"{path} for {field.name} holds no JSON, expected a text or a list") from None


def path_of(field: Field, text: str, files: bool) -> Path:
    """The file of ``@FILE``. Raises ``ValueError`` where files are not read."""
    if not files:
        raise ValueError(f"got a file for {field.name}, expected its values; files are not read here")
    return Path(text[1:]).expanduser()


def unread(field: Field, path: Path, error: OSError) -> ValueError:
    return ValueError(f"{path} for {field.name} cannot be read: {error.strerror or error}")


def _bounded(field: Field, path: Path, count: int, most: int, what: str) -> None:
    """Raises ``ValueError`` for more than a condition may have."""
    if count > most:
        raise ValueError(f"{path} for {field.name} has {count:,} {what}, expected at most {most:,}")


def _read(field: Field, path: Path) -> str:
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MOST_TEXT else b""
    except OSError as error:
        raise unread(field, path, error) from None
    _bounded(field, path, size, MOST_TEXT, "bytes")
    try:
        return decoded(data)[0]
    except ValueError as error:
        raise ValueError(f"{path} for {field.name}: {error}, expected a text; try .txt or .json") from None


def _filled(values: Any) -> Any:
    if isinstance(values, list):
        return [_filled(v) for v in values]
    return math.nan if values is None else values


def _archive(field: Field, path: Path) -> np.ndarray:
    """The array of the field's name, or the only one beside ``mask``, which says which rows are there."""
    try:
        with zipfile.ZipFile(path) as archive:  # which unpacks no more than it says
            size = sum(member.file_size for member in archive.infolist())
        arrays = _arrays(path) if size <= MOST_BYTES else {}
    except OSError as error:
        raise unread(field, path, error) from None
    except Exception:  # whatever a damaged file makes zipfile, zlib and numpy raise
        raise ValueError(f"{path} for {field.name} is no .npz of plain arrays, {EXPECTED}") from None
    _bounded(field, path, size, MOST_BYTES, "bytes")
    mask = arrays.pop("mask", None) if len(arrays) > 1 else None
    name = field.name if field.name in arrays else next(iter(arrays), "")
    if name not in arrays or (name != field.name and len(arrays) > 1):
        raise ValueError(
            f"{path} holds {', '.join(arrays) or 'no array'}, expected one array, or one called {field.name}"
        )
    return arrays[name] if mask is None else masked(arrays[name], mask, str(path))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file}


def masked(array: np.ndarray, mask: np.ndarray, where: str) -> np.ndarray:
    """(..., K, f) floats with NaN in the rows where ``mask`` (..., K) is false. Raises ``ValueError`` for a
    mask of another shape, and for one that is neither bool nor 0 and 1."""
    if mask.shape != array.shape[:-1]:
        raise ValueError(
            f"{where}: got a mask of shape {mask.shape} for rows of shape {array.shape}, expected "
            f"{array.shape[:-1]}; true marks the rows that are there"
        )
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"{where}: got a mask of {mask.dtype}, expected bool; true marks rows that are there"
        )
    kind = array.dtype if array.dtype.kind == "f" else np.float32
    return np.where(mask.astype(bool)[..., None], array, np.nan).astype(kind)


def _table(field: Field, path: Path) -> np.ndarray:
    """(rows, columns) of a file of numbers; one row or column where the field has one axis."""
    lines = [line for line in _read(field, path).split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{path} for {field.name} is empty, expected a row of numbers a line")
    separator = next(s for s in SEPARATORS if any(s in line for line in lines) or s == " ")
    try:
        cells = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error:
        raise ValueError(f"{path} for {field.name} is no table of numbers, {EXPECTED}") from None
    cells = [[c for c in row if c] for row in cells] if separator == " " else cells
    header = [c.strip() for c in cells[0]] if not all(map(_is_number, cells[0])) else []
    order = _order(field, header, path)
    rows = []
    for number, row in enumerate(cells[bool(header) :], 1 + bool(header)):
        width = len(header or cells[0])
        if len(row) != width:
            raise ValueError(
                f"{path} for {field.name}, line {number}: got {len(row)} columns, expected {width} as above"
            )
        wrong = next((c for c in row if not _is_number(c)), None)
        if wrong is not None:
            raise ValueError(f"{path} for {field.name}, line {number}: got {wrong!r}, expected a number")
        rows.append([float(c) if c.strip() else math.nan for c in row])
    if not rows:
        raise ValueError(f"{path} for {field.name} has no row below its header, expected numbers")
    array = np.asarray(rows)[:, order]
    return array.reshape(-1) if len(field.shape) == 1 and 1 in array.shape else array


def _order(field: Field, header: list[str], path: Path) -> Any:
    """Places of the field's columns in a table with these. Raises ``ValueError`` for one that is not
    there."""
    if not header or not field.names:
        return slice(None)
    for name in field.names:
        if name not in header:
            raise ValueError(
                f"{path} for {field.name} has the columns {', '.join(header)}, expected "
                f"{', '.join(field.names)}{suggest(name, header)}"
            )
    return [header.index(name) for name in field.names]


def _is_number(cell: str) -> bool:
    try:
        return not cell.strip() or math.isfinite(float(cell)) or math.isnan(float(cell))
    except ValueError:
        return False
