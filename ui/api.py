"""What scripts call on a running page, by names that stay: ``generate``, ``translate``, ``job``, ``result``,
``stop``, ``models`` and ``recipe``.

from gradio_client import Client
page = Client("http://127.0.0.1:7860")
page.predict("fashion-dit", seeds="0-7", api_name="/generate")["files"]
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import gradio as gr

from studio.checkpoints import plans
from studio.jobs import limits
from studio.jobs.recipe import PICK, Recipe
from studio.jobs.result import Result
from studio.jobs.run import Update
from studio.jobs.translation import Translation
from studio.jobs.typed import of_fields
from studio.model import catalog
from studio.runtime.signals import Stopped
from ui import restore
from ui.jobs import Jobs
from ui.toasts import owner, toasts


class Api:
    """Plain functions over the `Jobs` of one `Engine`; answers are JSON."""

    def __init__(self, jobs: Jobs):
        self.jobs, self.engine = jobs, jobs.engine

    def generate(
        self,
        request: gr.Request,
        model: str | None = None,
        seeds: str = "0-7",
        label: str | None = None,
        num_steps: int = 0,
        sampler: str = "",
        guidance: str = "default",
        weights: str = "auto",
        conditions: str = "",
        dtype: str = "auto",
        deterministic: bool = False,
        plan: str = plans.NONE,
        strength: float = 0.0,
        init: str | None = None,
        mask: str | None = None,
        known: str | None = None,
        given: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Sample and save; the last answer has the files, those before it tell how far the run is. Paths are
        the server's: fetch one from ``/gradio_api/file=PATH``. Without a ``model`` the first that ``/models``
        lists; steps 0, sampler "" and guidance "default" are the model's own, and without a ``label`` each
        seed has its own class. ``plan``: the name of one of the model's, auto or none; ``note`` in the last
        answer says where auto found none. ``init``: a picture to start from; ``strength`` is how much of the
        way is run anew (0: the usual share), and of a ``mask`` white may change; both may be .npy or .npz,
        too. ``known`` and ``given``: .npy files, or one .npz, of which entries stay and of their values. A
        job that is cancelled stops, and what is finished is saved."""
        with toasts():
            model = model or next(iter(self.engine.cards()), None)
            if model is None:
                raise ValueError(PICK)
            named = {
                "model": model,
                "weights": weights,
                "label": label,
                "seeds": seeds,
                "num_steps": num_steps,
                "sampler": sampler,
                "guidance": guidance,
                "conditions": conditions,
                "dtype": dtype,
                "deterministic": deterministic,
                "plan": plan,
                "strength": strength,
            }
            if mask and not init:
                raise ValueError("got a mask without a picture to start from; give init too")
            settings = Recipe.parse({k: v for k, v in named.items() if v is not None})
            job = self.jobs.sample(settings, owner(request), init, mask, known, given)
            yield from self._followed(job)

    def translate(
        self,
        request: gr.Request,
        pictures: list[str] | None,
        bridge: str = "",
        num_steps: float = 0,
        seed: float = 0,
        resize: bool = True,
        direction: str = "forward",
        label: str = "",
    ) -> Iterator[dict[str, Any]]:
        """Pictures through a bridge, the first that ``/models`` lists where none is named; answers as those
        of ``/generate``, with ``failed``: why a picture could not be translated. ``num_steps`` 0: its own."""
        with toasts():
            asked = of_fields(
                Translation,
                {
                    "bridge": bridge or next(iter(self.engine.bridges()), ""),
                    "num_steps": num_steps,
                    "seed": seed,
                    "resize": resize,
                    "direction": direction,
                    "label": label or None,
                },
            )
            job = self.jobs.translate(asked, pictures or [], None, owner(request))
            yield from self._followed(job)

    def _followed(self, job: str) -> Iterator[dict[str, Any]]:
        """The news of a job, which ends with whoever asked for it."""
        try:
            for news in self.jobs.queue.watch(job):
                if isinstance(news, Result):
                    yield {"job": job, **_told(news)}
                elif isinstance(news, int):
                    yield {"job": job, "ahead": news}
                elif isinstance(news, Update):
                    seconds = round(news.seconds, 3)
                    yield {"job": job, "done": news.done, "total": news.total, "seconds": seconds}
        except Stopped as stopped:
            raise ValueError(str(stopped)) from None
        except GeneratorExit:  # cancelled, or gone
            self.jobs.queue.stop(job)
            raise

    def job(self, job: str) -> dict[str, Any]:
        """What the index has of a job: its state (waiting, running, done, stopped, failed), how many samples
        of it are ``done`` of a ``total``, what was asked for (``spec``), and how it ended (``words``)."""
        with toasts():
            found = self.jobs.known(job)
            return {k: v for k, v in asdict(found).items() if k not in ("holder", "told")}

    def result(self, job: str) -> dict[str, Any]:
        """What a job made that has ended, as the last answer of ``/generate``. Its ``views`` are the tabs
        that the page shows beside pictures and files, as the task of the samples brings them: of each its
        ``name``, its ``file``, and its ``kind``, picture (.png, .svg), animation (.gif) or table (.csv). A
        view that is not there yet is drawn now; of one that cannot be drawn any more ``why`` says it."""
        with toasts():
            made = self.jobs.result(job)
            told = _told(made)
            for place, view in enumerate(told["views"]):
                try:
                    self.jobs.view(job, made, place)
                except (ValueError, OSError) as error:
                    view["why"] = limits.words(str(error))
            return {"job": job, **told}

    def recipe(self, picture: str | None) -> dict[str, Any]:
        """The ``recipe`` inside a picture of ours and the ``command`` that makes it again; nothing that it
        names is opened but models of the page."""
        with toasts():
            if not picture:
                raise ValueError("give a picture")
            recipe, command = restore.explain(picture, self.engine.shelf())
            return {"recipe": recipe, "command": command}

    def stop(self, request: gr.Request, job: str = "") -> str:
        """Stop a job, or this client's run, after the solver step it is in; how it ended, or "" when nothing
        ran."""
        if job:
            return self.jobs.queue.stop(job, wait=5.0)
        return self.jobs.queue.stop_all(owner(request), wait=5.0)

    def models(self) -> list[dict[str, Any]]:
        """The models there are: those that start from noise, for ``/generate``, and then bridges, which start
        from pictures. ``conditions``: what ``name=number`` may set, with the smallest and largest number that
        the model has seen (null where that is not recorded); ``plans`` by name, with what they are for."""
        found = []
        for name, card in [*self.engine.cards().items(), *self.engine.bridges().items()]:
            own = catalog.defaults_of(card)
            found.append(
                {
                    "model": name,
                    "kind": "bridge" if card.starts_from else "generator",
                    "starts_from": card.starts_from or "noise",
                    "task": card.task,
                    "shape": list(card.shape),
                    "classes": list(card.classes),
                    "conditions": catalog.conditions_of(card),
                    "step": card.step,
                    "weights": list(card.weights),
                    "num_steps": own.num_steps,
                    "sampler": own.sampler,
                    "guidance": own.guidance,
                    "plans": {
                        name: {
                            "num_steps": p.key.num_steps,
                            "sampler": p.key.sampler,
                            "guidance": p.key.guidance,
                        }
                        for name, p in catalog.plans_of(card).items()
                    },
                }
            )
        return found


def _told(result: Result) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "files": [str(p) for p in result.files],
        "sheet": str(result.sheet),
        "recipes": list(result.recipes),
        "evaluations": result.evaluations,
        "seconds": round(result.seconds, 3),
        "stopped": result.stopped,
        "note": result.note,
        "failed": dict(result.failed),
        "views": [
            {"name": view["name"], "file": str(result.folder / view["file"]), "kind": view["form"]}
            for view in result.views
        ],
    }
