"""What a model is asked by, as one schema: a `Field` for each condition, with its name, its kind and what is
known of its values.

A kind (`KINDS`, which is open: see `studio.data.kinds`) says how values are read, shown, judged and encoded,
and everything else follows from the field: ``--set NAME=VALUE``, ``conditions=``, the recipe, the page's
control, dropout, the null. Class names and numbers stand in tables of their own in ``meta.json``
(``classes``, ``numeric...``), fields of other kinds under ``fields``.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from backbones.plugins import Registry
from backbones.registry import build, suggest
from backbones.types import Cond

KINDS = Registry(
    "kinds",
    {
        "class": "studio.data.kinds:ClassKind",
        "number": "studio.data.kinds:NumberKind",
        "array": "studio.data.kinds:ArrayKind",
        "image": "studio.data.kinds:ImageKind",
        "field": "studio.data.number_kinds:FieldKind",
        "set": "studio.data.row_kinds:SetKind",
        "tokens": "studio.data.row_kinds:TokensKind",
        "sentence": "studio.data.number_kinds:SentenceKind",
    },
)
SLOTS = ("tokens", "image")  # of `Cond`, for networks of one's own: recipes keep none of their values
TAKEN = (
    "label",
    "class",
    "labels",
    "numeric",
    *(f.name for f in fields(Cond) if f.name not in SLOTS),
)
LONGEST = 20_000  # characters of a value in a recipe


@dataclass(frozen=True)
class Field:
    """One condition. ``shape``: of a value, () for a single number or class; of rows as many as training had.
    ``names``: of classes, the words of captions, the columns of rows. ``mean`` and ``std``: what numbers are
    standardised by for the network, ``means`` and ``stds`` of each column of rows; ``range``: the least and
    the greatest that training saw, of rows how many, None where that is not known; ``lows`` and ``highs``:
    those of each column of rows. ``options``: those of the kind and of its encoder."""

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    range: tuple[float, float] | None = None
    means: tuple[float, ...] = ()
    stds: tuple[float, ...] = ()
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def form(self) -> tuple[Any, ...]:
        """What makes two conditions the same for a network."""
        own = self.shape[kind_of(self).any_length :]
        return self.name, self.kind, own, self.names, dict(self.options)


class Kind(Protocol):
    """How values of a kind are treated; the law is ``parse(f, show(f, v)) == v``. A value is a tensor of the
    field's shape, floats with NaN for what is missing, or whole numbers with −1. ``packed``: `Cond.numeric`
    holds all conditions of the kind side by side, which data brings as ``numbers``. ``any_length``: values
    may be longer than the field's shape along the first axis; those of a batch are filled up by what is
    missing."""

    packed: bool
    any_length: bool

    def fit(self, field: Field, given: Sequence[Any]) -> Field:
        """The field with what the values of the training part tell (``given``, None = missing)."""
        ...

    def parse(self, field: Field, given: Any, *, files: bool = True) -> Tensor:
        """One value of what a user gives: a text (``@FILE`` is read, unless ``files`` is false), or Python's,
        numpy's or torch's own. Raises ``ValueError``."""
        ...

    def datum(self, field: Field, given: Any) -> Tensor:
        """One value of what data brings, as `parse`, but that a text in it may say nothing else than what
        stands there."""
        ...

    def show(self, field: Field, value: Tensor) -> str | float:
        """What `parse` reads as this value, as a recipe keeps it."""
        ...

    def seen(self, field: Field, value: Tensor) -> Tensor:
        """The value as the network sees it."""
        ...

    def beyond(self, field: Field, value: Tensor) -> str:
        """Why the model has to guess at this value, in words; nothing where training saw such."""
        ...

    def hint(self, field: Field) -> str:
        """What may be given, in a few words."""
        ...

    def control(self, field: Field) -> str:
        """What the page asks by: ``text``, ``choice`` of the field's names, ``table`` or ``file``."""
        ...

    def encoder(self, field: Field) -> dict[str, Any]:
        """An entry of `backbones.encoders.REGISTRY` as ``encoder``, with its options."""
        ...


class Schema(Protocol):
    """What `conditions_of` reads of `Data` and of a model's ``Info``."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def numeric(self) -> tuple[str, ...]: ...
    @property
    def numeric_mean(self) -> tuple[float, ...]: ...
    @property
    def numeric_std(self) -> tuple[float, ...]: ...
    @property
    def numeric_range(self) -> tuple[tuple[float, float], ...]: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...


def conditions_of(known: Schema) -> tuple[Field, ...]:
    """Every condition: the label, numbers, and the fields of other kinds."""
    numbers = numbers_of(known)
    return (
        *((Field("label", "class", names=known.classes),) if known.classes else ()),
        *numbers,
        *known.fields,
    )


def numbers_of(known: Schema) -> tuple[Field, ...]:
    """The numbers, which `Cond.numeric` holds side by side."""
    count = len(known.numeric)
    ranges = known.numeric_range if len(known.numeric_range) == count else [None] * count
    means, stds = known.numeric_mean or [0.0] * count, known.numeric_std or [1.0] * count
    return tuple(
        Field(name, "number", mean=m, std=s, range=None if r is None else (r[0], r[1]))
        for name, m, s, r in zip(known.numeric, means, stds, ranges)
    )


def field_of(entry: Mapping[str, Any]) -> Field:
    """From JSON, where tuples are lists."""
    known = {f.name for f in fields(Field)}
    told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k in known}
    return Field(**told)


def kind_of(field: Field) -> Kind:
    """Raises ``ValueError`` for a kind that is not registered here."""
    return build(KINDS, field.kind, f"kind of the condition {field.name!r}")


def checked(field: Field) -> Field:
    """Raises ``ValueError`` for what no condition can be called, and for a kind that is not registered."""
    name = field.name
    if not name or name != name.strip() or "=" in name or name in TAKEN:
        raise ValueError(
            f"got a condition called {name!r}, expected a name without an equals sign and outer spaces, and "
            f"none of {', '.join(TAKEN)}"
        )
    kind_of(field)
    return field


def fitted(
    field: Field, given: Sequence[Any], training: Sequence[int] | np.ndarray
) -> tuple[Field, np.ndarray]:
    """The field with what its ``training`` values tell, and all values as the network sees them (N, ...).
    Raises ``ValueError`` for a value that is none, with its index, and for values of different shapes."""
    if kind_of(checked(field)).packed:
        raise ValueError(
            f"got the condition {field.name!r} of the kind {field.kind}, expected another; give it as numbers"
        )
    field = kind_of(field).fit(field, [given[i] for i in training])
    return field, column_of(field, given)


def column_of(field: Field, given: Sequence[Any]) -> np.ndarray:
    """Values as the network sees them, (N, ...). Raises ``ValueError`` for one that is none, with its
    index."""
    kind, values = kind_of(field), []
    for i, one in enumerate(given):
        try:
            values.append(kind.seen(field, kind.datum(field, one)))
        except ValueError as error:
            raise ValueError(f"item {i}: {error}") from None
    return stacked(values).numpy()


def stacked(values: Sequence[Tensor]) -> Tensor:
    """Values of a batch (B, ...), shorter ones filled up at the end by what is missing."""
    longest = max(len(v) if v.ndim else 0 for v in values)
    return torch.stack([filled(v, longest) if v.ndim else v for v in values])


def filled(value: Tensor, length: int) -> Tensor:
    """A value (k, ...) of at least ``length`` rows, further ones missing."""
    more = (max(length - len(value), 0), *value.shape[1:])
    return torch.cat([value, torch.full(more, math.nan if value.is_floating_point() else -1).to(value)])


def seen(field: Field, given: Any) -> Tensor:
    """A value that data brings, as the network sees it."""
    kind = kind_of(field)
    return kind.seen(field, kind.datum(field, given))


def hint_of(field: Field) -> str:
    """What may be given, in a few words; of a kind that is not registered here, its name."""
    return kind_of(field).hint(field) if field.kind in KINDS else f"a value of the kind {field.kind}"


def encoders_of(known: Schema) -> list[dict[str, Any]]:
    """The ``fields`` of a backbone's config: conditions that its `backbones.encoders` can encode."""
    return [{"name": f.name, **kind_of(f).encoder(f)} for f in known.fields if f.name not in SLOTS]


class Asked(NamedTuple):
    """``numeric``: a row of standardised numbers, None where the model has none; ``values``: those that were
    given, by name; ``columns``: (N, ...) of each further field as the network sees it, and ``texts`` what
    recipes keep of it, for each sample ("" for what is missing or too long to keep); ``beyond``: values that
    training did not see, in words, and what it saw."""

    numeric: tuple[float, ...] | None
    values: tuple[tuple[str, float], ...]
    columns: dict[str, Tensor]
    texts: dict[str, tuple[str, ...]]
    beyond: dict[str, tuple[str, str]]


def asked(known: Schema, given: Mapping[str, Any], count: int, *, files: bool = True) -> Asked:
    """Conditions of ``count`` samples, by name: a number, or a value of a field for all of them or one for
    each. Raises ``ValueError`` for unknown names and for what is no value."""
    numbers = numbers_of(known)
    names = [f.name for f in (*numbers, *known.fields)]
    for name in given:
        if name not in names:
            raise ValueError(
                f"got condition {name!r}, expected one of "
                f"{', '.join(names) or 'none (this model has no numeric conditions)'}{suggest(name, names)}"
            )
    raw = {f.name: kind_of(f).parse(f, given[f.name], files=files) for f in numbers if f.name in given}
    row = tuple((float(raw[f.name]) - f.mean) / f.std if f.name in raw else math.nan for f in numbers)
    values = {f.name: raw[f.name][None] for f in numbers if f.name in raw and not missing(raw[f.name])}
    further = {f.name: _values(f, given.get(f.name), count, files) for f in known.fields}
    columns, texts, beyond = {}, {}, {}
    for field in (*numbers, *known.fields):
        kind = kind_of(field)
        for value in further.get(field.name, values.get(field.name, ())):
            if (told := "" if missing(value) else kind.beyond(field, value)) and field.name not in beyond:
                shown = kind.show(field, value)
                beyond[field.name] = (f"{shown:g}" if isinstance(shown, float) else brief(shown), told)
        if field.name in further:
            rows = stacked([kind.seen(field, v) for v in further[field.name]])
            columns[field.name] = rows.expand(count, *rows.shape[1:])
            shown_all = [_text(kind, field, v) for v in further[field.name]]
            texts[field.name] = tuple(shown_all * (count // len(shown_all)))
    return Asked(
        row if numbers else None, tuple((k, float(v)) for k, v in values.items()), columns, texts, beyond
    )


def _values(field: Field, given: Any, count: int, files: bool) -> list[Tensor]:
    """One value for all samples, or one for each."""
    kind = kind_of(field)
    try:
        return [kind.parse(field, given, files=files)]
    except ValueError as error:
        first = error
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != count:
        raise ValueError(f"{first}; or {count} of them, one for each sample" if count > 1 else str(first))
    try:
        return [kind.parse(field, one, files=files) for one in given]
    except ValueError as error:
        raise (error if count > 1 else first) from None


def _text(kind: Kind, field: Field, value: Tensor) -> str:
    if missing(value) or field.name in SLOTS:
        return ""
    text = str(kind.show(field, value))
    return "" if len(text) > LONGEST else text


def brief(text: str, most: int = 60) -> str:
    """The beginning of a text that is too long for a sentence."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def missing(value: Tensor) -> bool:
    """Whether nothing of a value is there."""
    return bool(torch.isnan(value).all() if value.is_floating_point() else (value == -1).all())
