"""Which of the page's models a stranger's words mean. Nothing but those is opened, for a run or for what its
guidance borrows."""

import os
from collections.abc import Mapping
from typing import Any

import guidance
from studio.checkpoints.find import Card, card
from studio.jobs import limits
from studio.jobs.recipe import Recipe
from studio.model import catalog
from studio.model.guiding_models import BASE

Shelf = Mapping[str, Card]


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


def model_of(recipe: Mapping[str, Any], shelf: Shelf) -> tuple[str, Card, list[str]]:
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


def without_strangers(settings: Recipe, shelf: Shelf) -> tuple[Recipe, list[str]]:
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
    """Bridges of the shelf that take what a recipe's model makes; none where that model is not here, or is a
    bridge: its pictures lead to what they were made from."""
    found = on_shelf(model, shelf)
    if found is None or found[1].starts_from:
        return []
    return [name for name, card in shelf.items() if card.starts_from and catalog.takes(card, found[1])]
