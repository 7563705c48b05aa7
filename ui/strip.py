"""What stands above every page: where one is, what the device does, and the way to stop it."""

from pathlib import Path
from typing import Any

import gradio as gr

from studio.jobs.queue import Live
from studio.jobs.run import Update
from ui import html
from ui.events import QUIET
from ui.jobs import Jobs

EVERY = 1.0  # seconds


def strip(page: gr.Blocks, jobs: Jobs, form: str = "sample") -> gr.Textbox:
    """The strip of a page, inside of its blocks; the hidden text that holds the tab's own job of this
    ``form``."""
    gr.Navbar(main_page_name="Create")
    gr.HTML(html.header(jobs.engine.place()), elem_id="header")
    job = gr.Textbox(visible="hidden", elem_id="job")
    with gr.Row(elem_id="strip", equal_height=True):
        said = gr.HTML(told([], ""), elem_id="running")
        stop = gr.Button("Stop", size="sm", variant="stop", scale=0, interactive=False, elem_id="strip-stop")
    page.load(None, None, job, js=f"() => drift.job({form!r})", **QUIET)
    job.change(None, job, None, js=f"(job) => drift.job_is(job, {form!r})", **QUIET)

    def look(mine: str) -> tuple[str, Any]:
        line = jobs.line()
        return told(line, mine), gr.update(interactive=bool(line))

    gr.Timer(EVERY).tick(look, job, [said, stop], queue=False, **QUIET)
    stop.click(lambda mine: jobs.stop_first(mine), job, None, queue=False, **QUIET)
    return job


def told(line: list[Live], mine: str) -> str:
    """The running job with its bar and the time that is left, and the place of one's own."""
    if not line:
        return '<div class="running" role="status">Nothing runs</div>'
    first, names = line[0], [live.job.id for live in line]
    words, bar = f"{Path(first.job.model).name}: it begins", ""
    if isinstance(news := first.news, Update):
        share = 100 * news.done / max(1, news.total)
        left = news.seconds * (news.total - news.done) / max(1, news.done)
        words = f"{Path(first.job.model).name}: step {news.done} of {news.total}"
        words += f", about {left:.0f} s left" if left else ""
        bar = html.bar(share)
    if mine in names:
        words += (
            " · yours" if mine == names[0] else f" · yours is number {names.index(mine) + 1} in the queue"
        )
    elif len(line) > 1:
        words += f" · {len(line) - 1} more in the queue"
    return f'<div class="running" role="status">{html.text(words)}{bar}</div>'
