"""What a run made, seen otherwise: a tab for each view that its task brings (`studio.tasks.views`), and one
for its files. Nothing here asks what the samples are, only the form of a view."""

import csv
from collections.abc import Callable, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr

from studio.jobs.result import Result
from ui import html, library_html
from ui.events import QUIET
from ui.jobs import Jobs
from ui.toasts import toasts

MOST = 5  # tabs, besides those that are always there
ROWS, WIDE = 2000, 32  # of a table, and letters of a cell that are shown at once
TABS = tuple(f"view-{k}" for k in range(MOST))
FILES = {"name": "Files", "form": "files"}
VIEWS = ("views", *TABS)


# ---- what stands on the page


def tabs() -> dict[str, Any]:
    """The tabs by name, inside of the caller's `gr.Tabs`; what is looked at stands below, in `region`."""
    p: dict[str, Any] = {}
    for name in TABS:
        with gr.Tab(name, visible=False, elem_id=name) as p[name]:
            pass
    return p


def region() -> dict[str, Any]:
    """Draws the view that its hidden value says."""
    held = gr.JSON(visible="hidden", render=False)
    with gr.Column(elem_id="view"):

        @gr.render(inputs=held, triggers=[held.change])
        def _drawn(found: dict[str, Any] | None) -> None:
            draw(found)

    return {"view-held": held}


def hidden(p: dict[str, Any]) -> dict[str, Any]:
    """What is drawn, whose views there are, which is looked at, and the question for it."""
    p["view-held"].render()
    return {
        "views": gr.JSON(visible="hidden"),
        "view-at": gr.Number(-1, precision=0, visible="hidden"),
        "view-asked": gr.JSON(visible="hidden"),
    }


def draw(found: Mapping[str, Any] | None) -> None:
    """The component for a view's form."""
    if found:
        DRAWN[found["form"]](found["value"])


def _image(path: str) -> None:
    if path.endswith(".svg"):  # of which gr.Image warns that it gets no watermark
        gr.HTML(library_html.picture(Path(path)))
        return
    gr.Image(
        path,
        show_label=False,
        interactive=False,
        height=html.HEIGHT,
        buttons=["download", "fullscreen"],
    )


def _table(path: str) -> None:
    with open(path, newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    typed = [_numbers(column) for column in zip(*rows[:ROWS])]
    gr.Dataframe(
        [list(cells) for cells in zip(*typed)],
        headers=columns,
        datatype=["number" if any(isinstance(v, float) for v in column) else "str" for column in typed]
        or "str",
        interactive=False,
        show_search="filter",
        max_chars=WIDE,
        max_height=html.HEIGHT,
        label=f"The first {ROWS:,} of {len(rows):,}",
        show_label=len(rows) > ROWS,
        buttons=["copy", "fullscreen"],
    )


def _numbers(column: tuple[str, ...]) -> list[Any]:
    """A column as numbers, None where it is empty; as it is where not all are."""
    try:
        return [float(cell) if cell else None for cell in column]
    except ValueError:
        return list(column)


def _files(paths: list[str]) -> None:
    gr.HTML(library_html.files([Path(path) for path in paths]))


def _note(text: str) -> None:
    gr.HTML(html.note(text, bad=True))


DRAWN: dict[str, Callable[[Any], None]] = {
    "picture": _image,
    "animation": _image,
    "table": _table,
    "files": _files,
    "note": _note,
}


# ---- what is asked


def shown(job: str, result: Result) -> dict[str, Any]:
    """The tabs for what a job made. VIEWS."""
    known = _of(result)
    named = {
        name: gr.update(visible=True, label=known[k]["name"]) if k < len(known) else gr.update(visible=False)
        for k, name in enumerate(TABS)
    }
    return {"views": {"job": job}, **named}


def _of(result: Result) -> list[Mapping[str, str]]:
    """Its views, and its files where there are others than pictures."""
    return [*result.views, *([FILES] if _files_of(result) else [])][:MOST]


def _files_of(result: Result) -> list[Path]:
    return [path for path in result.files if path not in (*result.pictures, result.sheet)]


class Views:
    """What the tabs call, over the `Jobs` of one `Engine`."""

    def __init__(self, jobs: Jobs):
        self.jobs = jobs

    def open(self, asked: Any) -> dict[str, Any] | None:
        """The view ``at`` of a ``job``, for `draw`."""
        said = asked if isinstance(asked, Mapping) else {}
        at = said.get("at")
        if not isinstance(at, int) or not 0 <= at < MOST:
            return None
        try:
            with toasts():
                return self._view(said.get("job"), at)
        except gr.Error as error:
            return {"form": "note", "value": unescape(str(error.message))}

    def _view(self, job: Any, at: int) -> dict[str, Any] | None:
        result = self.jobs.result(job)
        known = _of(result)
        if at >= len(known):
            return None
        if known[at] is FILES:
            return {"form": "files", "value": [str(path) for path in _files_of(result) if path.is_file()]}
        return {"form": known[at]["form"], "value": str(self.jobs.view(job, result, at))}


def wire(p: dict[str, Any], v: Views) -> None:
    always = p["tabs"]
    for k, tab in enumerate([*always, *(p[name] for name in TABS)]):
        tab.select(None, None, p["view-at"], js=f"() => {k - len(always)}", **QUIET)
    asked, held = p["view-asked"], p["view-held"]
    gr.on(
        [p["view-at"].change, p["views"].change],
        None,
        [p["views"], p["view-at"], held],
        [asked, held],
        js="(views, at, held) => drift.view(views, at, held)",
        **QUIET,
    )
    answered = asked.change(v.open, asked, held, trigger_mode="always_last", **QUIET)
    answered.then(None, js="() => document.body.classList.remove('view-waits')", **QUIET)
