"""The Translate tab: pictures through a bridge, one file each in a folder of its own, and a sheet of before and after."""

from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr

from studio.shelf import Card
from studio.translate import SHEET, translate
from ui import html
from ui.engine import Engine
from ui.handlers import owner, toasts


def panel(engine: Engine, **queued: Any) -> None:
    """The controls of the tab, inside the caller's blocks. Without a bridge among the models it says how to make one."""
    bridges = engine.bridges()
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=260):
            model = gr.Dropdown(label="Bridge", choices=list(bridges), value=next(iter(bridges), None), elem_id="bridge")
            about = gr.HTML(_about(bridges, model.value), elem_id="bridge-card")
            files = gr.File(label="Pictures", file_types=["image"], file_count="multiple", type="filepath", height=140, elem_id="sources")
            steps = gr.Slider(1, 100, value=10, step=1, precision=0, label="Steps", elem_id="bridge-steps")
            seed = gr.Number(label="Seed", value=0, precision=0, minimum=0, elem_id="bridge-seed")
            resize = gr.Checkbox(label="Convert pictures of another size or kind", value=True, elem_id="bridge-resize")
            go = gr.Button("Translate", variant="primary", elem_id="translate")
        with gr.Column(scale=11, min_width=420):
            status = gr.HTML(html.idle("Pick pictures and press Translate"), elem_id="bridge-status")
            sheet = gr.Image(label="Before and after", type="filepath", format="png", interactive=False, elem_id="bridge-sheet")
            made = gr.Files(label="Translated", elem_id="translated")

    def choose(name: str | None) -> tuple[str, Any]:
        shown = engine.bridges()
        return _about(shown, name), gr.update(value=_steps(shown, name))

    def press(name: str | None, sources: list[str] | None, count: int, number: int, convert: bool, request: gr.Request) -> tuple[str, str, list[str]]:
        return run(engine, name, sources, count, number, convert, owner(request))

    quiet: dict[str, Any] = {"api_visibility": "private"}
    model.change(choose, model, [about, steps], show_progress="hidden", **quiet)
    go.click(press, [model, files, steps, seed, resize], [status, sheet, made], **quiet, **queued)


def run(
    engine: Engine, name: str | None, sources: list[str] | None, num_steps: int, seed: int, resize: bool, who: str = "local"
) -> tuple[str, str, list[str]]:  # fmt: skip
    """What the button does: a line of text, the sheet and the files."""
    with toasts():
        if not name or not sources:
            raise ValueError("pick a bridge and one or more pictures first")
        with engine.job(who) as job:
            folder = Path(engine.out) / f"translate-{datetime.now():%Y%m%d-%H%M%S-%f}"
            done = translate(
                engine.model(name), sources, folder, num_steps=int(num_steps), seed=int(seed or 0), resize=bool(resize),
                on_step=lambda progress: not job.flag.is_set(),
            )  # fmt: skip
    text = f"{len(done.written)} translated into {folder}" + "".join(f" · {Path(k).name}: {why}" for k, why in done.failed.items())
    return html.note(text, bad=bool(done.failed)), str(folder / SHEET), [str(p) for p in done.written]


def _about(bridges: dict[str, Card], name: str | None) -> str:
    if not bridges:
        return html.note("There is no bridge here yet; `studio train fashion-restore` makes one")
    return html.card(bridges[name], folder=str(bridges[name].folder)) if name in bridges else ""


def _steps(bridges: dict[str, Card], name: str | None) -> int:
    from studio import catalog

    return catalog.defaults_of(bridges[name]).num_steps if name in bridges else 10
