"""What a job tells, on its way to the page."""

from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import gradio as gr

from studio.jobs.queue import Queue
from studio.runtime.signals import Stopped
from ui import html
from ui.toasts import toasts


def followed(
    queue: Queue, job: str, show: Callable[[Any], tuple[Any, ...]], *, preview: bool = False
) -> Iterator[tuple[Any, ...]]:
    """What ``show`` makes of a job's news (`Queue.watch`), until it ends: with its `Result`, with a `Stopped`
    where nothing was made, or with a `gr.Error`, which is raised after it was shown."""
    try:
        with toasts():
            try:
                yield from map(show, queue.watch(job, preview=preview))
            except Stopped as stopped:
                yield show(stopped)
    except gr.Error as error:  # the toast goes away, the reason stays
        yield show(error)
        raise


def words(news: Any, asked: str = "") -> str:
    """The line for news that are no picture: a place in the queue, words, how a run was stopped, or why it
    failed."""
    if isinstance(news, gr.Error):
        return html.alert(unescape(str(news.message)))
    return html.waiting(news, asked) if isinstance(news, int) else html.idle(str(news), asked)
