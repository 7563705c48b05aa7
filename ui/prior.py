"""Another model for the unconditional prediction, as a control of its own; it and the line of guidance say
the same."""

import json
from functools import partial
from typing import Any

import gradio as gr

from studio.model import lines
from studio.model.lenders import fitting
from ui import html, said
from ui.engine import Engine
from ui.events import QUIET

NONE = "none"


def panel() -> dict[str, Any]:
    """Its controls by name."""
    p: dict[str, Any] = {}
    p["prior"] = gr.Dropdown(
        label="Prior model",
        choices=[NONE],
        value=NONE,
        info="Without the condition this model is asked in the place of your own",
        allow_custom_value=True,
        visible=False,
        elem_id="prior",
    )
    p["prior_note"] = gr.HTML(elem_id="prior-note", elem_classes="inset")
    return p


def listed(engine: Engine, model: str | None) -> Any:
    """The models of the shelf that fit; none are shown where there are none."""
    try:
        found = fitting(model or "", engine.cards())
    except (ValueError, OSError):  # what was typed is no model
        found = []
    return gr.update(choices=[NONE, *found], visible=bool(found))


def note(engine: Engine, model: str | None, line: str | None) -> str:
    """Why a model that the line names cannot guide this one; nothing where it can."""
    try:
        engine.check_lent(model or "", line or "")
    except (ValueError, OSError, RecursionError) as error:
        return html.note(str(error), bad=True) if said.parts("guidance", line or "")["parts"] else ""
    return ""


def wire(p: dict[str, Any], engine: Engine) -> None:
    p["card"].change(partial(listed, engine), p["model"], p["prior"], trigger_mode="always_last", **QUIET)
    rule, guide = (json.dumps(part) for part in (lines.provider("uncond"), lines.rules_of("cfg=2")[0]))
    js = f"(name) => drift.prior(name, {rule}, {guide})"
    picked = p["prior"].select(None, p["prior"], p["guidance"], js=js, **QUIET)
    picked.then(partial(said.parts, "guidance"), p["guidance"], p["guidance_stack"], **QUIET)
    events = [p["guidance"].change, p["guidance_stack"].change]
    gr.on(events, None, None, p["prior"], js="() => drift.lender()", **QUIET)
    gr.on(
        [p["card"].change, p["guidance"].change],
        partial(note, engine),
        [p["model"], p["guidance"]],
        p["prior_note"],
        trigger_mode="always_last",
        **QUIET,
    )
