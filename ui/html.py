"""Small pieces of HTML: the model's card, the line under the picture, notes. Everything that comes from a
file is escaped."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from studio.checkpoints import plans
from studio.checkpoints.find import Card
from studio.jobs import limits
from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from studio.jobs.run import Update

if TYPE_CHECKING:
    from PIL.Image import Image


HEIGHT = 400  # of the pictures that are shown, in pixels; the style sheet knows it as --shown-height
SMALL = 128  # pictures below this height are shown with hard pixels


def picture(image: "Image") -> str:
    """A PIL picture in the page itself, so that a preview leaves no file behind."""
    return f'<img class="live" alt="The samples as they are now" src="{embedded(image)}">'


def embedded(image: "Image") -> str:
    """An address that holds a PIL picture itself."""
    kind, buffer = "png" if image.width * image.height < 500_000 else "jpeg", io.BytesIO()
    image.convert("RGB").save(buffer, format=kind)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def header(place: str) -> str:
    return (
        '<div class="brand"><b>drift-studio</b><span>diffusion and flow matching, '
        f"steered</span><i>{escape(place)}</i></div>"
    )


def empty() -> str:
    return '<div class="empty">Press Generate; what is made appears here</div>'


def card(shown: Card, *, folder: str) -> str:
    """What a model is, in a few chips."""
    size = " × ".join(map(str, shown.shape))
    words = [
        f"{shown.task} {size}",
        f"{len(shown.classes)} classes" if shown.classes else "no classes",
        shown.backbone,
    ]
    if shown.step is not None:
        words.append(f"step {shown.step:,}")
    words.append(" + ".join(shown.weights))
    return chips([str(word) for word in words], folder)


def chips(words: list[str], title: str) -> str:
    return (
        '<div class="chips" '
        f'title="{escape(title)}">{"".join(f"<span>{escape(word)}</span>" for word in words)}</div>'
    )


def no_models(roots: tuple[object, ...]) -> str:
    places = ", ".join(escape(str(r)) for r in roots)
    return (
        f'<div class="note">No model in {places} yet. Train one with <code>studio train demo</code>, then '
        "press refresh.</div>"
    )


def asked(settings: Recipe) -> str:
    """What a run was asked for, whatever the controls say meanwhile."""
    own = {
        "model": settings.model.rpartition("/")[2],
        "class": settings.label or "",
        "seeds": settings.seeds,
        "steps": str(settings.num_steps or ""),
        "sampler": settings.sampler,
        "guidance": settings.guidance or "off",
        "conditions": settings.conditions,
        "weights": settings.weights,
        "precision": settings.dtype,
        "plan": "" if settings.plan == plans.NONE else settings.plan or "",
        "from": settings.init or "",
        "strength": f"{settings.strength:g}" if settings.init and settings.strength else "",
        "mask": settings.mask or "",
        "known": settings.given or "",
    }
    words = [f"{name} {_short(value)}" for name, value in own.items() if value]
    return f'<div class="asked">{chips(words, "What this run was asked for")}</div>'


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "…"


def idle(text: str = "Press Generate, or Enter in the seeds.", asked: str = "") -> str:
    return f'<div class="status" role="status">{escape(text)}</div>{asked}'


def waiting(ahead: int, asked: str = "") -> str:
    """A place in the line for the device."""
    before = "1 run is" if ahead == 1 else f"{ahead} runs are"
    return idle(f"Place {ahead} in the queue: {before} before yours", asked)


def running(update: Update, asked: str = "") -> str:
    """Progress bar and counts."""
    share = 100 * update.done / max(1, update.total)
    left = update.seconds * (update.total - update.done) / max(1, update.done)
    plural = "" if update.evaluations == 1 else "s"
    text = (
        f"step {update.done} of {update.total} · {update.evaluations} evaluation{plural} · "
        f"{update.seconds:.1f} s · about {left:.0f} s left"
    )
    return f'<div class="status" role="status">{text}{bar(share)}</div>{asked}'


def bar(share: float) -> str:
    """Percent that are done."""
    return (
        f'<div class="bar" role="progressbar" aria-label="Progress of the run" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}"><div style="width:{share:.1f}%"></div></div>'
    )


def finished(result: Result, asked: str = "") -> str:
    count, folder = len(result.recipes), result.folder
    text = (
        f"{count} {'sample' if count == 1 else 'samples'} · {result.evaluations} evaluations · "
        f"{result.seconds:.1f} s"
    )
    text = (
        text
        if not result.stopped
        else escape(result.stopped.partition(";")[0]) + f" · {count} of {result.asked} samples were finished"
    )
    return (
        f'<div class="status done" role="status" title="{escape(str(folder))}">{text} · saved in '
        f"<code>{escape(folder.name)}</code></div>{note(result.note)}{asked}"
    )


def rule(name: str, about: str) -> str:
    """The head of a rule's controls; what it is, for who points at it."""
    return f'<div class="rule-name" title="{escape(about)}">{escape(name)}</div>'


def note(text: str, *, bad: bool = False) -> str:
    kind = 'class="note bad" role="status"' if bad else 'class="note"'
    return f"<div {kind}>{escape(limits.words(text), quote=False)}</div>" if text else ""


def alert(text: str) -> str:
    """Why nothing was made; a screen reader says it at once."""
    return f'<div class="note bad" role="alert">{escape(limits.words(text), quote=False)}</div>'


def text(plain: str) -> str:
    """A text for a place that takes HTML."""
    return escape(plain, quote=False)
