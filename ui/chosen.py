"""The chosen one of the samples that were made: how it was made, and what can be done with it."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from studio.jobs import Item, Wanted
from studio.jobs.artefacts import path_of
from ui import dropped, layout, library_html, restore, zipped
from ui.events import QUIET, row
from ui.jobs import Jobs
from ui.shelf import Shelf, bridges_for
from ui.toasts import owner, toasts

BOTTOM = ("bottom", "recipe", "command", "python", "download", "to_bridge", "selected")
AGAIN = {  # buttons: what each takes over (`answers.USES`), in words
    "again": ("every control", "Use these settings"),
    "again-but": ("all but the seeds", "All but the seeds"),
    "again-rules": ("guidance", "Only the guidance"),
}


def panel() -> dict[str, Any]:
    """Its controls by name, below the others."""
    p: dict[str, Any] = {}
    with gr.Row(visible=False, elem_id="bottom", equal_height=False) as p["bottom"]:
        with gr.Column(scale=11, min_width=420):
            p["recipe"] = gr.JSON(label="Recipe", max_height=200, elem_id="recipe")
        with gr.Column(scale=10, min_width=420):
            p["command"] = layout.command("command")
            p["python"] = layout.python("python")
            with gr.Row(elem_classes="tight"):
                p["download"] = gr.DownloadButton("Download", size="sm", elem_id="download")
                p["zip"], p["zipped"] = zipped.buttons("zip")
            with gr.Row(elem_classes="tight", elem_id="uses"):
                for name, (_, text) in AGAIN.items():
                    p[name] = gr.Button(text, size="sm", min_width=100, elem_id=name)
            p["to_bridge"] = gr.HTML(elem_id="to-bridge")
    p["selected"], p["at"] = gr.Textbox(visible="hidden"), gr.Number(visible="hidden")
    return p


class Chosen:
    """What its controls call, over the `Jobs` of one `Engine`."""

    def __init__(self, jobs: Jobs):
        self.jobs, self.engine = jobs, jobs.engine
        self.newest: dict[str, Path] = {}  # the folder that a session's gallery shows

    def select(self, request: gr.Request | None, paths: list[str], at: float | None) -> tuple[Any, ...]:
        """How the picture at a place was made; nothing where another run's pictures have come meanwhile.
        BOTTOM."""
        index = int(at or 0)
        if not 0 <= index < len(paths):
            return row(BOTTOM)
        with toasts():
            found = self.below(str(self._own(paths[index])))
        newest = self.newest.get(owner(request))
        return row(BOTTOM, **found) if newest in (None, Path(paths[index]).parent) else row(BOTTOM)

    def sure(self, paths: list[str], selected: str) -> tuple[Any, ...]:
        """After a choice was shown: back to the first, where the pictures of another run came before it.
        BOTTOM."""
        if not paths or selected in paths:
            return row(BOTTOM)
        with toasts():
            return row(BOTTOM, **self.below(str(self._own(paths[0]))))

    def _own(self, path: Any) -> Path:
        """A file that the page has shown: what the browser says may be anything. Raises ``ValueError`` for
        one that is not below the folder of outputs."""
        out = self.engine.out
        return path_of(out, str(path).removeprefix(f"{out}/"))

    def below(self, path: str) -> dict[str, Any]:
        """How a picture was made, its file, and the way to the bridges."""
        shelf = self.engine.shelf()
        recipe, command = restore.explain(path, shelf)
        # what a drawing was made from
        behind = [Path(path).with_name(n) for n in ("samples.csv", "samples.npz")]
        file = next((p for p in behind if p.is_file()), Path(path))
        return {
            "bottom": gr.update(visible=True),
            "recipe": gr.update(value=recipe, label=f"Recipe of {Path(path).name}"),
            "command": command,
            "python": restore.script(path, shelf),
            "download": gr.update(value=str(file), label=f"Download {file.name}"),
            "to_bridge": self._to_bridge(path, shelf),
            "selected": path,
        }

    def _item(self, path: str) -> Item | None:
        """What the index has of a picture's file."""
        file = Path(path).relative_to(self.engine.out).as_posix()
        wanted = Wanted(folder=file.rpartition("/")[0], binned=None)
        return next((item for item in self.engine.index.items(wanted) if item.file == file), None)

    def _to_bridge(self, path: str, shelf: Shelf) -> str:
        """A link to the Bridge page, where a bridge takes such pictures."""
        item = self._item(path)
        return library_html.bridge_link(item) if item and bridges_for(item.model, shelf) else ""

    def zip(self, path: str) -> str:
        """An archive of all files of the job that a picture is of."""
        with toasts():
            if not path or (item := self._item(str(self._own(path)))) is None:
                raise ValueError("generate something first, or choose a picture")
            return str(zipped.archive(self.jobs.result(item.job).folder))

    def again(self, path: str | None, tickets: dict[str, int], use: str = "every control") -> dict[str, Any]:
        """`dropped.apply` of a picture that the page has shown."""
        with toasts():
            return dropped.apply(self.engine, str(self._own(path)) if path else None, tickets, use)


def wire(p: dict[str, Any], c: Chosen) -> Any:
    """Its events; the one by which a picture is chosen."""
    for button, (use, _) in AGAIN.items():
        dropped.wire_apply(p, p[button], p["selected"], partial(c.again, use=use))
    zipped.wire(p["zip"], p["zipped"], c.zip, p["selected"])
    bottom = [p[name] for name in BOTTOM]
    # a held arrow passes many: the newest counts
    js, many = "async (paths) => [paths, await drift.at('gallery')]", {"trigger_mode": "always_last", **QUIET}
    picked = p["gallery"].select(c.select, [p["paths"], p["at"]], bottom, js=js, **many)
    picked.success(c.sure, [p["paths"], p["selected"]], bottom, queue=False, **QUIET)
    return picked
