"""The form of the Bridge page: what it is opened with, examples, a painted mask, and the settings of a
picture that was translated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from studio.checkpoints.find import Card
from studio.jobs import limits
from studio.jobs.artefacts import path_of
from studio.jobs.records import Job
from studio.jobs.seen import check_mask, unreadable
from studio.jobs.translation import Translation
from studio.jobs.uploads import SOURCES
from studio.model import catalog
from ui import answers, html, painting, restore, uploads
from ui.answers import BRIDGE
from ui.events import row
from ui.jobs import Jobs
from ui.shelf import bridges_for
from ui.toasts import toasts

OPENED = ("bridge_answer", "sources", "bridge-mask", "job", "bridge-at")
PICK = "pick a bridge first; `studio train fashion-restore` makes one"
Row = tuple[Any, ...]


class Form:
    """What fills the form, over the `Jobs` of one `Engine`; nothing here runs a bridge."""

    def __init__(self, jobs: Jobs):
        self.jobs, self.engine = jobs, jobs.engine

    def open(self, ticket: int, found: Mapping[str, Any] | None = None) -> Row:
        """At page load: the form that a link's ``item`` or ``job`` asks for, or what this tab had (``form``
        and its ``own`` job). An item that was sampled becomes the picture to translate. Runs nothing.
        OPENED."""
        link = found or {}
        for name in ("item", "job", "form"):
            if not (said := link.get(name)):
                continue
            try:
                return self._linked(name, said, ticket, str(link.get("own") or ""))
            except (ValueError, OSError) as error:
                if name != "form":
                    gr.Warning(html.text(f"The link does not fill the form: {error}"), duration=20)
        if not (shown := self.engine.bridges()):
            return row(OPENED, bridge_answer=answers.of("translate", ticket, "", {}))
        first = next(iter(shown))
        return row(OPENED, bridge_answer=self._form(Translation(first), shown[first], ticket))

    def _linked(self, name: str, said: Any, ticket: int, own: str) -> Row:
        if name == "item":
            return self._item(str(said), ticket)
        if name == "job":
            job = self.known(str(said))
            return self._asked(Translation.parse(job.spec), job, ticket)
        asked = Translation.parse(fields_of(said), whole=False)
        try:
            return self._asked(asked, self.known(own), ticket)
        except ValueError:
            return self._asked(asked, None, ticket)

    def _item(self, name: str, ticket: int) -> Row:
        if (item := self.engine.index.item(name)) is None:
            raise ValueError(f"got item {limits.brief(name)}, which the library does not have")
        path, shelf = path_of(self.engine.out, item.file), self.engine.shelf()
        recipe = restore.read(path)
        if not restore.is_translated(recipe):
            shown = self.engine.bridges()
            if not shown:
                raise ValueError(PICK)
            first = next(iter([*bridges_for(item.model, shelf), *shown]))
            answer = self._form(Translation(first), shown[first], ticket)
            return row(OPENED, bridge_answer=answer, sources=[str(path)])
        asked, shown_card, notes = restore.translation(recipe, path.name, shelf)
        source = source_of(path, recipe)
        for text in notes if source is None else notes[:-1]:
            gr.Warning(html.text(text), duration=20)
        job = self.engine.index.job(item.job)
        made = job.told.get("files", []) if job else []
        known = {"job": item.job, "bridge-at": made.index(path.name)} if path.name in made else {}
        return row(
            OPENED,
            bridge_answer=self._form(asked, shown_card, ticket),
            sources=[str(source)] if source else gr.skip(),
            **known,
        )

    def known(self, name: str) -> Job:
        """A translation of the index. Raises ``ValueError``."""
        job = self.jobs.known(name)
        Translation.parse(job.spec)  # raises for another
        return job

    def _asked(self, asked: Translation, job: Job | None, ticket: int) -> Row:
        shown = self.engine.bridges()
        if asked.bridge not in shown:
            raise ValueError(f"the bridge {limits.brief(asked.bridge)} is not here; start with --models")
        answer = self._form(asked, shown[asked.bridge], ticket)
        if job is None:
            return row(OPENED, bridge_answer=answer)
        kept, spec = self.engine.out / job.folder / SOURCES, Translation.parse(job.spec)
        sources = [str(kept / name) for name in spec.sources if (kept / name).is_file()]
        mask = {"bridge-mask": str(kept / spec.mask)} if spec.mask and (kept / spec.mask).is_file() else {}
        return row(OPENED, bridge_answer=answer, sources=sources or gr.skip(), job=job.id, **mask)

    def _form(self, asked: Translation, shown: Card, ticket: int) -> dict[str, Any]:
        return answers.of("translate", ticket, asked.bridge, answers.bridge(asked.bridge, shown, asked))

    def choose(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to a bridge that was picked."""
        with toasts():
            shown, name = self.engine.bridges(), asked["model"]
            if name not in shown:
                raise ValueError(PICK)
            return answers.of("translate", asked["ticket"], name, answers.bridge(name, shown[name]))

    def examples(self, name: str | None) -> list[str]:
        """Pictures that lie with the bridge."""
        with toasts():
            found = catalog.examples_of(self.bridge(name))
            if not found:
                raise ValueError("this bridge brings no examples; add pictures of your own")
            return [str(path) for path in found]

    def sent(self, name: str | None, sources: list[str] | None, resize: bool) -> str:
        """What is wrong with pictures, before they are translated."""
        with toasts():
            if not sources or name not in self.engine.bridges():
                return ""
            wrong = unreadable(self.bridge(name), list(map(Path, sources)), resize)
            return "".join(html.note(f"{file} {why}", bad=True) for file, why in wrong.items())

    def masked(self, name: str | None, mask: str | None) -> str:
        """What is wrong with a mask."""
        with toasts():
            if not mask or name not in self.engine.bridges():
                return ""
            try:
                check_mask(self.bridge(name), Path(mask))
            except ValueError as error:
                return html.note(uploads.named(str(error), mask), bad=True)
            return ""

    def paint(self, name: str | None, sources: list[str] | None) -> Any:
        """The first picture as the bridge sees it, large, to paint a mask over it."""
        with toasts():
            if not sources:
                raise ValueError("add a picture first; the mask is painted over it")
            return gr.update(value=painting.over(self.bridge(name), sources[0]), visible=True)

    def bridge(self, name: str | None) -> Card:
        """The card of a bridge of the shelf. Raises ``ValueError``."""
        if name not in (shown := self.engine.bridges()):
            raise ValueError(PICK)
        return shown[str(name)]

    def again(self, job: str, at: int, ticket: int) -> Row:
        """The form as the chosen picture was asked for, and its source. OPENED."""
        with toasts():
            result = self.jobs.result(job)
            path = result.files[at % len(result.files)]
            recipe = restore.read(path)
            asked, shown, notes = restore.translation(recipe, path.name, self.engine.shelf())
            source = source_of(path, recipe)
        for text in notes if source is None else notes[:-1]:
            gr.Warning(html.text(text), duration=20)
        return row(
            OPENED,
            bridge_answer=self._form(asked, shown, ticket),
            sources=[str(source)] if source else gr.skip(),
        )


def fields_of(said: Any) -> dict[str, Any]:
    """Of a `Translation`, from the values of BRIDGE. Raises ``ValueError`` for what is none."""
    if not isinstance(said, Mapping):
        raise ValueError(f"got {limits.brief(said)}, expected settings by name")
    if not said.get("bridge"):
        raise ValueError(PICK)
    return {field: said[name] for name, field in BRIDGE.items() if said.get(name) is not None}


def source_of(path: Path, recipe: Mapping[str, Any]) -> Path | None:
    """The copy of a translated picture's source that lies with its job."""
    name = str(recipe.get("source", "")).replace("\\", "/").rpartition("/")[2]
    kept = path.parent / SOURCES / name
    return kept if name and kept.is_file() and not kept.is_symlink() else None
