"""A picture of ours that is dropped: its recipe, whatever it names, and the controls that it can set."""

from collections.abc import Callable
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr

from ui import answers, html, layout, restore, uploads
from ui.answers import SAMPLE
from ui.engine import Engine
from ui.events import QUIET, applied, row
from ui.toasts import toasts

FOUND = ("found", "found_note", "found_recipe", "found_command", "apply")


def panel() -> dict[str, Any]:
    """Its controls by name."""
    p: dict[str, Any] = {}
    p["drop"] = uploads.file([".png"], label="Restore from a picture", height=96, elem_id="drop")
    with gr.Group(visible=False, elem_id="found") as p["found"]:
        p["found_note"] = gr.HTML(elem_id="found-note")
        p["found_recipe"] = gr.JSON(label="Recipe", max_height=220, elem_id="found-recipe")
        p["found_command"] = layout.command("found-command")
        p["apply"] = gr.Button("Use these settings", size="sm", elem_id="apply")
    return p


def look(engine: Engine, path: str | None) -> tuple[Any, ...]:
    """The recipe of a dropped picture, whatever it names; sets nothing. FOUND."""
    if not path:
        return row(FOUND, found=gr.update(visible=False))
    try:
        with toasts():
            recipe, command = restore.explain(path, engine.shelf())
            name = Path(path).name
    except gr.Error as error:
        hidden = gr.update(visible=False)
        note = html.note(unescape(str(error.message)), bad=True)
        return row(
            FOUND,
            found=gr.update(visible=True),
            found_note=note,
            found_recipe=hidden,
            found_command=hidden,
            apply=hidden,
        )
    where, words = restore.belongs(path, engine.shelf(), engine.out)
    return row(
        FOUND,
        found=gr.update(visible=True),
        found_note="".join(html.note(text) for text in words),
        found_recipe=gr.update(value=recipe, label=f"Recipe of {name}", visible=True),
        found_command=gr.update(value=command, visible=True),
        apply=gr.update(value=f"Use these settings in {where}", visible=True)
        if where
        else gr.update(visible=False),
    )


def apply(
    engine: Engine, path: str | None, tickets: dict[str, int], use: str = "every control"
) -> dict[str, Any]:
    """The controls of ``use`` from a picture's recipe, on the page where it belongs."""
    with toasts():
        if not path:
            raise ValueError("drop a picture first, or generate one")
        answer, notes = answers.restored(engine, path, tickets)
    for text in notes:
        gr.Warning(html.text(text), duration=20)
    if answer["form"] == "sample":
        answer = answers.only(answer, use)
    if not notes:
        gr.Info(f"Set from the picture: {use}.", duration=3)
    return answer


def wire(p: dict[str, Any], engine: Engine) -> None:
    found = [p[name] for name in FOUND]
    p["drop"].upload(partial(look, engine), p["drop"], found, **QUIET)
    p["drop"].clear(partial(look, engine), p["drop"], found, **QUIET)
    wire_apply(p, p["apply"], p["drop"], partial(apply, engine))


def wire_apply(p: dict[str, Any], button: gr.Button, path: Any, apply: Callable[..., Any]) -> None:
    """A button that sets controls from a picture, on this page or that of the bridges."""
    asked = button.click(
        apply,
        [path, p["tickets"]],
        p["answer"],
        js="(path) => [path, {sample: drift.ask('sample', undefined, performance.now()), translate: 0}]",
        **QUIET,
    )
    applied(asked, p, "sample", SAMPLE, p["answer"])
    asked.success(None, p["answer"], None, js="(answer) => drift.carry('translate', answer)", **QUIET)
