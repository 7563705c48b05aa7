"""The page as a person meets it: seconds in a real Chromium, of a server in a process of its own.

- ``first_page_seconds``: from the start of the process until the form shows a model; at most 8.
- ``first_picture_seconds``: from a click on Generate, with a model that is not loaded yet and its defaults,
  until its pictures are shown; at most 6.
- ``click_to_stop_steps``: solver steps that were begun and done after Stop was clicked; at most 1.
- ``switch_seconds``: from the choice of another model until the form is its own, while a run goes on and the
  model was used before; at most 0.3.
- ``preview_share``: the share of a run's time that its live preview takes; below 0.05.
- ``library_25k_seconds``: from opening the Library over an index of 25,000 pictures, nothing of it in the
  browser's cache, until all thumbnails in the window are shown; at most 1. Beside it: until the page answers
  to clicks, and until the next page of thumbnails is shown after a click.

Each measure is one function in `MEASURES` that returns figures by name; ``--only`` runs some. ``--quick`` has
fewer repeats.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backbones.host import instructions, model_name
from benchmarks.common import finish, parser_of
from benchmarks.ui_create import first, preview, stop, switch
from benchmarks.ui_library import library

MEASURES: dict[str, Callable[[Any, Path, bool], dict[str, float]]] = {
    "first": first,
    "stop": stop,
    "switch": switch,
    "preview": preview,
    "library": library,
}


def options() -> argparse.Namespace:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--only", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    return parser.parse_args()


def main() -> None:
    from playwright.sync_api import sync_playwright

    asked = options()
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise SystemExit("there is no Chromium here (Debian: apt-get install chromium)")
    print(f"host: {model_name()} ({instructions()}), {len(os.sched_getaffinity(0))} cores for this")
    found: dict[str, float] = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        print(f"browser: Chromium {browser.version}")
        for name in asked.only:
            with tempfile.TemporaryDirectory() as home:
                found |= MEASURES[name](browser, Path(home), asked.quick)
        browser.close()
    for name, seconds in found.items():
        print(f"  {name:<32}{seconds:8.2f}")
    finish(found)


if __name__ == "__main__":
    main()
