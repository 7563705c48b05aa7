"""The Library's pieces of HTML: a page of thumbnails with its links, one item large, what to do where there
is nothing. Links and forms work before any script does. Everything that comes from a file is escaped."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, urlencode

from studio.jobs import Item
from studio.jobs.artefacts import path_of, when
from studio.jobs.emptying import size_of

ADDRESS = "/library"
SMALL = 128  # pictures below this height are shown with hard pixels
INLINE = 4096  # bytes of a picture that the page itself holds
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class View:
    """One page of items: ``number`` of ``pages``, ``count`` items on all of them; ``query``: what was asked
    for, as an address says it; ``chosen``: the item that is shown large, or ""; ``any``: whether there is any
    item at all."""

    items: tuple[Item, ...]
    count: int
    number: int
    pages: int
    query: Mapping[str, str]
    chosen: str = ""
    any: bool = True


def address(query: Mapping[str, str], **more: object) -> str:
    """A link to the Library: what is empty is left out."""
    asked = {k: str(v) for k, v in {**query, **more}.items() if v not in ("", None)}
    return ADDRESS + (f"?{urlencode(asked)}" if asked else "")


def file_link(path: Path) -> str:
    """Where a file of the folder of outputs is served."""
    return f"/gradio_api/file={quote(str(path))}"


def seen(path: Path) -> tuple[int, int, str] | None:
    """Width, height and address of a PNG, a small one's being its bytes: sixty of those are one answer, not
    sixty. (0, 0, "") of another file, None of one that is not there."""
    try:
        with open(path, "rb") as file:
            data = file.read(INLINE + 1)
    except OSError:
        return None
    if not data.startswith(PNG) or len(data) < 24:
        return 0, 0, ""
    small = len(data) <= INLINE
    link = f"data:image/png;base64,{base64.b64encode(data).decode()}" if small else file_link(path)
    return *struct.unpack(">II", data[16:24]), link


def grid(view: View, out: Path) -> str:
    """The thumbnails of a page, newest first, between links to other pages."""
    if not view.items:
        return f'<div class="things" data-link="{escape(address(view.query))}">{nothing(view)}</div>'
    link = address(view.query, page=view.number if view.number > 1 else "", item=view.chosen)
    things = "".join(_thing(item, view, out) for item in view.items)
    return (
        f'<div class="things" data-link="{escape(link)}" data-chosen="{escape(view.chosen)}">'
        f'{_pages(view, "top")}<ul role="list">{things}</ul>{_pages(view, "bottom")}</div>'
    )


def words_of(item: Item, *, long: bool = True) -> str:
    """What an item is, in a few words."""
    seed = "all samples" if item.seed is None else f"seed {item.seed}" if long else str(item.seed)
    return " · ".join(filter(None, (seed, item.label)))


def _picture(item: Item, out: Path, *, lazy: bool) -> str:
    """An item's picture, or in words that there is none."""
    try:
        path = path_of(out, item.file)
    except ValueError:
        return '<span class="lost">not below the output folder</span>'
    if (found := seen(path)) is None:
        return '<span class="lost">its file is not there any more</span>'
    width, height, link = found
    if not link:
        return f'<span class="lost">{escape(path.suffix.lstrip(".") or "file")}</span>'
    pixels = ' class="pixels"' if height < SMALL else ""
    late = ' loading="lazy" decoding="async"' if lazy and not link.startswith("data:") else ""
    alt = escape(f"{words_of(item)}, {item.model}")
    return f'<img{pixels}{late} width="{width}" height="{height}" src="{link}" alt="{alt}">'


def _thing(item: Item, view: View, out: Path) -> str:
    page = view.number if view.number > 1 else ""
    chosen = ' aria-current="true"' if item.id == view.chosen else ""
    star = '<i class="star" title="starred">★</i>' if item.star else ""
    note = f' title="{escape(item.note)}"' if item.note else ""
    link = escape(address(view.query, page=page, item=item.id))
    inside = f"{_picture(item, out, lazy=True)}{star}<span>{escape(words_of(item, long=False))}</span>"
    return f'<li><a href="{link}" data-id="{escape(item.id)}"{chosen}{note}>{inside}</a></li>'


def _pages(view: View, place: str) -> str:
    """Links to the page before and after, and a field for any other."""
    told = f"{view.count:,} item{'' if view.count == 1 else 's'}"
    if view.pages < 2:
        return f'<div class="pages"><span role="status">{told}</span></div>' if place == "top" else ""
    ways = {"‹ Previous": view.number - 1, "Next ›": view.number + 1}
    before, after = (
        f'<a href="{escape(address(view.query, page=n))}" data-page="{n}">{text}</a>'
        if 1 <= n <= view.pages
        else f'<a aria-disabled="true">{text}</a>'
        for text, n in ways.items()
    )
    held = "".join(
        f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in view.query.items() if v
    )
    field = (
        f'<form action="{ADDRESS}" method="get">{held}<label>Page <input type="number" name="page" min="1" '
        f'max="{view.pages}" value="{view.number}" required></label> of {view.pages:,}</form>'
    )
    status = f'<span role="status">{told}</span>' if place == "top" else ""
    return f'<nav class="pages" aria-label="Pages, {place}">{status}{before}{field}{after}</nav>'


def nothing(view: View) -> str:
    """What to do where nothing is shown."""
    asked = {k for k, v in view.query.items() if v}
    if not view.any:
        text = (
            'Nothing here yet. What you make in <a href="/">Create</a> is kept and comes here, and so does '
            "what <code>studio sample</code> writes below the output folder."
        )
    elif asked == {"show"} and view.query["show"] == "bin":
        text = "The bin is empty. Deleted items lie here, their files untouched, until you empty it."
    elif asked == {"show"}:
        text = "No star yet. Choose an item and give it one, and you find it here."
    else:
        text = (
            f'Nothing fits all of these filters. <a href="{ADDRESS}">Clear the filters</a> to see everything.'
        )
    return f'<div class="none">{text}</div>'


def large(item: Item, out: Path) -> str:
    """One item and what is known of it."""
    facts = {
        "Model": item.model,
        "Class": item.label,
        "Seed": "" if item.seed is None else str(item.seed),
        "Made": when(item.created),
        "File": item.file,
    }
    rows = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts.items() if v)
    back = '<button type="button" class="back">‹ Back</button>'
    return f'{back}<figure>{_picture(item, out, lazy=False)}</figure><dl class="facts">{rows}</dl>'


def links(item: Item, out: Path, *, bridge: bool = False) -> str:
    """What to do with an item: take its settings up, save its file, and translate it where a ``bridge`` takes
    it."""
    try:
        path = path_of(out, item.file)
    except ValueError:
        return ""
    name, further = escape(path.name), _to_bridge(item) if bridge else ""
    return (
        f'<div class="links"><a class="first" href="/?item={quote(item.id, safe="")}">Use these settings</a>'
        f'<a href="{file_link(path)}" download="{name}">Download</a>{further}</div>'
    )


def picture(path: Path) -> str:
    """A picture's file as it is."""
    return f'<img src="{file_link(path)}" alt="{escape(path.name)}">'


def files(paths: Sequence[Path]) -> str:
    """Files to download, with their sizes."""
    links = "".join(
        f'<a href="{file_link(path)}" download="{escape(path.name)}">{escape(path.name)} · '
        f"{size_of(path.stat().st_size)}</a>"
        for path in paths
    )
    return f'<div class="links files">{links}</div>'


def bridge_link(item: Item) -> str:
    """To the Bridge page, where the item becomes the picture to translate."""
    return f'<div class="links">{_to_bridge(item)}</div>'


def _to_bridge(item: Item) -> str:
    return f'<a href="/bridge?item={quote(item.id, safe="")}">Send to Bridge</a>'


def stranger(path: Path) -> str:
    """A picture that was dropped, as the page keeps it."""
    _, height, link = seen(path) or (0, 0, "")
    pixels = ' class="pixels"' if height < SMALL else ""
    return f'<figure><img{pixels} src="{link or file_link(path)}" alt="{escape(path.name)}"></figure>'


def recipe_link(recipe: Mapping[str, object]) -> str:
    """A link that fills the form by a recipe, and runs nothing."""
    link = "/?" + urlencode({"recipe": json.dumps(recipe)})
    return f'<div class="links"><a class="first" href="{escape(link)}">Use these settings</a></div>'


def choose() -> str:
    """Where an item would be shown large."""
    return '<div class="none">Choose an item: it is shown here with all that made it.</div>'
