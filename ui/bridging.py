"""What the Bridge page calls: pictures through a bridge as a job, and its result one picture at a time."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from studio.data.labels import no_label
from studio.jobs import limits
from studio.jobs.result import Result
from studio.jobs.run import Update
from studio.jobs.seen import before
from studio.jobs.translation import Translation
from studio.model import catalog
from studio.runtime.signals import Stopped
from ui import html, painting, pair, restore, zipped
from ui.answers import BRIDGE
from ui.bridge_form import Form, Row, fields_of, source_of
from ui.events import row
from ui.following import followed, words
from ui.jobs import Jobs
from ui.toasts import owner, toasts

ROOM = "/translate"  # whose runs Stop in this tab ends
STOP_WAIT = 1.0  # seconds that Stop looks for a run that was asked for a moment ago
CHOSEN = ("bridge-pair", "bridge-gallery", "bridge-recipe", "bridge-command", "bridge-at")
SHOWN = (
    "job",
    "bridge-status",
    "bridge-empty",
    "bridge-failed",
    "bridge-results",
    "bridge-sheet",
    "bridge-stop",
    "translate",
    *CHOSEN,
)
GOING = {"bridge-stop": gr.update(interactive=True), "translate": gr.update(interactive=False)}
OVER = {"bridge-stop": gr.update(interactive=False), "translate": gr.update(interactive=True)}


class Bridging:
    """Everything the Bridge page calls, over the `Jobs` of one `Engine`."""

    def __init__(self, jobs: Jobs):
        self.jobs, self.engine, self.form = jobs, jobs.engine, Form(jobs)

    def press(
        self,
        request: gr.Request | None,
        sources: list[str] | None,
        mask: str | None,
        drawn: Mapping[str, Any] | None,
        *values: Any,
    ) -> Iterator[Row]:
        """One job from the pictures, the mask and the values of BRIDGE; SHOWN, again and again until it is
        done. Whoever leaves meanwhile finds it again by its job."""
        try:
            with toasts(), tempfile.TemporaryDirectory() as place:
                asked = Translation.parse(fields_of(dict(zip(BRIDGE, values))), whole=False)
                if not sources:
                    raise ValueError("add one or more pictures first, or take the examples")
                limits.steps(asked.num_steps)
                if asked.label == no_label(self.form.bridge(asked.bridge).classes):
                    asked = replace(asked, label=None)
                sides = catalog.sample_shape(self.form.bridge(asked.bridge))[1:]
                painted = painting.painted(drawn, Path(place), sides)
                if mask and painted:
                    raise ValueError(
                        "got a painted mask and one from a file, expected one; remove the file or clear "
                        "what is painted"
                    )
                asked = replace(asked, mask=mask or painted)
                job = self.jobs.translate(asked, sources, asked.mask, owner(request, ROOM))
        except gr.Error as error:  # the toast goes away, the reason stays
            yield row(SHOWN, **{"bridge-status": words(error)}, **OVER)
            raise
        yield row(SHOWN, job=job, **GOING)
        yield from self._follow(job, asked, len(sources), 0)

    def follow(self, request: gr.Request | None, job: str, at: int) -> Iterator[Row]:
        """A job that was asked for before, by this tab or another, shown from its picture ``at`` on; SHOWN.
        Nothing for none, or one of which nothing is left."""
        live = self.jobs.queue.get(job) if job else None
        try:
            asked = Translation.parse(live.job.spec) if live else Translation("")
        except ValueError:  # a job of another page
            live, job = None, ""
        if live is not None:
            live.owner = owner(request, ROOM)
            yield row(SHOWN, job=job, **GOING)
            yield from self._follow(job, asked, len(asked.sources), at)
            return
        try:
            found = self.form.known(job)
            asked = Translation.parse(found.spec)
            shown = self._result(self.jobs.result(job), asked_for(asked, len(asked.sources)), at)
        except ValueError:
            shown = {}
        yield row(SHOWN, **shown)

    def _follow(self, job: str, asked: Translation, count: int, at: int) -> Iterator[Row]:
        told = asked_for(asked, count)

        def show(news: Any) -> Row:
            if isinstance(news, Result):
                return row(SHOWN, **self._result(news, told, at), **OVER)
            line = pair.running(news, told) if isinstance(news, Update) else words(news, told)
            over = isinstance(news, Stopped | gr.Error)
            return row(SHOWN, **{"bridge-status": line}, **(OVER if over else GOING))

        yield from followed(self.jobs.queue, job, show)

    def _result(self, result: Result, asked: str, at: int) -> dict[str, Any]:
        sheet = str(result.sheet) if result.sheet.is_file() else None
        return {
            "bridge-status": pair.finished(result, asked),
            "bridge-empty": gr.update(visible=False),
            "bridge-failed": pair.failures(result.failed),
            "bridge-results": gr.update(visible=True),
            "bridge-sheet": sheet,
            **self._chosen(result, at, gallery=True),
        }

    def stop(self, request: gr.Request | None, job: str) -> Any:
        """Raise the flag of this tab's job, which says itself where it ended."""
        if not (job and self.jobs.queue.stop(job)):
            self.jobs.stop_soon(owner(request, ROOM), STOP_WAIT)
        return gr.update(interactive=False)

    # ---- one of its pictures

    def walk(self, job: str, at: int) -> Row:
        """The picture at a place of the job, in a circle. CHOSEN."""
        if not job:
            return row(CHOSEN)
        with toasts():
            return row(CHOSEN, **self._chosen(self.jobs.result(job), at))

    def _chosen(self, result: Result, at: int, *, gallery: bool = False) -> dict[str, Any]:
        at %= len(result.files)
        path, recipe = result.files[at], result.recipes[at]
        source, seen = source_of(path, recipe), None
        if source is not None:
            try:
                seen = before(self.engine.card(str(recipe["model"])), source)
            except (ValueError, OSError):
                seen = None  # the model has gone, or its pictures are others now
        title = f"{path.name} · {at + 1} of {len(result.files)} · seed {recipe['seed']}"
        brief, command = restore.explain(path, self.engine.shelf())
        pictures: dict[str, Any] = {"value": [(str(p), p.stem) for p in result.files]} if gallery else {}
        return {
            "bridge-pair": pair.pair(seen, path, title),
            "bridge-gallery": gr.update(selected_index=at, **pictures),
            "bridge-recipe": brief,
            "bridge-command": command,
            "bridge-at": at,
        }

    def zip(self, job: str) -> str:
        """An archive of all that lies in the job's folder."""
        with toasts():
            return str(zipped.archive(self.jobs.result(job).folder))


def asked_for(asked: Translation, count: int) -> str:
    """What a run was asked for, whatever the controls say meanwhile."""
    words = [
        f"{count} picture{'' if count == 1 else 's'}",
        f"bridge {Path(asked.bridge).name}",
        f"steps {asked.num_steps}" if asked.num_steps else "",
        f"seed {asked.seed}",
        f"sampler {asked.sampler}" if asked.sampler else "",
        asked.direction if asked.direction != "forward" else "",
        f"class {asked.label}" if asked.label else "",
        "with a mask" if asked.mask else "",
    ]
    shown = html.chips([word for word in words if word], "What this run was asked for")
    return f'<div class="asked">{shown}</div>'
