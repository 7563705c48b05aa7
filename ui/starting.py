"""Start from a picture: one that is changed as a whole, or of which a painted part is made anew. Shown for
models that can."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from studio.jobs.artefacts import path_of
from studio.jobs.recipe import FILES
from studio.jobs.records import Job
from studio.jobs.seen import check_mask
from studio.model import catalog
from studio.sampling.array_files import is_array
from studio.sampling.starts import usual_strength
from ui import html, painting, pair, uploads
from ui.engine import Engine
from ui.events import QUIET, row
from ui.toasts import toasts

WHOLE, PART = "whole", "part"
HIDDEN = gr.update(visible=False)
SENT = ("init", "given")  # controls of a form that hold what a run starts from
GIVEN = ("strength", "init", "way", "drawn", "mask-file")  # what a run is told of it
SHOWN = ("from-picture", "init", "init-note", "way", "strength", "drawn", "mask-file", "mask-note")


def panel() -> dict[str, Any]:
    """Its controls by name."""
    p: dict[str, Any] = {}
    with gr.Accordion("Start from a picture", open=False, visible=False, elem_id="from-picture") as p[
        "from-picture"
    ]:
        p["init"] = uploads.picture(
            label="Picture",
            sources=["upload", "clipboard"],
            height=200,
            buttons=[],
            elem_id="init",
        )
        p["init-note"] = gr.HTML(elem_id="init-note", elem_classes="inset")
        p["way"] = gr.Radio(
            [("Change it", WHOLE), ("Repaint a part", PART)],
            value=WHOLE,
            label="What to do with it",
            elem_id="way",
        )
        p["drawn"] = painting.editor("drawn")
        p["mask-file"] = uploads.file(
            [*uploads.PICTURES, *uploads.ARRAYS],
            label="Or a mask (white, 1: changes)",
            height=120,
            visible=False,
            elem_id="mask-file",
        )
        p["mask-note"] = gr.HTML(elem_id="mask-note", elem_classes="inset")
        p["strength"] = gr.Slider(
            0.05,
            1,
            value=usual_strength(False),
            step=0.05,
            label="Strength",
            info="A little stays close to the picture; 1 makes it anew",
            elem_id="strength",
            elem_classes="drift",
        )
    p["started"] = gr.JSON(visible="hidden")
    return p


@dataclass(frozen=True)
class Given:
    """Files to start from and of what may change, and how much of the way is run anew; 0 is the usual share.
    Or which entries are known, and their values."""

    init: str | None = None
    mask: str | None = None
    strength: float = 0.0
    known: str | None = None
    given: str | None = None


class Starting:
    """What its controls call, over an `Engine`."""

    def __init__(self, engine: Engine):
        self.engine = engine

    @contextmanager
    def files(self, model: str, said: Mapping[str, Any]) -> Iterator[Given]:
        """What a run with the values of GIVEN starts from, its mask as a file for as long; nothing for a
        model that cannot. Raises ``ValueError``."""
        init, strength = said.get("init"), float(said.get("strength") or 0)
        if not init or not catalog.takes_picture(card := self.engine.card(model)):
            yield Given()
        elif said.get("way") != PART:
            yield Given(init, None, strength)
        else:
            with tempfile.TemporaryDirectory() as place:
                drawn = painting.painted(said.get("drawn"), Path(place), catalog.sample_shape(card)[1:])
                file = said.get("mask-file")
                if drawn and file:
                    raise ValueError(
                        "got a painted mask and one from a file, expected one; remove the file or clear what "
                        "is painted"
                    )
                if not (drawn or file):
                    raise ValueError(
                        "paint over what may change first, or choose to change the whole picture"
                    )
                yield Given(init, drawn or file, strength)

    def fill(
        self, found: Mapping[str, Any] | None, init: str | None, way: str, drawn: Mapping[str, Any] | None
    ) -> tuple[Any, ...]:
        """After an answer has set the form (`answers.started`): the picture and the mask that it names below
        the folder of outputs; where it names none because a model was picked, those that are there, as this
        model sees them. SHOWN."""
        said = found or {}
        with toasts():
            if "init" not in said:
                return row(SHOWN, **self._seen(said.get("model"), init, way, layers_of(drawn)))
            files = {k: str(path_of(self.engine.out, said[k])) for k in ("init", "mask") if said.get(k)}
            way = PART if said.get("masked") else WHOLE
            array = files.get("mask") if is_array(files.get("mask")) else None
            layers = [painting.layer_of(files["mask"])] if "mask" in files and not array else []
            shown: dict[str, Any] = {"init": files.get("init"), "way": way, "mask-note": ""}
            shown |= self._seen(said.get("model"), files.get("init"), way, layers)
            shown["mask-file"] = gr.update(value=array, visible=bool(files.get("init")) and way == PART)
            return row(
                SHOWN, **shown, **({"from-picture": gr.update(open=True)} if said.get("asked") else {})
            )

    def sent(self, model: str | None, init: str | None, way: str) -> tuple[Any, ...]:
        """Another picture, or none: nothing is painted on it yet. SHOWN."""
        with toasts():
            return row(SHOWN, **self._seen(model, init, way, []))

    def masked(self, model: str | None, file: str | None) -> str:
        """What is wrong with a file of what may change; nothing of one that serves."""
        with toasts():
            if not file or not model or not catalog.takes_picture(card := self.engine.card(model)):
                return ""
            try:
                check_mask(card, Path(file))
            except ValueError as error:
                return html.note(uploads.named(str(error), file), bad=True)
            return html.note(f"{Path(file).name} says what may change.")

    def turned(
        self,
        model: str | None,
        init: str | None,
        way: str,
        strength: float,
        drawn: Mapping[str, Any] | None,
    ) -> tuple[Any, ...]:
        """Another thing to do with it; a strength that nobody has chosen becomes the usual one. SHOWN."""
        with toasts():
            usual = usual_strength(way == PART)
            untouched = strength == usual_strength(way != PART)
            return row(
                SHOWN,
                strength=usual if untouched else gr.skip(),
                **self._seen(model, init, way, layers_of(drawn)),
            )

    def _seen(self, model: str | None, init: str | None, way: str, layers: list[Any]) -> dict[str, Any]:
        """What the model makes of a picture, and where a part of it is painted."""
        if not init or not model:
            return {"init-note": "", "drawn": gr.update(value=None, visible=False), "mask-file": HIDDEN}
        card = self.engine.card(model)
        if not catalog.takes_picture(card):
            return {}
        try:
            canvas = painting.over(card, init, layers)
        except ValueError as error:
            words = f"{Path(init).name} {uploads.named(str(error), init)}"
            return {
                "init-note": html.note(words, bad=True),
                "drawn": gr.update(value=None, visible=False),
                "mask-file": HIDDEN,
            }
        channels, height, width = catalog.sample_shape(card)
        words = f"The model sees it as {width} × {height}, {pair.CHANNELS.get(channels, channels)}."
        words += " What you paint over may change, all else is kept." if way == PART else ""
        drawn = gr.update(value=canvas, visible=True) if way == PART else gr.update(visible=False)
        return {"init-note": html.note(words), "drawn": drawn, "mask-file": gr.update(visible=way == PART)}


def reopened(form: Mapping[str, Any], own: Job | None) -> tuple[dict[str, Any], str]:
    """What a tab had, with the files that its ``own`` job had started from where the form still had them, and
    the folder of that job."""
    said = {k: v for k, v in form.items() if k not in (*SENT, "share")}
    names = {name for name in SENT if (file := _sent(form.get(name))) and own and file in _files(own.spec)}
    if own is None or not names:
        return said, ""
    if "given" in names:
        said["strength"] = form.get("share") if own.spec.get("init") else 0.0
    return said | {k: own.spec.get(k) for k in FILES}, own.folder


def _sent(value: Any) -> str:
    """The name of an upload, as a control holds it."""
    return Path(str(value.get("path"))).name if isinstance(value, Mapping) else ""


def _files(spec: Mapping[str, Any]) -> set[Any]:
    """The uploads of a job by name, but for a mask: it goes with what it is of."""
    return {spec.get(name) for name in ("init", "given")}


def layers_of(drawn: Mapping[str, Any] | None) -> list[Any]:
    """What was painted in an editor."""
    return [layer for layer in (drawn or {}).get("layers", ()) if layer is not None]


def wire(p: dict[str, Any], s: Starting) -> None:
    shown, here = [p[name] for name in SHOWN], [p["model"], p["init"], p["way"]]
    p["init"].upload(s.sent, here, shown, **QUIET)
    gone = "(model, init, way) => [model, null, way]"  # it is told before the picture has left
    p["init"].clear(s.sent, here, shown, js=gone, **QUIET)
    p["mask-file"].upload(s.masked, [p["model"], p["mask-file"]], p["mask-note"], **QUIET)
    p["mask-file"].clear(lambda: "", None, p["mask-note"], **QUIET)
    p["way"].input(s.turned, [*here, p["strength"], p["drawn"]], shown, **QUIET)
    p["started"].change(s.fill, [p["started"], *here[1:], p["drawn"]], shown, **QUIET)
