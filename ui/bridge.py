"""What stands on the Bridge page. Left: the bridge, what it expects, pictures and settings. Right: each
picture before and after, the sheet of all, and what could not be translated."""

from typing import Any

import gradio as gr

from studio.jobs.limits import MOST_STEPS
from ui import answers, html, layout, painting, pair, uploads, zipped
from ui.engine import Engine

DRIFT: dict[str, Any] = {"elem_classes": "drift"}  # controls that answers set: the script watches them


def panel(engine: Engine) -> dict[str, Any]:
    """The controls of the page by name, inside the caller's blocks. Without a bridge among the models it says
    how to make one."""
    bridges = engine.bridges()
    first = next(iter(bridges), None)
    start = answers.bridge(first, bridges[first]) if first else {}
    with gr.Row(equal_height=False, elem_id="bridge-main"):
        with gr.Column(scale=5, min_width=260):
            p = _pictures(list(bridges), start) | _settings(start) | _buttons()
        with gr.Column(scale=11, min_width=280):
            p |= _result()
    return p


def _pictures(bridges: list[str], start: dict[str, Any]) -> dict[str, Any]:
    p: dict[str, Any] = {}
    none = html.note("There is no bridge here yet; `studio train fashion-restore` makes one")
    with gr.Group():
        p["bridge"] = gr.Dropdown(
            label="Bridge",
            choices=bridges,
            value=next(iter(bridges), None),
            info="Makes pictures of one kind from those of another",
            elem_id="bridge",
            **DRIFT,
        )
        p["bridge-card"] = gr.HTML(**start.get("bridge-card", {"value": none}), elem_id="bridge-card")
    p["sources"] = uploads.files(uploads.PICTURES, label="Pictures", height=150, elem_id="sources")
    p["sources-note"] = gr.HTML(elem_id="sources-note", elem_classes="inset")
    p["bridge-examples"] = gr.Button(
        "Take the examples", size="sm", elem_id="bridge-examples", **start.get("bridge-examples", {})
    )
    with gr.Accordion("Only a part (mask)", open=False, elem_id="bridge-masked"):
        p["bridge-mask"] = uploads.file(
            uploads.PICTURES, label="A picture whose white may change", height=110, elem_id="bridge-mask"
        )
        p["bridge-mask-note"] = gr.HTML(elem_id="bridge-mask-note", elem_classes="inset")
        p["bridge-paint"] = gr.Button("Paint it over the first picture", size="sm", elem_id="bridge-paint")
        p["bridge-drawn"] = painting.editor("bridge-drawn")
    return p


def _settings(start: dict[str, Any]) -> dict[str, Any]:
    p: dict[str, Any] = {}
    with gr.Group():
        p["bridge-direction"] = gr.Dropdown(
            label="Direction", elem_id="bridge-direction", **DRIFT, **start.get("bridge-direction", {})
        )
        p["bridge-label"] = gr.Dropdown(
            label="Class", elem_id="bridge-label", **DRIFT, **start.get("bridge-label", {})
        )
        p["bridge-steps"] = gr.Number(
            label="Steps",
            precision=0,
            minimum=1,
            maximum=MOST_STEPS,
            info="More are slower and finer",
            elem_id="bridge-steps",
            **DRIFT,
            **start.get("bridge-steps", {"value": 10}),
        )
        p["bridge-seed"] = gr.Number(
            label="Seed",
            value=0,
            precision=0,
            minimum=0,
            info="Another seed, other details",
            elem_id="bridge-seed",
            **DRIFT,
        )
        p["bridge-sampler"] = gr.Dropdown(
            label="Sampler",
            allow_custom_value=True,
            elem_id="bridge-sampler",
            **DRIFT,
            **start.get("bridge-sampler", {}),
        )
        p["bridge-resize"] = gr.Checkbox(
            label="Convert pictures of another size or kind", value=True, elem_id="bridge-resize", **DRIFT
        )
    return p


def _buttons() -> dict[str, Any]:
    with gr.Row(elem_classes="tight"):
        p = {
            "translate": gr.Button(
                "Translate", variant="primary", scale=3, min_width=120, elem_id="translate"
            ),
            "bridge-stop": gr.Button(
                "Stop", variant="stop", scale=1, min_width=70, interactive=False, elem_id="bridge-stop"
            ),
        }
    return {**p, "bridge-estimate": gr.HTML(elem_id="bridge-estimate", elem_classes="estimate")}


def _result() -> dict[str, Any]:
    p: dict[str, Any] = {"bridge-status": gr.HTML(html.idle(pair.NOTHING), elem_id="bridge-status")}
    p["bridge-empty"] = gr.HTML(pair.empty(), elem_id="bridge-empty")
    p["bridge-failed"] = gr.HTML(elem_id="bridge-failed")
    with gr.Column(visible=False, elem_id="bridge-results") as p["bridge-results"]:
        with gr.Tabs():
            with gr.Tab("One by one"):
                p["bridge-pair"] = gr.HTML(elem_id="bridge-pair")
                with gr.Row(elem_classes="tight", elem_id="bridge-walk"):
                    p["bridge-previous"] = gr.Button("‹ Previous", min_width=90, elem_id="bridge-previous")
                    p["bridge-next"] = gr.Button("Next ›", min_width=90, elem_id="bridge-next")
                p["bridge-gallery"] = gr.Gallery(
                    label="Translated",
                    columns=8,
                    height="auto",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="bridge-gallery",
                )
            with gr.Tab("All, before and after"):
                p["bridge-sheet"] = gr.Image(
                    label="Before and after",
                    type="filepath",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="bridge-sheet",
                )
        with gr.Row(elem_classes="tight"):
            p["bridge-zip"], p["bridge-zipped"] = zipped.buttons("bridge-zip")
            p["bridge-again"] = gr.Button("Use its settings", size="sm", elem_id="bridge-again")
        with gr.Accordion("Recipe of this picture", open=False):
            p["bridge-recipe"] = gr.JSON(label="Recipe", max_height=240, elem_id="bridge-recipe")
            p["bridge-command"] = layout.command("bridge-command")
    p["bridge-at"] = gr.Number(0, precision=0, visible="hidden")
    return p
