"""Tables that give pictures their labels: ``labels.csv`` in whatever way it was written, and ``metadata.csv``
and ``metadata.jsonl`` of Hugging Face's folders.

Which separator and which columns are meant is told by what is there: the column of files is the one that
names the pictures of the folder.
"""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from backbones.registry import suggest
from studio.runtime.text import decoded

NAMES = ("labels.csv", "labels.tsv", "labels.jsonl", "metadata.csv", "metadata.tsv", "metadata.jsonl")
SEPARATORS = ",;\t|"
LABELS = (
    "label",
    "labels",
    "class",
    "class_name",
    "classname",
    "category",
    "target",
    "y",
    "class_id",
    "label_id",
    "kind",
    "species",
)
INDEX = ("", "index", "idx", "id", "unnamed: 0", "#", "no", "nr", "row")


class Labels(NamedTuple):
    """Class names by file, below the folder; ``absent``: files that are named and not there; ``notes``: what
    to tell of how it was read."""

    of: dict[str, str]
    absent: list[str]
    notes: list[str]


class Row(NamedTuple):
    line: int
    cells: list[str]


def find(root: Path) -> list[Path]:
    """The tables of a folder, the first one counts."""
    there = {p.name.lower(): p for p in sorted(root.iterdir(), reverse=True) if p.is_file()}
    return [there[name] for name in NAMES if name in there]


def read(table: Path, files: Sequence[str]) -> Labels | None:
    """The labels of ``files``, paths below the table's folder. None where it has no column of labels, as
    `metadata.csv` may have captions only. Raises ``ValueError`` for a file without a label, two different
    ones or an empty one, with the line, and for columns that nobody can tell apart."""
    finder = Finder(files, table.parent.name)
    header, rows, notes = _parsed(table, finder)
    width = len(header) if header else max(2, min(_most(Counter(len(r.cells) for r in rows))))
    file = _file_column(rows, width, finder)
    label = _label_column(table, header, rows, width, file)
    if label is None:
        return None
    of: dict[str, str] = {}
    lines: dict[str, int] = {}
    absent: list[str] = []
    for line, cells in rows:
        if not max(file, label) < len(cells) <= width or not cells[label].strip():
            if max(file, label) < len(cells) <= width:
                empty = sum(len(c) > label and not c[label].strip() for _, c in rows)
                raise ValueError(
                    f"{table}, line {line}: got no label for {cells[file]!r} ({empty} of {len(rows)} "
                    "labels are empty), expected one for each picture; "
                    "label them, or take pictures and lines away"
                )
            raise ValueError(
                f"{table}, line {line}: got {cells}, expected file,label; quote a label with commas"
            )
        name, value = finder(cells[file]), unicodedata.normalize("NFC", cells[label])
        if name is None:
            absent.append(cells[file].strip())
        elif of.setdefault(name, value) != value:
            raise ValueError(
                f"{table}, line {line}: got the label {value!r} for {name}, which is {of[name]!r} further "
                f"up (line {lines[name]}); expected one label each"
            )
        else:
            lines.setdefault(name, line)
    missing = [f for f in files if f not in of]
    if missing:
        raise ValueError(
            f"{table} has no label for {missing[0]} ({len(missing)} are missing); expected lines file,label"
        )
    return Labels(of, absent, notes)


def column(table: Path, files: Sequence[str], name: str) -> dict[str, str]:
    """What a column says of files, paths below the table's folder; the last line of a file counts. Raises
    ``ValueError`` where there is no such column."""
    finder = Finder(files, table.parent.name)
    header, rows, _ = _parsed(table, finder)
    if name not in header:
        raise ValueError(
            f"{table} has the columns {', '.join(header) or 'without names'}, expected {name!r} among them"
            f"{suggest(name, header)}"
        )
    place, file = header.index(name), _file_column(rows, len(header), finder)
    said = [(finder(r.cells[file]), r.cells[place]) for r in rows if max(place, file) < len(r.cells)]
    return {known: text for known, text in said if known is not None}


def _parsed(table: Path, finder: "Finder") -> tuple[list[str], list[Row], list[str]]:
    """Names of columns, where there are any, the rows, and what to tell. Raises ``ValueError``."""
    try:
        text, guessed = decoded(table.read_bytes())
        header, rows = (
            _objects(table, text) if table.suffix.lower() == ".jsonl" else _cells(table, text, finder)
        )
    except ValueError as error:
        raise ValueError(f"{table} is not readable: {error}") from None
    if not rows:
        raise ValueError(f"{table} holds no rows, expected lines file,label")
    told = f"{table.name} is read as {guessed}; save it as UTF-8 if letters are wrong"
    return header, rows, [told] if guessed else []


def _most(counts: Counter[int]) -> list[int]:
    return [k for k, n in counts.items() if n == max(counts.values())]


class Finder:
    """Pictures by how a table may write them: with ``./``, backslashes, the folder's own name, another
    Unicode form or case, without suffix."""

    def __init__(self, files: Sequence[str], folder: str):
        self.folder = unicodedata.normalize("NFC", folder)
        self.ways: list[dict[str, str | None]] = [{}, {}, {}]
        for file in files:
            plain = unicodedata.normalize("NFC", file)
            for way, key in zip(self.ways, (plain, plain.casefold(), plain.rpartition(".")[0])):
                # None: several could be meant
                way[key] = None if key in way and way is not self.ways[0] else file

    def __call__(self, cell: str) -> str | None:
        text = unicodedata.normalize("NFC", cell.strip().replace("\\", "/"))
        text = re.sub(r"/{2,}", "/", re.sub(r"^(?:\./+)+", "", text))
        for name in (text, text.rpartition(f"/{self.folder}/")[2], text.removeprefix(f"{self.folder}/")):
            for way, key in zip(self.ways, (name, name.casefold(), name)):
                if found := way.get(key):
                    return found
        return None


def _objects(table: Path, text: str) -> tuple[list[str], list[Row]]:
    """A JSON object a line."""
    found: list[tuple[int, Mapping[str, Any]]] = []
    for line, one in enumerate(text.split("\n"), 1):
        if one.strip():
            try:
                value = json.loads(one)
            except ValueError as error:
                raise ValueError(f"line {line}: {error}") from None
            if not isinstance(value, Mapping):
                raise ValueError(
                    f'line {line}: got {one[:60]}, expected an object such as {{"file_name": "0.png", '
                    f'"label": "cat"}}'
                )
            found.append((line, value))
    header = list(dict.fromkeys(k for _, value in found for k in value))
    return header, [Row(line, [_text(value.get(k)) for k in header]) for line, value in found]


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _cells(table: Path, text: str, finder: Finder) -> tuple[list[str], list[Row]]:
    """A line a row. The separator is the one that leaves most rows with a picture's name and something beside
    it."""
    if told := re.match(r"sep=(.)\n", text):  # what spreadsheets write for each other
        text = "\n" + text[len(told[0]) :]

    def split(separator: str, spaced: bool = False) -> list[Row]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=spaced)
        return [Row(reader.line_num, row) for row in reader if any(c.strip() for c in row)]

    def fit(rows: list[Row]) -> tuple[int, int]:
        named = sum(len(r.cells) > 1 and any(finder(c) for c in r.cells) for r in rows)
        return named, min((len(r.cells) for r in rows), default=0)

    try:
        separator = told[1] if told else max(SEPARATORS, key=lambda s: fit(split(s)))
        rows = split(separator)
        beside = rows[1:] or rows
        # "file, label": the space belongs to the comma
        if beside and all(len(r.cells) > 1 and r.cells[1][:1] == " " for r in beside):
            rows = split(separator, spaced=True)
    except csv.Error as error:
        raise ValueError(f"{error}; is it a table of text?") from None
    header = (
        [c.strip() for c in rows[0].cells]
        if rows and not any(finder(c) or _like_a_file(c) for c in rows[0].cells)
        else []
    )
    return header, rows[1:] if header else rows


def _like_a_file(cell: str) -> bool:
    return bool(
        re.search(
            r"\.(png|jpe?g|jpe|jfif|webp|bmp|gif|tiff?|avif|hei[cf]|p[pgbn]m)$", cell.strip(), re.IGNORECASE
        )
    )


def _column(rows: Sequence[Row], k: int) -> list[str]:
    return [r.cells[k] for r in rows if k < len(r.cells)]


def _file_column(rows: Sequence[Row], width: int, finder: Finder) -> int:
    """The column that names most of the pictures; where none does, what looks like files."""
    hits = [
        (len({finder(c) for c in _column(rows, k)} - {None}), sum(map(_like_a_file, _column(rows, k))), -k)
        for k in range(width)
    ]
    return -max(hits)[2]


def _label_column(
    table: Path, header: Sequence[str], rows: Sequence[Row], width: int, file: int
) -> int | None:
    """By its name; the only other one; or the only other one that does not count rows. Raises ``ValueError``
    where several could be meant."""
    names = [h.lower() for h in header] or [""] * width
    others = [k for k in range(width) if k != file]
    for wanted in LABELS:
        if header and wanted in (some := [names[k] for k in others]):
            return others[some.index(wanted)]
    if table.stem.lower() == "metadata":
        return None
    if len(others) > 1:
        others = [k for k in others if names[k] not in INDEX or not _counts(_column(rows, k))]
    if len(others) == 1:
        return others[0]
    raise ValueError(
        f"{table} has the columns {', '.join(header) or width}, expected file and label; call the column "
        "of labels label"
    )


def _counts(cells: Sequence[str]) -> bool:
    numbers = [int(c) if c.strip().isdecimal() else None for c in cells]
    return (
        bool(numbers)
        and numbers[0] is not None
        and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    )
