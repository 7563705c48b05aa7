"""Tables of molecules as text: .csv, .tsv and .smi, also gzipped, with a column map. No chemistry here: rows
keep their line numbers, so that whatever is wrong with one later can be told."""

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.registry import suggest
from studio.runtime.text import decoded

SMILES_NAMES = (
    "smiles",
    "canonical_smiles",
    "isomeric_smiles",
    "smi",
    "smile",
    "structure",
    "molecule",
    "mol",
)
MISSING = {
    "",
    "nan",
    "na",
    "n/a",
    "none",
    "null",
    "-",
    "--",
    "?",
    "#n/a",
    "#na",
    "n.a.",
    "<na>",
    "nd",
    "n.d.",
    "missing",
}
LISTS = (".smi", ".smiles", ".txt")  # a molecule a line
SUFFIXES = (".csv", ".tsv", *LISTS)


@dataclass(frozen=True)
class Table:
    """``lines`` are the rows' line numbers in the file, from 1."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    broken: tuple["Rejected", ...] = ()

    def place(self, name: str) -> int | None:
        """The column of a name, or of the only one that differs in case. Raises ``ValueError`` where several
        have it."""
        for same in ((lambda c: c == name), (lambda c: c.lower() == name.lower())):
            found = [i for i, c in enumerate(self.columns) if same(c)]
            if len(found) > 1:
                raise ValueError(
                    f"{self.path} has {len(found)} columns named {name!r}, expected one; rename the others"
                )
            if found:
                return found[0]
        return None

    def smiles(self, name: str | None) -> int:
        """The column with the molecules: ``name``, or the first of the usual names. Raises ``ValueError``
        where there is none."""
        for candidate in (name,) if name is not None else SMILES_NAMES:
            place = self.place(candidate)
            if place is not None:
                return place
        if name is None:  # pSMILES, SMILES_canonical, "Polymer SMILES"
            like = [i for i, c in enumerate(self.columns) if "smiles" in c.lower()]
            if len(like) > 1:
                raise ValueError(
                    f"{self.path} has several columns of SMILES "
                    f"({', '.join(self.columns[i] for i in like)}); rename one of them smiles"
                )
            if like:
                return like[0]
        hint = (
            suggest(name, self.columns)
            if name is not None
            else "; to train on it set data.smiles=COLUMN, otherwise rename one"
        )
        raise ValueError(
            f"{self.path} has the columns {', '.join(self.columns)}, expected "
            f"{name or 'one named smiles'}{hint}"
        )


@dataclass(frozen=True)
class Rejected:
    """A row that was left out, and why."""

    line: int
    text: str
    reason: str


def read_table(path: str | Path, *, blank: bool = False) -> Table:
    """All rows of a file. The separator of a .csv is the comma, semicolon or tab that its first line has most
    of; a .smi holds a SMILES and a name per line, with or without a header.

    ``blank`` keeps rows without text, as files of samples have them for what is no molecule: every line of a
    .smi, of a table each row with cells (pandas writes ``""``), in one column every line. Raises
    ``ValueError`` for a file that is not there, empty, not text, cut off, or of another kind.
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
    if kind.lower() in LISTS and not _is_table(first):
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
                broken.append(
                    Rejected(
                        reader.line_num, separator.join(row), f"{len(row)} cells, expected {len(columns)}"
                    )
                )
    except csv.Error as error:
        raise ValueError(f"{where}, line {reader.line_num}: {error}; is it a table of text?") from None
    if columns and not _is_header(columns):
        cells = _names(columns)
        rows, lines, columns = [columns, *rows], [_first_line(text), *lines], cells
    if not rows:
        raise ValueError(f"{where} has no whole row below its header, expected a molecule a line")
    return Table(where, columns, tuple(rows), tuple(lines), tuple(broken))


def _is_table(first: str) -> bool:
    """Whether the first line of a list is a header of several columns with separators."""
    cells = [c.strip().strip('"').lower() for c in re.split(r"[,;\t]", first)]
    return len(cells) > 1 and any("smiles" in c for c in cells)


def _is_header(cells: Sequence[str]) -> bool:
    """Whether a first row names columns: no cell of it is a molecule, unless it has a usual name or all
    others are words."""
    if any(c.lower() in SMILES_NAMES or "smiles" in c.lower() for c in cells):
        return True
    from studio.chem.toolkit import read_smiles

    def is_molecule(text: str) -> bool:
        try:
            return not re.fullmatch(r"[\d.,+-]*", text) and bool(read_smiles(text))
        except ValueError:
            return False

    return not any(map(is_molecule, cells))


def _names(cells: Sequence[str]) -> tuple[str, ...]:
    """Columns without names: the first with a molecule is ``smiles``, others are called by their place, from
    1."""
    place = next(i for i, c in enumerate(cells) if not _is_header([c]))
    return tuple("smiles" if i == place else f"column{i + 1}" for i in range(len(cells)))


def _first_line(text: str) -> int:
    """The number of the first line that is not blank."""
    return next(i for i, line in enumerate(text.split("\n"), 1) if line.strip())


def _listed(where: Path, text: str, first: str, blank: bool) -> Table:
    """A SMILES a line, the rest of the line is its name; with ``blank`` a line that begins with a tab has a
    name only."""
    header = first.split()[0].lower() in SMILES_NAMES
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() or blank]
    begin = next(k for k, (_, line) in enumerate(lines) if line.strip()) + 1 if header else 0
    found = [
        (i, ["", line] if blank and line[:1] in ("", "\t") else line.split(None, 1))
        for i, line in lines[begin:]
    ]
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
            raise ValueError(
                f"{where} is not a whole gzip file ({error}); it may be cut off: fetch it again"
            ) from None
    elif where.suffix == ".gz" and data:
        raise ValueError(f"{where} is no gzip file, expected one by its name; rename it")
    try:
        return decoded(data)[0]
    except ValueError as error:
        raise ValueError(f"{where}: {error}; save it as UTF-8 text") from None


def number(text: str, name: str, commas: bool = False) -> float:
    """A cell as a number, NaN for one that is missing. ``commas``: the column writes 1,5 for 1.5. Raises
    ``ValueError`` for other text, and for infinity."""
    if text.strip().lower() in MISSING:
        return math.nan
    plain = text.strip().replace("−", "-")
    try:
        value = float(plain.replace(".", "").replace(",", ".") if commas else plain)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise ValueError(f"{name} is {text!r}, expected a finite number or nothing")
    return value


def has_commas(cells: Sequence[str]) -> bool:
    """Whether a column writes decimal commas: some cell has one and no cell has only a point; 1,234 alone,
    which could be a thousand, counts as one where others are decimals."""
    some = [c.strip() for c in cells if c.strip().lower() not in MISSING]
    decimal = [
        c for c in some if re.fullmatch(r"[+\-−]?\d*,\d+(?:[eE][+-]?\d+)?|[+\-−]?\d{1,3}(?:\.\d{3})+,\d+", c)
    ]
    pointed = any("." in c and "," not in c for c in some)
    return (
        bool(decimal)
        and not pointed
        and not all(re.fullmatch(r"[+\-−]?[1-9]\d{0,2},\d{3}", c) for c in decimal)
    )


def report(rejected: Sequence[Rejected]) -> str:
    """Rows that were left out as .csv text: line, reason, text."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("line", "reason", "text"))
    writer.writerows((r.line, r.reason, r.text) for r in sorted(rejected, key=lambda r: r.line))
    return out.getvalue()
