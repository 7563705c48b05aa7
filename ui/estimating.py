"""The line under Generate and Translate: what the run that the form asks for will take. Nothing is loaded
for it."""

from collections.abc import Mapping
from typing import Any

from studio.jobs.recipe import Recipe
from ui import html
from ui.engine import Engine

ASKED = ("model", "seeds", "num_steps", "sampler", "guidance", "dtype", "plan")


def told(engine: Engine, said: Mapping[str, Any]) -> str:
    """Of the values of ASKED, of ``init``, ``mask`` and ``strength`` where a picture is started from, and of
    ``given``, ``stays`` and ``share`` of numbers; nothing where they are not understood, which is said at
    their fields."""
    asked = {name: said[name] for name in ASKED if said.get(name) is not None}
    if said.get("init"):
        asked |= {"init": "a.png", "strength": said.get("strength") or 0.0}
        asked |= {"mask": "b.png"} if said.get("mask") else {}
    elif said.get("given"):
        asked |= (
            {"known": "a.npy", "given": "a.npy"}
            if said.get("stays")
            else {"init": "a.npy", "strength": said.get("share") or 0.0}
        )
    try:
        return html.text(str(engine.estimate(Recipe.parse({"model": "", **asked}))))
    except (ValueError, OSError, RuntimeError):
        return ""


def of_pictures(engine: Engine, sources: Any, bridge: str | None, steps: Any, sampler: str | None) -> str:
    """The same of pictures through a bridge."""
    if not sources:
        return ""
    seeds = f"0-{len(sources) - 1}"
    return told(
        engine, {"model": bridge or "", "num_steps": steps or 0, "sampler": sampler or "", "seeds": seeds}
    )
