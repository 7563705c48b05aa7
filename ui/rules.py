"""Guidance as a stack of rules, and the sampler's options, with controls made from their signatures. The
controls write the line and a line that is typed sets the controls; `page.js` puts the line together, so that
no edit is lost on its way."""

import json
from typing import Any

import gradio as gr

from ui import html
from ui.events import QUIET
from ui.said import parts
from ui.toasts import toasts


def read(form: str, line: str | None) -> dict[str, Any]:
    """The same of a line that was typed."""
    with toasts():
        return parts(form, line or "")


def draw(found: dict[str, Any] | None, line: Any, stack: gr.JSON, models: list[str]) -> None:
    """The controls of a line's parts, inside the caller's blocks."""
    form = str((found or {}).get("form"))
    for k, part in enumerate((found or {}).get("parts", [])):
        if form == "sampler":
            with gr.Accordion("Options", open=False, elem_id=f"{form}-{k}"):
                given = [o for o in part["options"] if o["value"] is not None]
                for j, option in enumerate([*given, *(o for o in part["options"] if o not in given)]):
                    _option(form, k, option, f"{form}-{k}-{j}", line, models)
            continue
        first = [o for j, o in enumerate(part["options"]) if o["value"] is not None or not j]
        others = [o for o in part["options"] if o not in first]
        with gr.Group(elem_id=f"{form}-{k}", elem_classes="rule"):
            gr.HTML(html.rule(part["name"], part["about"]))
            for j, option in enumerate(first):
                _option(form, k, option, f"{form}-{k}-{j}", line, models)
            if others:  # controls in an accordion within another one do not tell what is typed
                with gr.Accordion("More options", open=False):
                    for j, option in enumerate(others, len(first)):
                        _option(form, k, option, f"{form}-{k}-{j}", line, models)
            gone = gr.Button("Remove", size="sm", elem_id=f"{form}-{k}-remove")
            taken = gone.click(None, None, line, js=f"() => drift.unrule({k})", **QUIET)
            taken.then(lambda text: parts("guidance", text), line, stack, **QUIET)


def _option(form: str, k: int, option: dict[str, Any], spot: str, line: Any, models: list[str]) -> None:
    name, value, default = option["name"], option["value"], option["default"]
    options: dict[str, Any] = {"label": name, "interactive": True, "elem_id": spot}
    if name == "model":
        box: Any = gr.Dropdown(value=value, choices=models, allow_custom_value=True, **options)
    elif option["kind"] == "truth":
        box = gr.Checkbox(value=default == "true" if value is None else bool(value), **options)
    elif option["kind"] in ("number", "whole") and (isinstance(value, int | float) or default):
        number = value if isinstance(value, int | float) else float(default)
        box = gr.Number(value=number, precision=0 if option["kind"] == "whole" else None, **options)
    else:
        empty = "from:to, such as 0.1:0.9" if option["kind"] == "span" else default or "not given"
        text = "" if value is None else str(value)
        box = gr.Textbox(value=text, placeholder=empty, max_lines=1, **options)
    js = f"(value) => drift.option({json.dumps(form)}, {k}, {json.dumps(name)}, value)"
    events = [box.input, box.blur] if isinstance(box, gr.Textbox) else [box.input]  # blur: what was pasted
    gr.on(events, None, box, line, js=js, **QUIET)
