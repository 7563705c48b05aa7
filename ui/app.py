"""The page, built; `ui.serve` serves it. What stands on it is in `ui.layout`, which handler each control
calls in `ui.wiring`, the handlers in `ui.handlers`, the work in `ui.engine`. Pages have addresses of their
own: Create at /, bridges at /bridge (`ui.bridge`), what was made at /library (`ui.library`); above each
stands `ui.strip`."""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from studio.jobs.index import HOME
from studio.runtime import passwords
from ui import bridge, chosen, dropped, early, hosts, library_page, sooner
from ui.api import Api
from ui.bridging import Bridging
from ui.engine import Engine
from ui.handlers import Handlers
from ui.html import HEIGHT
from ui.jobs import Jobs
from ui.layout import centre, hidden, left, right, theme
from ui.library import Library
from ui.strip import strip
from ui.wiring import wire, wire_api, wire_bridge

CSS, SCRIPT = Path(__file__).with_name("style.css"), Path(__file__).with_name("page.js")
REACH = Path(__file__).with_name("reach.css")  # as it is: gradio would put all others below its own container


def build_app(engine: Engine, jobs: Jobs | None = None) -> gr.Blocks:
    """The page over an engine, not yet served."""
    jobs = jobs or Jobs(engine)
    with sooner.built_once():
        return _built(engine, jobs)


def _built(engine: Engine, jobs: Jobs) -> gr.Blocks:
    with gr.Blocks(
        title="drift-studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)
    ) as page:
        parts: dict[str, Any] = {"job": strip(page, jobs)}
        with gr.Row(equal_height=False, elem_id="main"):
            with gr.Column(scale=5, min_width=260):
                parts |= left(engine.card)
            with gr.Column(scale=11, min_width=420):
                parts |= centre()
            with gr.Column(scale=5, min_width=250):
                parts |= right(engine) | dropped.panel()
        parts |= chosen.panel() | hidden()
        wire_api(Api(jobs))  # first: a name is given to whom asks first
        wire(page, parts, Handlers(jobs))
    with page.route("Bridge", "/bridge"):
        parts = {"job": strip(page, jobs, "translate")} | bridge.panel(engine) | hidden()
        wire_bridge(page, parts, Bridging(jobs))
    library_page.page(page, jobs)
    page.queue(max_size=32)
    return page


def launch_options(
    engine: Engine,
    host: str = "127.0.0.1",
    names: Collection[str] | None = None,
    people: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What `main` gives to ``launch``: the look, that only the folder of pictures is served, and only to who
    asks for the page by one of its ``names`` and, where there are ``people``, is one of them
    (`studio.runtime.passwords`)."""
    names = hosts.names_of(host) if names is None else names
    guard = Middleware(hosts.Hosts, names=names, numbers=host in hosts.EVERYWHERE)
    first = Middleware(early.Early, first=Library(engine).first)
    return {
        "theme": theme(),
        "css_paths": [CSS, library_page.CSS],
        "head": f"<style>:root {{--shown-height: {HEIGHT}px}}\n{REACH.read_text()}</style>"
        f"<script>{SCRIPT.read_text()}</script>",
        "allowed_paths": [str(engine.out)],
        "blocked_paths": [str(engine.out / HOME)],
        "auth": partial(passwords.fits, people) if people else None,
        "footer_links": ["api", "settings"],
        "show_error": True,
        "ssr_mode": False,
        "max_file_size": "100mb",
        "app_kwargs": {"middleware": [guard, first]},
    }
