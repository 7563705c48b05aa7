"""Kinds of condition that are rows, of which a sample may have few or many: sets, captions, and vectors in a
row. Values are as long as the longest of training, filled up by what is missing; longer ones may be asked
for."""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.registry import plain
from studio.data.condition_files import text_in
from studio.data.conditions import Field, brief, filled
from studio.data.kinds import CELLS, ArrayKind, left_open
from studio.data.labels import listed

UNKNOWN = "<?>"  # how a word that is not in the vocabulary is shown
NEAR = 0.01  # of the range of a column: so far beyond it counts as seen
WORDS = 20_000  # of a vocabulary, at most: the most frequent


class RowsKind(ArrayKind):
    """(K, f) floats; a row of NaN alone is absent. ``in_order``: an absent row in between keeps its place.
    The option ``logs`` names columns of counts (by number, from 0), which are seen by log(1 + x)."""

    any_length, in_order, called = True, True, "vectors"

    def fit(self, field: Field, given: Sequence[Any]) -> Field:
        """As long as the longest, with how many rows there are at least and at most, what each column is
        standardised by, and how far it reaches. Raises ``ValueError`` where no sample has a row."""
        found = [r for r in (self.rows(field, v) for v in given if not left_open(v)) if len(r)]
        if not found:
            raise ValueError(f"got no value for the condition {field.name!r}, expected at least one")
        counts, every = [len(r) for r in found], np.concatenate(found).astype(np.float64)
        field = field if field.shape else replace(field, shape=(max(counts), every.shape[1]))
        scaled = self._scaled(field, torch.from_numpy(every)).numpy()
        return replace(
            field,
            means=field.means or tuple(map(float, np.nanmean(scaled, 0))),
            stds=field.stds or tuple(float(s) if s > 0 else 1.0 for s in np.nanstd(scaled, 0)),
            range=field.range or (float(min(counts)), float(max(counts))),
            lows=field.lows or tuple(map(float, np.nanmin(every, 0))),
            highs=field.highs or tuple(map(float, np.nanmax(every, 0))),
        )

    def rows(self, field: Field, given: Any, files: bool = True) -> np.ndarray:
        """(k, f), those that are absent left out, or those at the end where rows have places. Raises
        ``ValueError``."""
        value, columns = self.read(field, given, files), field.shape[-1] if field.shape else None
        if value.size == 0:
            return value.reshape(0, columns or 0)
        if value.ndim == 1 and columns in (1, len(value)):
            value = value.reshape(-1, columns)
        if value.ndim != 2 or columns not in (None, value.shape[1]):
            raise ValueError(
                f"got {field.name} of shape {value.shape}, expected {self.called} (K, {columns or 'f'}): "
                f"{self._columns(field)}"
            )
        if np.isinf(value).any():
            raise ValueError(f"got infinite numbers in {field.name}, expected finite ones")
        for k in field.options.get("logs", ()):
            if (value[:, k] < 0).any():
                raise ValueError(f"got numbers below 0 in column {k} of {field.name}, expected counts")
        lost = np.isnan(value)
        partly = np.flatnonzero(lost.any(1) & ~lost.all(1))
        if len(partly):
            raise ValueError(
                f"got row {partly[0]} of {field.name} with some numbers missing, expected all of its "
                f"{value.shape[1]}; a row of NaN alone is absent"
            )
        there = np.flatnonzero(~lost.all(1))
        return value[: there[-1] + 1 if len(there) else 0] if self.in_order else value[there]

    def parse(self, field: Field, given: Any, *, files: bool = True) -> Tensor:
        if left_open(given):
            return torch.full(field.shape, torch.nan)
        return filled(torch.from_numpy(self.rows(field, given, files).copy()), field.shape[0])

    def show(self, field: Field, value: Tensor) -> str:
        return super().show(field, torch.from_numpy(self.rows(field, value)))

    def seen(self, field: Field, value: Tensor) -> Tensor:
        if not field.means:
            return value
        means, stds = (torch.tensor(v, dtype=torch.float64) for v in (field.means, field.stds))
        return ((self._scaled(field, value.double()) - means) / stds).float()

    def beyond(self, field: Field, value: Tensor) -> str:
        there = value[~value.isnan().all(-1)]
        if not _within(field, len(there)):
            return f"{_span(field)} rows"
        lows, highs = (torch.tensor(v, dtype=value.dtype) for v in (field.lows, field.highs))
        if not len(lows) or not len(there):
            return ""
        near = NEAR * (highs - lows)
        out = ((there < lows - near) | (there > highs + near)).any(0)
        named = field.names or tuple(f"number {i}" for i in range(len(out)))
        return ", ".join(
            f"{named[i]} from {lows[i]:.4g} to {highs[i]:.4g}" for i in range(len(out)) if out[i]
        )

    def hint(self, field: Field) -> str:
        rows = f"{_span(field)} rows" if field.range else "rows"
        return f"{rows} of {self._columns(field)} as [[...], ...], or @FILE.npy or .csv"

    def control(self, field: Field) -> str:
        return "table" if field.shape[-1] <= CELLS else "file"

    def encoder(self, field: Field) -> dict[str, Any]:
        return {"encoder": "vectors", "features": field.shape[-1], **_but_logs(field)}

    def _scaled(self, field: Field, value: Tensor) -> Tensor:
        logs = list(field.options.get("logs", ()))
        if not logs:
            return value
        value = value.clone()
        value[..., logs] = value[..., logs].log1p()
        return value

    def _columns(self, field: Field) -> str:
        count = field.shape[-1] if field.shape else 0
        told = f" ({', '.join(field.names)})" if field.names else ""
        return f"{count or 'f'} number{'' if count == 1 else 's'} each{told}"


class SetKind(RowsKind):
    """(K, f) floats in any order; a row of NaN alone is absent, as are those that a shorter set lacks.
    ``names``: of the columns, which a .csv may have in another order. ``options``: of the encoder, such as
    ``pooling``."""

    in_order, called = False, "rows"

    def encoder(self, field: Field) -> dict[str, Any]:
        return {"encoder": "set", "features": field.shape[-1], **_but_logs(field)}


class TokensKind(RowsKind):
    """A caption, as the numbers of its words in the vocabulary ``names``, which is made of the captions that
    train; a word that is not in it has the number ``len(names)``. Or vectors (L, f) in a row, where the
    values that train are arrays."""

    def fit(self, field: Field, given: Sequence[Any]) -> Field:
        """With the vocabulary, the most frequent words in the order of letters, and the length of captions.
        Raises ``ValueError`` for captions without a word."""
        captions = [v for v in map(_literal, given) if not left_open(v)]
        if not field.names and not any(isinstance(v, list) and isinstance(v[0], str) for v in captions):
            return super().fit(field, given)
        lists = [self.words(field, v) for v in captions]
        counts = Counter(w for words in lists for w in words if w != UNKNOWN)
        if not counts:
            raise ValueError(f"got no value for the condition {field.name!r}, expected at least one")
        names = field.names or tuple(sorted(w for w, _ in counts.most_common(WORDS)))
        lengths = [len(words) for words in lists if words]
        reach = (float(min(lengths)), float(max(lengths)))
        return replace(field, names=names, shape=field.shape or (max(lengths),), range=field.range or reach)

    def words(self, field: Field, given: Any, files: bool = True) -> list[str]:
        """Of a text, in which a JSON list is a list of words; of ``@FILE.txt``; or of a list with one text,
        which is taken as it stands. Raises ``ValueError`` for what is none."""
        said = plain(given)
        if isinstance(said, str):
            said = text_in(field, said, files)
            said = _as_list(said) if isinstance(said, str) and said.lstrip().startswith("[") else said
        elif not isinstance(said, list | tuple) or len(said) != 1:
            said = [None]
        said = [said] if isinstance(said, str) else said
        if not isinstance(said, list | tuple) or not all(isinstance(word, str) for word in said):
            raise ValueError(f"got {field.name} of {type(given).__name__}, expected a text, or @FILE.txt")
        return words_of(" ".join(said))

    def parse(self, field: Field, given: Any, *, files: bool = True) -> Tensor:
        if not field.names:
            return super().parse(field, given, files=files)
        if getattr(given, "dtype", None) is not None and not isinstance(plain(given), str):
            ids = torch.as_tensor(given).flatten()
            if ids.is_floating_point() or bool(((ids < -1) | (ids > len(field.names))).any()):
                raise ValueError(
                    f"got {field.name} of numbers, expected whole ones from −1 (none) to {len(field.names)} "
                    "(a word that is unknown), or a text"
                )
            ids = ids[ids >= 0].long()
        else:
            place = {word: i for i, word in enumerate(field.names)}
            words = [] if left_open(given) else self.words(field, given, files)
            ids = torch.tensor([place.get(w, len(place)) for w in words], dtype=torch.int64)
        return filled(ids, field.shape[0])

    def datum(self, field: Field, given: Any) -> Tensor:
        return self.parse(field, _literal(given))

    def show(self, field: Field, value: Tensor) -> str:
        """The words with a space between them, in a list where that alone would say something else."""
        if not field.names:
            return super().show(field, value)
        every = (*field.names, UNKNOWN)
        text = " ".join(every[i] for i in value.tolist() if i >= 0)
        odd = left_open(text) or "=" in text or text.startswith(("@", "["))
        return json.dumps([text], ensure_ascii=False) if odd and text else text

    def seen(self, field: Field, value: Tensor) -> Tensor:
        return value if field.names else super().seen(field, value)

    def beyond(self, field: Field, value: Tensor) -> str:
        if not field.names:
            return super().beyond(field, value)
        if bool((value == len(field.names)).any()):
            return f"{len(field.names)} words: {brief(listed(field.names))}"
        most = field.range[1] if field.range else math.inf
        return f"at most {most:g} words" if int((value >= 0).sum()) > most else ""

    def hint(self, field: Field) -> str:
        if not field.names:
            return super().hint(field)
        return f"a text of the {len(field.names)} words {brief(listed(field.names))}, or @FILE.txt"

    def control(self, field: Field) -> str:
        return "text" if field.names else super().control(field)

    def encoder(self, field: Field) -> dict[str, Any]:
        if not field.names:
            return super().encoder(field)
        return {"encoder": "words", "vocabulary": len(field.names), **field.options}


def words_of(text: str) -> list[str]:
    """Words and other signs in small letters, in their order: of letters, digits and underscores each run is
    one word, every other sign that is no space is one too."""
    plain_text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return re.findall(rf"{re.escape(UNKNOWN)}|\w+|[^\w\s]", plain_text)


def _literal(given: Any) -> Any:
    """A text of data in a list, where it is no file and no list of another form; None for none."""
    said = plain(given)
    return ([said] if said.strip() else None) if isinstance(said, str) else given


def _as_list(text: str) -> Any:
    """What a JSON list says; a text that is none as it stands."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, list) else text


def _but_logs(field: Field) -> dict[str, Any]:
    """The options of the encoder."""
    return {k: v for k, v in field.options.items() if k != "logs"}


def _within(field: Field, count: int) -> bool:
    return field.range is None or field.range[0] <= count <= field.range[1]


def _span(field: Field) -> str:
    low, high = field.range or (0, 0)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
