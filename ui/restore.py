"""What a dropped picture says: its recipe to look at, whatever it names, and the controls that it can set.

A picture may come from a stranger. Looking opens nothing that the recipe names; setting the controls takes
models of the page's own shelf only, for the run and for what its guidance borrows.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guidance.grammar import CUSTOM
from studio.checkpoints import plans
from studio.checkpoints.find import Card
from studio.data.labels import NO_LABEL, labels_text
from studio.jobs import limits
from studio.jobs.recipe import FILES, Recipe, from_recipe, renamed, shortened
from studio.jobs.translation import Translation
from studio.jobs.uploads import kept
from studio.model import catalog
from studio.runtime.recipes import NoCommand, complete, read_recipe, shown, told
from studio.runtime.seeds import AT_ONCE, parse_seeds
from studio.runtime.untrusted import parsed
from studio.sampling.array_files import is_array
from studio.sampling.commands import command_of, conditions_in, sampler_text, script_of
from ui.shelf import Shelf, model_of, on_shelf, without_strangers


@dataclass(frozen=True)
class Restored:
    """Control values of a picture's recipe; ``notes`` say in plain words what will differ; ``start``: the
    files that it was started from, by FILES, where they still lie below the folder of outputs, as seen from
    there."""

    settings: Recipe
    recipe: dict[str, Any]
    notes: tuple[str, ...] = ()
    start: Mapping[str, str] = field(default_factory=dict)


def read(path: str | Path) -> dict[str, Any]:
    """The recipe in a PNG, within the page's limits. Raises ``ValueError`` when it has none, with the file's
    name instead of where the browser's copy lies."""
    name = Path(path).name
    try:
        recipe = read_recipe(path)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), name)) from None
    if "model" not in recipe:
        raise ValueError(f"{name} carries a recipe that names no model; it is damaged")
    try:
        limits.steps(recipe.get("num_steps", 1))
        limits.dtype(recipe.get("dtype", "auto"))
        if "seed" in recipe:
            parse_seeds(recipe["seed"], most=AT_ONCE)
    except ValueError as error:
        raise ValueError(f"{name} carries a recipe that no run can follow: {error}") from None
    return recipe


def explain(path: str | Path, shelf: Shelf) -> tuple[dict[str, Any], str]:
    """A PNG's recipe with long lists in short, and the command that makes its samples again, or why there is
    none. Nothing is opened but models of the shelf."""
    recipe = read(path)
    found = on_shelf(recipe["model"], shelf)
    brief = shortened(recipe, len(found[1].classes) if found else 0)
    # each seed its own, which is what no --labels means
    own = isinstance(recipe.get("seed"), list) and "label" not in brief
    asked = {k: v for k, v in recipe.items() if k not in ("label", "class")} if own else recipe
    try:
        return brief, told(lambda: command_of(asked, look=found is not None))
    except ValueError as error:
        return brief, f"none, because {error}"


def script(path: str | Path, shelf: Shelf) -> str:
    """The Python that makes a PNG's samples again, or a comment that says why there is none; as `explain`."""
    recipe = read(path)
    try:
        return script_of(recipe, look=on_shelf(recipe["model"], shelf) is not None)
    except (NoCommand, ValueError) as error:
        return f"# none, because {shown(error)}"


def restore(path: str | Path, shelf: Shelf, out: Path | None = None) -> Restored:
    """Control values from a PNG; ``out``: the folder of outputs. Raises ``ValueError`` when it has no recipe
    or its model is not on the shelf."""
    return restored(read(path), Path(path).name, shelf, out)


def asked(untrusted: Any, shelf: Shelf, out: Path | None = None, folder: str = "") -> Restored:
    """Control values from what a link, a script or the browser's own memory says (`Recipe.parse`), of the job
    in this ``folder`` of ``out``, if of any. Raises ``ValueError`` as `restore` does."""
    said = parsed(untrusted) if isinstance(untrusted, str) else untrusted
    if isinstance(said, Mapping) and "seed" in said:
        return restored(dict(said), "this link", shelf, out)
    recipe = Recipe.parse(said)
    if (found := on_shelf(recipe.model, shelf)) is None:
        raise ValueError(f"the model {limits.brief(recipe.model)} is not here; start the page with --models")
    own = catalog.defaults_of(found[1])
    recipe = replace(
        recipe,
        model=found[0],
        weights=catalog.weights_file(found[1])[0] if recipe.weights == "auto" else recipe.weights,
        num_steps=recipe.num_steps or own.num_steps,
        sampler=recipe.sampler or own.sampler,
        guidance=own.guidance if recipe.guidance == "default" else recipe.guidance,
    )
    settings, left = without_strangers(recipe, shelf)
    start, missing = _start(found[1], vars(settings), out, folder)
    return Restored(settings, {}, (*left, *missing), start)


def restored(recipe: dict[str, Any], file: str, shelf: Shelf, out: Path | None = None) -> Restored:
    """Control values from a picture's recipe."""
    recipe = complete(recipe, ("model", "seed", "sampler"))
    name, shown, notes = model_of(recipe, shelf)
    if shown.starts_from:
        raise ValueError(
            f"{file} was sampled, but {name} starts from {shown.starts_from} here; translate with it"
        )
    if recipe.get("sampler") == CUSTOM:
        notes.append(
            "This picture was sampled by an object in Python, which the page cannot give; the model's "
            "own sampler was chosen."
        )
        recipe = {**recipe, "sampler": catalog.defaults_of(shown).sampler}
    try:
        settings = from_recipe(
            {**recipe, "sampler": sampler_text(recipe, catalog.fit_of(shown))}, name, shown.classes
        )
        catalog.check_sampler(settings.sampler)
        settings, left = without_strangers(settings, shelf)
    except ValueError as error:
        raise ValueError(f"{file} cannot set the controls: {error}") from None
    notes += left + renamed(recipe, shown.classes)
    digest = str(recipe.get("model_hash", ""))
    if settings.weights not in shown.weights:
        notes.append(
            f"The model has no weights {limits.brief(settings.weights)} any more; it has "
            f"{', '.join(shown.weights)}."
        )
    elif catalog.weights_hash(shown, settings.weights) != digest:
        notes.append(
            f"The weights of {name} differ from those that made this picture ({limits.brief(digest)}): "
            "the same settings will give another picture."
        )
    if recipe.get("plan", "") not in ("", plans.NONE):
        own = catalog.plans_of(shown).get(recipe["plan"])
        if own is not None and (own.plan.hash, own.key.model) == (recipe.get("plan_hash"), digest):
            settings = replace(settings, plan=recipe["plan"])
        else:
            notes.append(
                f"The plan {limits.brief(recipe['plan'])} that it followed is not here as it was: none was "
                "chosen, so the same settings will give another picture."
            )
    start, missing = _start(shown, recipe, out)
    notes += missing
    if recipe.get("path"):
        notes.append(
            "This picture was sampled on another path than the model's own, which the page cannot give; "
            "use the command below."
        )
    if recipe["guidance"] == CUSTOM:
        notes.append(
            "This picture was guided by rules given as objects in Python, which the page cannot give; "
            "guidance was left out."
        )
    return Restored(settings, recipe, tuple(notes), start)


def _start(
    card: Card, said: Mapping[str, Any], out: Path | None, folder: str = ""
) -> tuple[dict[str, str], list[str]]:
    """The files (FILES) of a recipe that still lie below ``out``, as seen from there, and what to say of
    those that do not."""
    named = {k: str(said[k]) for k in FILES if said.get(k)}
    values = {"init", "known"} & set(said.get("as_values", ()))
    if not named and not values:
        return {}, []
    array = "given" in named or is_array(named.get("init"))
    takes = catalog.takes_numbers(card) if array else catalog.takes_picture(card)
    if values or not takes or not {"init", "given"} & set(named):
        return {}, ["It was started from what the page cannot give; use the command or Python."]
    paths = {k: kept(out, file, folder) for k, file in named.items()} if out else {}
    there = {k: path.relative_to(out).as_posix() for k, path in paths.items() if path and out}
    if there.keys() == named.keys():
        return there, []
    if array:
        names = ", ".join(dict.fromkeys(limits.brief(_file(named[k])) for k in named if k not in there))
        return {}, [
            f"It was started from other numbers, {names}, which do not lie here any more: add them under "
            "Start from numbers."
        ]
    if "init" not in there:
        return {}, [
            f"It was started from another picture, {limits.brief(_file(named['init']))}, which does not lie "
            "here any more: add it under Start from a picture"
            + (", and paint over what may change." if "mask" in named else ".")
        ]
    return there, ["Its mask does not lie here any more: paint over what may change."]


def _file(address: str) -> str:
    """The name of a file, of an address of any machine."""
    return os.path.basename(address.replace("\\", "/"))


def is_translated(recipe: Mapping[str, Any]) -> bool:
    """Whether a bridge made it from another picture."""
    return "source" in recipe or "direction" in recipe


def translation(
    recipe: Mapping[str, Any], file: str, shelf: Shelf
) -> tuple[Translation, Card, tuple[str, ...]]:
    """What a translated picture was asked for, without its source; the bridge's card, and what to say. Raises
    ``ValueError`` when its model is not on the shelf or makes no such thing."""
    recipe = complete(recipe, ("num_steps", "sampler", "weights"))
    name, shown, notes = model_of(recipe, shelf)
    if not shown.starts_from:
        raise ValueError(
            f"{file} was translated, but {name} starts from noise here; translate with another model"
        )
    own, label = catalog.defaults_of(shown), recipe.get("label")
    known = [label] if isinstance(label, int) and 0 <= label < len(shown.classes) else []
    told = {
        "sampler": recipe["sampler"] == CUSTOM,
        "guidance": recipe.get("guidance", "") not in ("", own.guidance),
        "class": label not in (None, NO_LABEL) and not known,
        "conditions": bool(conditions_in(recipe)),
        "mask": "mask" in recipe,
        "weights": recipe["weights"] != catalog.weights_file(shown)[0],
        "precision": bool(recipe.get("deterministic")),
        "plan": bool(recipe.get("plan")),
    }
    if apart := [word for word, differs in told.items() if differs]:
        notes.append(
            f"The form cannot be given its {', '.join(apart)}; use the command to make the same picture."
        )
    source = os.path.basename(str(recipe.get("source", "")))
    notes.append(
        f"Add the picture that it was made from{f', {limits.brief(source)},' if source else ''} to "
        "Pictures: a recipe holds no pixels."
    )
    try:
        asked = Translation.parse(
            {
                "bridge": name,
                "num_steps": recipe["num_steps"],
                "sampler": "" if recipe["sampler"] == CUSTOM else recipe["sampler"],
                "seed": recipe.get("seed_base", 0),
                "resize": bool(recipe.get("resize")),
                "direction": recipe.get("direction", "forward"),
                "label": labels_text(known, shown.classes) if known else None,
            },
            whole=False,
        )
    except ValueError as error:
        raise ValueError(f"{file} cannot set the controls: {error}") from None
    return asked, shown, tuple(notes)


def belongs(path: str | Path, shelf: Shelf, out: Path | None = None) -> tuple[str, tuple[str, ...]]:
    """The page whose controls a picture can set, "" for none, and what there is to say of it."""
    try:
        recipe = read(path)
        if is_translated(recipe):
            return "Bridge", translation(recipe, Path(path).name, shelf)[2]
        return "Create", restore(path, shelf, out).notes
    except (ValueError, OSError) as error:
        return "", (str(error).replace(str(path), Path(path).name),)
