"""Small pieces of HTML: the model's card, the line under the picture, notes. Everything that comes from a file is escaped."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from studio.shelf import Card
from ui.engine import Result, Update

if TYPE_CHECKING:
    from PIL.Image import Image


def picture(image: "Image") -> str:
    """A PIL picture in the page itself, so that a preview leaves no file behind."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG" if image.width * image.height < 500_000 else "JPEG")
    kind = "png" if image.width * image.height < 500_000 else "jpeg"
    return f'<img class="live" alt="The samples as they are now" src="data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def header(place: str) -> str:
    return f'<div class="brand"><b>drift-studio</b><span>diffusion and flow matching, steered</span><i>{escape(place)}</i></div>'


def empty() -> str:
    return '<div class="empty">Pictures appear here</div>'


def card(shown: Card, *, folder: str) -> str:
    """What a model is, in a few chips."""
    size = " × ".join(map(str, shown.shape))
    chips = [f"{shown.task} {size}", f"{len(shown.classes)} classes" if shown.classes else "no classes", shown.backbone]
    if shown.step is not None:
        chips.append(f"step {shown.step:,}")
    chips.append(" + ".join(shown.weights))
    return f'<div class="chips" title="{escape(folder)}">{"".join(f"<span>{escape(str(c))}</span>" for c in chips)}</div>'


def no_models(roots: tuple[object, ...]) -> str:
    places = ", ".join(escape(str(r)) for r in roots)
    return f'<div class="note">No model in {places} yet. Train one with <code>studio train demo</code>, then press refresh.</div>'


def idle(text: str = "Press Generate, or Enter in the seeds.") -> str:
    return f'<div class="status">{escape(text)}</div>'


def running(update: Update) -> str:
    """Progress bar and counts."""
    share = 100 * update.done / max(1, update.total)
    left = update.seconds * (update.total - update.done) / max(1, update.done)
    plural = "" if update.evaluations == 1 else "s"
    text = f"step {update.done} of {update.total} · {update.evaluations} evaluation{plural} · {update.seconds:.1f} s · about {left:.0f} s left"
    return f'<div class="status">{text}<div class="bar"><div style="width:{share:.1f}%"></div></div></div>'


def finished(result: Result) -> str:
    count, folder = len(result.recipes), result.folder
    text = f"{count} {'sample' if count == 1 else 'samples'} · {result.evaluations} evaluations · {result.seconds:.1f} s"
    return f'<div class="status done" title="{escape(str(folder))}">{text} · saved in <code>{escape(folder.name)}</code></div>'


def note(text: str, *, bad: bool = False) -> str:
    return f'<div class="note{" bad" if bad else ""}">{escape(text, quote=False)}</div>' if text else ""
