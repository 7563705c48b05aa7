"""Presets of the form: settings of the model and those that a person keeps under a name. One that is picked
sets what it says and leaves all else."""

from functools import partial
from typing import Any

import gradio as gr

from studio.jobs.presets import Preset, Saved, Taken, model_s, own_of
from studio.jobs.recipe import PICK, Recipe
from ui import answers, html
from ui.answers import CONTROLS, SAMPLE
from ui.choices import OWN
from ui.choices import presets as presets_of
from ui.engine import Engine
from ui.events import QUIET, applied, row
from ui.toasts import toasts

KEPT = ("preset", "preset-note", "preset-ask", "preset-name", "preset-delete")
SURE = ("preset", "preset-note", "preset-sure", "preset-delete")


def panel() -> dict[str, Any]:
    """Its controls by name."""
    p: dict[str, Any] = {}
    with gr.Group(elem_id="presets"):
        p["preset"] = gr.Dropdown(
            label="Preset",
            info="Sets what it says; seeds stay",
            allow_custom_value=True,  # the server does not know the lists that answers bring
            elem_id="preset",
            elem_classes="drift",
        )
        p["preset-note"] = gr.HTML(elem_id="preset-note", elem_classes="inset")
        p["preset-delete"] = gr.Button("Delete it", size="sm", visible=False, elem_id="preset-delete")
        with gr.Row(visible=False, elem_classes="tight", elem_id="preset-sure") as p["preset-sure"]:
            p["preset-yes"] = gr.Button("Delete for good", size="sm", variant="stop", elem_id="preset-yes")
            p["preset-no"] = gr.Button("Keep it", size="sm", elem_id="preset-no")
        with gr.Accordion("Save as preset", open=False, elem_id="preset-saving"):
            p["preset-name"] = gr.Textbox(
                label="Name", placeholder="quick look", max_lines=1, elem_id="preset-name"
            )
            p["preset-what"] = gr.Checkbox(
                label="With class, seeds and conditions", value=False, elem_id="preset-what"
            )
            p["preset-save"] = gr.Button("Save", size="sm", elem_id="preset-save")
            with gr.Row(visible=False, elem_classes="tight", elem_id="preset-ask") as p["preset-ask"]:
                p["preset-replace"] = gr.Button("Replace it", size="sm", elem_id="preset-replace")
                p["preset-leave"] = gr.Button("Leave it", size="sm", elem_id="preset-leave")
    p["preset_asked"] = gr.JSON(visible="hidden")
    return p


class Presets:
    """What its controls call, over an `Engine`."""

    def __init__(self, engine: Engine):
        self.engine, self.saved = engine, Saved(engine.out)

    def _named(self, model: str, name: str) -> Preset:
        card = self.engine.card(model)
        if name.startswith(OWN):
            return own_of(name.removeprefix(OWN), model, card, self.saved)
        return model_s(name, model, card)

    def choose(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer that sets what a preset says."""
        with toasts():
            model, name = str(asked.get("model") or ""), str(asked.get("plan") or "")
            if not model:
                raise ValueError(PICK)
            preset = self._named(model, name)
            answer = answers.settings(self.engine, preset.put(Recipe(model)), asked["ticket"])
            return answers.part(answer, tuple(preset.settings))

    def about(self, model: str | None, name: str | None) -> tuple[Any, ...]:
        """What the picked one says; SURE."""
        try:
            words = self._named(model or "", name).about if name else ""
        except (ValueError, OSError):
            words = ""
        kept = bool(name and name.startswith(OWN))
        return row(
            SURE,
            **{
                "preset-note": html.note(words),
                "preset-sure": _hidden(),
                "preset-delete": gr.update(visible=kept),
            },
        )

    def save(self, replaces: bool, name: str | None, what: bool, *values: Any) -> tuple[Any, ...]:
        """Keep the form under a name; asks before one is replaced. KEPT."""
        said = {k: v for k, v in zip(CONTROLS, values) if v is not None}
        try:
            with toasts():
                asked = Recipe.parse({"model": "", **said})
                self.engine.card(asked.model)
                try:
                    made = self.saved.save(name or "", asked, what=bool(what), replaces=replaces)
                except Taken as taken:
                    note = html.note(str(taken), bad=True)
                    return row(KEPT, **{"preset-note": note, "preset-ask": gr.update(visible=True)})
        except gr.Error as error:
            return row(KEPT, **{"preset-note": html.note(str(error.message), bad=True)})
        choices = presets_of(self.engine, asked.model)
        return row(
            KEPT,
            preset=gr.update(choices=choices, value=OWN + made.name),
            **{
                "preset-note": html.note(f"saved as {made.name}: {made.about}"),
                "preset-ask": _hidden(),
                "preset-name": "",
                "preset-delete": gr.update(visible=True),
            },
        )

    def delete(self, model: str | None, name: str | None) -> tuple[Any, ...]:
        """Remove one that a person has kept, after they have said so twice. SURE."""
        with toasts():
            if not name or not name.startswith(OWN):
                raise ValueError("pick one of your presets first; those of a model stay")
            self.saved.delete(name.removeprefix(OWN))
        words = html.note(f"{name.removeprefix(OWN)} is deleted")
        return row(
            SURE,
            preset=gr.update(choices=presets_of(self.engine, model), value=None),
            **{"preset-note": words, "preset-sure": _hidden(), "preset-delete": _hidden()},
        )


def _hidden() -> Any:
    return gr.update(visible=False)


def wire(p: dict[str, Any], presets: Presets) -> None:
    sure, kept = [p[name] for name in SURE], [p[name] for name in KEPT]
    asked, js = p["preset_asked"], "(name, model) => drift.plan('sample', 'preset', name, model)"
    picked = [p["preset"], p["model"]]
    p["preset"].select(None, picked, asked, js=js, **QUIET)
    p["preset"].select(presets.about, picked[::-1], sure, **QUIET)
    many: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_limit": 8}
    answered = asked.change(presets.choose, asked, p["answer"], **many, **QUIET)
    applied(answered, p, "sample", SAMPLE, p["answer"])

    form = [p["preset-name"], p["preset-what"], *(p[name] for name in CONTROLS)]
    for event, replaces in (
        (p["preset-save"].click, False),
        (p["preset-name"].submit, False),
        (p["preset-replace"].click, True),
    ):
        event(partial(presets.save, replaces), form, kept, **QUIET)
    p["preset-leave"].click(lambda: ("", _hidden()), None, [p["preset-note"], p["preset-ask"]], **QUIET)
    p["preset-delete"].click(lambda: gr.update(visible=True), None, p["preset-sure"], **QUIET)
    p["preset-no"].click(_hidden, None, p["preset-sure"], **QUIET)
    p["preset-yes"].click(presets.delete, picked[::-1], sure, **QUIET)
