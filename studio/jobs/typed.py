"""What a stranger says, by names and values, as a dataclass: known names only, each value of its field's
type."""

import unicodedata
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from backbones.registry import suggest
from studio.jobs import limits

Kind = TypeVar("Kind")


def of_fields(kind: type[Kind], said: Any) -> Kind:
    """``said`` as a ``kind``; a field's default tells its type (none: a text; None: a text or null; a tuple:
    texts). Raises ``ValueError`` that names what is not."""
    if not isinstance(said, Mapping):
        raise ValueError(f"got {limits.brief(said)}, expected settings by name")
    known = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in said.items():
        if not isinstance(name, str) or name not in known:
            hint = suggest(name, known) if isinstance(name, str) else ""
            raise ValueError(f"got the setting {limits.brief(name)}, expected {', '.join(known)}{hint}")
        values[name] = _value(name, value, known[name])
    if missing := [k for k, default in known.items() if default is MISSING and k not in values]:
        raise ValueError(f"the settings lack {', '.join(missing)}")
    return kind(**values)


def _value(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ValueError(f"got {name} {limits.brief(value)}, expected true or false")
    if isinstance(default, float):
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return float(value)
        raise ValueError(f"got {name} {limits.brief(value)}, expected a number")
    if isinstance(default, int):
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        if whole and abs(value) < 2**63:
            return int(value)
        raise ValueError(f"got {name} {limits.brief(value)}, expected a whole number")
    if isinstance(default, tuple):
        if isinstance(value, list | tuple):
            return tuple(_value(name, v, "") for v in value)
        raise ValueError(f"got {name} {limits.brief(value)}, expected a list of texts")
    if value is None and default is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and name == "seeds":
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"got {name} {limits.brief(value)}, expected a text")
    limits.text(name, value)
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in value):
        raise ValueError(f"got {name} {limits.brief(value)}, expected a text without control characters")
    return value
