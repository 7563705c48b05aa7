"""The pictures of this folder: every page with something on it, light, dark and on a phone.

    python docs/ui/shots.py [PAGE ...]

Samples with the bundled models, which takes a minute or two, and drives the Chromium of this machine
(``pip install 'drift-studio[dev]'``). The pictures keep 256 colours, so that they stay small.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from studio.jobs.recipe import Recipe
from studio.jobs.translation import Translation
from studio.model import catalog
from ui.app import build_app, launch_options
from ui.engine import Engine
from ui.jobs import Jobs

HERE = Path(__file__).parent
KINDS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}
BRIDGE = "fashion-restore"


def made(jobs: Jobs) -> dict[str, str]:
    """For each page the address that shows what was made for it, and the element that says so."""
    examples = [str(path) for path in catalog.examples_of(jobs.engine.bridges()[BRIDGE])]
    translated = jobs.translate(Translation(BRIDGE), examples, None, "shots")
    sampled = [
        jobs.sample(Recipe("moses-graph-dit", seeds="0-5"), "shots"),
        jobs.sample(Recipe("fashion-dit", seeds="10-49"), "shots"),
        jobs.sample(Recipe("fashion-dit", seeds="0-9"), "shots"),
    ]
    for job in (translated, *sampled):
        list(jobs.queue.watch(job))
    index = jobs.engine.index
    newest = [item.id for item in index.items() if item.job == sampled[-1]]
    index.mark(newest[3:6], star=True)
    return {
        "create": f"?job={sampled[-1]}",
        "bridge": f"bridge?job={translated}",
        "library": f"library?item={newest[8]}",
    }


READY = {
    "create": "#gallery .thumbnail-item, #guidance-0-0",
    "bridge": "#bridge-pair .pair",
    "library": "#large .facts",
}


def main(pages: list[str]) -> None:
    engine = Engine(["runs"], Path(tempfile.mkdtemp()) / "out", device="cpu", dtype="fp32")
    jobs = Jobs(engine)
    shown = made(jobs)
    app = build_app(engine, jobs)
    _, url, _ = app.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options(engine)
    )
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in pages or shown:
            for kind, options in KINDS.items():
                page = browser.new_page(**options)
                page.goto(f"{url}{shown[name]}")
                for ready in READY[name].split(", "):
                    page.wait_for_selector(ready, timeout=120_000)
                page.wait_for_timeout(2000)  # pictures come in, and rings of loading go
                page.screenshot(path=HERE / f"{name}-{kind}.png")
                page.close()
                small(HERE / f"{name}-{kind}.png")
        browser.close()
    app.close()
    jobs.queue.close()


def small(path: Path) -> None:
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
