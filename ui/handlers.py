"""Handlers of the page: plain functions and one generator. Each returns values in the order of `CONTROLS` or `SHOWN`; the layout is `ui.app`'s.

What a user can mend becomes a toast with the plain message; anything else is a bug and keeps its traceback.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from html import escape, unescape
from pathlib import Path
from typing import Any

import gradio as gr

from studio import catalog
from studio.sampling import Stopped
from studio.shelf import Card, card
from ui import html
from ui.engine import Engine, Result, Update, columns_for
from ui.settings import Settings, label_choices, own_word

CONTROLS = tuple(f.name for f in fields(Settings))
SHOWN = ("status", "preview", "results", "gallery", "sheet", "paths", "selected", "stop")
BOTTOM = ("bottom", "recipe", "command", "download", "selected")
PICTURES, POINTS = "0-9", "0-999"
PICK = "pick a model first; where the list is empty, `studio train demo` makes one"
LONG = 250  # solver steps that the slider offers unless a model or recipe asks for more
STOP_WAIT = 5.0  # seconds that Stop waits for the solver step under way, to say where it ended
SMALL = 128  # pictures below this height are shown with hard pixels


def row(names: tuple[str, ...], **changes: Any) -> tuple[Any, ...]:
    """One value per name; what is not mentioned stays as it is."""
    unknown = set(changes) - set(names)
    if unknown:
        raise KeyError(f"got {', '.join(sorted(unknown))}, expected some of {', '.join(names)}")
    return tuple(changes.get(name, gr.skip()) for name in names)


@contextmanager
def toasts() -> Iterator[None]:
    """Errors that name what is wrong become toasts."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from None
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise gr.Error("The device ran out of memory; ask for fewer seeds at once or a lower precision.", print_exception=False) from None
        raise


def owner(request: gr.Request | None) -> str:
    """The browser session that asks."""
    return getattr(request, "session_hash", None) or "local"


class Handlers:
    """Everything the page calls, over one `Engine`."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def open(self) -> tuple[Any, ...]:
        """At page load: the first model with its defaults. CONTROLS + card."""
        known = self.engine.cards()
        if not known:
            return (*row(CONTROLS, model=gr.update(choices=[], value=None)), html.no_models(self.engine.roots))
        name = next(iter(known))
        return self._controls(self._defaults(name, known[name], PICTURES), known[name], known)

    def refresh(self, current: str | None) -> Any:
        """New models in the list; the choice stays."""
        known = self.engine.cards()
        return gr.update(choices=_choices(known, current), value=current or next(iter(known), None))

    def choose(self, name: str | None, seeds: str) -> tuple[Any, ...]:
        """Another model: its classes, weights and defaults. CONTROLS + card."""
        with toasts():
            if not name:
                raise ValueError(PICK)
            shown = card(name)
        return self._controls(self._defaults(name, shown, seeds), shown, self.engine.cards())

    def _defaults(self, name: str, shown: Card, seeds: str) -> Settings:
        own = catalog.defaults_of(shown)
        if seeds in ("", PICTURES, POINTS):
            seeds = POINTS if catalog.shown_together(shown) else PICTURES
        weights = catalog.weights_file(shown)[0]
        return Settings(name, weights, own_word(shown.classes), seeds, own.num_steps, own.sampler, own.guidance, dtype=self.engine.dtype)

    def _controls(self, settings: Settings, shown: Card, known: dict[str, Card]) -> tuple[Any, ...]:
        """Every control set, with the choices that the model has."""
        samplers, settable = catalog.sampler_names(shown), catalog.settable(shown)
        value = asdict(settings)
        value["model"] = gr.update(choices=_choices(known, settings.model), value=settings.model)
        value["weights"] = gr.update(choices=list(dict.fromkeys([*shown.weights, settings.weights])), value=settings.weights)
        value["label"] = gr.update(choices=label_choices(shown.classes), value=settings.label or own_word(shown.classes), visible=bool(shown.classes))
        value["num_steps"] = gr.update(maximum=max(LONG, settings.num_steps), value=settings.num_steps)
        value["sampler"] = gr.update(choices=list(dict.fromkeys([*samplers, settings.sampler])), value=settings.sampler)
        value["guidance"] = gr.update(value=settings.guidance, visible=bool(shown.classes or catalog.numbers_of(shown)))
        value["conditions"] = gr.update(
            value=settings.conditions, visible=bool(settable), info=f"name=number, ...; known: {', '.join(settable)}" if settable else None
        )
        return (*row(CONTROLS, **value), html.card(shown, folder=str(shown.folder)))

    def check_guidance(self, line: str) -> str:
        """What the grammar makes of the line, or what it does not understand."""
        return _checked(catalog.check_guidance, line or "", quiet=False)

    def check_sampler(self, spec: str | None) -> str:
        """Nothing for a sampler that exists, the reason otherwise."""
        return _checked(catalog.check_sampler, spec or "", quiet=True)

    def arm(self) -> tuple[Any, ...]:
        """The moment Generate is pressed, before the queue: Stop works from here on. SHOWN."""
        return row(SHOWN, status=html.idle("Waiting for the device …"), stop=gr.update(interactive=True))

    def generate(self, request: gr.Request | None, *values: Any) -> Iterator[tuple[Any, ...]]:
        """One run: CONTROLS and the preview switch in, SHOWN out, again and again until it is done.

        ``request`` stands first because the page fills it in by its place; it says whose Stop ends this run.
        """
        settings, preview = Settings(**dict(zip(CONTROLS, values[:-1]))), bool(values[-1])
        try:
            with toasts():
                try:
                    with self.engine.job(owner(request)) as job:
                        if not settings.model:
                            raise ValueError(PICK)
                        yield row(SHOWN, status=html.idle(f"Loading {Path(settings.model).name} …"), stop=gr.update(interactive=True))
                        for news in self.engine.run(settings, job.flag, preview=preview):
                            if isinstance(news, Result):
                                job.words = f"Finished before it could stop; saved in {news.folder}"
                            yield self._progress(news) if isinstance(news, Update) else self._result(news)
                except Stopped as stopped:
                    yield self._stopped(str(stopped))
        except gr.Error as error:  # the toast goes away, the reason stays
            yield row(SHOWN, status=html.note(unescape(str(error.message)), bad=True), stop=gr.update(interactive=False))
            raise

    def _progress(self, update: Update) -> tuple[Any, ...]:
        picture: dict[str, Any] = {}
        if update.preview is not None:
            picture = {"preview": gr.update(value=html.picture(update.preview), visible=True), "results": gr.update(visible=False)}
        return row(SHOWN, status=html.running(update), **picture)

    def _stopped(self, text: str) -> tuple[Any, ...]:
        return row(SHOWN, status=html.idle(text), stop=gr.update(interactive=False))

    def _result(self, result: Result) -> tuple[Any, ...]:
        captions = [f"{r['seed']} · {r['class']}" if "class" in r else str(r["seed"]) for r in result.recipes]
        if len(result.pictures) != len(result.recipes):
            captions = [f"{len(result.recipes)} samples"]
        paths = [str(p) for p in result.pictures]
        return row(
            SHOWN, status=html.finished(result), preview=gr.update(visible=False), results=gr.update(visible=True),
            gallery=gr.update(value=list(zip(paths, captions)), selected_index=None, columns=columns_for(len(paths)), elem_classes=_look(paths)),
            sheet=str(result.sheet), paths=paths, selected=paths[0], stop=gr.update(interactive=False),
        )  # fmt: skip

    def stop(self, request: gr.Request | None = None) -> tuple[Any, ...]:
        """Raise the flag of this session's job and say where it ended. SHOWN."""
        words = self.engine.stop(owner(request), wait=STOP_WAIT)
        return self._stopped(words or "Stopped before it began; nothing was saved")

    def leave(self, request: gr.Request | None = None) -> None:
        """The page was closed: its job need not go on."""
        self.engine.stop(owner(request))

    def select(self, paths: list[str], event: gr.SelectData) -> tuple[Any, ...]:
        """Recipe, command and download of the picture that was clicked. BOTTOM."""
        index = event.index if isinstance(event.index, int) else 0
        return self.show(paths[index] if 0 <= index < len(paths) else None)

    def show(self, path: str | None) -> tuple[Any, ...]:
        """Recipe, command and download of a picture. BOTTOM."""
        if not path:
            return row(BOTTOM)
        with toasts():
            recipe, command = self.engine.explain(path)
        name = Path(path).name
        behind = [Path(path).with_name(n) for n in ("samples.csv", "samples.npz")]  # what a drawing was made from
        file = next((p for p in behind if p.is_file()), Path(path))
        return row(
            BOTTOM, bottom=gr.update(visible=True), recipe=gr.update(value=recipe, label=f"Recipe of {name}"), command=command,
            download=gr.update(value=str(file), label=f"Download {file.name}"), selected=path,
        )  # fmt: skip

    def restore(self, path: str | None) -> tuple[Any, ...]:
        """Every control from a picture's recipe. CONTROLS + card."""
        if not path:
            return (*row(CONTROLS), gr.skip())
        with toasts():
            restored = self.engine.restore(path)
            shown = card(restored.settings.model)
        for text in restored.notes:
            gr.Warning(escape(text, quote=False), duration=20)
        if not restored.notes:
            gr.Info("Every control was set from the picture.", duration=3)
        return self._controls(restored.settings, shown, self.engine.cards())


def _choices(known: dict[str, Card], current: str | None) -> list[tuple[str, str]]:
    """Short names where they are unique; a model that was typed in stays in the list."""
    names = [c.name for c in known.values()]
    listed = [(c.name if names.count(c.name) == 1 else f"{c.name} ({text})", text) for text, c in known.items()]
    return listed if not current or current in known else [*listed, (current, current)]


def _look(paths: list[str]) -> list[str]:
    """Classes of the gallery in the style sheet: hard pixels for small pictures, and one picture alone is shown large."""
    from PIL import Image

    with Image.open(paths[0]) as picture:
        small = picture.height < SMALL
    return ["pixels"] * small + ["single"] * (len(paths) == 1)


def _checked(check: Callable[[str], str], text: str, *, quiet: bool) -> str:
    """The reason where the text is not understood; how it was, where that is not what was typed."""
    try:
        canonical = check(text.strip())
    except ValueError as error:
        return html.note(str(error), bad=True)
    return html.note(f"understood as {canonical}") if not quiet and canonical != re.sub(r"\s|(?<=\d)\.0+(?!\d)", "", text) else ""
