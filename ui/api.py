"""What scripts call on a running page, by names that stay: ``generate``, ``stop`` and ``models``.

from gradio_client import Client
page = Client("http://127.0.0.1:7860")
page.predict("fashion-dit", seeds="0-7", api_name="/generate")["files"]
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from studio.checkpoints import plans
from studio.jobs.recipe import PICK, Recipe
from studio.jobs.result import Result
from studio.jobs.run import Update
from studio.model import catalog
from studio.runtime.signals import Stopped
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
    ) -> Iterator[dict[str, Any]]:
        """Sample and save; the last answer has the files, those before it tell how far the run is. Paths are
        the server's: fetch one from ``/gradio_api/file=PATH``. Without a ``model`` the first that ``/models``
        lists; steps 0, sampler "" and guidance "default" are the model's own, and without a ``label`` each
        seed has its own class. ``plan``: the name of one of the model's, auto or none; ``note`` in the last
        answer says where auto found none. A job that is cancelled stops, and what is finished is saved."""
        with toasts():
            model = model or next(iter(self.engine.cards()), None)
            if model is None:
                raise ValueError(PICK)
            settings = Recipe(
                model,
                weights,
                label,
                seeds,
                num_steps,
                sampler,
                guidance,
                conditions,
                dtype,
                deterministic,
                plan,
            )
            job = self.jobs.sample(settings, owner(request))
            try:
                for news in self.jobs.queue.watch(job):
                    if isinstance(news, Result):
                        yield {"job": job, **_told(news)}
                    elif isinstance(news, int):
                        yield {"job": job, "ahead": news}
                    elif isinstance(news, Update):
                        yield {
                            "job": job,
                            "done": news.done,
                            "total": news.total,
                            "seconds": round(news.seconds, 3),
                        }
            except Stopped as stopped:
                raise ValueError(str(stopped)) from None
            except GeneratorExit:  # cancelled, or gone
                self.jobs.queue.stop(job)
                raise

    def stop(self, request: gr.Request) -> str:
        """Stop this client's run after the solver step it is in; how it ended, or "" when nothing ran."""
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
    }
