"""All files of a job as one archive: the button, and what it gives."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from ui.events import QUIET


def buttons(name: str) -> tuple[gr.Button, gr.DownloadButton]:
    """The one that is pressed, and the hidden one that holds the archive when it has come."""
    pressed = gr.Button("Download all (zip)", size="sm", elem_id=name)
    return pressed, gr.DownloadButton("Download", elem_id=f"{name}ped", elem_classes="zipped")


def wire(pressed: gr.Button, held: gr.DownloadButton, make: Callable[[str], str], of: Any) -> None:
    """``make`` is called with the value of ``of``."""
    packed = pressed.click(make, of, held, **QUIET)
    packed.success(None, js=f"() => drift.download({held.elem_id!r})", **QUIET)


def archive(folder: Path) -> Path:
    """A zip of all that lies in a job's folder, where the page keeps what it may give away and forget.
    Pictures are packed already, so they are stored as they are."""
    home = Path(get_upload_folder())
    home.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=home)) / f"{folder.name}.zip"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                out.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    return made
