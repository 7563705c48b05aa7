"""What a page needs to ask for conditions beside the label: which control each has, and its value as a text,
a table or from a file that was sent."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studio.checkpoints import checkpoint
from studio.checkpoints.build import Info
from studio.checkpoints.find import Card
from studio.data.conditions import KINDS, Field, hint_of, kind_of, missing, numbers_of
from studio.model import catalog

EMPTY = ("", None)


@dataclass(frozen=True)
class Control:
    """``form``: number, text, choice, table or file, which the kind says; ``choices`` of a choice,
    ``columns`` of a table, ``low`` and ``high`` of a number as the model has seen it, where that is recorded,
    and its ``step``, None for any."""

    form: str
    hint: str
    choices: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None


def controls(card: Card) -> dict[str, Control]:
    """By the name of the condition: numbers, other kinds (those that are not registered here are asked by
    their text), and what the start of a model can be told."""
    info = Info.from_meta(checkpoint.read_meta(card.folder))
    own = {
        name: Control("number", f"{s.low} to {s.high}", low=s.low, high=s.high, step=1)
        for name, s in catalog.settings_of(card).items()
    }
    numbers = {f.name: _number(f) for f in numbers_of(info)}
    return {
        **numbers,
        **{f.name: _control(f) for f in info.fields},
        **{k: v for k, v in own.items() if k not in numbers},
    }


def written(card: Card, name: str, given: Any, *, sent: str | Path | None = None) -> str:
    """What the line of conditions says of a value: a text as it was typed, a table (rows of cells, empty
    ones missing) or the file ``sent`` as its kind shows them; "" for one that is left open. No text names a
    file. Raises ``ValueError`` for what is no value."""
    field = _fields(card)[name]
    kind = kind_of(field)
    if sent is not None:
        return str(kind.show(field, kind.parse(field, f"@{sent}")))
    if isinstance(given, str):
        return "" if not given.strip() or missing(kind.parse(field, given, files=False)) else given
    try:
        rows = [[math.nan if cell in EMPTY else float(cell) for cell in row] for row in given]
    except (TypeError, ValueError):
        raise ValueError(
            f"got a table of {name} with a cell that is no number, expected numbers; empty ones are missing"
        ) from None
    if all(math.isnan(cell) for row in rows for cell in row):
        return ""
    return str(kind.show(field, kind.parse(field, np.reshape(rows, (-1, *field.shape[1:])))))


def table(card: Card, name: str, text: str) -> list[list[float | None]]:
    """The rows of a value as the line of conditions says it, an empty one where it says nothing. Raises
    ``ValueError``."""
    field, width = _fields(card)[name], len(controls(card)[name].columns)
    kind = kind_of(field)
    said = json.loads(str(kind.show(field, kind.parse(field, text or "none", files=False))))
    rows = np.array(said, dtype=object).reshape(-1, width).tolist()
    return rows or [[None] * width]


def _fields(card: Card) -> dict[str, Field]:
    return {f.name: f for f in Info.from_meta(checkpoint.read_meta(card.folder)).fields}


def _number(field: Field) -> Control:
    if field.range is None:
        return Control("number", "a number")
    low, high = map(float, field.range)
    return Control("number", f"{low:g} to {high:g} were seen", low=low, high=high)


def _control(field: Field) -> Control:
    form = kind_of(field).control(field) if field.kind in KINDS else "text"
    width = field.shape[-1] if form == "table" else 0
    named: Sequence[str] = field.names if len(field.names) == width else [str(i) for i in range(width)]
    hint = re.split(r" as \[|,? or @", hint_of(field))[0]  # a table is written in cells, a file sent
    return Control(form, hint, field.names if form == "choice" else (), tuple(named))
