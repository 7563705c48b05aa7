"""Small pieces of HTML: the model's card, the line under the picture, notes. Everything that comes from a file is escaped."""

from html import escape

from studio.model import Card
from ui.engine import Result, Update


def card(shown: Card, *, folder: str) -> str:
    """What a model is, in a few chips."""
    size = " × ".join(map(str, shown.shape))
    chips = [shown.task, size, shown.backbone, f"{len(shown.classes)} classes" if shown.classes else "no classes"]
    if shown.step is not None:
        chips.append(f"step {shown.step:,}")
    return f'<div class="chips">{"".join(f"<span>{escape(str(c))}</span>" for c in chips)}</div><div class="quiet" title="{escape(folder)}">{escape(folder)}</div>'


def no_models(roots: tuple[object, ...]) -> str:
    places = ", ".join(escape(str(r)) for r in roots)
    return f'<div class="note">No model in {places} yet. Train one with <code>studio train demo</code>, then press refresh.</div>'


def idle(text: str = "Pick a model and press Generate.") -> str:
    return f'<div class="status">{escape(text)}</div>'


def running(update: Update) -> str:
    """Progress bar and counts."""
    share = 100 * update.done / max(1, update.total)
    left = update.seconds * (update.total - update.done) / max(1, update.done)
    text = f"step {update.done} of {update.total} · {update.evaluations} evaluations · {update.seconds:.1f} s · about {left:.0f} s left"
    return f'<div class="status">{text}<div class="bar"><div style="width:{share:.1f}%"></div></div></div>'


def finished(result: Result) -> str:
    count = len(result.recipes)
    text = f"{count} {'sample' if count == 1 else 'samples'} · {result.evaluations} evaluations · {result.seconds:.1f} s"
    return f'<div class="status done">{text} · saved in <code>{escape(str(result.folder))}</code></div>'


def note(text: str, *, bad: bool = False) -> str:
    return f'<div class="note{" bad" if bad else ""}">{escape(text)}</div>' if text else ""
