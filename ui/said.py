"""What the lines of a form say, for the controls that are made of them."""

from collections.abc import Callable
from typing import Any

from studio.checkpoints.find import Card, card
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


def understood(find: Callable[[str], Card], model: str | None, line: str) -> dict[str, Any]:
    """What a line says to a model. Raises ``ValueError``."""
    if model:
        find(model)
    found = given(model, line)
    for name, value in found["values"].items():
        shown(found["model"], name, value)
        if isinstance(value, str):
            asking.written(card(found["model"]), name, value)
    return found


def shown(model: str, name: str, value: float | str) -> Any:
    """A value as its control shows it; tables as rows, of files nothing. Raises ``ValueError`` for no value
    of the model's."""
    known = asking.controls(card(model))
    if name not in known:
        raise ValueError(f"got condition {name!r}, expected one of {', '.join(known) or 'none'}")
    form = known[name].form
    return (
        asking.table(card(model), name, str(value)) if form == "table" else None if form == "file" else value
    )


def parts(form: str, line: str) -> dict[str, Any]:
    """The parts of a line of guidance or of a sampler; none where it is not understood,
    which its note tells."""
    try:
        return {"form": form, "parts": READ[form](line or "")}
    except (ValueError, RecursionError):
        return {"form": form, "parts": []}
