"""Further ways to look at a set of samples, which their task brings: each a file beside the samples, of a
form that any page can show. Nobody who shows one needs to know what it shows."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from studio.runtime import files

FORMS = ("picture", "animation", "table")  # a PNG; a GIF; a .csv whose first row names the columns


class Maker(Protocol):
    """What a view may ask of the model that made the samples."""

    def data(self, count: int) -> Tensor | None:
        """At most ``count`` of what it learned from, as samples are; of the classes that were sampled. None
        where that is not here."""

    def velocity(self, values: Tensor, t: float) -> Tensor:
        """(N, d) how its flow moves samples (N, d) at time t, with the guidance and the conditions of the
        first sample; in the unit of the data. Raises ``ValueError`` for a model without a flow."""


@dataclass(frozen=True)
class Seen:
    """What a view is drawn of: decoded ``values`` (N, ...), their ``recipes``, and their ``maker``."""

    values: Tensor
    recipes: Sequence[Mapping[str, Any]]
    maker: Maker


@dataclass(frozen=True)
class View:
    """``name``: for the eye; ``file``: beside the samples, called ``sheet.*``; ``form``: one of FORMS.
    ``draw`` writes the file when it is first looked at; None for a file that the task has listed with the
    samples."""

    name: str
    file: str
    form: str
    draw: Callable[[Path, Seen], None] | None = None


def save(path: Path, figure: Any) -> None:
    """A figure of matplotlib's as PNG."""
    with files.replacing(path) as draft:
        figure.savefig(draft, format="png")


def table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A .csv with a head."""
    with files.replacing(path) as draft, open(draft, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def numbers(path: Path, seen: Seen) -> None:
    """A table of samples (N, d): the seed, the class where there is one, and the numbers."""
    said = [name for name in ("seed", "class") if name in seen.recipes[0]]
    columns = [*said, *(f"x{k + 1}" for k in range(seen.values.shape[1]))]
    pairs = zip(seen.recipes, seen.values.tolist(), strict=True)
    table(path, columns, ([*(r.get(name) for name in said), *(f"{v:.6g}" for v in row)] for r, row in pairs))
