"""What is said of the form while it is typed: what is wrong with a line, at its field, and what the run will
take. What a run is refused for is said once more, where its status stands."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from studio.checkpoints.find import Card
from studio.jobs.recipe import Recipe
from studio.model import catalog
from ui import estimating, html, said
from ui.engine import Engine

NOTED = (*estimating.ASKED, "conditions")  # the controls that notes are about; beside them
STARTS = ("init", "given")  # what a run starts from; and how
PICTURE = (*STARTS, "way", "strength", "stays", "share")
NOTES = ("seeds_note", "sampler_note", "guidance_note", "conditions_note", "prior_note", "estimate")


def notes(engine: Engine, form: Mapping[str, Any]) -> dict[str, str]:
    """NOTES of a form with these values of NOTED, and of `estimating.told`."""
    model, guidance = form.get("model"), str(form.get("guidance") or "")
    return dict(
        seeds_note=seeds(form.get("seeds")),
        sampler_note=checked(catalog.check_sampler, str(form.get("sampler") or ""), quiet=True),
        guidance_note=checked(catalog.check_guidance, guidance, quiet=False),
        conditions_note=asked(engine.card, model, form.get("conditions")),
        prior_note=lent(engine, model, guidance),
        estimate=estimating.told(engine, form),
    )


def seeds(line: str | None) -> str:
    """Nothing for seeds that a run can have, the reason otherwise."""

    def check(text: str) -> str:
        Recipe("any", seeds=text).check()
        return text

    return checked(check, line or "", quiet=True)


def asked(find: Callable[[str], Card], model: str | None, line: str | None) -> str:
    """The same of a line of conditions; ``find`` refuses models that the page does not hold."""

    def check(text: str) -> str:
        said.understood(find, model, text)
        return text

    return checked(check, line or "", quiet=True)


def lent(engine: Engine, model: str | None, line: str) -> str:
    """Why a model that a line of guidance names cannot guide this one; nothing where it can."""
    try:
        engine.check_lent(model or "", line)
    except (ValueError, OSError, RecursionError) as error:
        return html.note(str(error), bad=True) if said.parts("guidance", line)["parts"] else ""
    return ""


def checked(check: Callable[[str], str], text: str, *, quiet: bool) -> str:
    """The reason where the text is not understood; how it was, where that is not what was typed."""
    try:
        canonical = check(text.strip())
    except (ValueError, OSError, RecursionError) as error:
        plain = "this line is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return html.note(plain, bad=True)
    if quiet or canonical == re.sub(r"\s|(?<=\d)\.0+(?!\d)", "", text):
        return ""
    return html.note(f"understood as {canonical}")
