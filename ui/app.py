"""The page: what stands where, and which handler each control calls. The handlers are in `ui.handlers`, the
work in `ui.engine`.

Left: model, condition, seeds, a picture to restore from. Centre: the run and its pictures. Right: sampler and
guidance. Below: the recipe. A second tab translates pictures (`ui.translate`).
"""

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from ui import hosts, html, translate
from ui.answers import BRIDGE, CONTROLS
from ui.api import Api
from ui.engine import Engine
from ui.handlers import BOTTOM, FOUND, SHOWN, STOP_WAIT, Handlers
from ui.limits import DTYPES, MOST_STEPS
from ui.settings import OWN
from ui.toasts import owner

CSS, SCRIPT = Path(__file__).with_name("style.css"), Path(__file__).with_name("page.js")
DRIFT: dict[str, Any] = {"elem_classes": "drift"}  # controls that answers set: the script watches them
TOGETHER = 32  # runs that may stand in the line for the device at a time; the engine runs one
EXAMPLE = "cfg=2.0,interval=0.1:0.9"
FONTS = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
HEIGHT = 400  # of the gallery, in pixels
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
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
        block_label_text_weight="500",
        block_title_text_weight="500",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        slider_color="*primary_600",
    )


def build_app(engine: Engine) -> gr.Blocks:
    """The page over an engine, not yet served."""
    with gr.Blocks(
        title="drift-studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)
    ) as page:
        gr.HTML(html.header(engine.place()), elem_id="header")
        parts: dict[str, Any] = {}
        with gr.Tabs(elem_id="pages", selected="sample") as parts["tabs"]:
            with gr.Tab("Sample", id="sample"):
                with gr.Row(equal_height=False, elem_id="main"):
                    with gr.Column(scale=5, min_width=260):
                        parts |= _left()
                    with gr.Column(scale=11, min_width=420):
                        parts |= _centre()
                    with gr.Column(scale=5, min_width=250):
                        parts |= _right()
                parts |= _bottom()
            with gr.Tab("Translate", id="translate"):
                parts |= translate.panel(engine)
        parts |= _hidden()
        _wire_api(Api(engine))  # first: a name is given to whom asks first
        _wire(page, parts, Handlers(engine))
        _wire_translate(parts, engine)
    page.queue(max_size=32)
    return page


def _left() -> dict[str, Any]:
    p: dict[str, Any] = {}
    with gr.Group(elem_id="picker"):
        p["model"] = gr.Dropdown(label="Model", allow_custom_value=True, elem_id="model", **DRIFT)
        p["refresh"] = gr.Button("Refresh", size="sm", elem_id="refresh")
        p["card"] = gr.HTML(elem_id="card")
    with gr.Group():
        p["label"] = gr.Dropdown(
            label="Class", choices=[OWN], value=OWN, allow_custom_value=True, elem_id="label", **DRIFT
        )
        p["seeds"] = gr.Textbox(
            label="Seeds",
            value="0-9",
            placeholder="0-7,12",
            info="One sample each, such as 0-7,12",
            max_lines=1,
            elem_id="seeds",
            **DRIFT,
        )
        p["conditions"] = gr.Textbox(
            label="Conditions", visible=False, max_lines=1, elem_id="conditions", **DRIFT
        )
    with gr.Row(elem_classes="tight"):
        p["generate"] = gr.Button("Generate", variant="primary", scale=3, min_width=120, elem_id="generate")
        p["stop"] = gr.Button(
            "Stop", variant="stop", scale=1, min_width=70, interactive=False, elem_id="stop"
        )
    p["drop"] = gr.File(
        label="Restore from a picture", file_types=[".png"], type="filepath", height=96, elem_id="drop"
    )
    with gr.Group(visible=False, elem_id="found") as p["found"]:
        p["found_note"] = gr.HTML(elem_id="found-note")
        p["found_recipe"] = gr.JSON(label="Recipe", max_height=220, elem_id="found-recipe")
        p["found_command"] = gr.Code(
            label="The command that makes it again",
            language="shell",
            interactive=False,
            wrap_lines=True,
            lines=3,
            max_lines=6,
            buttons=["copy"],
            elem_id="found-command",
        )
        p["apply"] = gr.Button("Use these settings", size="sm", elem_id="apply")
    return p


def _centre() -> dict[str, Any]:
    p: dict[str, Any] = {
        "status": gr.HTML(html.idle(), elem_id="status"),
        "preview": gr.HTML(html.empty(), elem_id="preview"),
    }
    with gr.Column(visible=False, elem_id="results") as p["results"]:
        with gr.Tabs():
            with gr.Tab("Pictures"):
                p["gallery"] = gr.Gallery(
                    show_label=False,
                    columns=5,
                    height=HEIGHT,
                    object_fit="contain",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="gallery",
                )
            with gr.Tab("Contact sheet"):
                p["sheet"] = gr.Image(
                    show_label=False,
                    type="filepath",
                    format="png",
                    interactive=False,
                    height=HEIGHT,
                    buttons=["download", "fullscreen"],
                    elem_id="sheet",
                )
    p["paths"], p["selected"] = gr.State([]), gr.State(None)
    return p


def _right() -> dict[str, Any]:
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
    with gr.Group():
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


def _bottom() -> dict[str, Any]:
    p: dict[str, Any] = {}
    with gr.Row(visible=False, elem_id="bottom", equal_height=False) as p["bottom"]:
        with gr.Column(scale=11, min_width=420):
            p["recipe"] = gr.JSON(label="Recipe", max_height=200, elem_id="recipe")
        with gr.Column(scale=10, min_width=420):
            p["command"] = gr.Code(
                label="The command that makes it again",
                language="shell",
                interactive=False,
                wrap_lines=True,
                lines=3,
                max_lines=6,
                buttons=["copy"],
                elem_id="command",
            )
            with gr.Row(elem_classes="tight"):
                p["download"] = gr.DownloadButton("Download", size="sm", elem_id="download")
                p["again"] = gr.Button("Use these settings", size="sm", elem_id="again")
    return p


def _hidden() -> dict[str, Any]:
    """What questions and answers travel in."""
    p: dict[str, Any] = {}
    for name in ("asked", "answer", "bridge_asked", "bridge_answer"):
        p[name] = gr.JSON(visible="hidden")
    p["ticket"] = gr.Number(visible="hidden")
    p["tickets"] = gr.JSON(visible="hidden")
    return p


QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
MANY: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_limit": 8}
SAMPLE = (*CONTROLS, "card")
TRANSLATE = (*BRIDGE, "bridge-card")


def _applied(event: Any, p: dict[str, Any], form: str, names: tuple[str, ...], answer: Any) -> Any:
    """After an event that has given an answer: the controls take from it what they still want."""
    js = f"(answer) => drift.apply({json.dumps(form)}, answer, {json.dumps(names)})"
    after = event.success(None, answer, [p[name] for name in names], js=js, **QUIET)
    after.then(None, js=f"() => drift.done({json.dumps(form)})", **QUIET)
    event.failure(None, js=f"() => drift.fail({json.dumps(form)})", **QUIET)
    return after


def _picked(
    p: dict[str, Any],
    form: str,
    control: str,
    rest: str,
    names: tuple[str, ...],
    asked: Any,
    answer: Any,
    choose: Any,
) -> None:
    """One call for each model that is picked, and its answer."""
    js = f"(model, rest) => drift.pick({json.dumps(form)}, {json.dumps(control)}, model, rest)"
    p[control].input(None, [p[control], p[rest]], asked, js=js, **QUIET)
    _applied(asked.change(choose, asked, answer, **MANY, **QUIET), p, form, names, answer)


def _wire(page: gr.Blocks, p: dict[str, Any], h: Handlers) -> None:
    controls, shown, bottom, found = (
        [p[name] for name in names] for names in (CONTROLS, SHOWN, BOTTOM, FOUND)
    )
    loaded = page.load(
        h.open, p["ticket"], p["answer"], js="() => [drift.ask('sample', undefined, 0)]", **QUIET
    )
    _applied(loaded, p, "sample", SAMPLE, p["answer"])
    page.unload(h.leave)

    p["refresh"].click(h.refresh, p["model"], p["model"], **QUIET)
    _picked(p, "sample", "model", "seeds", SAMPLE, p["asked"], p["answer"], h.choose)
    gr.on(
        [p["guidance"].change, p["guidance"].submit],
        h.check_guidance,
        p["guidance"],
        p["guidance_note"],
        trigger_mode="always_last",
        **QUIET,
    )
    p["sampler"].change(h.check_sampler, p["sampler"], p["sampler_note"], trigger_mode="always_last", **QUIET)

    picked = p["gallery"].select(h.select, p["paths"], bottom, **QUIET)
    said = json.dumps(
        [
            html.idle("Waiting for the device …"),
            {"__type__": "update", "interactive": True},
            {"__type__": "update", "interactive": False},
        ]
    )
    armed = gr.on(
        [p["generate"].click, p["seeds"].submit],
        None,
        None,
        [p[k] for k in ("status", "stop", "generate")],
        js=f"() => {said}",
        cancels=[picked],
        **QUIET,
    )
    ready = armed.then(None, js="() => drift.settled('sample')", **QUIET)
    run = ready.then(
        h.generate, [*controls, p["live"], p["paths"]], shown, concurrency_limit=TOGETHER, **QUIET
    )
    run.failure(
        None, None, [p["stop"], p["generate"]], js=f"() => {json.dumps(json.loads(said)[:0:-1])}", **QUIET
    )
    p["stop"].click(h.stop, None, shown, queue=False, **QUIET)

    p["drop"].upload(h.look, p["drop"], found, **QUIET)
    p["drop"].clear(h.look, p["drop"], found, **QUIET)
    for button, path in ((p["apply"], p["drop"]), (p["again"], p["selected"])):
        asked = button.click(
            h.apply,
            [path, p["tickets"]],
            p["answer"],
            js="(path) => [path, {sample: drift.ask('sample', undefined, performance.now()), "
            "translate: drift.ask('translate', undefined, performance.now())}]",
            **QUIET,
        )
        _applied(asked, p, "sample", SAMPLE, p["answer"])
        _applied(asked, p, "translate", TRANSLATE, p["answer"])
        asked.success(
            None,
            p["answer"],
            p["tabs"],
            js="(answer) => ({__type__: 'update', selected: answer.form})",
            **QUIET,
        )


def _wire_translate(p: dict[str, Any], engine: Engine) -> None:
    def press(request: gr.Request, *values: Any) -> Any:
        yield from translate.press(engine, request, *values)

    def stop(request: gr.Request) -> Any:
        engine.stop_soon(owner(request, translate.ROOM), STOP_WAIT)
        return gr.update(interactive=False)

    _picked(
        p,
        "translate",
        "bridge",
        "bridge-steps",
        TRANSLATE,
        p["bridge_asked"],
        p["bridge_answer"],
        lambda asked: translate.choose(engine, asked),
    )
    shown = [p[k] for k in ("bridge-status", "bridge-sheet", "translated", "bridge-stop", "translate")]
    inputs = [p[k] for k in ("bridge", "sources", "bridge-steps", "bridge-seed", "bridge-resize")]
    ready = p["translate"].click(None, js="() => drift.settled('translate')", **QUIET)
    ready.then(
        press, inputs, shown, api_visibility="private", show_progress="hidden", concurrency_limit=TOGETHER
    )
    p["bridge-stop"].click(stop, None, p["bridge-stop"], queue=False, **QUIET)


def _wire_api(api: Api) -> None:
    gr.api(api.generate, api_name="generate", concurrency_limit=TOGETHER)
    gr.api(api.stop, api_name="stop", queue=False)
    gr.api(api.models, api_name="models")


def launch_options(engine: Engine, host: str = "127.0.0.1", allowed: Sequence[str] = ()) -> dict[str, Any]:
    """What `main` gives to ``launch``: the look, that only the folder of pictures is served, and only to who
    asks for the page by a name of its own."""
    guard = Middleware(hosts.Hosts, names=hosts.names_of(host, allowed), numbers=host in hosts.EVERYWHERE)
    return {
        "theme": theme(),
        "css_paths": [CSS],
        "head": f"<script>{SCRIPT.read_text()}</script>",
        "allowed_paths": [str(engine.out)],
        "footer_links": ["api", "settings"],
        "show_error": True,
        "ssr_mode": False,
        "share": False,
        "max_file_size": "100mb",
        "app_kwargs": {"middleware": [guard]},
    }


def main(
    models: list[str] = ["runs"],  # noqa: B006 (never changed)
    host: str = "127.0.0.1",
    port: int = 7860,
    out: str = "outputs",
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    open_browser: bool = False,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Serve the page until Ctrl-C. Raises ``ValueError`` for a device, folder or port that cannot be had,
    before anything starts."""
    from studio.runtime.devices import set_threads

    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    set_threads(threads)
    engine = Engine(models, out, device=device, dtype=dtype)
    engine.check()
    _check_port(host, port)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"warning: {host} can be reached from other machines, and the page asks for no password",
            file=sys.stderr,
        )
    build_app(engine).launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        **launch_options(engine, host, allow_hosts),
    )


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"cannot serve at {host}:{port} ({error}); another page may run there: try --port "
                f"{port + 1 if port < 65535 else 7861}"
            ) from None
