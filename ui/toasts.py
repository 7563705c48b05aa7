"""Errors on the page: what a user can mend is said in the words that the studio has for it, and no text names
an exception."""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr

from studio.jobs import limits
from studio.runtime.signals import Stopped

BUG = "Something went wrong that is not of your making; the terminal in which the page runs shows what."
MEMORY = "The device ran out of memory; ask for fewer seeds at once or a lower precision."


@contextmanager
def toasts() -> Iterator[None]:
    """Errors that name what is wrong become toasts; of a bug the terminal has the traceback. `Stopped` and
    toasts go through."""
    try:
        yield
    except (gr.Error, Stopped):
        raise
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise gr.Error(MEMORY, print_exception=False) from None
        if isinstance(error, ValueError | OSError | ImportError) and not isinstance(error, UnicodeError):
            raise gr.Error(escape(limits.words(str(error)), quote=False), print_exception=False) from None
        if isinstance(error, RecursionError):
            raise gr.Error("This text is nested too deeply.", print_exception=False) from None
        raise gr.Error(BUG, print_exception=True) from error


def owner(request: gr.Request | None, room: str = "") -> str:
    """The browser session that asks; of another tab than Sample with its name."""
    return (getattr(request, "session_hash", None) or "local") + room
