"""What scripts call on a running page, by names that stay: ``generate``, ``stop`` and ``models``.

from gradio_client import Client
page = Client("http://127.0.0.1:7860")
page.predict("fashion-dit", seeds="0-7", api_name="/generate")["files"]
"""

from typing import Any

import gradio as gr

from studio import catalog
from ui.engine import Engine, Result
from ui.handlers import owner, toasts
from ui.settings import Settings


class Api:
    """Plain functions over one `Engine`; answers are JSON."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def generate(
        self, request: gr.Request, model: str, seeds: str = "0-7", label: str | None = None, num_steps: int = 0, sampler: str = "", guidance: str = "default",
        weights: str = "auto", conditions: str = "", dtype: str = "auto", deterministic: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Sample and save; answers when it is done. Paths are the server's: fetch one from ``/gradio_api/file=PATH``. Steps 0, sampler "" and
        guidance "default" are the model's own, and without a ``label`` each seed has its own class."""
        settings = Settings(model, weights, label, seeds, num_steps, sampler, guidance, conditions, dtype, deterministic)
        with toasts(), self.engine.job(owner(request)) as job:
            *_, result = self.engine.run(settings, job.flag, preview=False)
        assert isinstance(result, Result)
        return {
            "folder": str(result.folder), "files": [str(p) for p in result.files], "sheet": str(result.sheet), "recipes": list(result.recipes),
            "evaluations": result.evaluations, "seconds": round(result.seconds, 3),
        }  # fmt: skip

    def stop(self, request: gr.Request) -> str:
        """Stop this client's run after the solver step it is in; how it ended, or "" when nothing ran."""
        return self.engine.stop(owner(request), wait=5.0)

    def models(self) -> list[dict[str, Any]]:
        """The models there are."""
        found = []
        for name, card in self.engine.cards().items():
            own = catalog.defaults_of(card)
            found.append({
                "model": name, "task": card.task, "shape": list(card.shape), "classes": list(card.classes), "step": card.step, "weights": list(card.weights),
                "num_steps": own.num_steps, "sampler": own.sampler, "guidance": own.guidance,
            })  # fmt: skip
        return found
