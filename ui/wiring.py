"""Which handler each control of the page calls, and how what it answers is shown."""

import inspect
import json
from functools import partial
from typing import Any

import gradio as gr

from ui import (
    chosen,
    conditions,
    dropped,
    estimating,
    given,
    html,
    presets,
    prior,
    rules,
    said,
    starting,
    views,
    zipped,
)
from ui.answers import BRIDGE, CONTROLS, SAMPLE, TRANSLATE
from ui.api import Api
from ui.bridge_form import OPENED
from ui.bridging import CHOSEN, Bridging
from ui.bridging import SHOWN as SHOWN_BRIDGE
from ui.events import QUIET, applied
from ui.given import NUMBERS
from ui.handlers import GOING, SHOWN, Handlers
from ui.noting import NOTED, NOTES, PICTURE, STARTS
from ui.presets import Presets
from ui.starting import GIVEN, SENT
from ui.views import Views

TOGETHER = 32  # runs that may stand in the line for the device at a time; the engine runs one
MANY: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_limit": 8}
ON: dict[str, Any] = {"__type__": "update", "interactive": True}
OFF: dict[str, Any] = {"__type__": "update", "interactive": False}


def _picked(
    p: dict[str, Any],
    form: str,
    control: str,
    rest: str,
    names: tuple[str, ...],
    asked: Any,
    answer: Any,
    choose: Any,
) -> None:
    """One call for each model that is picked, and its answer."""
    js = f"(model, rest) => drift.pick({json.dumps(form)}, {json.dumps(control)}, model, rest)"
    p[control].input(None, [p[control], p[rest]], asked, js=js, **QUIET)
    applied(asked.change(choose, asked, answer, **MANY, **QUIET), p, form, names, answer)


def wire(page: gr.Blocks, p: dict[str, Any], h: Handlers) -> None:
    controls, going, shown = ([p[name] for name in names] for names in (CONTROLS, GOING, SHOWN))
    loaded = page.load(
        h.open,
        [p["ticket"], p["opened"]],
        p["answer"],
        js="() => [drift.ask('sample', undefined, 0), drift.opened()]",
        **QUIET,
    )
    applied(loaded, p, "sample", SAMPLE, p["answer"])
    again = page.load(
        h.follow,
        [p["job"], p["live"]],
        going,
        js="(job, live) => [drift.job(), live]",
        concurrency_limit=TOGETHER,
        **QUIET,
    )
    again.success(h.shown, p["job"], shown, js="() => drift.job()", **QUIET)
    kept = [*CONTROLS, "strength", "share", *SENT]
    names, form = json.dumps(kept), [p[name] for name in kept]
    gr.on(
        [control.change for control in form],
        None,
        form,
        None,
        js=f"(...values) => drift.form_is({names}, values)",
        **QUIET,
    )

    page.unload(h.leave)

    p["refresh"].click(h.refresh, p["model"], [p["model"], p["plan"]], **QUIET)
    _picked(p, "sample", "model", "seeds", SAMPLE, p["asked"], p["answer"], h.choose)
    planned, js = p["plan_asked"], "(plan, model) => drift.plan('sample', 'plan', plan, model)"
    p["plan"].input(None, [p["plan"], p["model"]], planned, js=js, **QUIET)
    applied(
        planned.change(h.choose_plan, planned, p["answer"], **MANY, **QUIET), p, "sample", SAMPLE, p["answer"]
    )
    note = _wire_notes(p, h)
    _wire_conditions(p, h)
    _wire_rules(p)
    _wire_seeds(p)

    presets.wire(p, Presets(h.engine))
    prior.wire(p)
    picked = chosen.wire(p, h.chosen)
    dropped.wire(p, h.engine)
    starting.wire(p, h.starting)
    given.wire(p, h.giving)
    views.wire(p, Views(h.jobs))
    said = json.dumps(
        [
            html.idle("Waiting for the device …"),
            {"__type__": "update", "interactive": True},
            {"__type__": "update", "interactive": False},
        ]
    )
    armed = gr.on(
        [p["generate"].click, p["seeds"].submit],
        None,
        None,
        [p[k] for k in ("status", "stop", "generate")],
        js=f"() => {said}",
        cancels=[picked],
        **QUIET,
    )
    ready = armed.then(None, js="() => drift.settled('sample')", **QUIET)
    begun = [p[name] for name in (*GIVEN, *NUMBERS)]
    run = ready.then(h.generate, [*controls, *begun, p["live"]], going, concurrency_limit=TOGETHER, **QUIET)
    note(run.success(h.shown, p["job"], shown, **QUIET))  # it has told what such runs take
    run.failure(
        None, None, [p["stop"], p["generate"]], js=f"() => {json.dumps(json.loads(said)[:0:-1])}", **QUIET
    )
    p["stop"].click(h.stop, p["job"], going, queue=False, **QUIET)


def _wire_notes(p: dict[str, Any], h: Handlers) -> Any:
    """What is said of the form: asked for where it is not as the last answer made it, which said that too.
    Gives what says it once more."""
    controls = [p[name] for name in (*NOTED, *PICTURE)]
    shown = [p[name] for name in NOTES]
    changes = [control.change for control in controls if control is not p["model"]]
    js = f"(...values) => drift.news({json.dumps([*NOTED, *STARTS])}, values)"
    gr.on(changes, None, controls, p["noted"], js=js, **QUIET)
    p["noted"].change(h.notes, p["noted"], shown, trigger_mode="always_last", **QUIET)

    def again(event: Any) -> None:
        event.then(lambda *values: h.notes(list(values)), controls, shown, **QUIET)

    return again


def _wire_conditions(p: dict[str, Any], h: Handlers) -> None:
    """The line of conditions and the controls say the same."""
    p["fields"].change(None, p["fields"], None, js="(found) => drift.fields(found)", **QUIET)
    p["conditions"].blur(
        partial(conditions.read, h.engine.card), [p["model"], p["conditions"]], p["fields"], **QUIET
    )
    p["sent"].change(
        None, p["sent"], p["conditions"], js="(sent) => drift.put(sent?.name, sent?.text)", **QUIET
    )


def _wire_rules(p: dict[str, Any]) -> None:
    """The lines of guidance and sampler, and the controls of their parts."""
    for form in ("guidance", "sampler"):
        line, stack = p[form], p[f"{form}_stack"]
        stack.change(None, stack, None, js="(found) => drift.parts(found)", **QUIET)
        typed = [line.blur, line.submit] if form == "guidance" else [line.input]
        gr.on(typed, partial(rules.read, form), line, stack, **QUIET)
    js = "(name) => [drift.rule(name), null]"
    added = p["rule"].select(None, p["rule"], [p["guidance"], p["rule"]], js=js, **QUIET)
    added.then(partial(said.parts, "guidance"), p["guidance"], p["guidance_stack"], **QUIET)


def _wire_seeds(p: dict[str, Any]) -> None:
    """How many seeds from where, and the line of seeds; reuse takes the seed of the chosen picture."""
    seeds, span = p["seeds"], [p["count"], p["start"]]
    gr.on(
        [c.input for c in span], None, span, seeds, js="(count, start) => drift.seeds(count, start)", **QUIET
    )
    seeds.change(None, [seeds, *span], span, js="(...said) => drift.span(...said)", **QUIET)
    for name in ("dice", "next", "reuse"):
        p[name].click(None, span, seeds, js=f"(count, start) => drift.{name}(count, start)", **QUIET)


def wire_bridge(page: gr.Blocks, p: dict[str, Any], b: Bridging) -> None:
    answer, shown, chosen, opened = (
        p["bridge_answer"],
        [p[name] for name in SHOWN_BRIDGE],
        [p[name] for name in CHOSEN],
        [p[name] for name in OPENED],
    )
    loaded = page.load(
        b.form.open,
        [p["ticket"], p["opened"]],
        opened,
        js="() => [drift.ask('translate', undefined, 0), drift.opened('translate')]",
        **QUIET,
    )
    applied(loaded, p, "translate", TRANSLATE, answer)
    loaded.success(b.follow, [p["job"], p["bridge-at"]], shown, concurrency_limit=TOGETHER, **QUIET)
    form = [p[name] for name in BRIDGE]
    names = json.dumps(list(BRIDGE))
    js = f"(...values) => drift.form_is({names}, values, 'translate')"
    gr.on([control.change for control in form], None, form, None, js=js, **QUIET)

    _picked(
        p, "translate", "bridge", "bridge-steps", TRANSLATE, p["bridge_asked"], answer, choose=b.form.choose
    )
    told = [p[name] for name in ("sources", "bridge", "bridge-steps", "bridge-sampler")]
    gr.on(
        [control.change for control in told],
        partial(estimating.of_pictures, b.engine),
        told,
        p["bridge-estimate"],
        trigger_mode="always_last",
        **QUIET,
    )
    pictures, mask = [p["bridge"], p["sources"], p["bridge-resize"]], [p["bridge"], p["bridge-mask"]]
    gr.on(
        [control.change for control in pictures],
        b.form.sent,
        pictures,
        p["sources-note"],
        trigger_mode="always_last",
        **QUIET,
    )
    p["bridge-mask"].change(b.form.masked, mask, p["bridge-mask-note"], **QUIET)
    p["bridge-examples"].click(b.form.examples, p["bridge"], p["sources"], **QUIET)
    p["bridge-paint"].click(b.form.paint, [p["bridge"], p["sources"]], p["bridge-drawn"], **QUIET)

    armed = p["translate"].click(
        None,
        None,
        [p[k] for k in ("bridge-status", "bridge-stop", "translate")],
        js=f"() => {json.dumps([html.idle('Waiting for the device …'), ON, OFF])}",
        **QUIET,
    )
    ready = armed.then(None, js="() => drift.settled('translate')", **QUIET)
    sent = [p[k] for k in ("sources", "bridge-mask", "bridge-drawn")]
    run = ready.then(b.press, [*sent, *form], shown, concurrency_limit=TOGETHER, **QUIET)
    run.failure(None, None, [p["bridge-stop"], p["translate"]], js=f"() => {json.dumps([OFF, ON])}", **QUIET)
    p["bridge-stop"].click(b.stop, p["job"], p["bridge-stop"], queue=False, **QUIET)

    js, here = "async (job) => [job, await drift.at('bridge-gallery')]", [p["job"], p["bridge-at"]]
    p["bridge-gallery"].select(b.walk, here, chosen, js=js, trigger_mode="always_last", **QUIET)
    for button, by in (("bridge-previous", -1), ("bridge-next", 1)):
        js = f"(job, at) => [job, at + {by}]"
        p[button].click(b.walk, [p["job"], p["bridge-at"]], chosen, js=js, **QUIET)
    again = p["bridge-again"].click(
        b.form.again,
        [p["job"], p["bridge-at"], p["ticket"]],
        opened,
        js="(job, at) => [job, at, drift.ask('translate', undefined, performance.now())]",
        **QUIET,
    )
    applied(again, p, "translate", TRANSLATE, answer)
    zipped.wire(p["bridge-zip"], p["bridge-zipped"], b.zip, p["job"])


def wire_api(api: Api) -> None:
    hidden: dict[str, Any] = {"visible": False}
    called, answer = gr.Button(**hidden), gr.JSON(**hidden)
    # files come through components, which take none but uploads
    for handler, files in (
        (api.generate, "init mask known given"),
        (api.translate, "pictures"),
        (api.recipe, "picture"),
    ):
        called.click(
            handler,
            _parameters(handler, files.split()),
            answer,
            api_name=handler.__name__,
            concurrency_limit=TOGETHER,
        )
    gr.api(api.stop, api_name="stop", queue=False)
    for plain in (api.models, api.job, api.result):
        gr.api(plain, api_name=plain.__name__)


def _parameters(handler: Any, files: list[str]) -> list[Any]:
    """A hidden component for each parameter of a handler, with its default."""
    made: list[Any] = []
    for name, parameter in inspect.signature(handler).parameters.items():
        told: dict[str, Any] = {"label": name, "visible": False}
        default = None if parameter.default is parameter.empty else parameter.default
        if name in files:
            told["file_count"] = "multiple" if name.endswith("s") else "single"
            made.append(gr.File(type="filepath", **told))
        elif name != "request":
            kind = {bool: gr.Checkbox, int: gr.Number, float: gr.Number}.get(type(default), gr.Textbox)
            made.append(kind(default, **told))
    return made
