"""The line under Generate and Translate: what the run that the form asks for will take. Nothing is loaded
for it."""

from functools import partial
from typing import Any

import gradio as gr

from studio.jobs.recipe import Recipe
from ui import html
from ui.engine import Engine
from ui.events import QUIET
from ui.starting import PART

ASKED = ("model", "seeds", "num_steps", "sampler", "guidance", "dtype", "plan")
BEGUN = ("init", "way", "strength")  # from a picture


def line(elem_id: str = "estimate") -> gr.HTML:
    return gr.HTML(elem_id=elem_id, elem_classes="estimate")


def told(engine: Engine, *values: Any) -> str:
    """Of the values of ASKED and BEGUN; nothing where they are not understood, which is said at their
    fields."""
    said = {name: value for name, value in zip(ASKED, values) if value is not None}
    init, way, strength = values[len(ASKED) :] or (None, None, None)
    if init:
        said |= {"init": "a.png", "strength": strength or 0.0}
        said |= {"mask": "b.png"} if way == PART else {}
    try:
        return html.text(str(engine.estimate(Recipe.parse({"model": "", **said}))))
    except (ValueError, OSError, RuntimeError):
        return ""


def of_pictures(engine: Engine, sources: Any, bridge: str | None, steps: Any, sampler: str | None) -> str:
    """The same of pictures through a bridge."""
    if not sources:
        return ""
    asked = {"model": bridge or "", "num_steps": steps or 0, "sampler": sampler or ""}
    return told(engine, *({**asked, "seeds": f"0-{len(sources) - 1}"}.get(name) for name in ASKED))


def wire(p: dict[str, Any], engine: Engine) -> None:
    controls = [p[name] for name in (*ASKED, *BEGUN)]
    # the card is there when the form is the model's own, the paths when a run has told what it took
    after = [p["card"], p["paths"], *(c for c in controls if c is not p["model"])]
    events = [control.change for control in after]
    told_here = partial(told, engine)
    gr.on(events, told_here, controls, p["estimate"], trigger_mode="always_last", **QUIET)


def wire_bridge(p: dict[str, Any], engine: Engine) -> None:
    controls = [p[name] for name in ("sources", "bridge", "bridge-steps", "bridge-sampler")]
    events = [control.change for control in controls]
    told_here = partial(of_pictures, engine)
    gr.on(events, told_here, controls, p["bridge-estimate"], trigger_mode="always_last", **QUIET)
