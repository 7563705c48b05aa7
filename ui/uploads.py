"""Controls that take a file as it was sent. What cannot be opened, or is of another kind, is told by whoever
the file is for, in words and at its field; gradio's own look at it, which ends in a message of its own, is
left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from studio.sampling.array_files import SUFFIXES
from ui.sooner import without_interfaces

PICTURES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"]
ARRAYS = list(SUFFIXES)


with without_interfaces():

    class Picture(gr.Image):
        """A picture, as the path of the file."""

        is_template = True  # the browser shows the component that it is made of

        def preprocess(self, payload: Any) -> Any:
            return _paths(payload)[0] if payload else None

    class File(gr.File):
        """A file as its path, several as a list."""

        is_template = True

        def preprocess(self, payload: Any) -> Any:
            found = _paths(payload) if payload else None
            return found if self.file_count == "multiple" or not found else found[0]


def _paths(sent: Any) -> list[str]:
    """Where uploads lie; gradio has made sure that they were uploaded."""
    several = getattr(sent, "root", sent)
    return [one.path for one in (several if isinstance(several, list) else [several])]


def picture(**options: Any) -> gr.Image:
    """A picture, as the path of the file."""
    return Picture(type="filepath", image_mode=None, **options)


def file(kinds: Sequence[str], **options: Any) -> gr.File:
    """A file that a chooser of files looks for by these endings, as its path."""
    return File(file_types=list(kinds), type="filepath", **options)


def files(kinds: Sequence[str], **options: Any) -> gr.File:
    """Several of them, as a list of paths."""
    return file(kinds, file_count="multiple", **options)


def named(words: str, *files: str | Path | None) -> str:
    """A message with the names of uploads instead of where the server keeps them."""
    for path in files:
        words = words.replace(str(path), Path(path).name) if path else words
    return words
