"""What is wrong with a line of the form, said at its field while it is typed; what a run is refused for is
said once more, where its status stands."""

import re
from collections.abc import Callable

from studio.checkpoints.find import Card
from studio.jobs.recipe import Recipe
from ui import conditions, html


def seeds(line: str | None) -> str:
    """Nothing for seeds that a run can have, the reason otherwise."""

    def check(text: str) -> str:
        Recipe("any", seeds=text).check()
        return text

    return checked(check, line or "", quiet=True)


def asked(find: Callable[[str], Card], model: str | None, line: str | None) -> str:
    """The same of a line of conditions; ``find`` refuses models that the page does not hold."""

    def check(text: str) -> str:
        conditions.understood(find, model, text)
        return text

    return checked(check, line or "", quiet=True)


def checked(check: Callable[[str], str], text: str, *, quiet: bool) -> str:
    """The reason where the text is not understood; how it was, where that is not what was typed."""
    try:
        canonical = check(text.strip())
    except (ValueError, OSError, RecursionError) as error:
        plain = "this line is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return html.note(plain, bad=True)
    if quiet or canonical == re.sub(r"\s|(?<=\d)\.0+(?!\d)", "", text):
        return ""
    return html.note(f"understood as {canonical}")
