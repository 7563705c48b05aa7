"""The command that makes the samples of a recipe again, and for a network of one's own the line of Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidance.grammar import CUSTOM, text_of
from studio.checkpoints import own_network
from studio.checkpoints.find import card
from studio.data.labels import NO_LABEL, labels_text
from studio.runtime.recipes import NoCommand, complete, line_of, short
from studio.runtime.seeds import seed_of, seeds_text
from studio.sampling.sampler_spec import ELSEWHERE, Fit, as_recorded, fit_here

OUT = "again"
SHARED = ("model", "weights", "num_steps", "sampler", "guidance", "dtype")


def command_of(recipe: Mapping[str, Any], *, look: bool = True) -> str:
    """One line that makes the samples of a recipe again. ``look``: ask the folder of its model, where that is
    here, what the line has to say of classes and of the sampler's defaults. Raises `NoCommand` where there is
    none, ``ValueError`` for a damaged recipe."""
    recipe = complete(
        recipe, (*SHARED, *(("source", "seed_base", "direction") if "source" in recipe else ("seed",)))
    )
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
    if look and (network := own_network.called_here(recipe["model"])):
        raise NoCommand(f"its network is a module of your own; in Python: {python_of(recipe, network)}")
    return (_translate if "source" in recipe else _sample)(recipe, look)


def _sample(recipe: Mapping[str, Any], look: bool) -> str:
    options: list[tuple[str, Any]] = [("--out", OUT), ("--seeds", seeds_text(recipe["seed"]))]
    if (labels := _labels(recipe, look)) is not None:
        options.append(("--labels", labels))
    options += settings(recipe, look)
    if "init" in recipe:
        options += [("--init", recipe["init"]), ("--strength", recipe.get("strength"))]
    options += [
        ("--mask", recipe.get("mask")),
        ("--known", recipe.get("known")),
        ("--given", recipe.get("given")),
        ("--path", path_text(recipe.get("path"))),
        ("--deterministic", recipe.get("deterministic")),
    ]
    return line_of("sample", [recipe["model"]], options)


def _translate(recipe: Mapping[str, Any], look: bool) -> str:
    if not Path(recipe["source"]).name:
        raise ValueError(f"the recipe is damaged: got source {short(recipe['source'])}, expected a file")
    base, name = recipe["seed_base"], Path(recipe["source"]).with_suffix(".png").name
    # it lay in a folder of the folder that was translated
    if "seed" in recipe and seed_of(Path(name), base) != recipe["seed"]:
        base = (recipe["seed"] - seed_of(Path(name), 0)) % 2**31
    options: list[tuple[str, Any]] = [("--out", OUT), ("--seed", base), ("--direction", recipe["direction"])]
    if (label := _labels(recipe, look)) is not None:
        options.append(("--label", label))
    options += settings(recipe, look)
    options += [
        ("--mask", recipe.get("mask")),
        ("--resize", recipe.get("resize")),
        ("--deterministic", recipe.get("deterministic")),
    ]
    return line_of("translate", [recipe["model"], recipe["source"]], options)


def settings(recipe: Mapping[str, Any], look: bool = True) -> list[tuple[str, Any]]:
    """The options that all commands have."""
    return [
        *(
            ("--set", f"{name}={value if isinstance(value, str) else repr(value)}")
            for name, value in conditions_in(recipe).items()
        ),
        ("--num-steps", recipe["num_steps"]),
        ("--sampler", sampler_text(recipe, look=look)),
        ("--guidance", recipe["guidance"]),
        ("--weights", recipe["weights"]),
        ("--dtype", recipe["dtype"]),
        ("--plan", recipe.get("plan")),
        ("--attention", recipe.get("attention")),
    ]


def conditions_in(recipe: Mapping[str, Any]) -> dict[str, float | str]:
    """What a recipe asks for beside the label: numbers, and other conditions as texts."""
    return {**(recipe.get("conditions") or {}), **(recipe.get("fields") or {})}


def sampler_text(recipe: Mapping[str, Any], fit: Fit | None = None, *, look: bool = True) -> str:
    """What ``--sampler`` has to be today for the sampler of a recipe: one that is older than the defaults
    says that it has none. ``fit``: the model's; without one (and with ``look``) it is looked for here by
    name, and where it is not, it is taken for a model that has defaults."""
    try:
        return as_recorded(
            recipe["sampler"],
            fit or (fit_here(recipe["model"]) if look else ELSEWHERE),
            inpaint="mask" in recipe or "known" in recipe,
        )
    except ValueError:  # nothing that a sampler's line could be: whoever runs the command is told
        return str(recipe["sampler"])


def path_text(path: str | Mapping[str, Any] | None) -> str | None:
    """``trig``, or ``vp(schedule=cosine)`` of a path with options; None for the model's own."""
    if path is None or path == "" or isinstance(path, str):
        return path or None
    options = ",".join(f"{k}={text_of(v)}" for k, v in path.items() if k != "name")
    return f"{path['name']}({options})" if options else str(path["name"])


def _labels(recipe: Mapping[str, Any], look: bool) -> str | None:
    """What ``--labels`` has to be; None where the model has no classes. Labels are read by number: a class
    may have any name."""
    labels, names = (
        [recipe.get(k)] if not isinstance(recipe.get(k), list) else recipe[k] for k in ("label", "class")
    )
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
    try:
        return () if model.startswith("hf:") else card(model).classes
    except (ValueError, OSError):
        return ()


def script_of(recipe: Mapping[str, Any], *, look: bool = True) -> str:
    """The same as `command_of` in Python. Raises as it does."""
    network = own_network.called_here(str(recipe.get("model", ""))) if look else ""
    command_of(recipe, look=look and not network)
    labels = recipe.get("label")
    if isinstance(labels, list):
        labels = None if all(k is None for k in labels) else [NO_LABEL if k is None else k for k in labels]
    asked = {**recipe, "label": labels, "deterministic": recipe.get("deterministic") or None}
    return f"import studio\n\n{python_of(asked | {'sampler': sampler_text(recipe, look=look)}, network)}\n"


def python_of(recipe: Mapping[str, Any], network: str) -> str:
    """One line of Python that makes the samples of a recipe again."""
    model = own_network.loaded(
        recipe["model"],
        network,
        weights=recipe["weights"],
        dtype=recipe["dtype"],
        attention=recipe.get("attention"),
    )
    path = path_text(recipe.get("path"))
    options = {
        "labels": recipe.get("label"),
        "conditions": conditions_in(recipe) or None,
        "num_steps": recipe["num_steps"],
        "sampler": recipe["sampler"],
        "guidance": recipe["guidance"],
        "init": recipe.get("init"),
        "strength": recipe.get("strength"),
        "mask": recipe.get("mask"),
        "known": recipe.get("known"),
        "given": recipe.get("given"),
        "deterministic": recipe.get("deterministic"),
    }
    if "source" in recipe:
        options = {"seeds": recipe["seed"], **options, "direction": recipe["direction"]}
        return f"{model}.translate([{recipe['source']!r}]{own_network.options_text(options)}).save('again')"
    there = f"{model}.on_path({path!r})" if path else model
    there = f"{there}.planned({recipe['plan']!r})" if recipe.get("plan") else there
    line = f"{there}.sample(seeds={seeds_text(recipe['seed'])!r}{own_network.options_text(options)})"
    return f"{line}.save('again')"
