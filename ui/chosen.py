"""The chosen one of the samples that were made: how it was made, and what can be done with it."""

from pathlib import Path
from typing import Any

import gradio as gr

from studio.jobs.artefacts import path_of
from ui import dropped, layout, restore
from ui.events import QUIET, row
from ui.jobs import Jobs
from ui.toasts import owner, toasts

BOTTOM = ("bottom", "recipe", "command", "download", "selected")


def panel() -> dict[str, Any]:
    """Its controls by name, below the others."""
    p: dict[str, Any] = {}
    with gr.Row(visible=False, elem_id="bottom", equal_height=False) as p["bottom"]:
        with gr.Column(scale=11, min_width=420):
            p["recipe"] = gr.JSON(label="Recipe", max_height=200, elem_id="recipe")
        with gr.Column(scale=10, min_width=420):
            p["command"] = layout.command("command")
            with gr.Row(elem_classes="tight"):
                p["download"] = gr.DownloadButton("Download", size="sm", elem_id="download")
                p["again"] = gr.Button("Use these settings", size="sm", elem_id="again")
    p["selected"] = gr.Textbox(visible="hidden")
    return p


class Chosen:
    """What its controls call, over the `Jobs` of one `Engine`."""

    def __init__(self, jobs: Jobs):
        self.jobs, self.engine = jobs, jobs.engine
        self.newest: dict[str, Path] = {}  # the folder that a session's gallery shows

    def select(self, request: gr.Request | None, paths: list[str], event: gr.SelectData) -> tuple[Any, ...]:
        """Recipe, command and download of the picture that was clicked; nothing where another run's pictures
        have come meanwhile. BOTTOM."""
        index = event.index if isinstance(event.index, int) else 0
        if not 0 <= index < len(paths):
            return row(BOTTOM)
        with toasts():
            found = self.below(str(self._own(paths[index])))
        newest = self.newest.get(owner(request))
        return row(BOTTOM, **found) if newest in (None, Path(paths[index]).parent) else row(BOTTOM)

    def _own(self, path: Any) -> Path:
        """A file that the page has shown: what the browser says may be anything. Raises ``ValueError`` for
        one that is not below the folder of outputs."""
        out = self.engine.out
        return path_of(out, str(path).removeprefix(f"{out}/"))

    def below(self, path: str) -> dict[str, Any]:
        """Recipe, command and download of a picture."""
        recipe, command = restore.explain(path, self.engine.shelf())
        # what a drawing was made from
        behind = [Path(path).with_name(n) for n in ("samples.csv", "samples.npz")]
        file = next((p for p in behind if p.is_file()), Path(path))
        return {
            "bottom": gr.update(visible=True),
            "recipe": gr.update(value=recipe, label=f"Recipe of {Path(path).name}"),
            "command": command,
            "download": gr.update(value=str(file), label=f"Download {file.name}"),
            "selected": path,
        }

    def again(self, path: str | None, tickets: dict[str, int]) -> dict[str, Any]:
        """`dropped.apply` of a picture that the page has shown."""
        with toasts():
            return dropped.apply(self.engine, str(self._own(path)) if path else None, tickets)


def wire(p: dict[str, Any], c: Chosen) -> Any:
    """Its events; the one by which a picture is chosen."""
    dropped.wire_apply(p, p["again"], p["selected"], c.again)
    return p["gallery"].select(c.select, p["paths"], [p[name] for name in BOTTOM], **QUIET)
