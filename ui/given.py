"""Start from numbers: a file with a sample that is changed, or with entries that are known and stay. Shown
for models that can."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from studio.jobs import numbers
from studio.jobs.artefacts import path_of
from studio.model import catalog
from studio.runtime.seeds import AT_ONCE, parse_seeds
from studio.sampling.starts import usual_strength
from ui import html, uploads
from ui.engine import Engine
from ui.events import QUIET, row
from ui.starting import Given
from ui.toasts import toasts

NUMBERS = ("given", "known", "share")  # what a run is told of it
SHOWN = ("from-numbers", "given", "known", "given-note", "share", "stays")


def panel() -> dict[str, Any]:
    """Its controls by name."""
    p: dict[str, Any] = {}
    with gr.Accordion("Start from numbers", open=False, visible=False, elem_id="from-numbers") as p[
        "from-numbers"
    ]:
        p["given"] = uploads.file(uploads.ARRAYS, label="A sample (.npy, .npz)", height=120, elem_id="given")
        p["known"] = uploads.file(
            uploads.ARRAYS, label="What of it stays (true, 1)", height=120, elem_id="known"
        )
        p["given-note"] = gr.HTML(elem_id="given-note", elem_classes="inset")
        p["share"] = gr.Slider(
            0.05,
            1,
            value=usual_strength(False),
            step=0.05,
            label="Strength",
            info="A little stays close to the numbers; 1 makes them anew",
            visible=False,
            elem_id="share",
            elem_classes="drift",
        )
    p["stays"] = gr.Checkbox(False, visible="hidden")  # whether some of them stay
    return p


class Giving:
    """What its controls call, over an `Engine`."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def added(self, start: Given, model: str, said: Mapping[str, Any]) -> Given:
        """What a run starts from with the values of NUMBERS too; nothing of them for a model that cannot.
        Raises ``ValueError``."""
        given, known = said.get("given"), said.get("known")
        if not (given or known) or not catalog.takes_numbers(self.engine.card(model)):
            return start
        if start.init:
            raise ValueError(
                "got a picture and numbers to start from, expected one of them; remove the other"
            )
        if not given:
            raise ValueError("got which numbers stay, but not the numbers; add them, or remove it")
        try:
            stays = _stays(given, known)
        except ValueError as error:
            raise ValueError(uploads.named(str(error), given, known)) from None
        if stays:
            return replace(start, known=stays, given=given)
        return replace(start, init=given, strength=float(said.get("share") or 0))

    def fill(
        self, found: Mapping[str, Any] | None, given: str | None, known: str | None, seeds: str
    ) -> tuple[Any, ...]:
        """After an answer has set the form (`answers.started`): the files that it names below the folder of
        outputs; where it names none because a model was picked, those that are there, as this model sees
        them. SHOWN."""
        said = found or {}
        with toasts():
            if "given" not in said:
                return row(SHOWN, **self._seen(said.get("model"), given, known, seeds))
            given, known = (
                str(path_of(self.engine.out, said[k])) if said.get(k) else None for k in ("given", "known")
            )
            seen = self._seen(said.get("model"), given, known, seeds)
            opened = {"from-numbers": gr.update(open=True)} if given else {}
            return row(SHOWN, given=given, known=known, **seen, **opened)

    def sent(self, model: str | None, given: str | None, known: str | None, seeds: str) -> tuple[Any, ...]:
        """Other files, or none. SHOWN."""
        with toasts():
            return row(SHOWN, **self._seen(model, given, known, seeds))

    def _seen(self, model: str | None, given: str | None, known: str | None, seeds: str) -> dict[str, Any]:
        """What the model makes of the files."""
        nothing = {"given-note": "", "share": gr.update(visible=False), "stays": False}
        if not model or not (given or known):
            return nothing
        card = self.engine.card(model)
        if not catalog.takes_numbers(card):
            return nothing
        if not given:
            return nothing | {"given-note": html.note("Add the numbers of which these stay.")}
        try:
            stays = _stays(given, known)
            if stays is None:
                shape = tuple(numbers.start(card, Path(given)).shape)
                words = f"{_sides(shape)} numbers, all changed as far as the strength says."
            else:
                count = len(parse_seeds(seeds, most=AT_ONCE))
                found = numbers.known(card, Path(stays), Path(given), count).known
                each = f" of each of {len(found)} samples" if len(found) > 1 else ""
                words = f"{int(found.sum()):,} of {found.numel():,} entries{each} stay to the last bit."
        except ValueError as error:
            return nothing | {"given-note": html.note(uploads.named(str(error), given, known), bad=True)}
        shown = {"share": gr.update(visible=stays is None), "stays": stays is not None}
        return {"given-note": html.note(words), **shown}


def _stays(given: str, known: str | None) -> str | None:
    """The file that says which entries stay, where there is one. Raises ``ValueError`` for no array."""
    return known or (given if numbers.holds_known(Path(given)) else None)


def _sides(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def wire(p: dict[str, Any], g: Giving) -> None:
    shown, files = [p[name] for name in SHOWN], [p["given"], p["known"], p["seeds"]]
    here = [p["model"], *files]
    for name, gone in (
        ("given", "(model, given, known, seeds) => [model, null, known, seeds]"),
        ("known", "(model, given, known, seeds) => [model, given, null, seeds]"),
    ):
        p[name].upload(g.sent, here, shown, **QUIET)
        p[name].clear(g.sent, here, shown, js=gone, **QUIET)  # it is told before the file has left
    p["started"].change(g.fill, [p["started"], *files], shown, **QUIET)
