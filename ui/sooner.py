"""What gradio and Python do while a page begins that this page has no use of, left out."""

import contextlib
import gc
import inspect
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage: what is imported and built stays, and is not looked through later either."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


@contextlib.contextmanager
def _instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    found = vars(owner)[name]
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, found)


@contextlib.contextmanager
def without_interfaces() -> Iterator[None]:
    """For classes of gradio's and of the page's that are made meanwhile: gradio parses the source of each, to
    write a file of its interface beside it for editors, and leaves out one of which it finds none."""
    found = inspect.getfile

    def getfile(thing: Any) -> str:
        if str(getattr(thing, "__module__", "")).startswith(("gradio.", "ui.")):
            raise OSError("not needed here")
        return found(thing)

    with _instead(inspect, "getfile", getfile):
        yield


def load_gradio() -> None:
    """Import gradio."""
    with without_interfaces():
        import gradio  # noqa: F401


@contextlib.contextmanager
def built_once() -> Iterator[None]:
    """While a page is put together: gradio makes a whole server after each of its parts and one more when it
    is launched, which is the only one that is used."""
    from gradio.routes import App

    with _instead(App, "create_app", staticmethod(lambda *given, **named: None)):
        yield
