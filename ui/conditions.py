"""Controls of conditions by their kind: one is picked, and a text, a choice, a table or a file says its
value. All of them write the line of conditions, which is what a run reads; a file is one that was sent, no
text names one."""

from typing import Any

import gradio as gr

from studio.checkpoints.find import card
from studio.jobs.recipe import conditions_text, parse_conditions
from studio.model import asking
from ui.toasts import toasts

FORMS = ("text", "choice", "table", "file")
SHOWN = tuple(f"condition_{form}" for form in FORMS)
FILES = [".npy", ".npz", ".csv", ".json", ".txt", ".png", ".jpg", ".jpeg", ".webp"]


def controls() -> dict[str, Any]:
    """The picker and one control for each form, hidden until a model has such conditions."""
    return {
        "condition": gr.Dropdown(
            label="Set a condition", allow_custom_value=True, visible=False, elem_id="condition"
        ),
        "condition_text": gr.Textbox(label="Value", visible=False, max_lines=3, elem_id="condition-text"),
        "condition_choice": gr.Dropdown(
            label="Value", allow_custom_value=True, visible=False, elem_id="condition-choice"
        ),
        "condition_table": gr.Dataframe(
            label="Rows", visible=False, type="array", interactive=True, elem_id="condition-table"
        ),
        "condition_file": gr.File(
            label="From a file",
            visible=False,
            file_types=FILES,
            type="filepath",
            height=80,
            elem_id="condition-file",
        ),
    }


def show(model: str | None, name: str | None, line: str) -> tuple[Any, ...]:
    """The control of a condition with the value that the line has. SHOWN."""
    hidden = gr.update(visible=False)
    with toasts():
        if not model or not name or name not in (known := asking.controls(card(model))):
            return (hidden,) * len(SHOWN)
        control, said = known[name], _said(model, line).get(name, "")
        rows = asking.table(card(model), name, said) if control.form == "table" else None
    of_file = control.form in ("table", "file")
    return (
        gr.update(visible=True, value=said, info=control.hint) if control.form == "text" else hidden,
        gr.update(visible=True, choices=list(control.choices), value=said or None)
        if control.form == "choice"
        else hidden,
        gr.update(visible=True, headers=list(control.columns), value=rows, label=control.hint)
        if control.form == "table"
        else hidden,
        gr.update(visible=True, value=None, label=f"From a file: {control.hint}") if of_file else hidden,
    )


def put(model: str | None, name: str | None, line: str, given: Any) -> str:
    """The line of conditions with a value that was typed, chosen or written into the table."""
    return _put(model, name, line, given)


def latest(model: str | None, name: str | None, line: str, text: str | None) -> str:
    """The line with what stands in the text as a run begins, which may come before the text was left; what is
    wrong there the run says."""
    try:
        if not model or not name or asking.controls(card(model))[name].form != "text":
            return line
        values = {k: v for k, v in _said(model, line).items() if k != name}
    except (KeyError, ValueError, OSError):
        return line
    return conditions_text(values | ({name: text.strip()} if text and text.strip() else {}))


def send(model: str | None, name: str | None, line: str, path: str | None) -> str:
    """The same with a file that was sent."""
    return _put(model, name, line, None, path) if path else line


def _put(model: str | None, name: str | None, line: str, given: Any, sent: str | None = None) -> str:
    with toasts():
        if not model or not name:
            return line
        found = card(model)
        if name not in asking.controls(found):
            return line
        text = asking.written(found, name, "" if given is None else given, sent=sent)
        values = {k: v for k, v in _said(model, line).items() if k != name}
        return conditions_text(values | ({name: text} if text else {}))


def _said(model: str, line: str) -> dict[str, Any]:
    return parse_conditions(line, tuple(asking.controls(card(model))))
