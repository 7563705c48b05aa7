"""The Bridge page: pictures through a bridge, one file each in a folder of its own, and a sheet of before
and after."""

from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr

from studio.checkpoints.find import Card
from studio.jobs import limits
from studio.jobs.run import Update
from studio.jobs.translation import Translation
from studio.model import catalog
from studio.runtime.signals import Stopped
from ui import answers, html
from ui.engine import Engine
from ui.jobs import Jobs
from ui.toasts import owner, toasts

ROOM = "/translate"  # whose runs Stop in this tab ends
Shown = tuple[Any, ...]
# Stop and Translate while it runs and afterwards
GOING = (gr.update(interactive=True), gr.update(interactive=False))
OVER = (gr.update(interactive=False), gr.update(interactive=True))


def panel(engine: Engine) -> dict[str, Any]:
    """The controls of the page by name, inside the caller's blocks. Without a bridge among the models it says
    how to make one."""
    bridges = engine.bridges()
    p: dict[str, Any] = {}
    drift: dict[str, Any] = {"elem_classes": "drift"}
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=260):
            first = next(iter(bridges), None)
            p["bridge"] = gr.Dropdown(
                label="Bridge", choices=list(bridges), value=first, elem_id="bridge", **drift
            )
            p["bridge-card"] = gr.HTML(_about(bridges, first), elem_id="bridge-card")
            p["sources"] = gr.File(
                label="Pictures",
                file_types=["image"],
                file_count="multiple",
                type="filepath",
                height=140,
                elem_id="sources",
            )
            steps = catalog.defaults_of(bridges[first]).num_steps if first else 10
            p["bridge-steps"] = gr.Number(
                label="Steps",
                value=steps,
                precision=0,
                minimum=1,
                maximum=limits.MOST_STEPS,
                elem_id="bridge-steps",
                **drift,
            )
            p["bridge-seed"] = gr.Number(
                label="Seed", value=0, precision=0, minimum=0, elem_id="bridge-seed", **drift
            )
            p["bridge-resize"] = gr.Checkbox(
                label="Convert pictures of another size or kind", value=True, elem_id="bridge-resize", **drift
            )
            with gr.Row(elem_classes="tight"):
                p["translate"] = gr.Button(
                    "Translate", variant="primary", scale=3, min_width=120, elem_id="translate"
                )
                p["bridge-stop"] = gr.Button(
                    "Stop", variant="stop", scale=1, min_width=70, interactive=False, elem_id="bridge-stop"
                )
        with gr.Column(scale=11, min_width=300):
            p["bridge-status"] = gr.HTML(
                html.idle("Pick pictures and press Translate"), elem_id="bridge-status"
            )
            p["bridge-sheet"] = gr.Image(
                label="Before and after",
                type="filepath",
                format="png",
                interactive=False,
                buttons=["download", "fullscreen"],
                elem_id="bridge-sheet",
            )
            p["translated"] = gr.Files(label="Translated", elem_id="translated")
    return p


def choose(engine: Engine, asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to a bridge that was picked."""
    with toasts():
        shown = engine.bridges()
        if asked["model"] not in shown:
            raise ValueError("pick a bridge first; `studio train fashion-restore` makes one")
        return answers.of("translate", asked["ticket"], asked["model"], answers.bridge(shown[asked["model"]]))


def press(
    jobs: Jobs,
    request: gr.Request | None,
    name: str | None,
    sources: list[str] | None,
    num_steps: float,
    seed: float,
    resize: bool,
) -> Iterator[Shown]:
    """What the button does: a line of text, the sheet, the files and whether Stop and Translate can be
    pressed, again and again until it is done."""
    try:
        with toasts():
            try:
                yield from run(jobs, name, sources, num_steps, seed, resize, owner(request, ROOM))
            except Stopped as stopped:
                yield html.idle(str(stopped)), gr.skip(), gr.skip(), *OVER
    except gr.Error as error:
        yield html.note(unescape(str(error.message)), bad=True), gr.skip(), gr.skip(), *OVER
        raise


def run(
    jobs: Jobs,
    name: str | None,
    sources: Sequence[str] | None,
    num_steps: float,
    seed: float,
    resize: bool,
    who: str = "local",
) -> Iterator[Shown]:
    """Rows as in `press`: the place in the queue, and then what was made. Raises ``ValueError`` for what
    cannot be translated."""
    if not name or not sources:
        raise ValueError("pick a bridge and one or more pictures first")
    count = limits.steps(num_steps)
    asked = Translation(name, num_steps=count, seed=int(seed or 0), resize=bool(resize))
    told = f" · {len(sources)} pictures · {count} steps · seed {asked.seed} · {Path(name).name}"
    job = jobs.translate(asked, sources, None, who)
    for news in jobs.queue.watch(job):
        if isinstance(news, int):
            yield html.waiting(news), gr.skip(), gr.skip(), *GOING
        elif isinstance(news, Update):
            yield html.running(news), gr.skip(), gr.skip(), *GOING
        elif isinstance(news, str):
            yield html.idle(news), gr.skip(), gr.skip(), *GOING
        elif news.stopped:
            yield html.note(news.stopped), gr.skip(), [str(p) for p in news.files], *OVER
        else:
            failed = "".join(f" · {name}: {why}" for name, why in news.failed.items())
            text = f"{len(news.files)} translated into {news.folder}{told}{failed}"
            yield html.note(text, bad=bool(news.failed)), str(news.sheet), [str(p) for p in news.files], *OVER


def _about(bridges: dict[str, Card], name: str | None) -> str:
    if not bridges:
        return html.note("There is no bridge here yet; `studio train fashion-restore` makes one")
    return html.card(bridges[name], folder=str(bridges[name].folder)) if name in bridges else ""
