"""The Library over many pictures."""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.ui_server import WINDOW, served

SHOWN = """() => {
  let before = false;  // whether they stood in the frame before this one, which has been painted

  const look = () => {
    const inside = [...document.querySelectorAll(".things li img")]
      .filter((image) => image.getBoundingClientRect().top < innerHeight);
    const done = inside.length > 0 && inside.every((image) => image.complete && image.naturalWidth > 0);
    if (done && before) window.shown ??= performance.now();
    before = done;
    const taken = !document.querySelector("#early") && document.querySelector("#grid [data-id]");
    if (taken) window.ready ??= performance.now();
    if (window.ready === undefined || window.shown === undefined) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""

TURNED = """(first) => {
  const inside = [...document.querySelectorAll(".things li img")].slice(0, 12);
  return document.querySelector(".things [data-id]").dataset.id === first
    && inside.every((image) => image.complete && image.naturalWidth > 0);
}"""


def many_pictures(out: Path, count: int) -> None:
    """An index of ``count`` pictures of 28 × 28 in folders of a thousand; a hundred are different, the others
    links to them."""
    import numpy as np
    from PIL import Image

    from studio.jobs import Index, Item, Job
    from studio.sampling.samples import png_bytes

    draws = np.random.default_rng(0)
    first = out.parent / "first"
    first.mkdir(parents=True)
    out.mkdir()
    for k in range(100):
        pixels = draws.integers(0, 256, (28, 28), dtype=np.uint8)
        recipe = dict.fromkeys(("guidance", "weights", "dtype"), "auto") | {
            "model": "fashion-dit",
            "seed": k,
            "class": f"class {k % 10}",
            "num_steps": 20,
            "sampler": "ab2",
        }
        (first / f"{k}.png").write_bytes(png_bytes(Image.fromarray(pixels), recipe))
    items = []
    for k in range(count):
        folder = out / f"{k // 1000:03d}"
        folder.mkdir(exist_ok=True)
        os.link(first / f"{k % 100}.png", folder / f"{k:06d}.png")
        items.append(
            Item(
                f"i{k:06d}",
                f"job-{k // 1000}",
                f"{folder.name}/{k:06d}.png",
                "image",
                "fashion-dit",
                f"class {k % 10}",
                k,
                1e9 + k,
            )
        )
    index = Index(out)
    for k in range(0, count, 1000):
        index.add(
            Job(f"job-{k // 1000}", "sample", "fashion-dit", {}, 1e9 + k, "done", folder=f"{k // 1000:03d}")
        )
    index.keep(items)
    index.close()


def library(browser: Any, home: Path, quick: bool) -> dict[str, float]:
    many_pictures(home / "out", 25_000)
    (home / "models").mkdir()
    shown, ready, turned = [], [], []
    with served(home / "out", home / "models") as page:
        for _ in range(3 if quick else 9):
            context = browser.new_context(viewport=WINDOW)  # with a cache of its own
            tab = context.new_page()
            tab.add_init_script(f"({SHOWN})()")
            tab.goto(f"{page.url}/library", wait_until="commit")
            tab.wait_for_function("window.ready !== undefined && window.shown !== undefined", timeout=60_000)
            shown.append(tab.evaluate("window.shown") / 1000)
            ready.append(tab.evaluate("window.ready") / 1000)
            for number, first in ((2, "i024939"), (3, "i024879")):
                began = time.perf_counter()
                tab.click(f".things .pages a[data-page='{number}']")
                tab.wait_for_function(TURNED, arg=first)
            turned.append(time.perf_counter() - began)  # of the second, when the page has come to rest
            context.close()
    print(f"  library: {' '.join(f'{s:.2f}' for s in shown)} s until thumbnails are shown", file=sys.stderr)
    return {
        "library_25k_seconds": statistics.median(shown),
        "library_25k_ready_seconds": statistics.median(ready),
        "library_25k_turn_seconds": statistics.median(turned),
    }
