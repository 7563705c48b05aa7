"""The page as a process: begun quickly, served until Ctrl-C."""

import contextlib
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from studio.runtime import passwords
from ui import sooner


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
    passwords.check(host, share, people)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # torch's threads sleep where they wait for each other: spinning, they take the cores from the browser
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with sooner.uncollected(), contextlib.ExitStack() as failing:
        sooner.load_gradio()
        from studio.runtime.devices import set_threads
        from ui import hosts
        from ui.app import build_app, launch_options
        from ui.engine import Engine
        from ui.jobs import Jobs

        set_threads(threads)
        engine = Engine(models, out, device=device, dtype=dtype)
        engine.check()
        _check_port(host, port)
        jobs = Jobs(engine)
        failing.callback(jobs.queue.close)
        if taken := jobs.queue.take_up():
            print(f"goes on with {len(taken)} that an earlier page had begun", file=sys.stderr)
        names, page = hosts.names_of(host, allow_hosts), build_app(engine, jobs)
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
        failing.pop_all()
    try:
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
