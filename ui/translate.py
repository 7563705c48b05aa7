"""The Translate tab: pictures through a bridge, one file each in a folder of its own, and a sheet of before
and after."""

import shutil
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr

from studio.checkpoints.find import Card
from studio.generation.translate import SHEET, translate
from studio.jobs import limits
from studio.model import catalog
from studio.runtime.seeds import parse_seeds
from studio.runtime.signals import Stopped
from ui import answers, html
from ui.engine import Engine
from ui.toasts import owner, toasts

ROOM = "/translate"  # whose runs Stop in this tab ends
Shown = tuple[Any, ...]


def panel(engine: Engine) -> dict[str, Any]:
    """The controls of the tab by name, inside the caller's blocks. Without a bridge among the models it says
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
    engine: Engine,
    request: gr.Request | None,
    name: str | None,
    sources: list[str] | None,
    num_steps: float,
    seed: float,
    resize: bool,
) -> Iterator[Shown]:
    """What the button does: a line of text, the sheet, the files and whether Stop and Translate can be
    pressed, again and again until it is done."""
    over, stop = (
        (gr.update(interactive=False), gr.update(interactive=True)),
        (gr.update(interactive=True), gr.update(interactive=False)),
    )
    try:
        with toasts():
            try:
                yield from run(
                    engine, name, sources, num_steps, seed, resize, owner(request, ROOM), stop, over
                )
            except Stopped as stopped:
                yield html.idle(str(stopped)), gr.skip(), gr.skip(), *over
    except gr.Error as error:
        yield html.note(unescape(str(error.message)), bad=True), gr.skip(), gr.skip(), *over
        raise


def run(
    engine: Engine,
    name: str | None,
    sources: Sequence[str] | None,
    num_steps: float,
    seed: float,
    resize: bool,
    who: str = "local",
    stop: Shown = (None, None),
    over: Shown = (None, None),
) -> Iterator[Shown]:
    """Rows as in `press`: the place in the queue, and then what was made. Raises ``ValueError`` for what
    cannot be translated."""
    if not name or not sources:
        raise ValueError("pick a bridge and one or more pictures first")
    count = limits.steps(num_steps)
    parse_seeds(int(seed or 0))
    asked = f" · {len(sources)} pictures · {count} steps · seed {int(seed or 0)} · {Path(name).name}"
    with engine.job(who) as job:
        for ahead in job.turn():
            yield html.waiting(ahead), gr.skip(), gr.skip(), *stop
        yield html.idle(f"Translating{asked}"), gr.skip(), gr.skip(), *stop
        folder = engine.fresh("translate")
        try:
            done = translate(
                engine.model(name),
                _copied(sources, folder / "sources"),
                folder,
                num_steps=count,
                seed=int(seed or 0),
                resize=bool(resize),
                on_step=lambda progress: not job.flag.is_set(),
            )
        except BaseException as error:
            kept = sorted(folder.glob("*.png"))
            if not kept:
                shutil.rmtree(folder)
            if not kept or not isinstance(error, Stopped):
                raise
            yield (
                html.note(f"Stopped; the {len(kept)} translated of {len(sources)} are in {folder}"),
                gr.skip(),
                [str(p) for p in kept],
                *over,
            )
            return
    failed = "".join(f" · {Path(k).name}: {why}" for k, why in done.failed.items())
    text = f"{len(done.written)} translated into {folder}{asked}{failed}"
    yield html.note(text, bad=bool(done.failed)), str(folder / SHEET), [str(p) for p in done.written], *over


def _copied(sources: Sequence[str], folder: Path) -> list[Path]:
    """The uploads, in a folder that stays, under names of which no two become one file: a second ``cat.png``
    is ``cat-2.png``."""
    folder.mkdir(parents=True)
    taken, made = {Path(SHEET).stem.casefold()}, []
    for source in map(Path, sources):
        stem, count = source.stem, 1
        while stem.casefold() in taken:
            count += 1
            stem = f"{source.stem}-{count}"
        taken.add(stem.casefold())
        made.append(Path(shutil.copyfile(source, folder / f"{stem}{source.suffix}")))
    return made


def _about(bridges: dict[str, Card], name: str | None) -> str:
    if not bridges:
        return html.note("There is no bridge here yet; `studio train fashion-restore` makes one")
    return html.card(bridges[name], folder=str(bridges[name].folder)) if name in bridges else ""
