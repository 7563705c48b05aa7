"""`studio sample --preset NAME`: settings under a name (`studio.jobs.presets`) in the place of options that
are not given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from studio.checkpoints import plans
from studio.checkpoints.find import Card, card
from studio.cli.options import guidance_of
from studio.jobs.artefacts import USUAL, outputs_of
from studio.jobs.presets import Saved, named, of_model
from studio.jobs.recipe import Recipe
from studio.model import catalog

OPTIONS = {"label": "labels", "conditions": "set_"}  # that are called otherwise than in a recipe


def options(context: typer.Context, name: str, model: str, out: Path) -> dict[str, Any]:
    """What a preset says of the options of `studio sample` that the command line leaves open, by their
    names; its conditions are those that ``--set`` does not give. Raises ``ValueError`` for one that is not
    there."""
    shown = card(model)
    preset = named(name, model, shown, Saved(outputs_of(out)))
    said = settings(preset.settings, model, shown)
    return {k: v for k, v in said.items() if not _typed(context, k)}


def settings(said: Mapping[str, Any], model: str, shown: Card) -> dict[str, Any]:
    """Settings of a recipe as options of `studio sample`."""
    asked = Recipe.parse({"model": model, **said})
    conditions = catalog.conditions_of(shown)
    texts = [name for name, hint in conditions.items() if isinstance(hint, str)]
    told = asked.options(shown.classes, texts)
    values = vars(asked) | {
        "label": told["labels"],
        "conditions": told["conditions"],
        "num_steps": told["num_steps"],
        "sampler": told["sampler"],
        "guidance": guidance_of(asked.guidance),
        "plan": asked.plan or plans.NONE,
    }
    return {OPTIONS.get(name, name): values[name] for name in said}


def _typed(context: typer.Context, name: str) -> bool:
    """Whether an option was given; conditions of a preset stand beside those that were."""
    source = context.get_parameter_source(name)  # of the click that typer brings
    return name != "set_" and source is not None and source.name != "DEFAULT"


def listed(model: str, shown: Card) -> dict[str, str]:
    """The presets that a model can be sampled with, one's own first, in a line each."""
    own = [p for p in Saved(outputs_of(USUAL)).fitting(model, shown)]
    found = {p.name: p.about for p in own}
    return found | {p.name: p.about for p in of_model(model, shown) if p.name not in found}
