"""Another model for the unconditional prediction, as a control of its own; it and the line of guidance say
the same."""

import json
from functools import partial
from typing import Any

import gradio as gr

from studio.model import lines
from ui import said
from ui.choices import NO_PRIOR
from ui.events import QUIET


def panel() -> dict[str, Any]:
    """Its controls by name."""
    p: dict[str, Any] = {}
    p["prior"] = gr.Dropdown(
        label="Prior model",
        choices=[NO_PRIOR],
        value=NO_PRIOR,
        info="Without the condition this model is asked in the place of your own",
        allow_custom_value=True,
        visible=False,
        elem_id="prior",
    )
    p["prior_note"] = gr.HTML(elem_id="prior-note", elem_classes="inset")
    return p


def wire(p: dict[str, Any]) -> None:
    rule, guide = (json.dumps(part) for part in (lines.provider("uncond"), lines.rules_of("cfg=2")[0]))
    js = f"(name) => drift.prior(name, {rule}, {guide})"
    picked = p["prior"].select(None, p["prior"], p["guidance"], js=js, **QUIET)
    picked.then(partial(said.parts, "guidance"), p["guidance"], p["guidance_stack"], **QUIET)
    events = [p["guidance"].change, p["guidance_stack"].change]
    gr.on(events, None, None, p["prior"], js="() => drift.lender()", **QUIET)
