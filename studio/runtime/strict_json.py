"""Valid JSON of whatever a run has found. JSON has no word for a number that is not finite, and Python's
``NaN`` is refused by most who read it."""

import json
import math
from collections.abc import Mapping
from typing import Any


def strict(value: Any) -> Any:
    """A tree with nan and inf as None, and lists for tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: strict(v) for k, v in value.items()}
    return [strict(v) for v in value] if isinstance(value, list | tuple) else value


def to_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON; what is not finite is null."""
    return json.dumps(strict(value), indent=indent, allow_nan=False)


def numbers(value: Any) -> Any:
    """The same read back: null as nan, in dicts and lists too."""
    if isinstance(value, Mapping):
        return {k: numbers(v) for k, v in value.items()}
    return [numbers(v) for v in value] if isinstance(value, list) else math.nan if value is None else value
