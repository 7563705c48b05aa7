"""What no run may ask for, whoever asks (a person, a script, a picture's recipe), refused before a model is
opened and before anything is listed."""

from typing import Any

DTYPES = ("auto", "fp32", "bf16", "fp16")
MOST_STEPS = 100_000
LONGEST = 1_000_000  # characters that a field may hold
MESSAGE = 1000  # characters of a message


def steps(value: Any) -> int:
    """Raises ``ValueError`` unless it is a whole number from 1 to `MOST_STEPS`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 1 <= value <= MOST_STEPS or value != int(value):
        raise ValueError(f"got {brief(value)} steps, expected a whole number from 1 to {MOST_STEPS:,}")
    return int(value)


def strength(value: Any) -> float:
    """Raises ``ValueError`` unless it is a number from 0 to 1."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ValueError(f"got strength {brief(value)}, expected a number above 0, up to 1")
    return float(value)


def dtype(value: Any) -> None:
    """Raises ``ValueError`` for a number format that there is not."""
    if value not in DTYPES:
        raise ValueError(f"got the number format {brief(value)}, expected one of {', '.join(DTYPES)}")


def plan(value: str) -> None:
    """Raises ``ValueError`` for a plan that is a file: the page opens none that a stranger names."""
    if value.endswith(".json"):
        raise ValueError(
            f"got plan {brief(value)}, expected auto, none, or the name of one of the model's plans: the "
            "page opens no files"
        )


def text(name: str, value: str) -> None:
    """Raises ``ValueError`` for a field that holds a book."""
    if len(value) > LONGEST:
        raise ValueError(f"got {len(value):,} characters of {name}, expected at most {LONGEST:,}")


def words(text: str) -> str:
    """A message of a length that a person reads: of one that repeats a whole book its ends."""
    return text if len(text) <= MESSAGE else f"{text[: MESSAGE // 2]} … {text[-MESSAGE // 2 :]}"


def brief(value: Any) -> str:
    """A value for a message, in a few letters."""
    if not isinstance(value, str | int | float | bool | None):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than thirty digits"
    shown = ascii(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
