"""Recipes: what a picture says of how it was made, read with suspicion, and the command that makes it again.

A recipe may come from a stranger's file. Each entry that is used is first held against its type (`checked`); a command is put together as a list of
arguments and quoted in one place (`line_of`), so that whatever an entry holds is one argument, never an option and never a second line.
"""

import math
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidance.grammar import CUSTOM
from studio import strangers
from studio.labels import NO_LABEL, labels_text

if TYPE_CHECKING:
    from studio.sampler_spec import Fit

KEY = "drift-studio"  # the PNG text that holds the recipe, as JSON
LARGEST_CLASS = 2**20
LONGEST = 100_000  # characters of one argument; Linux takes 131,071 bytes
OUT = "again"


class NoCommand(ValueError):
    """A recipe that no command makes again, and why."""


# ---- types -----------------------------------------------------------------------------------------------------------------------------------


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
        ("model", "model_hash", "weights", "sampler", "guidance", "dtype", "studio", "torch", "init", "mask", "direction", "source", "source_hash"), ("a text", _text)
    ),
    "seed": ("a whole number from 0, or a list of them", _one_or_many(_SEED)),
    "label": ("a class number, -1, or a list of them", _one_or_many(_or_none(_whole(-1, LARGEST_CLASS)))),
    "class": ("a text, or a list of texts", _one_or_many(_or_none(_text))),
    "num_steps": ("a whole number from 1", _whole(1)),
    "seed_base": ("a whole number", _whole(-(2**63), 2**63)),
    "strength": ("a number", _number),
    "conditions": ("numbers by name", _or_none(_table(_number))),
    "borrowed": ("texts by name", _table(_text)),
    "path": ("the name of a path, or its options by name", _path),
    "deterministic": ("true or false", lambda value: isinstance(value, bool)),
    "resize": ("true or false", lambda value: isinstance(value, bool)),
    "as_values": ("a list of texts", lambda value: isinstance(value, list) and all(map(_text, value))),
}  # fmt: skip


def checked(recipe: Any) -> dict[str, Any]:
    """The recipe, every known entry of its type; others are kept as they are. Raises ``ValueError`` that names what is not."""
    if not isinstance(recipe, dict):
        raise ValueError(f"a recipe is a table of names and values, got {_short(recipe)}")
    for name, (expected, test) in TYPES.items():
        if name in recipe and not test(recipe[name]):
            raise ValueError(f"got {name} {_short(recipe[name])}, expected {expected}")
    counts = {len(recipe[k]) for k in ("seed", "label", "class") if isinstance(recipe.get(k), list)}
    if len(counts) > 1 or counts and not isinstance(recipe.get("seed"), list):
        raise ValueError("got lists of seeds, labels and classes of different lengths, expected one of each for every sample")
    return recipe


def _short(value: Any) -> str:
    shown = ascii(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe inside a PNG, `checked`. Raises ``ValueError`` for a file that has none or a damaged one."""
    text = strangers.text_in(path, KEY)
    if text is None:
        raise ValueError(f"{path} carries no recipe of this studio; it was made elsewhere, or its text was stripped by another program")
    try:
        return checked(strangers.parsed(text))
    except ValueError as error:
        raise ValueError(f"{path} carries a damaged recipe: {error}") from None


# ---- commands --------------------------------------------------------------------------------------------------------------------------------

SHARED = ("model", "weights", "num_steps", "sampler", "guidance", "dtype")


def command_of(recipe: Mapping[str, Any], *, look: bool = True) -> str:
    """One line that makes the samples of a recipe again. ``look``: ask the folder of its model, where that is here, what the line has to say of classes and
    of the sampler's defaults. Raises `NoCommand` where there is none, ``ValueError`` for a damaged recipe."""
    recipe = complete(recipe, (*SHARED, *(("source", "seed_base", "direction") if "source" in recipe else ("seed",))))
    if recipe["guidance"] == CUSTOM:
        raise NoCommand("its guidance was rules given as objects in Python, which no line describes")
    if recipe["sampler"] == CUSTOM:
        raise NoCommand("its sampler was an object in Python, which no line describes")
    if recipe.get("path") == CUSTOM:
        raise NoCommand("its path was an object in Python, which no line describes")
    if recipe.get("as_values"):
        raise NoCommand(f"{' and '.join(recipe['as_values'])} came as values in Python, not as a file")
    if "direction" in recipe and "source" not in recipe:
        raise NoCommand("it was translated from values in Python, not from a file")
    from studio import own_network

    if look and (network := own_network.called_here(recipe["model"])):
        raise NoCommand(f"its network is a module of your own; in Python: {own_network.python_of(recipe, network)}")
    return (_translate if "source" in recipe else _sample)(recipe, look)


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


def _sample(recipe: Mapping[str, Any], look: bool) -> str:
    options: list[tuple[str, Any]] = [("--out", OUT), ("--seeds", seeds_text(recipe["seed"]))]
    if (labels := _labels(recipe, look)) is not None:
        options.append(("--labels", labels))
    options += settings(recipe, look)
    if "init" in recipe:
        options += [("--init", recipe["init"]), ("--strength", recipe.get("strength"))]
    options += [("--mask", recipe.get("mask")), ("--path", path_text(recipe.get("path"))), ("--deterministic", recipe.get("deterministic"))]
    return line_of("sample", [recipe["model"]], options)


def _translate(recipe: Mapping[str, Any], look: bool) -> str:
    from studio.translate import seed_of

    if not Path(recipe["source"]).name:
        raise ValueError(f"the recipe is damaged: got source {_short(recipe['source'])}, expected a file")
    base, name = recipe["seed_base"], Path(recipe["source"]).with_suffix(".png").name
    if "seed" in recipe and seed_of(Path(name), base) != recipe["seed"]:  # it lay in a folder of the folder that was translated
        base = (recipe["seed"] - seed_of(Path(name), 0)) % 2**31
    options: list[tuple[str, Any]] = [("--out", OUT), ("--seed", base), ("--direction", recipe["direction"])]
    if (label := _labels(recipe, look)) is not None:
        options.append(("--label", label))
    options += settings(recipe, look)
    options += [("--mask", recipe.get("mask")), ("--resize", recipe.get("resize")), ("--deterministic", recipe.get("deterministic"))]
    return line_of("translate", [recipe["model"], recipe["source"]], options)


def settings(recipe: Mapping[str, Any], look: bool = True) -> list[tuple[str, Any]]:
    """The options that all commands have."""
    return [
        *(("--set", f"{name}={value!r}") for name, value in (recipe.get("conditions") or {}).items()), ("--num-steps", recipe["num_steps"]),
        ("--sampler", sampler_text(recipe, look=look)), ("--guidance", recipe["guidance"]), ("--weights", recipe["weights"]), ("--dtype", recipe["dtype"]),
    ]  # fmt: skip


def sampler_text(recipe: Mapping[str, Any], fit: "Fit | None" = None, *, look: bool = True) -> str:
    """What ``--sampler`` has to be today for the sampler of a recipe: one that is older than the defaults says that it has none. ``fit``: the model's;
    without one (and with ``look``) it is looked for here by name, and where it is not, it is taken for a model that has defaults."""
    from studio.sampler_spec import ELSEWHERE, as_recorded, fit_here

    try:
        return as_recorded(recipe["sampler"], fit or (fit_here(recipe["model"]) if look else ELSEWHERE), inpaint="mask" in recipe)
    except ValueError:  # nothing that a sampler's line could be: whoever runs the command is told
        return str(recipe["sampler"])


def path_text(path: str | Mapping[str, Any] | None) -> str | None:
    """``trig``, or ``vp(schedule=cosine)`` of a path with options; None for the model's own."""
    if path is None or path == "" or isinstance(path, str):
        return path or None
    from guidance.grammar import text_of

    options = ",".join(f"{k}={text_of(v)}" for k, v in path.items() if k != "name")
    return f"{path['name']}({options})" if options else str(path["name"])


def _labels(recipe: Mapping[str, Any], look: bool) -> str | None:
    """What ``--labels`` has to be; None where the model has no classes. Labels are read by number: a class may have any name."""
    labels, names = ([recipe.get(k)] if not isinstance(recipe.get(k), list) else recipe[k] for k in ("label", "class"))
    if all(label is None for label in labels):
        return None
    numbers = [NO_LABEL if label is None else label for label in labels]
    classes = _classes_here(recipe["model"]) if look else ()
    if max(numbers) < len(classes):
        return labels_text(numbers, classes)
    known = {k: n for k, n in zip(numbers, names) if isinstance(n, str)}
    return labels_text(numbers, known if len(set(known.values())) == len(known) else {})


def _classes_here(model: str) -> tuple[str, ...]:
    """Names of the classes of a model that is here; nothing is fetched, and no weights are read."""
    from studio.shelf import card

    try:
        return () if model.startswith("hf:") else card(model).classes
    except (ValueError, OSError):
        return ()


def seeds_text(seeds: int | Sequence[int]) -> str:
    """(0, 1, 2, 7) to ``"0-2,7"``; the order is kept."""
    runs: list[list[int]] = []
    for seed in [seeds] if isinstance(seeds, int) else seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def line_of(command: str, places: Sequence[str], options: Sequence[tuple[str, Any]]) -> str:
    """``studio COMMAND PLACES --name value``; options that are None or False are left out, True stands alone. Raises `NoCommand` for what a line cannot hold."""
    words: list[str] = []
    for name, value in options:
        if value is None or value is False:
            continue
        text = str(value)
        words += [name] if value is True else [f"{name}={text}"] if text.startswith("-") else [name, text]
    first = [*places, *words] if not any(p.startswith("-") for p in places) else [*words, "--", *places]
    for word in first:
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(c) in _TURNING for c in word):
            raise NoCommand(f"{_short(word)} holds characters that a line cannot show")
        if len(word.encode()) > LONGEST:
            raise NoCommand(f"an argument of {len(word):,} characters is longer than a command line may be; use `Model.sample` in Python")
    return shlex.join(["studio", command, *first])


def next_line(command: str, place: Any, *options: tuple[str, Any]) -> str:
    """The command that a user would give next, or why no line can hold it."""
    return told(lambda: line_of(command, [str(place)], options))


_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # marks that show a line in another order than it is read


def shown(value: Any) -> str:
    """A value of a recipe for the eye: on one line, without what steers a terminal."""
    text = str(value)
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") and unicodedata.bidirectional(c) not in _TURNING else ascii(c)[1:-1]
        for c in text
    )
