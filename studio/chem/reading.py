"""Tables of molecules as text: .csv, .tsv and .smi, also gzipped, with a column map. No chemistry here: rows keep their line numbers, so that whatever
is wrong with one later can be told."""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.registry import suggest

SMILES_NAMES = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "smile", "structure", "molecule", "mol")
MISSING = {"", "nan", "na", "n/a", "none", "null", "-", "?"}
SUFFIXES = (".csv", ".tsv", ".smi", ".txt")


@dataclass(frozen=True)
class Table:
    """``lines`` are the rows' line numbers in the file, from 1."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    broken: tuple["Rejected", ...] = ()

    def place(self, name: str) -> int | None:
        """The column of a name, or of the only one that differs in case. Raises ``ValueError`` where several have it."""
        for same in ((lambda c: c == name), (lambda c: c.lower() == name.lower())):
            found = [i for i, c in enumerate(self.columns) if same(c)]
            if len(found) > 1:
                raise ValueError(f"{self.path} has {len(found)} columns named {name!r}, expected one; rename the others")
            if found:
                return found[0]
        return None

    def smiles(self, name: str | None) -> int:
        """The column with the molecules: ``name``, or the first of the usual names. Raises ``ValueError`` where there is none."""
        for candidate in (name,) if name is not None else SMILES_NAMES:
            place = self.place(candidate)
            if place is not None:
                return place
        hint = suggest(name, self.columns) if name is not None else "; set data.smiles=COLUMN"
        raise ValueError(f"{self.path} has the columns {', '.join(self.columns)}, expected {name or 'one named smiles'}{hint}")


@dataclass(frozen=True)
class Rejected:
    """A row that was left out, and why."""

    line: int
    text: str
    reason: str


def read_table(path: str | Path, *, blank: bool = False) -> Table:
    """All rows of a file. The separator of a .csv is the comma, semicolon or tab that its first line has most of; a .smi holds a SMILES and a name
    per line, with or without a header.

    ``blank`` keeps rows without text, as files of samples have them for what is no molecule: every line of a .smi, of a table each row with cells
    (pandas writes ``""``), in one column every line. Raises ``ValueError`` for a file that is not there, empty, not text, cut off, or of another kind.
    """
    where = Path(path).expanduser()
    if not where.is_file():
        raise ValueError(f"got molecule file {where}, which does not exist; check the path")
    kind = where.with_suffix("").suffix if where.suffix == ".gz" else where.suffix
    if kind.lower() not in SUFFIXES:
        raise ValueError(f"got {where}, expected one of {', '.join(SUFFIXES)}, also with .gz")
    text = read_text(where)
    if not text.strip():
        raise ValueError(f"{where} is empty, expected a header and a molecule a line")
    first = next(line for line in text.splitlines() if line.strip())
    if kind.lower() in (".smi", ".txt"):
        return _listed(where, text, first, blank)
    separator = "\t" if kind.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    columns: tuple[str, ...] = ()
    rows, lines, broken = [], [], []
    try:
        for row in reader:
            row = row or [""] * (len(columns) == 1)
            if not any(cell.strip() for cell in row) and not (blank and columns and row):
                continue
            if not columns:
                columns = tuple(cell.strip() for cell in row)
            elif len(row) == len(columns):
                rows.append(tuple(cell.strip() for cell in row))
                lines.append(reader.line_num)
            else:
                broken.append(Rejected(reader.line_num, separator.join(row), f"{len(row)} cells, expected {len(columns)}"))
    except csv.Error as error:
        raise ValueError(f"{where}, line {reader.line_num}: {error}; is it a table of text?") from None
    if not rows:
        raise ValueError(f"{where} has no whole row below its header, expected a molecule a line")
    return Table(where, columns, tuple(rows), tuple(lines), tuple(broken))


def _listed(where: Path, text: str, first: str, blank: bool) -> Table:
    """A SMILES a line, the rest of the line is its name; with ``blank`` a line that begins with a tab has a name only."""
    header = first.split()[0].lower() in SMILES_NAMES
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() or blank]
    begin = next(k for k, (_, line) in enumerate(lines) if line.strip()) + 1 if header else 0
    found = [(i, ["", line] if blank and line[:1] in ("", "\t") else line.split(None, 1)) for i, line in lines[begin:]]
    if not found:
        raise ValueError(f"{where} has no molecule below its header, expected one a line")
    rows = tuple((c[0], c[1].strip() if len(c) > 1 else "") for _, c in found)
    return Table(where, ("smiles", "name"), rows, tuple(i for i, _ in found))


def read_text(where: Path) -> str:
    """The text of a file, gzipped or not: what counts is how it begins. Line ends of all kinds become one."""
    data = where.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{where} is not a whole gzip file ({error}); it may be cut off: fetch it again") from None
    elif where.suffix == ".gz" and data:
        raise ValueError(f"{where} is no gzip file, expected one by its name; rename it")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is no UTF-8 text ({error}); save it as UTF-8") from None


def number(text: str, name: str) -> float:
    """A cell as a number, NaN for one that is missing. Raises ``ValueError`` for other text, and for infinity."""
    if text.strip().lower() in MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        hint = "; write 1.5, not 1,5" if text.count(",") == 1 else ""
        raise ValueError(f"{name} is {text!r}, expected a finite number or nothing{hint}")
    return value


def report(rejected: Sequence[Rejected]) -> str:
    """Rows that were left out as .csv text: line, reason, text."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("line", "reason", "text"))
    writer.writerows((r.line, r.reason, r.text) for r in sorted(rejected, key=lambda r: r.line))
    return out.getvalue()
