"""Recipes: what a picture says of how it was made, read with suspicion.

A recipe may come from a stranger's file. Each entry that is used is first held against its type (`checked`);
a command is put together as a list of arguments and quoted in one place (`line_of`), so that whatever an
entry holds is one argument, never an option and never a second line.
"""

import math
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.runtime import untrusted

KEY = "drift-studio"  # the PNG text that holds the recipe, as JSON
LARGEST_CLASS = 2**20
LONGEST = 100_000  # characters of one argument; Linux takes 131,071 bytes


class NoCommand(ValueError):
    """A recipe that no command makes again, and why."""


# ---- types ---------------------------------------------------------------------------------------


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _one_or_many(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: all(map(test, value)) and bool(value) if isinstance(value, list) else test(value)


def _table(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(_text(k) and test(v) for k, v in value.items())


def _or_none(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or test(value)


def _path(value: Any) -> bool:
    return (
        _text(value)
        or isinstance(value, dict)
        and _text(value.get("name"))
        and all(_text(v) or _or_none(_number)(v) or v is bool(v) for v in value.values())
    )


_SEED = _whole(0, 2**63 - 1)
TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        (
            "model",
            "model_hash",
            "weights",
            "sampler",
            "guidance",
            "dtype",
            "studio",
            "torch",
            "init",
            "mask",
            "known",
            "given",
            "direction",
            "source",
            "source_hash",
            "plan",
            "plan_hash",
            "attention",
        ),
        ("a text", _text),
    ),
    "seed": ("a whole number from 0, or a list of them", _one_or_many(_SEED)),
    "label": ("a class number, -1, or a list of them", _one_or_many(_or_none(_whole(-1, LARGEST_CLASS)))),
    "class": ("a text, or a list of texts", _one_or_many(_or_none(_text))),
    "num_steps": ("a whole number from 1", _whole(1)),
    "seed_base": ("a whole number", _whole(-(2**63), 2**63)),
    "strength": ("a number", _number),
    "conditions": ("numbers by name", _or_none(_table(_number))),
    "fields": ("texts by name", _or_none(_table(_text))),
    "borrowed": ("texts by name", _table(_text)),
    "path": ("the name of a path, or its options by name", _path),
    "deterministic": ("true or false", lambda value: isinstance(value, bool)),
    "resize": ("true or false", lambda value: isinstance(value, bool)),
    "as_values": ("a list of texts", lambda value: isinstance(value, list) and all(map(_text, value))),
}


def checked(recipe: Any) -> dict[str, Any]:
    """The recipe, every known entry of its type; others are kept as they are. Raises ``ValueError`` that
    names what is not."""
    if not isinstance(recipe, dict):
        raise ValueError(f"a recipe is a table of names and values, got {short(recipe)}")
    for name, (expected, test) in TYPES.items():
        if name in recipe and not test(recipe[name]):
            raise ValueError(f"got {name} {short(recipe[name])}, expected {expected}")
    counts = {len(recipe[k]) for k in ("seed", "label", "class") if isinstance(recipe.get(k), list)}
    if len(counts) > 1 or counts and not isinstance(recipe.get("seed"), list):
        raise ValueError(
            "got lists of seeds, labels and classes of different lengths, expected one of each for "
            "every sample"
        )
    return recipe


def short(value: Any) -> str:
    shown = (
        ascii(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    )
    return shown if len(shown) <= 60 else shown[:57] + "..."


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe inside a PNG, `checked`. Raises ``ValueError`` for a file that has none or a damaged one."""
    text = untrusted.text_in(path, KEY)
    if text is None:
        raise ValueError(
            f"{path} carries no recipe of this studio; it was made elsewhere, or its text was stripped by "
            "another program"
        )
    try:
        return checked(untrusted.parsed(text))
    except ValueError as error:
        raise ValueError(f"{path} carries a damaged recipe: {error}") from None


# ---- lines ---------------------------------------------------------------------------------------


def complete(recipe: Mapping[str, Any], needed: Sequence[str]) -> dict[str, Any]:
    """The recipe, `checked`. Raises ``ValueError`` where one of the names is missing."""
    recipe = checked(dict(recipe))
    missing = [name for name in needed if name not in recipe]
    if missing:
        raise ValueError(f"the recipe is damaged: it lacks {', '.join(missing)}")
    return recipe


def told(command: Callable[[], str]) -> str:
    """What ``command()`` returns, or ``none, because ...``: one line in any case."""
    try:
        return command()
    except NoCommand as reason:
        return f"none, because {shown(reason)}"


def line_of(command: str, places: Sequence[str], options: Sequence[tuple[str, Any]]) -> str:
    """``studio COMMAND PLACES --name value``; options that are None or False are left out, True stands alone.
    Raises `NoCommand` for what a line cannot hold."""
    words: list[str] = []
    for name, value in options:
        if value is None or value is False:
            continue
        text = str(value)
        words += [name] if value is True else [f"{name}={text}"] if text.startswith("-") else [name, text]
    first = [*places, *words] if not any(p.startswith("-") for p in places) else [*words, "--", *places]
    for word in first:
        if any(
            unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(c) in _TURNING
            for c in word
        ):
            raise NoCommand(f"{short(word)} holds characters that a line cannot show")
        if len(word.encode()) > LONGEST:
            raise NoCommand(
                f"an argument of {len(word):,} characters is longer than a command line may be; use "
                "`Model.sample` in Python"
            )
    return shlex.join(["studio", command, *first])


def next_line(command: str, place: Any, *options: tuple[str, Any]) -> str:
    """The command that a user would give next, or why no line can hold it."""
    return told(lambda: line_of(command, [str(place)], options))


# marks that show a line in another order than it is read
_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def shown(value: Any) -> str:
    """A value of a recipe for the eye: on one line, without what steers a terminal."""
    text = str(value)
    return "".join(
        c
        if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp")
        and unicodedata.bidirectional(c) not in _TURNING
        else ascii(c)[1:-1]
        for c in text
    )
