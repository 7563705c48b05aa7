"""What the lines of a form say, for the controls that are made of them."""

from typing import Any

from studio.checkpoints.find import card
from studio.jobs.recipe import parse_conditions
from studio.model import asking, lines

READ = {"guidance": lines.rules_of, "sampler": lines.sampler_of}


def given(model: str | None, line: str) -> dict[str, Any]:
    """What a line of conditions says by name, for the controls of a model. Raises ``ValueError`` for what it
    cannot."""
    if not model:
        return {"model": "", "values": {}}
    known = asking.controls(card(model))
    texts = [name for name, control in known.items() if control.form != "number"]
    return {"model": model, "values": parse_conditions(line or "", texts)}


def parts(form: str, line: str) -> dict[str, Any]:
    """The parts of a line of guidance or of a sampler; none where it is not understood,
    which its note tells."""
    try:
        return {"form": form, "parts": READ[form](line or "")}
    except (ValueError, RecursionError):
        return {"form": form, "parts": []}
