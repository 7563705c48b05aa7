"""Handlers of the Create page: plain functions and one generator. Each returns values in the order of
`SHOWN`, or an answer that sets many controls at once (`ui.answers`). The layout is `ui.layout`, a chosen
picture `ui.chosen`, a dropped one `ui.dropped`.

What a user can mend becomes a toast with the plain message; anything else is a bug and keeps its traceback.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from studio.jobs import limits
from studio.jobs.artefacts import path_of
from studio.jobs.recipe import FILES, PICK, Recipe
from studio.jobs.result import Result
from studio.jobs.run import Update, columns_for
from studio.model import catalog
from studio.runtime.signals import Stopped
from ui import answers, choices, html, noting, restore, views
from ui.answers import CONTROLS
from ui.chosen import BOTTOM, Chosen
from ui.events import row
from ui.following import followed, words
from ui.given import NUMBERS, Giving
from ui.jobs import Jobs
from ui.noting import NOTED, NOTES, PICTURE
from ui.starting import GIVEN, PART, Starting, reopened
from ui.toasts import owner, toasts
from ui.views import VIEWS

# few, as each costs the browser something at every update; pictures of the run before make room by style.css
GOING = ("job", "status", "preview", "stop", "generate")
SHOWN = ("status", "preview", "results", "gallery", "sheet", "paths", *VIEWS, *BOTTOM)
STOP_WAIT = 1.0  # seconds that Stop looks for a run that was asked for a moment ago


# the buttons after a run
OVER = {"stop": gr.update(interactive=False), "generate": gr.update(interactive=True)}


class Handlers:
    """Everything the Create page calls, over the `Jobs` of one `Engine`."""

    def __init__(self, jobs: Jobs):
        self.jobs, self.engine, self.chosen = jobs, jobs.engine, Chosen(jobs)
        self.starting, self.giving = Starting(jobs.engine), Giving(jobs.engine)

    def open(self, ticket: int, found: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """At page load. ``found``: what the page was opened with: a link's ``recipe``, ``job`` or ``item``
        (of the library), or the ``form`` that this tab had before; else the first model with its defaults.
        Runs nothing."""
        link = found or {}
        for name in ("recipe", "item", "job", "form"):
            if not (said := link.get(name)):
                continue
            try:
                answer, notes = self._linked(name, said, ticket, str(link.get("own") or ""))
            except (ValueError, OSError) as error:
                if name != "form":
                    gr.Warning(
                        html.text(f"The link does not fill the form: {limits.words(str(error))}"), duration=20
                    )
                continue
            for text in notes:
                gr.Warning(html.text(text), duration=20)
            return answer
        known = self.engine.cards()
        if not known:
            return answers.of("sample", ticket, "", {"card": {"value": html.no_models(self.engine.roots)}})
        return answers.model(self.engine, next(iter(known)), answers.PICTURES, ticket)

    def _linked(self, name: str, said: Any, ticket: int, own: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The form that a link asks for, or that a tab with its ``own`` job had, and what to say of what
        differs. Raises ``ValueError``."""
        shelf, index, folder = self.engine.shelf(), self.engine.index, ""
        if name == "item":
            if (item := index.item(str(said))) is None:
                raise ValueError(f"got item {limits.brief(said)}, which the library does not have")
            path = path_of(self.engine.out, item.file)
            if restore.is_translated(restore.read(path)):
                raise ValueError(f"{path.name} was translated: open it on the Bridge page")
            return answers.restored(self.engine, str(path), {"sample": ticket})
        if name == "job":
            job = self.jobs.known(str(said))
            said, folder = job.spec, job.folder
        if name == "form" and isinstance(said, Mapping):
            said, folder = reopened(said, index.job(own))
        found = restore.asked(said, shelf, self.engine.out, folder)
        return answers.settings(self.engine, found.settings, ticket, found.start), found.notes

    def refresh(self, current: str | None) -> tuple[Any, Any]:
        """New models in the list, and new plans of the one that is picked; the choices stay."""
        models = gr.update(choices=choices.models(self.engine.cards(), current))
        with toasts():
            try:
                own = catalog.plans_of(self.engine.card(current)) if current else {}
            except ValueError:  # what was typed is no model
                return models, gr.skip()
        return models, gr.update(choices=choices.plans(own), visible=bool(own))

    def choose(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Another model: its classes, weights and defaults."""
        with toasts():
            if not asked.get("model"):
                raise ValueError(PICK)
            return answers.model(
                self.engine, str(asked["model"]), str(asked.get("rest") or ""), asked["ticket"]
            )

    def choose_plan(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A plan: the settings that it is for."""
        with toasts():
            if not asked.get("model"):
                raise ValueError(PICK)
            return answers.plan(
                self.engine, str(asked["model"]), str(asked.get("plan") or ""), asked["ticket"]
            )

    def notes(self, values: Sequence[Any] | None) -> tuple[Any, ...]:
        """What is said of a form with these values of NOTED and PICTURE; NOTES."""
        form = dict(zip((*NOTED, *PICTURE), values or ()))
        form["mask"] = form.get("way") == PART
        return row(NOTES, **noting.notes(self.engine, form))

    def generate(self, request: gr.Request | None, *values: Any) -> Iterator[tuple[Any, ...]]:
        """One run: CONTROLS, GIVEN, NUMBERS and the preview switch in, GOING out, again and again until it is
        done; `shown` has what it made. Whoever leaves meanwhile finds it again by its job.

        ``request`` stands first because the page fills it in by its place; it says whose Stop ends this run.
        """
        said = {k: v for k, v in zip(CONTROLS, values) if v is not None}
        start = dict(zip((*GIVEN, *NUMBERS), values[len(CONTROLS) : -1]))
        try:
            with toasts():
                settings = Recipe.parse({"model": "", **said})
                with self.starting.files(settings.model, start) as given:
                    given = self.giving.added(given, settings.model, start)
                    settings = replace(settings, strength=given.strength)
                    files = {name: getattr(given, name) for name in FILES}
                    job = self.jobs.sample(settings, owner(request), **files)
                settings = Recipe.parse(self.jobs.known(job).spec)
        except gr.Error as error:  # the toast goes away, the reason stays
            yield row(GOING, status=words(error), **OVER)
            raise
        yield row(GOING, job=job, stop=gr.update(interactive=True), generate=gr.update(interactive=False))
        yield from self._follow(job, html.asked(settings), bool(values[-1]))

    def follow(self, request: gr.Request | None, job: str, preview: bool) -> Iterator[tuple[Any, ...]]:
        """A job that was asked for before, by this tab or another, while it goes on; GOING, as in
        `generate`."""
        live = self.jobs.queue.get(job) if job else None
        try:
            asked = html.asked(Recipe.parse(live.job.spec)) if live else ""
        except ValueError:  # a job of another page
            live = None
        if live is None:
            yield row(GOING)
            return
        live.owner = owner(request)
        yield row(GOING, job=job, stop=gr.update(interactive=True), generate=gr.update(interactive=False))
        yield from self._follow(job, asked, preview)

    def _follow(self, job: str, asked: str, preview: bool) -> Iterator[tuple[Any, ...]]:
        def show(news: Any) -> tuple[Any, ...]:
            if isinstance(news, Update):
                picture = {} if news.preview is None else {"preview": html.picture(news.preview)}
                return row(GOING, status=html.running(news, asked), **picture)
            if isinstance(news, Result):
                return row(GOING, status=html.finished(news, asked), **OVER)
            if isinstance(news, Stopped | gr.Error):
                return row(GOING, status=words(news, asked), **OVER)
            return row(GOING, status=words(news, asked), stop=gr.update(interactive=True))

        yield from followed(self.jobs.queue, job, show, preview=preview)

    def shown(self, request: gr.Request | None, job: str) -> tuple[Any, ...]:
        """What a job of this page has made that has ended; SHOWN. Nothing for another."""
        try:
            result = self.jobs.result(job)
            asked = html.asked(Recipe.parse(self.jobs.known(job).spec))
        except ValueError:
            return row(SHOWN)
        self.chosen.newest[owner(request)] = result.folder
        captions = [f"{r['seed']} · {r['class']}" if "class" in r else str(r["seed"]) for r in result.recipes]
        if len(result.pictures) != len(result.recipes):
            captions = [f"{len(result.recipes)} samples"]
        paths = [str(p) for p in result.pictures]
        look = gr.update(
            value=list(zip(paths, captions)),
            selected_index=None,
            columns=columns_for(len(paths)),
            elem_classes=_look(paths),
        )
        return row(
            SHOWN,
            status=html.finished(result, asked),
            preview=html.empty(),  # the next run begins with none
            results=gr.update(visible=True),
            gallery=look,
            sheet=str(result.sheet),
            paths=paths,
            **views.shown(job, result),
            **self.chosen.below(paths[0]),
        )

    def stop(self, request: gr.Request | None = None, job: str = "") -> tuple[Any, ...]:
        """Raise the flag of this tab's job, which says itself where it ended. GOING."""
        words = self.jobs.queue.stop(job) if job else ""
        words = words or self.jobs.stop_soon(owner(request), STOP_WAIT)
        return (
            row(GOING, stop=gr.update(interactive=False))
            if words
            else row(
                GOING,
                status=html.idle("Nothing runs."),
                stop=gr.update(interactive=False),
                generate=gr.update(interactive=True),
            )
        )

    def leave(self, request: gr.Request | None = None) -> None:
        """The page was closed: what it showed is forgotten, its jobs go on."""
        self.chosen.newest.pop(owner(request), None)


def _look(paths: list[str]) -> list[str]:
    """Classes of the gallery in the style sheet: hard pixels for small pictures, one picture alone is shown
    large, and few are larger than many."""
    from PIL import Image

    with Image.open(paths[0]) as picture:
        small = picture.height < html.SMALL
    return ["pixels"] * small + ["single"] * (len(paths) == 1) + ["few"] * (1 < len(paths) <= 20)
