"""Which models could guide another one as its unconditional prior, told from their files alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from guidance import Autoguidance, parse
from guidance.borrowed import Borrowed
from samplers.spaces import name_of
from studio.checkpoints.build import Info
from studio.checkpoints.find import Card, locate
from studio.codecs.codec import build_codec
from studio.model.guiding_models import BASE, check
from studio.model.work import Known, known


@dataclass(frozen=True)
class _Named:
    """As much of a model as `studio.model.guiding_models.check` asks."""

    name: str
    info: Info
    codec: Any


def why_not(name: str, other: str, *, conditions: bool = False) -> str:
    """Why ``other`` cannot guide a model, "" where it can; ``conditions``: it is asked the same condition.
    Raises ``ValueError`` for models that are not there."""
    return _why_not(name, other, known(name), known(other), conditions)


@lru_cache(maxsize=256)
def _why_not(name: str, other: str, ours: Known, theirs: Known, conditions: bool) -> str:
    spaces = [(name_of(k.path.space), k.fit.starts) for k in (ours, theirs)]
    if spaces[0] != spaces[1]:
        (space, start), (space2, start2) = spaces
        return (
            f"got {other}, a model of {space2} that starts from {start2}, to guide one of {space} that "
            f"starts from {start}, expected both alike"
        )
    try:
        check(_named(name, ours), _named(other, theirs), conditions=conditions)  # type: ignore[arg-type]
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _named(name: str, model: Known) -> _Named:
    return _Named(name, model.info, build_codec(model.info.codec, locate(name)[0]))


def fitting(name: str, cards: Mapping[str, Card]) -> list[str]:
    """Those of a shelf that can be a model's unconditional prior, itself left out."""
    ours = cards.get(name)
    if ours is None or not known(name).info.conditions:
        return []
    alike = [
        other
        for other, card in cards.items()
        if card.folder != ours.folder and (card.task, card.shape[1:]) == (ours.task, ours.shape[1:])
    ]
    return [other for other in alike if not why_not(name, other)]


def check_lent(name: str, line: str, lent: Callable[[str], Known] = known) -> None:
    """Raises ``ValueError`` for a line of guidance that names a model which cannot guide this one; ``lent``
    finds it, and refuses what may not be opened."""
    for rule in parse(known(name).sample.guidance if line.strip() == "default" else line):
        if not isinstance(rule, Borrowed) or not isinstance(rule.model, str):
            continue
        other = known(name).base if rule.model == BASE else rule.model
        if not other:
            raise ValueError(
                f"got the prior {BASE}, but {name} was not fine-tuned from another model; name one: "
                "prior=NAME"
            )
        lent(other)
        if reason := why_not(name, other, conditions=isinstance(rule, Autoguidance)):
            raise ValueError(reason)
