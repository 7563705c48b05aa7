"""Components of gradio without the files of interfaces that gradio writes beside them for editors: it parses
the source of each, and leaves out a class of which it finds none."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_interfaces() -> Iterator[None]:
    """For classes of gradio's and of the page's that are made meanwhile."""
    found = inspect.getfile

    def getfile(thing: Any) -> str:
        if str(getattr(thing, "__module__", "")).startswith(("gradio.", "ui.")):
            raise OSError("not needed here")
        return found(thing)

    inspect.getfile = getfile  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = found
