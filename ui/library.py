"""The Library: everything that was made, found again. What it does is `studio.jobs`'s; its HTML is
`ui.library_html`'s; here are the questions that its controls ask."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr

from studio.jobs import Item, Wanted, adopt, artefacts, emptying, limits
from ui import html, library_html, restore
from ui.engine import Engine
from ui.library_html import View
from ui.shelf import bridges_for, on_shelf
from ui.toasts import toasts

PAGE = 60
FILTERS = ("model", "class", "seed", "since", "until", "text", "show")
SHOWS = {"": "Everything", "starred": "Starred", "bin": "Bin"}
DETAIL = ("large", "links", "star", "delete", "note", "told", "recipe", "command", "python", "item", "chosen")
LONGEST_LINK = 8_000  # characters of an address that every browser takes


@dataclass(frozen=True)
class Asked:
    """What the filters say, and what of it cannot be."""

    wanted: Wanted
    query: dict[str, str]
    wrong: tuple[str, ...] = ()


def asked(values: Mapping[str, Any]) -> Asked:
    """The filters of the form or of a link, each held against what it may be; one that is wrong asks for
    nothing and is told."""
    query = {k: str(values.get(k) or "").strip() for k in FILTERS}
    query = {k: v for k, v in query.items() if v}
    found: dict[str, Any] = {"binned": query.get("show") == "bin", "starred": query.get("show") == "starred"}
    wrong: list[str] = []

    def take(name: str, field: str, read: Any) -> None:
        if name in query:
            try:
                limits.text(name, query[name])
                found[field] = read(query[name])
            except ValueError as error:
                wrong.append(f"{name}: {error}")
                del query[name]

    take("model", "model", str)
    take("class", "label", str)
    take("text", "text", str)
    take("seed", "seed", _seed)
    take("since", "since", artefacts.moment)
    take("until", "until", lambda text: artefacts.moment(text, end=True))
    if query.get("show", "starred") not in SHOWS:
        wrong.append(f"show: got {limits.brief(query.pop('show'))}, expected starred or bin")
    return Asked(Wanted(**found), query, tuple(wrong))


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ValueError(f"got {limits.brief(text)}, expected a whole number from 0")
    return int(text)


class Library:
    """Everything that the page asks, over one `Engine`."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def there(self) -> bool:
        """Whether there is an index; asking makes none."""
        return artefacts.indexed(self.engine.out)

    def view(self, question: Asked, number: int = 1, chosen: str = "") -> View:
        """A page of what was asked for; the last one where there are not so many."""
        if not self.there():
            return View((), 0, 1, 1, question.query, any=False)
        index = self.engine.index
        count = index.count(question.wanted)
        pages = max(1, -(-count // PAGE))
        number = min(max(1, number), pages)
        items = index.items(question.wanted, offset=(number - 1) * PAGE, limit=PAGE)
        some = bool(items) or bool(index.items(Wanted(binned=None), limit=1))
        return View(tuple(items), count, number, pages, question.query, chosen, some)

    def first(self, query: Mapping[str, str]) -> str:
        """The thumbnails that an address asks for, as HTML."""
        view = self.view(asked(query), whole(query.get("page")), str(query.get("item", ""))[:200])
        return library_html.grid(view, self.engine.out)

    def choices(self, model: str = "") -> tuple[list[str], list[str]]:
        """The models, and the classes of one of them or of all."""
        if not self.there():
            return [], []
        index = self.engine.index
        return index.values("model"), index.values("label", model)

    def adopt(self) -> int:
        """Take in what other commands wrote below the output folder; how many items are new."""
        out = self.engine.out
        if not self.there() and not (out.is_dir() and any(out.iterdir())):
            return 0
        return adopt(self.engine.index, out).items

    def item(self, name: str) -> Item | None:
        """An item that is there."""
        found = self.engine.index.item(name) if name and self.there() else None
        return None if found is None or found.gone else found

    def detail(self, name: str) -> dict[str, Any]:
        """What is shown of an item; of "" or one that is gone that there is nothing. By the names of
        `DETAIL`."""
        if (item := self.item(name)) is None:
            return {"large": library_html.choose(), "item": gr.update(visible=False), "chosen": ""}
        out = self.engine.out
        return {
            "large": library_html.large(item, out),
            "links": library_html.links(item, out, bridge=bool(bridges_for(item.model, self.engine.shelf()))),
            "star": gr.update(value="★ Starred" if item.star else "☆ Star", visible=True),
            "delete": gr.update(value="Restore" if item.binned else "Delete", visible=True),
            "note": gr.update(value=item.note, visible=True),
            "item": gr.update(visible=True),
            "chosen": item.id,
            **self._how(out, item.file),
        }

    def _how(self, out: Path, file: str) -> dict[str, Any]:
        """How a file was made."""
        try:
            return how(artefacts.path_of(out, file), self.engine)
        except (ValueError, OSError) as error:
            words = html.note(str(error).replace(str(out / file), Path(file).name))
            return {"told": words} | {k: gr.update(visible=False) for k in ("recipe", "command", "python")}

    def mark(self, name: str, **change: Any) -> None:
        """Star, note or bin an item. Raises ``ValueError`` for one that is not there."""
        limits.text("note", change.get("note") or "")
        if self.item(name) is None:
            raise ValueError("this item is not there any more; reload the page")
        self.engine.index.mark([name], **change)

    def beside(self, question: Asked, number: int, name: str) -> str:
        """The item after one on its page, or before it; "" where it is alone."""
        ids = [i.id for i in self.view(question, number).items]
        at = ids.index(name) if name in ids else -1
        return next((ids[k] for k in (at + 1, at - 1) if at >= 0 and 0 <= k < len(ids)), "")

    def bin(self) -> emptying.Bin:
        """What emptying the bin would remove."""
        return emptying.look(self.engine.index, self.engine.out) if self.there() else emptying.Bin()

    def empty(self) -> emptying.Bin:
        """Remove it for good."""
        return emptying.empty(self.engine.index, self.engine.out)

    def dropped(self, path: str | None) -> dict[str, Any]:
        """A picture from anywhere, looked at: its recipe whatever it names, and a link that fills the form
        where it can. By the names of `DETAIL`."""
        if not path:
            return self.detail("")
        file, hidden = Path(path), gr.update(visible=False)
        alone = {k: hidden for k in ("star", "delete", "note")} | {
            "chosen": "",
            "item": gr.update(visible=True),
        }
        try:
            with toasts():
                found, recipe = how(file, self.engine), restore.read(file)
                where, words = restore.belongs(path, self.engine.shelf())
        except gr.Error as error:
            note = html.note(unescape(str(error.message)), bad=True)
            nothing = {k: hidden for k in ("recipe", "command", "python")} | {"large": "", "links": ""}
            return alone | nothing | {"told": note}
        link = library_html.recipe_link(recipe) if where else ""
        if len(link) > LONGEST_LINK:
            link, words = "", (*words, "Its settings are too long for a link: use the command.")
        note = "".join(html.note(text) for text in words)
        return alone | found | {"large": library_html.stranger(file), "links": link, "told": note}


def how(path: Path, engine: Engine) -> dict[str, Any]:
    """Recipe, command and Python of a picture, and whether its model is here. Raises ``ValueError`` for one
    without a recipe."""
    shelf = engine.shelf()
    recipe, command = restore.explain(path, shelf)
    recorded = restore.read(path)
    here = on_shelf(str(recorded["model"]), shelf) is not None
    missing = f"The model {limits.brief(recorded['model'])} is not here; its recipe is shown all the same."
    return {
        "told": "" if here else html.note(missing),
        "recipe": gr.update(value=recipe, label=f"Recipe of {path.name}", visible=True),
        "command": gr.update(value=command, visible=True),
        "python": gr.update(value=restore.script(path, shelf), visible=True),
    }


def whole(text: Any) -> int:
    """A page's number from an address; the first for what is none."""
    plain = str(text or "")
    return int(plain) if plain.isascii() and plain.isdecimal() and len(plain) < 10 else 1
