"""The page: what stands where, and which handler each control calls. The handlers are in `ui.handlers`, the work in `ui.engine`.

Left: model, condition, seeds, a picture to restore from. Centre: the run and its pictures. Right: sampler and guidance. Below: the recipe. A second tab translates pictures (`ui.translate`).
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import gradio as gr

from ui import html, translate
from ui.api import Api
from ui.engine import Engine
from ui.handlers import BOTTOM, CONTROLS, SHOWN, Handlers
from ui.settings import DTYPES, OWN

CSS = Path(__file__).with_name("style.css")
ONE_AT_A_TIME = {"concurrency_limit": 1, "concurrency_id": "device"}
EXAMPLE = "cfg=2.0,interval=0.1:0.9"
FONTS = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
HEIGHT = 400  # of the gallery, in pixels
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]


def theme() -> gr.themes.Base:
    """Quiet greys and one accent; fonts of the system, so that nothing is fetched."""
    return gr.themes.Base(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", spacing_size="sm", radius_size="md", font=FONTS, font_mono=MONO).set(
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700", button_primary_text_color="white",
        block_label_text_weight="500", block_title_text_weight="500", body_background_fill="*neutral_50", body_background_fill_dark="*neutral_950",
        slider_color="*primary_600",
    )  # fmt: skip


def build_app(engine: Engine) -> gr.Blocks:
    """The page over an engine, not yet served."""
    with gr.Blocks(title="drift-studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)) as page:
        gr.HTML(html.header(engine.place()), elem_id="header")
        with gr.Tabs(elem_id="pages"):
            with gr.Tab("Sample"):
                with gr.Row(equal_height=False, elem_id="main"):
                    with gr.Column(scale=5, min_width=260):
                        parts = _left()
                    with gr.Column(scale=11, min_width=420):
                        parts |= _centre()
                    with gr.Column(scale=5, min_width=250):
                        parts |= _right()
                parts |= _bottom()
            with gr.Tab("Translate"):
                translate.panel(engine, **ONE_AT_A_TIME)
        _wire(page, parts, Handlers(engine), Api(engine))
    page.queue(max_size=32)
    return page


def _left() -> dict[str, Any]:
    p: dict[str, Any] = {}
    with gr.Group(elem_id="picker"):
        p["model"] = gr.Dropdown(label="Model", allow_custom_value=True, elem_id="model")
        p["refresh"] = gr.Button("Refresh", size="sm", elem_id="refresh")
        p["card"] = gr.HTML(elem_id="card")
    with gr.Group():
        p["label"] = gr.Dropdown(label="Class", choices=[OWN], value=OWN, allow_custom_value=True, elem_id="label")
        p["seeds"] = gr.Textbox(
            label="Seeds", value="0-9", placeholder="0-7,12", info="One sample each, such as 0-7,12", max_lines=1, elem_id="seeds"
        )
        p["conditions"] = gr.Textbox(label="Conditions", visible=False, max_lines=1, elem_id="conditions")
    with gr.Row(elem_classes="tight"):
        p["generate"] = gr.Button("Generate", variant="primary", scale=3, min_width=120, elem_id="generate")
        p["stop"] = gr.Button("Stop", variant="stop", scale=1, min_width=70, interactive=False, elem_id="stop")
    p["drop"] = gr.File(label="Restore from a picture", file_types=[".png"], type="filepath", height=96, elem_id="drop")
    return p


def _centre() -> dict[str, Any]:
    p: dict[str, Any] = {"status": gr.HTML(html.idle(), elem_id="status"), "preview": gr.HTML(html.empty(), elem_id="preview")}
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
        p["num_steps"] = gr.Slider(1, 250, value=20, step=1, precision=0, label="Steps", elem_id="num_steps")
        p["sampler"] = gr.Dropdown(label="Sampler", allow_custom_value=True, info="Options in brackets: ddim(eta=0.5)", elem_id="sampler")
        p["sampler_note"] = gr.HTML(elem_classes="inset")
    with gr.Group():
        p["guidance"] = gr.Textbox(label="Guidance", placeholder="off", info="Example: " + EXAMPLE, max_lines=1, elem_id="guidance")
        p["guidance_note"] = gr.HTML(elem_classes="inset")
    with gr.Group():
        p["weights"] = gr.Dropdown(label="Weights", allow_custom_value=True, elem_id="weights")
        p["live"] = gr.Checkbox(label="Live preview", value=True, elem_id="live")
    with gr.Accordion("Precision", open=False):
        p["dtype"] = gr.Dropdown(label="Number format", choices=list(DTYPES), value="auto", elem_id="dtype")
        p["deterministic"] = gr.Checkbox(label="Same bytes whatever is sampled beside", elem_id="deterministic")
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


def _wire(page: gr.Blocks, p: dict[str, Any], h: Handlers, api: Api) -> None:
    controls, shown, bottom = ([p[name] for name in names] for names in (CONTROLS, SHOWN, BOTTOM))
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gr.api(api.generate, api_name="generate", **ONE_AT_A_TIME)
    gr.api(api.stop, api_name="stop", queue=False)
    gr.api(api.models, api_name="models")

    page.load(h.open, None, [*controls, p["card"]], **quiet)
    page.unload(h.leave)

    p["refresh"].click(h.refresh, p["model"], p["model"], **quiet)
    p["model"].input(h.choose, [p["model"], p["seeds"]], [*controls, p["card"]], **quiet)
    gr.on([p["guidance"].change, p["guidance"].submit], h.check_guidance, p["guidance"], p["guidance_note"], trigger_mode="always_last", **quiet)
    p["sampler"].change(h.check_sampler, p["sampler"], p["sampler_note"], trigger_mode="always_last", **quiet)

    go = [p["generate"].click, p["seeds"].submit]
    gr.on(go, h.arm, None, shown, queue=False, **quiet)
    run = gr.on(go, h.generate, [*controls, p["live"]], shown, **ONE_AT_A_TIME, **quiet)
    run.success(h.show, p["selected"], bottom, **quiet)
    p["stop"].click(h.stop, None, shown, cancels=[run], queue=False, **quiet)

    p["gallery"].select(h.select, p["paths"], bottom, **quiet)
    p["drop"].upload(h.restore, p["drop"], [*controls, p["card"]], **quiet).then(h.show, p["drop"], bottom, **quiet)
    p["again"].click(h.restore, p["selected"], [*controls, p["card"]], **quiet)


def launch_options(engine: Engine) -> dict[str, Any]:
    """What `main` gives to ``launch``: the look, and that only the folder of pictures is served."""
    return {
        "theme": theme(), "css_paths": [CSS], "allowed_paths": [str(engine.out)], "footer_links": ["api", "settings"], "show_error": True, "ssr_mode": False,
        "share": False, "max_file_size": "100mb",
    }  # fmt: skip


def main(
    models: list[str] = ["runs"],  # noqa: B006 (never changed)
    host: str = "127.0.0.1", port: int = 7860, out: str = "outputs", device: str = "auto", dtype: str = "auto", threads: int | None = None,
    open_browser: bool = False,
) -> None:  # fmt: skip
    """Serve the page until Ctrl-C. Raises ``ValueError`` for a device, folder or port that cannot be had, before anything starts."""
    from studio.devices import set_threads

    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    set_threads(threads)
    engine = Engine(models, out, device=device, dtype=dtype)
    engine.check()
    _check_port(host, port)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(f"warning: {host} can be reached from other machines, and the page asks for no password", file=sys.stderr)
    build_app(engine).launch(server_name=host, server_port=port, inbrowser=open_browser, **launch_options(engine))


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"cannot serve at {host}:{port} ({error}); another page may run there: try --port {port + 1 if port < 65535 else 7861}"
            ) from None
