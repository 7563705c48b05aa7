"""What a dropped picture says: its recipe to look at, whatever it names, and the controls that it can set.

A picture may come from a stranger. Looking opens nothing that the recipe names; setting the controls takes
models of the page's own shelf only, for the run and for what its guidance borrows.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import guidance
from guidance.grammar import CUSTOM
from studio.checkpoints import plans
from studio.checkpoints.find import Card, card
from studio.data.labels import NO_LABEL, labels_text
from studio.jobs import limits
from studio.jobs.recipe import Recipe, from_recipe, renamed, shortened
from studio.jobs.translation import Translation
from studio.jobs.uploads import kept
from studio.model import catalog
from studio.model.guiding_models import BASE
from studio.runtime.recipes import NoCommand, complete, read_recipe, shown, told
from studio.runtime.seeds import AT_ONCE, parse_seeds
from studio.runtime.untrusted import parsed
from studio.sampling.commands import command_of, conditions_in, sampler_text, script_of

Shelf = Mapping[str, Card]


@dataclass(frozen=True)
class Restored:
    """Control values of a picture's recipe; ``notes`` say in plain words what will differ; ``start``: the
    picture (``init``) and the ``mask`` that it was started from, where they still lie below the folder of
    outputs, as seen from there."""

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
    settings, left = _without_strangers(recipe, shelf)
    start, missing = _start(found[1], vars(settings), out, folder)
    return Restored(settings, {}, (*left, *missing), start)


def restored(recipe: dict[str, Any], file: str, shelf: Shelf, out: Path | None = None) -> Restored:
    """Control values from a picture's recipe."""
    recipe = complete(recipe, ("model", "seed", "sampler"))
    name, shown, notes = _model_of(recipe, shelf)
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
        settings, left = _without_strangers(settings, shelf)
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
    """The ``init`` and the ``mask`` of a recipe that still lie below ``out``, as seen from there, and what to
    say of those that do not."""
    named = {k: str(said[k]) for k in ("init", "mask") if said.get(k)}
    begun = {"init", "known"}
    if not named and not begun & {*said.get("as_values", ()), *(k for k in begun if said.get(k))}:
        return {}, []
    if "init" not in named or not catalog.takes_picture(card):
        return {}, ["It was started from what the page cannot give; use the command or Python."]
    paths = {k: kept(out, file, folder) for k, file in named.items()} if out else {}
    there = {k: path.relative_to(out).as_posix() for k, path in paths.items() if path and out}
    if "init" not in there:
        name = limits.brief(os.path.basename(named["init"].replace("\\", "/")))
        return {}, [
            f"It was started from another picture, {name}, which does not lie here any more: add it under "
            "Start from a picture" + (", and paint over what may change." if "mask" in named else ".")
        ]
    if there.keys() != named.keys():
        return there, ["Its mask does not lie here any more: paint over what may change."]
    return there, []


def is_translated(recipe: Mapping[str, Any]) -> bool:
    """Whether a bridge made it from another picture."""
    return "source" in recipe or "direction" in recipe


def translation(
    recipe: Mapping[str, Any], file: str, shelf: Shelf
) -> tuple[Translation, Card, tuple[str, ...]]:
    """What a translated picture was asked for, without its source; the bridge's card, and what to say. Raises
    ``ValueError`` when its model is not on the shelf or makes no such thing."""
    recipe = complete(recipe, ("num_steps", "sampler", "weights"))
    name, shown, notes = _model_of(recipe, shelf)
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


def _without_strangers(settings: Recipe, shelf: Shelf) -> tuple[Recipe, list[str]]:
    """The settings without guidance that borrows a model from outside of the shelf, and what to say of it."""
    borrowed = {getattr(rule, "model", None) for rule in guidance.parse(settings.guidance)} - {None, BASE}
    strangers = sorted(name for name in borrowed if isinstance(name, str) and on_shelf(name, shelf) is None)
    if not strangers:
        return settings, []
    told = ", ".join(map(limits.brief, strangers))
    words = (
        f"Its guidance borrows {told}, which the page does not hold: guidance was left out. Where you "
        "trust that model, start the page with --models and the folder that holds it."
    )
    return Recipe(**{**vars(settings), "guidance": ""}), [words]


def bridges_for(model: str, shelf: Shelf) -> list[str]:
    """Bridges of the shelf that take what a recipe's model makes; none where that model is not here."""
    found = on_shelf(model, shelf)
    bridges = {name: card for name, card in shelf.items() if card.starts_from and found}
    return [name for name, card in bridges.items() if found and catalog.takes(card, found[1])]


def on_shelf(text: str, shelf: Shelf) -> tuple[str, Card] | None:
    """The shelf's name and card of a MODEL text, at its step where it says one; None for a model from
    elsewhere. Opens nothing else."""
    plain, at, step = text.rpartition("@")
    known = {os.path.abspath(name): name for name in shelf}
    name = known.get(os.path.abspath(text))
    if name is None and at and step.isdecimal():
        name = known.get(os.path.abspath(plain))
    else:
        step = ""
    if name is None:
        return None
    if step in ("", str(shelf[name].step)):
        return name, shelf[name]
    try:
        return f"{name}@{step}", card(f"{name}@{step}")
    except (ValueError, OSError):  # the step is gone; the difference in weights will be said
        return name, shelf[name]


def _model_of(recipe: Mapping[str, Any], shelf: Shelf) -> tuple[str, Card, list[str]]:
    """The recipe's model; failing that, one of the shelf with the same weights."""
    named = str(recipe["model"])
    if (found := on_shelf(named, shelf)) is not None:
        return *found, []
    same = catalog.find_by_hash(str(recipe.get("model_hash", "")), shelf.values())
    if same is not None:
        name = catalog.name_of(same)
        return (
            name,
            same,
            [f"{limits.brief(named)} is not here, but {name} has the same weights and was chosen instead."],
        )
    hint = (
        "the page opens none from the hub, `studio sample` does"
        if named.startswith("hf:")
        else "start the page with --models and the folder that holds it"
    )
    raise ValueError(
        f"the model {limits.brief(named)} that made this picture is not here; its recipe is shown all the "
        f"same; {hint}"
    )
