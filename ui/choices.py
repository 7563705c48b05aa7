"""What the lists of the form offer for a model."""

from collections.abc import Iterable
from typing import Any

from studio.checkpoints import plans as saved_plans
from studio.checkpoints.find import Card
from studio.jobs.presets import Saved, of_model
from studio.model.lenders import fitting
from ui.engine import Engine

OWN = "own:"  # before the names of a person's presets, which may be called like the model's
NO_PRIOR = "none"


def models(known: dict[str, Card], current: str | None) -> list[tuple[str, str]]:
    """Short names where they are unique; a model that was typed in stays in the list."""
    names = [c.name for c in known.values()]
    listed = [
        (c.name if names.count(c.name) == 1 else f"{c.name} ({text})", text) for text, c in known.items()
    ]
    return listed if not current or current in known else [*listed, (current, current)]


def plans(own: Iterable[str]) -> list[str]:
    """None, auto, and those of a model."""
    return [saved_plans.NONE, saved_plans.AUTO, *own]


def presets(engine: Engine, model: str | None) -> list[tuple[str, str]]:
    """Those that a model has, then those of a person that it can run; none where what was typed is no
    model."""
    try:
        card = engine.card(model or "")
        own = [(p.name, p.name) for p in of_model(model or "", card)]
        return own + [(f"★ {p.name}", OWN + p.name) for p in Saved(engine.out).fitting(model or "", card)]
    except (ValueError, OSError):
        return []


def priors(known: dict[str, Card], model: str | None) -> list[str]:
    """None, and the models of the shelf that fit."""
    try:
        return [NO_PRIOR, *fitting(model or "", known)]
    except (ValueError, OSError):  # what was typed is no model
        return [NO_PRIOR]


def pairs(items: list[Any]) -> list[tuple[str, str]]:
    """Names with their values, as dropdowns hold them."""
    return list(dict.fromkeys(item if isinstance(item, tuple) else (item, item) for item in items))
