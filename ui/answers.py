"""Answers that set many controls of a form at once. The page applies each where it is still wanted
(`page.js`): only the newest of a form, and no control that a person has touched since asking."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from studio.checkpoints import plans
from studio.checkpoints.find import Card
from studio.data.labels import no_label
from studio.jobs import limits
from studio.jobs.recipe import FILES, START, Recipe, label_choices, own_word
from studio.jobs.translation import Translation
from studio.model import catalog
from studio.sampling.array_files import is_array
from studio.sampling.starts import usual_strength
from ui import choices, html, noting, pair, restore, said
from ui.engine import Engine

CONTROLS = tuple(f.name for f in fields(Recipe) if f.name not in START)
# the controls of the Bridge page that an answer sets, and what of a `Translation` each holds
BRIDGE = {
    "bridge": "bridge",
    "bridge-sampler": "sampler",
    "bridge-steps": "num_steps",
    "bridge-seed": "seed",
    "bridge-direction": "direction",
    "bridge-label": "label",
    "bridge-resize": "resize",
}
# what else an answer sets
STARTED = ("strength", "share", "from-picture", "from-numbers", "started")
OFFERED = ("prior", "preset", "preset-note", "preset-sure", "preset-delete")
SHOWN = ("card", "plan_note", "guidance_stack", "sampler_stack", "fields", *noting.NOTES)
SAMPLE = (*CONTROLS, *STARTED, *OFFERED, *SHOWN)
TRANSLATE = (*BRIDGE, "bridge-card", "bridge-examples")
# which of the form's controls a picture's recipe sets
USES = {
    "every control": CONTROLS,
    "all but the seeds": tuple(name for name in CONTROLS if name != "seeds"),
    "guidance": ("guidance",),
}
PICTURES, POINTS = "0-9", "0-999"
LONG = 250  # solver steps that the slider offers unless a model or recipe asks for more

Update = dict[str, Any]


def of(
    form: str, ticket: int, source: str, controls: dict[str, Update], notes: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The answer to a question by its ticket; ``source``: the model that the form is about now; ``notes``:
    `noting.notes` of a form that has these values and no other."""
    told = {name: {"value": text} for name, text in (notes or {}).items()}
    return {"form": form, "ticket": ticket, "source": source, "controls": controls, "notes": told}


def model(engine: Engine, name: str, seeds: str, ticket: int) -> dict[str, Any]:
    """A model's classes, weights and defaults. Raises ``ValueError`` for none."""
    shown = engine.card(name)
    own = catalog.defaults_of(shown)
    if seeds in ("", PICTURES, POINTS):
        seeds = POINTS if catalog.shown_together(shown) else PICTURES
    weights = catalog.weights_file(shown)[0]
    settings = Recipe(
        name,
        weights,
        own_word(shown.classes),
        seeds,
        own.num_steps,
        own.sampler,
        own.guidance,
        dtype=engine.dtype,
    )
    controls = _controls(engine, settings, shown) | _start(shown, {"ticket": ticket, "model": name})
    return of("sample", ticket, name, controls, noting.notes(engine, asdict(settings)))


def settings(
    engine: Engine, asked: Recipe, ticket: int, start: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Every control as it was asked for; ``start``: the picture and the mask that are there for it
    (`restore.Restored`). Raises ``ValueError`` for no model."""
    shown, there = engine.card(asked.model), dict(start or {})
    if of_numbers := is_array(asked.init) and not asked.mask:
        there["given"] = there.pop("init", "")
    begun = bool(asked.init) and not of_numbers
    started = {"ticket": ticket, "model": asked.model, "asked": begun, "masked": bool(asked.mask)}
    controls = _controls(engine, asked, shown)
    controls |= _start(shown, started | {name: there.get(name, "") for name in FILES})
    if asked.init or asked.strength:
        share = asked.strength or usual_strength(bool(asked.mask))
        controls["share" if of_numbers else "strength"] = {"value": share}
    return of("sample", ticket, asked.model, controls, noting.notes(engine, asdict(asked)))


def _start(shown: Card, started: dict[str, Any]) -> dict[str, Update]:
    """Whether a run can start from a picture or from numbers, and what `ui.starting` and `ui.given` have to
    show: where ``started`` names no files, those that are there."""
    return {
        "from-picture": {"visible": catalog.takes_picture(shown)},
        "from-numbers": {"visible": catalog.takes_numbers(shown)},
        "started": {"value": started},
    }


def plan(engine: Engine, name: str, chosen: str, ticket: int) -> dict[str, Any]:
    """The settings that a plan of a model is for, as it is of no use with others; of auto and none nothing is
    set. Raises ``ValueError`` for no model."""
    shown = engine.card(name)
    own = catalog.plans_of(shown)
    controls: dict[str, Update] = {"plan_note": {"value": _about(chosen, own)}}
    if chosen in own:
        key, samplers = own[chosen].key, catalog.sampler_names(shown)
        weights = next(k for k, digest in catalog.digests(shown).items() if digest == key.model)
        controls |= {
            "num_steps": {"value": key.num_steps}
            | ({"maximum": key.num_steps} if key.num_steps > LONG else {}),
            "sampler": {"value": key.sampler, "choices": choices.pairs([*samplers, key.sampler])},
            "guidance": {"value": key.guidance},
            "guidance_stack": {"value": said.parts("guidance", key.guidance)},
            "sampler_stack": {"value": said.parts("sampler", key.sampler)},
            "weights": {"value": weights},
        }
    return of("sample", ticket, name, controls)


def _about(chosen: str, own: Mapping[str, plans.Saved]) -> str:
    """The line below the plan: what a chosen one is for and costs."""
    if chosen in ("", plans.NONE):
        return ""
    if chosen == plans.AUTO:
        return html.note("the plan of a run's own settings, where there is one")
    if chosen in own:
        return html.note(own[chosen].about)
    return html.note(f"got plan {limits.brief(chosen)}, expected {', '.join(choices.plans(own))}", bad=True)


def _controls(engine: Engine, settings: Recipe, shown: Card) -> dict[str, Update]:
    """Every control set, with the choices that the model has."""
    known, hidden = engine.cards(), {"visible": False}
    priors = choices.priors(known, settings.model)
    samplers, settable, own = (
        catalog.sampler_names(shown),
        catalog.settable(shown),
        catalog.plans_of(shown),
    )
    more: dict[str, Update] = {
        "model": {"choices": choices.models(known, settings.model)},
        "weights": {"choices": choices.pairs([*shown.weights, settings.weights])},
        "label": {"choices": choices.pairs(label_choices(shown.classes)), "visible": bool(shown.classes)},
        "num_steps": {"maximum": max(LONG, settings.num_steps)},
        "sampler": {"choices": choices.pairs([*samplers, settings.sampler])},
        "guidance": {"visible": bool(shown.classes or catalog.conditions_of(shown))},
        "conditions": {
            "visible": bool(settable),
        },
        "plan": {"choices": choices.pairs(choices.plans(own)), "visible": bool(own)},
    }
    values = {k: v for k, v in asdict(settings).items() if k in CONTROLS}
    values |= {"label": settings.label or own_word(shown.classes)}
    return {name: more.get(name, {}) | {"value": value} for name, value in values.items()} | {
        "card": {"value": html.card(shown, folder=str(shown.folder))},
        "plan_note": {"value": _about(settings.plan, own)},
        "guidance_stack": {"value": said.parts("guidance", settings.guidance)},
        "sampler_stack": {"value": said.parts("sampler", settings.sampler)},
        "fields": {"value": said.given(settings.model, settings.conditions)},
        "prior": {"choices": choices.pairs(priors), "visible": len(priors) > 1},
        "preset": {"choices": choices.presets(engine, settings.model), "value": None},
        "preset-note": {"value": ""},
        "preset-sure": hidden,
        "preset-delete": hidden,
    }


def bridge(name: str, shown: Card, asked: Translation | None = None) -> dict[str, Update]:
    """The Bridge page for a bridge with what it has by itself, or with what was ``asked``."""
    own, ways = catalog.defaults_of(shown), catalog.directions(shown)
    none = no_label(shown.classes)
    found = asked or Translation(name)
    sampler = found.sampler or own.sampler
    label = found.label or none
    more: dict[str, Update] = {
        "bridge-sampler": {
            "value": sampler,
            "choices": choices.pairs([*catalog.sampler_names(shown), own.sampler, sampler]),
        },
        "bridge-steps": {"value": found.num_steps or own.num_steps},
        "bridge-direction": {
            "value": found.direction,
            "choices": [(directed(way, shown.starts_from), way) for way in ways],
            "visible": len(ways) > 1,
        },
        "bridge-label": {
            "value": label,
            "choices": choices.pairs([*label_choices(shown.classes)[1:], label]),
            "visible": bool(shown.classes),
        },
        "bridge-card": {"value": pair.expects(shown, catalog.sample_shape(shown), ways)},
        "bridge-examples": {"visible": bool(catalog.examples_of(shown))},
    }
    if asked is None:
        return more
    return more | {
        "bridge": {"value": name},
        "bridge-seed": {"value": asked.seed},
        "bridge-resize": {"value": asked.resize},
    }


def directed(way: str, starts_from: str) -> str:
    """A direction for the eye."""
    return f"{way}: {'from' if way == 'forward' else 'to'} {starts_from}"


def restored(engine: Engine, path: str, tickets: dict[str, int]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A picture's recipe as an answer to the form where it belongs, and what to say of what differs."""
    shelf = engine.shelf()
    if restore.is_translated(recipe := restore.read(path)):
        asked, shown, notes = restore.translation(recipe, Path(path).name, shelf)
        controls = bridge(asked.bridge, shown, asked)
        return of("translate", tickets["translate"], asked.bridge, controls), notes
    found = restore.restore(path, shelf, engine.out)
    return settings(engine, found.settings, tickets["sample"], found.start), found.notes


def only(answer: dict[str, Any], use: str) -> dict[str, Any]:
    """`part` of what a picture's recipe is used for (USES)."""
    return part(answer, USES[use])


def part(answer: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The part of an answer to the form of samples that sets these controls, and what is shown beside them;
    one that sets no model leaves the form with the one that it has."""
    left = [name for name in CONTROLS if name not in names]
    beside = {"model": ("card", *STARTED, *OFFERED), "plan": ("plan_note",), "conditions": ("fields",)}
    beside |= {name: (f"{name}_stack",) for name in ("guidance", "sampler")}
    gone = {*left, *(further for name in left for further in beside.get(name, ()))}
    controls = {name: update for name, update in answer["controls"].items() if name not in gone}
    if "model" in controls:
        return {**answer, "controls": controls, "notes": {}}
    values = {name: {"value": update["value"]} for name, update in controls.items()}
    return {"form": answer["form"], "ticket": answer["ticket"], "controls": values}
