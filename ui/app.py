"""The page, built and served: what stands on it is in `ui.layout`, which handler each control calls in
`ui.wiring`, the handlers in `ui.handlers`, the work in `ui.engine`. Pages have addresses of their own: Create
at /, bridges at /bridge (`ui.bridge`), what was made at /library (`ui.library`); above each stands
`ui.strip`."""

import os
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from starlette.middleware import Middleware

from studio.jobs.index import HOME
from studio.runtime import passwords
from ui import bridge, chosen, dropped, early, hosts, library_page
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
    share: bool = False,
    people: Mapping[str, str] | None = None,
) -> None:
    """Serve the page until Ctrl-C; ``share``: also by a link of gradio's. Raises ``ValueError`` for a device,
    folder or port that cannot be had, and for a page that others reach and nobody has a password for, before
    anything starts."""
    from studio.runtime.devices import set_threads

    passwords.check(host, share, people)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    set_threads(threads)
    engine = Engine(models, out, device=device, dtype=dtype)
    engine.check()
    _check_port(host, port)
    jobs = Jobs(engine)
    if taken := jobs.queue.take_up():
        print(f"goes on with {len(taken)} that an earlier page had begun", file=sys.stderr)
    names, page = hosts.names_of(host, allow_hosts), build_app(engine, jobs)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=share,
            prevent_thread_lock=True,
            **launch_options(engine, host, names, people),
        )
        if page.share_url:  # known only now; where there is none gradio has said why
            names.add(str(urlsplit(page.share_url).hostname))
        page.block_thread()
    finally:
        jobs.queue.close()


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
