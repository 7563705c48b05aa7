"""The Bridge page: which models it offers, and what its button does."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from later import Later
from PIL import Image

import studio
from studio.data.arrays import Arrays, Data
from studio.runtime.recipes import read_recipe
from studio.runtime.seeds import seed_of
from ui.answers import BRIDGE
from ui.engine import Engine
from ui.jobs import Jobs

handling, gr = Later("ui.handlers"), Later("gradio")
ui_app, ui_bridge = Later("ui.app"), Later("ui.bridge")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[str]:
    home = tmp_path_factory.mktemp("bridges")
    values = np.random.default_rng(0).integers(0, 255, (16, 1, 8, 8), dtype=np.uint8)
    data = Data(
        "negatives",
        "image",
        (1, 8, 8),
        Arrays(values),
        source=Arrays(255 - values),
        source_name="negative",
        paired=True,
    )
    tree = {
        "name": "negatives",
        "backbone": {"name": "dit", "hidden_size": 16, "depth": 1, "num_heads": 2, "patch_size": 4},
        "objective": {"path": "i2sb", "parameterization": "displacement", "coupling": "paired"},
        "train": {
            "steps": 2,
            "batch_size": 8,
            "warmup": 1,
            "preview": False,
            "eval_every": 0,
            "ema": ["0.9"],
            "dtype": "fp32",
        },
        "sample": {"sampler": "bridge", "num_steps": 3, "guidance": ""},
    }
    studio.train(tree, out=home / "negatives", data=data, quiet=True)
    return (str(home),)


def test_bridges_are_offered_where_they_belong(roots: tuple[str], tmp_path: Path) -> None:
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    assert any(name.endswith("negatives") for name in engine.bridges()) and not any(
        name.endswith("negatives") for name in engine.cards()
    )
    assert "fashion-dit" in engine.cards() and "fashion-dit" not in engine.bridges()
    ui_app.build_app(engine)


def test_the_button_translates_and_tells(roots: tuple[str], tmp_path: Path) -> None:
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    name = next(n for n in engine.bridges() if n.endswith("negatives"))
    for file, size in (("a.png", 8), ("b.png", 20)):
        Image.new("L", (size, size), 90).save(tmp_path / file)
    (tmp_path / "c.png").write_bytes(b"no picture")
    inputs = [str(tmp_path / f) for f in ("a.png", "b.png", "c.png")]
    *_, (text, sheet, files, *_) = ui_bridge.run(Jobs(engine), name, inputs, 2, 0, True)
    assert "2 translated into" in text and "c.png: does not decode" in text
    assert (
        Image.open(sheet).width > 8 and all(Image.open(f).size == (8, 8) for f in files) and len(files) == 2
    )
    # a place that stays
    assert read_recipe(files[0])["source"] == str(Path(files[0]).parent / "sources" / "a.png")
    made = set(engine.out.glob("[!.]*"))
    for sources, bridge, words in (
        (inputs, None, "pick a bridge"),
        (inputs[2:], name, "none of 1 pictures can be translated"),
    ):
        rows = ui_bridge.press(Jobs(engine), None, bridge, sources, 2, 0, True)
        with pytest.raises(gr.Error, match=words):
            while True:
                last = next(rows)
        assert words in last[0] and last[4]["interactive"] is True
    assert set(engine.out.glob("[!.]*")) == made  # what was refused left nothing


def test_two_uploads_of_one_name_are_both_translated(roots: tuple[str], tmp_path: Path) -> None:
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    name = next(n for n in engine.bridges() if n.endswith("negatives"))
    inputs = []
    for place, file, shade in (
        ("1", "cat.png", 40),
        ("2", "cat.png", 200),
        ("3", "cat.jpg", 90),
        ("4", "Cat-2.png", 5),
        ("5", "before-after.png", 7),
    ):
        (tmp_path / place).mkdir()
        Image.new("L", (8, 8), shade).save(tmp_path / place / file)
        inputs.append(str(tmp_path / place / file))
    *_, (text, sheet, files, *_) = ui_bridge.run(Jobs(engine), name, inputs, 2, 0, True)
    assert [Path(f).name for f in files] == [
        "cat.png",
        "cat-2.png",
        "cat-3.png",
        "Cat-2-2.png",
        "before-after-2.png",
    ]
    assert (
        len({read_recipe(f)["source_hash"] for f in files}) == 5
        and "5 translated" in text
        and Path(sheet).name == "before-after.png"
    )
    assert read_recipe(files[0])["seed"] == seed_of(Path("cat.png"), 0)  # what the command line gives it


def test_a_translated_picture_goes_to_its_tab(roots: tuple[str], tmp_path: Path) -> None:
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    name = next(n for n in engine.bridges() if n.endswith("negatives"))
    Image.new("L", (8, 8), 90).save(tmp_path / "a.png")
    *_, (_, _, files, *_) = ui_bridge.run(Jobs(engine), name, [str(tmp_path / "a.png")], 4, 11, True)
    answer = handling.Handlers(Jobs(engine)).apply(files[0], {"sample": 1, "translate": 2})
    controls = {k: u["value"] for k, u in answer["controls"].items() if k in BRIDGE}
    assert (answer["form"], answer["ticket"]) == ("translate", 2)
    assert controls == {"bridge": name, "bridge-steps": 4, "bridge-seed": 11, "bridge-resize": True}
    shown = dict(zip(handling.FOUND, handling.Handlers(Jobs(engine)).look(files[0])))
    assert "Bridge" in shown["apply"]["value"] and shown["found_command"]["value"].startswith(
        f"studio translate {name}@2 "
    )


def test_stop_keeps_what_is_translated(roots: tuple[str], tmp_path: Path) -> None:
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    name = next(n for n in engine.bridges() if n.endswith("negatives"))
    for k in range(33):  # two batches
        Image.new("L", (8, 8), k).save(tmp_path / f"{k}.png")
    jobs = Jobs(engine)
    rows = ui_bridge.run(jobs, name, [str(tmp_path / f"{k}.png") for k in range(33)], 300, 0, True)
    next(rows)

    def stop() -> None:
        while len(list(engine.out.glob("*/*.png"))) < 32:
            time.sleep(0.01)
        jobs.queue.stop_all("local")

    threading.Thread(target=stop, daemon=True).start()
    *_, (text, _, files, *_) = rows
    assert "Stopped; the 32 translated of 33" in text and len(files) == 32


@pytest.mark.slow
def test_the_page_in_a_browser(browser: Any, roots: tuple[str], tmp_path: Path) -> None:
    """Two uploads of one name; nothing cut off, nothing dead; and a translated picture finds its way back to
    the page."""
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    app = ui_app.build_app(engine)
    _, url, _ = app.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **ui_app.launch_options(engine)
    )
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    uploads = []
    for k in (1, 2):
        (tmp_path / str(k)).mkdir()
        Image.new("L", (8, 8), 80 * k).save(tmp_path / str(k) / "cat.png")
        uploads.append(str(tmp_path / str(k) / "cat.png"))
    try:
        page.goto(f"{url}bridge")
        page.wait_for_selector("#bridge-card .chips")
        page.click("#bridge input")
        page.locator("#bridge [role=option]", has_text="negatives").first.click()
        page.set_input_files("#sources input[type=file]", uploads)
        page.fill("#bridge-steps input", "4")
        page.fill("#bridge-seed input", "11")
        page.wait_for_function("document.querySelector('#sources').innerText.split('cat').length == 3")
        page.click("#translate")
        page.wait_for_function("document.querySelector('#bridge-status').innerText.includes('2 translated')")
        page.wait_for_function("document.querySelector('#bridge-sheet img')?.naturalWidth > 8")
        assert (
            "cat-2" in page.inner_text("#translated")
            and page.is_enabled("#translate")
            and page.is_disabled("#bridge-stop")
        )
        for width in (390, 768, 1400):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(150)
            box = page.locator("#bridge-sheet img").bounding_box()
            assert (
                box["x"] >= 0
                and box["x"] + box["width"] <= width
                and box["width"] >= 40
                and box["height"] >= 40
            ), (width, box)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        assert page.locator("button[aria-label*=hare], button[title*=hare]").count() == 0
        page.goto(url)
        page.wait_for_selector("#card .chips")
        page.set_input_files("#drop input[type=file]", str(next(engine.out.glob("*/cat-2.png"))))
        page.wait_for_selector("#apply")
        assert "Bridge" in page.inner_text("#apply") and "studio translate" in page.inner_text(
            "#found-command"
        )
        page.click("#apply")
        page.wait_for_selector("#bridge-seed", state="visible")
        page.wait_for_function("document.querySelector('#bridge-seed input').value == '11'")
        assert page.input_value("#bridge-steps input") == "4" and page.input_value("#bridge input").endswith(
            "negatives"
        )
    finally:
        page.close()
        app.close()
