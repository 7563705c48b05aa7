"""What stands on the page. Left: model, condition, seeds. Centre: the run and its pictures. Right: sampler
and guidance, below them `ui.dropped`. Below all: `ui.chosen`. Each part gives its controls by name."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from studio.checkpoints.find import Card
from studio.checkpoints.plans import NONE as NO_PLAN
from studio.jobs.limits import DTYPES, MOST_STEPS
from studio.jobs.recipe import OWN
from studio.model import lines
from ui import conditions, given, html, presets, prior, rules, starting, views
from ui.engine import Engine
from ui.html import HEIGHT

DRIFT: dict[str, Any] = {"elem_classes": "drift"}  # controls that answers set: the script watches them
EXAMPLE = "cfg=2.0,interval=0.1:0.9"
FONTS = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]


def theme() -> gr.themes.Base:
    """Quiet greys and one accent; fonts of the system, so that nothing is fetched."""
    return gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        spacing_size="sm",
        radius_size="md",
        font=FONTS,
        font_mono=MONO,
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        color_accent="*primary_700",
        link_text_color="*secondary_700",
        button_primary_text_color="white",
        block_label_text_weight="500",
        block_title_text_weight="500",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        slider_color="*primary_600",
        body_text_color_subdued="*neutral_600",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
    )


COPIED: dict[str, Any] = {"interactive": False, "wrap_lines": True, "lines": 3, "buttons": ["copy"]}


def command(elem_id: str) -> gr.Code:
    """A command to copy."""
    words = "The command that makes it again"
    return gr.Code(label=words, language="shell", max_lines=6, elem_id=elem_id, **COPIED)


def python(elem_id: str) -> gr.Code:
    """The same in Python, closed at first."""
    with gr.Accordion("In Python", open=False):
        return gr.Code(language="python", show_label=False, max_lines=8, elem_id=elem_id, **COPIED)


def left(find: Callable[[str], Card]) -> dict[str, Any]:
    p: dict[str, Any] = {}
    with gr.Group(elem_id="picker"):
        p["model"] = gr.Dropdown(label="Model", allow_custom_value=True, elem_id="model", **DRIFT)
        p["refresh"] = gr.Button("Refresh", size="sm", elem_id="refresh")
        p["card"] = gr.HTML(elem_id="card")
    p |= presets.panel()
    with gr.Group():
        p["label"] = gr.Dropdown(
            label="Class", choices=[OWN], value=OWN, allow_custom_value=True, elem_id="label", **DRIFT
        )
        with gr.Row(elem_classes="tight", elem_id="seed-range"):
            p["count"] = gr.Number(
                10, label="How many", precision=0, minimum=1, min_width=70, elem_id="count"
            )
            p["start"] = gr.Number(
                0, label="From seed", precision=0, minimum=0, min_width=90, elem_id="start"
            )
        with gr.Row(elem_classes="tight", elem_id="seed-keys"):
            p["dice"] = gr.Button("Dice", size="sm", min_width=50, elem_id="dice")
            p["next"] = gr.Button("Next", size="sm", min_width=50, elem_id="next")
            p["reuse"] = gr.Button("Reuse", size="sm", min_width=50, elem_id="reuse")
        p["seeds"] = gr.Textbox(
            label="Seeds",
            value="0-9",
            placeholder="0-7,12",
            info="One sample each, such as 0-7,12. A seed is a sample: the same one gives the same sample.",
            max_lines=1,
            elem_id="seeds",
            **DRIFT,
        )
        p["seeds_note"] = gr.HTML(elem_classes="inset")
    p["fields"], p["sent"] = gr.JSON(visible="hidden"), gr.JSON(visible="hidden")
    line = gr.Textbox(
        label="Conditions as a line",
        info='name=value, ... or {"name": value}; what the controls above say',
        visible=False,
        max_lines=2,
        elem_id="conditions",
        render=False,
        **DRIFT,
    )
    p["conditions"] = line
    with gr.Group(elem_id="fields"):

        @gr.render(inputs=p["fields"], triggers=[p["fields"].change])
        def _fields(found: dict[str, Any] | None) -> None:
            conditions.draw(find, found, line, p["sent"])

        line.render()
        p["conditions_note"] = gr.HTML(elem_classes="inset")
    p |= starting.panel() | given.panel()
    with gr.Row(elem_classes="tight"):
        p["generate"] = gr.Button("Generate", variant="primary", scale=3, min_width=120, elem_id="generate")
        p["stop"] = gr.Button(
            "Stop", variant="stop", scale=1, min_width=70, interactive=False, elem_id="stop"
        )
    p["estimate"] = gr.HTML(elem_id="estimate", elem_classes="estimate")
    return p


def centre() -> dict[str, Any]:
    p: dict[str, Any] = {
        "status": gr.HTML(html.idle(), elem_id="status"),
        "preview": gr.HTML(html.empty(), elem_id="preview"),
    }
    with gr.Column(visible=False, elem_id="results") as p["results"]:
        with gr.Tabs():
            with gr.Tab("Pictures") as pictures:
                p["gallery"] = gr.Gallery(
                    show_label=False,
                    columns=5,
                    height=HEIGHT,
                    object_fit="contain",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="gallery",
                )
            with gr.Tab("Contact sheet") as sheet:
                p["sheet"] = gr.Image(
                    show_label=False,
                    type="filepath",
                    format="png",
                    interactive=False,
                    height=HEIGHT,
                    buttons=["download", "fullscreen"],
                    elem_id="sheet",
                )
            p |= views.tabs()
        p |= views.region()
    p["tabs"] = [pictures, sheet]  # that are always there
    # no gr.State: events that set one trip over controls that are drawn meanwhile
    p["paths"] = gr.JSON([], visible="hidden")
    p |= views.hidden(p)
    return p


def right(engine: Engine) -> dict[str, Any]:
    p: dict[str, Any] = {}
    with gr.Group():
        p["num_steps"] = gr.Slider(
            1, MOST_STEPS, value=20, step=1, precision=0, label="Steps", elem_id="num_steps", **DRIFT
        )
        p["sampler"] = gr.Dropdown(
            label="Sampler",
            allow_custom_value=True,
            info="Options in brackets: ddim(eta=0.5)",
            elem_id="sampler",
            **DRIFT,
        )
        p["sampler_note"] = gr.HTML(elem_classes="inset")
        p["sampler_stack"] = gr.JSON(visible="hidden")

        @gr.render(inputs=p["sampler_stack"], triggers=[p["sampler_stack"].change])
        def _sampler(found: dict[str, Any] | None) -> None:
            rules.draw(found, p["sampler"], p["sampler_stack"], [])

    with gr.Group():
        p["guidance"] = gr.Textbox(
            label="Guidance",
            placeholder="off",
            info="Example: " + EXAMPLE,
            max_lines=1,
            elem_id="guidance",
            **DRIFT,
        )
        p["guidance_note"] = gr.HTML(elem_classes="inset")
        p["guidance_stack"] = gr.JSON(visible="hidden")

        @gr.render(inputs=p["guidance_stack"], triggers=[p["guidance_stack"].change])
        def _rules(found: dict[str, Any] | None) -> None:
            rules.draw(found, p["guidance"], p["guidance_stack"], list(engine.cards()))

        p |= prior.panel()
        p["rule"] = gr.Dropdown(
            label="Add a rule", choices=list(lines.rule_names()), value=None, elem_id="rule"
        )
    with gr.Group():
        p["plan"] = gr.Dropdown(
            label="Plan",
            choices=[NO_PLAN],
            value=NO_PLAN,
            allow_custom_value=True,
            visible=False,
            info="What need not be computed at every step; sets what it is for",
            elem_id="plan",
            **DRIFT,
        )
        p["plan_note"] = gr.HTML(elem_classes="inset")
        p["weights"] = gr.Dropdown(label="Weights", allow_custom_value=True, elem_id="weights", **DRIFT)
        p["live"] = gr.Checkbox(label="Live preview", value=True, elem_id="live")
    with gr.Accordion("Precision", open=False):
        p["dtype"] = gr.Dropdown(
            label="Number format", choices=list(DTYPES), value="auto", elem_id="dtype", **DRIFT
        )
        p["deterministic"] = gr.Checkbox(
            label="Same bytes whatever is sampled beside", elem_id="deterministic", **DRIFT
        )
    return p


def hidden() -> dict[str, Any]:
    """What questions and answers travel in."""
    p: dict[str, Any] = {}
    for name in ("asked", "answer", "plan_asked", "bridge_asked", "bridge_answer", "opened", "noted"):
        p[name] = gr.JSON(visible="hidden")
    p["ticket"] = gr.Number(visible="hidden")
    p["tickets"] = gr.JSON(visible="hidden")
    return p
