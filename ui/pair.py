"""HTML of the Bridge page: what a bridge expects, one picture before and after with a handle between them,
and what could not be translated."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from studio.checkpoints.find import Card
from studio.jobs.result import Result
from studio.jobs.run import Update
from ui import html

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS = {1: "grey", 3: "RGB", 4: "RGB with transparency"}
NOTHING = "Add pictures, or take the examples, and press Translate"


def expects(card: Card, shape: Sequence[int], directions: Sequence[str]) -> str:
    """What a bridge is, and what pictures it is for."""
    kind = CHANNELS.get(shape[0], f"{shape[0]} channels")
    words = f"Expects {card.starts_from}, {shape[2]} × {shape[1]}, {kind}"
    words += "; goes both ways." if len(directions) > 1 else "."
    return html.card(card, folder=str(card.folder)) + f'<p class="expects">{escape(words)}</p>'


def empty() -> str:
    return f'<div class="empty">{NOTHING}</div>'


def pair(before: "Image | None", after: Path, words: str) -> str:
    """The task's view twice: on each other with a handle to move, and side by side. Without ``before`` the
    result alone."""
    name = escape(after.name)
    made = f'<img class="after" src="gradio_api/file={quote(str(after))}" alt="After: {name}">'
    caption = f"<figcaption>{escape(words)}</figcaption>"
    if before is None:
        return f'<figure class="pair alone"><div class="frame">{made}</div>{caption}</figure>'
    source = f'<img class="before" src="{html.embedded(before)}" alt="Before: {name}">'
    handle = (
        '<input type="range" min="0" max="100" value="50" '
        f'aria-label="How much of {name} is shown as it was before" aria-valuetext="50 % before">'
    )
    sides = "".join(
        f"<div>{image}<span>{word}</span></div>" for image, word in ((source, "before"), (made, "after"))
    )
    look = "pixels" if before.height < html.SMALL else ""
    return (
        f'<figure class="pair {look}" style="--cut: 50%; --shape: {before.width} / {before.height}">'
        f'<div class="frame">{made}{source}<i></i>{handle}</div><div class="sides">{sides}</div>{caption}'
        "</figure>"
    )


def running(update: Update, asked: str) -> str:
    """Steps of all batches with their bar, and the time that is left."""
    left = update.seconds * (update.total - update.done) / max(1, update.done)
    words = f"step {update.done} of {update.total} · {update.seconds:.1f} s"
    words += f" · about {left:.0f} s left" if update.seconds else ""
    bar = html.bar(100 * update.done / max(1, update.total))
    return f'<div class="status" role="status">{words}{bar}</div>{asked}'


def finished(result: Result, asked: str) -> str:
    """How many were translated, and where they are."""
    count, of = len(result.files), "" if not result.stopped else f" of {result.asked}"
    words = f"{count}{of} translated" + (f", {len(result.failed)} failed" if result.failed else "")
    words = f"Stopped · {words}" if result.stopped else words
    return (
        f'<div class="status done" role="status" title="{escape(str(result.folder))}">{words} · saved in '
        f"<code>{escape(result.folder.name)}</code>, the originals in <code>sources</code></div>{asked}"
    )


def failures(failed: Mapping[str, str]) -> str:
    """A table of a row a file; "" for none."""
    if not failed:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(why)}</td></tr>' for name, why in failed.items()
    )
    return (
        '<table class="failed"><caption>Not translated</caption><thead><tr><th scope="col">File</th>'
        f'<th scope="col">Why</th></tr></thead><tbody>{rows}</tbody></table>'
    )
