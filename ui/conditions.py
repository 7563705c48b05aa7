"""Conditions on the page: a control for each, made from the model. What the controls say is written into the
line of conditions (JSON by name), which the run and the recipe go by; a line that is typed is read back into
the controls.

A control that the browser can read by itself (numbers, texts, choices) writes into the line without asking
the server; tables and files go by way of it. `page.js` keeps the values, so that two edits never lose one
another.
"""

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr

from studio.checkpoints.find import Card, card
from studio.model import asking
from studio.model.asking import Control
from ui import html, uploads
from ui.events import QUIET
from ui.said import shown, understood
from ui.toasts import toasts

FILES = [".npy", ".npz", ".csv", ".json", ".txt", ".png", ".jpg", ".jpeg", ".webp"]


def read(find: Callable[[str], Card], model: str | None, line: str) -> dict[str, Any]:
    """The same of a line that a person has typed; ``find`` refuses models that the page does not hold."""
    with toasts():
        return understood(find, model, line)


def put(model: str, name: str, given: Any) -> dict[str, str]:
    """A table or a file that was sent, as the line says it."""
    with toasts():
        sent = isinstance(given, str | Path)
        text = asking.written(card(model), name, "" if sent else given, sent=given if sent else None)
        return {"name": name, "text": text}


def told(model: str, name: str, given: Any) -> tuple[Any, str]:
    """The same, and what is wrong with a file, which leaves the line as it is."""
    try:
        return put(model, name, given), ""
    except gr.Error as error:
        words = uploads.named(unescape(str(error.message)), given)
        return gr.skip(), html.note(words, bad=True)


def draw(find: Callable[[str], Card], found: dict[str, Any] | None, line: gr.Textbox, sent: gr.JSON) -> None:
    """The controls of a model with the values of its line, inside the caller's blocks; ``find`` as in
    `read`."""
    if not found or not found.get("model"):
        return
    model, values = found["model"], found["values"]
    with toasts():
        find(model)
    for k, (name, control) in enumerate(asking.controls(card(model)).items()):
        try:
            value = shown(model, name, values[name]) if name in values else None
        except ValueError:
            value = None
        FORMS[control.form](model, name, control, value, f"field-{k}", line, sent)


def _written(name: str, given: str = "value") -> str:
    return f"(value, on) => drift.put({json.dumps(name)}, {given})"


def _number(
    model: str, name: str, control: Control, value: Any, spot: str, line: gr.Textbox, sent: gr.JSON
) -> None:
    on = gr.Checkbox(
        label=f"{name}: {control.hint}", value=value is not None, interactive=True, elem_id=f"{spot}-on"
    )
    options: dict[str, Any] = {"label": name, "show_label": False, "elem_id": spot, "interactive": True}
    low, high = (None if v is None else float(f"{v:.4g}") for v in (control.low, control.high))
    if low is None or high is None or low == high:
        box: Any = gr.Number(value=value, **options)
    else:
        step = control.step or float(f"{(high - low) / 200:.1g}")
        at = float(f"{round((low + high) / 2 / step) * step:.6g}") if value is None else value
        box = gr.Slider(min(low, at), max(high, at), value=at, step=step, **options)
    box.input(None, box, [line, on], js=f"(value) => [drift.put({json.dumps(name)}, value), true]", **QUIET)
    on.input(None, [box, on], line, js=_written(name, "on ? value : null"), **QUIET)


def _text(
    model: str, name: str, control: Control, value: Any, spot: str, line: gr.Textbox, sent: gr.JSON
) -> None:
    box = gr.Textbox(
        label=name, value=value or "", info=control.hint, max_lines=3, interactive=True, elem_id=spot
    )
    gr.on([box.input, box.blur], None, box, line, js=_written(name), **QUIET)  # blur: what was pasted


def _choice(
    model: str, name: str, control: Control, value: Any, spot: str, line: gr.Textbox, sent: gr.JSON
) -> None:
    choices = [("not given", ""), *((c, c) for c in control.choices)]
    box = gr.Dropdown(label=name, choices=choices, value=value or "", interactive=True, elem_id=spot)
    box.input(None, box, line, js=_written(name), **QUIET)


def _table(
    model: str, name: str, control: Control, value: Any, spot: str, line: gr.Textbox, sent: gr.JSON
) -> None:
    rows = value or [[None] * len(control.columns)]
    box = gr.Dataframe(
        rows,
        headers=list(control.columns),
        label=f"{name}: {control.hint}",
        type="array",
        interactive=True,
        elem_id=spot,
    )
    _send(box.input, box, lambda given: put(model, name, given), sent)
    _file(model, name, control, value, f"{spot}-file", line, sent)


def _file(
    model: str, name: str, control: Control, value: Any, spot: str, line: gr.Textbox, sent: gr.JSON
) -> None:
    words = f"{name} from a file: {control.hint}"
    box = uploads.file(FILES, label=words, height=80, elem_id=spot, elem_classes="field-file")
    note = gr.HTML(elem_id=f"{spot}-note", elem_classes="inset")
    box.clear(lambda: "", None, note, **QUIET)
    _send(box.upload, box, lambda given: told(model, name, given), [sent, note])


def _send(event: Any, box: Any, answer: Callable[[Any], Any], outputs: Any) -> None:
    js = "(given) => { drift.sending(1); return given; }"
    answered = event(answer, box, outputs, js=js, **QUIET)
    answered.then(None, js="() => drift.sending(-1)", **QUIET)


FORMS = {"number": _number, "text": _text, "choice": _choice, "table": _table, "file": _file}
