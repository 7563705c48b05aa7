"""How the page's own events are bound and answered."""

import json
from typing import Any

import gradio as gr

# no progress of gradio's own, shown nor counted: the browser would count time at every frame for each output
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}


def row(names: tuple[str, ...], **changes: Any) -> tuple[Any, ...]:
    """One value per name; what is not mentioned stays as it is."""
    unknown = set(changes) - set(names)
    if unknown:
        raise KeyError(f"got {', '.join(sorted(unknown))}, expected some of {', '.join(names)}")
    return tuple(changes.get(name, gr.skip()) for name in names)


def applied(event: Any, p: dict[str, Any], form: str, names: tuple[str, ...], answer: Any) -> Any:
    """After an event that has given an answer: the controls take from it what they still want."""
    js = f"(answer) => drift.apply({json.dumps(form)}, answer, {json.dumps(names)})"
    after = event.success(None, answer, [p[name] for name in names], js=js, **QUIET)
    after.then(None, js=f"() => drift.done({json.dumps(form)})", **QUIET)
    event.failure(None, js=f"() => drift.fail({json.dumps(form)})", **QUIET)
    return after
