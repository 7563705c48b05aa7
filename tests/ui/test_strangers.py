"""Pictures of strangers on the page: looked at without opening what they name, and refused in plain words
where no run could follow."""

import json
import re
import shutil
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from later import Later
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import studio.checkpoints.find
import studio.runtime.pretrained
from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from studio.runtime.recipes import KEY
from ui.engine import Engine
from ui.jobs import Jobs

handling, dropped, gr = Later("ui.handlers"), Later("ui.dropped"), Later("gradio")
NAMES = re.compile(r"Error|Exception|Traceback|Bomb|__")
PLAIN = {
    "model": "M",
    "model_hash": "0" * 16,
    "weights": "raw",
    "num_steps": 4,
    "sampler": "euler",
    "guidance": "",
    "dtype": "fp32",
    "seed": 1,
    "label": 0,
}


def crafted(path: Path, text: str, *, packed: bool = False) -> Path:
    info = PngInfo()
    info.add_text(KEY, text, zip=packed)
    Image.new("L", (4, 4)).save(path, pnginfo=info)
    return path


def look(handlers: Any, path: Path) -> dict[str, Any]:
    return dict(zip(dropped.FOUND, dropped.look(handlers.engine, str(path))))


@pytest.fixture
def handlers(shelf: Any, tmp_path: Path) -> Any:
    return handling.Handlers(Jobs(Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")))


def huge(path: Path) -> Path:
    """A PNG that says it has 900 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (30_000).to_bytes(4, "big")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + size + b"\x08\x00\x00\x00\x00")
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": 10**9},
        {"num_steps": -5},
        {"num_steps": 2.5},
        {"seed": -3},
        {"seed": list(range(300_000))},
        {"dtype": "int3"},
        {"label": 10**30},
        {"conditions": {"a": float("nan")}},
        {"conditions": {"a": float("inf")}},
        {"more": float("-inf")},
        {"sampler": ["euler"]},
        {"model": None},
    ],
    ids=lambda change: str(change)[:30],
)
def test_what_no_run_can_follow_is_refused_in_plain_words(
    handlers: Any, shelf: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    shown = look(
        handlers, crafted(tmp_path / "odd.png", json.dumps({**PLAIN, "model": shelf.pictures, **change}))
    )
    assert (
        "note bad" in shown["found_note"]
        and "expected" in shown["found_note"]
        and not NAMES.search(shown["found_note"])
    )
    assert shown["apply"]["visible"] is False and len(shown["found_note"]) < 400


def test_texts_and_sizes_beyond_all_bounds_are_refused(handlers: Any, tmp_path: Path) -> None:
    deep = '{"a":' * 100_000
    files = [
        crafted(tmp_path / "long.png", json.dumps({**PLAIN, "more": "x" * 5_000_000})),
        crafted(tmp_path / "packed.png", json.dumps({**PLAIN, "more": "x" * 5_000_000}), packed=True),
        crafted(tmp_path / "deep.png", deep),
        crafted(tmp_path / "nested.png", '{"a": ' + "[" * 60 + "]" * 60 + "}"),
        crafted(tmp_path / "digits.png", '{"num_steps": ' + "9" * 5000 + "}"),
        crafted(tmp_path / "quotes.png", '{"a": "' + '\\"' * 500_000),
        huge(tmp_path / "huge.png"),
    ]
    for file in files:
        note = look(handlers, file)["found_note"]
        assert "note bad" in note and file.name in note and not NAMES.search(note) and len(note) < 400, file


def test_a_picture_opens_no_model_from_elsewhere(
    handlers: Any, shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its own model nor one that its guidance borrows; its recipe is shown all the same."""
    opened: list[str] = []
    locate = studio.checkpoints.find.locate
    monkeypatch.setattr(
        studio.checkpoints.find, "locate", lambda name: (opened.append(str(name)), locate(name))[1]
    )
    for model in ("hf:nobody/nothing", "/mnt/stranger/model", "../elsewhere@4"):
        shown = look(handlers, crafted(tmp_path / "far.png", json.dumps({**PLAIN, "model": model})))
        assert (
            shown["found_recipe"]["value"]["model"] == model
            and "not here" in shown["found_note"]
            and shown["apply"]["visible"] is False
        )
    lent = {**PLAIN, "model": shelf.pictures, "guidance": "prior=hf:nobody/nothing,cfg=2"}
    path = crafted(tmp_path / "lent.png", json.dumps(lent))
    assert "guidance was left out" in look(handlers, path)["found_note"]
    answer = dropped.apply(handlers.engine, str(path), {"sample": 1, "translate": 1})
    assert answer["controls"]["guidance"]["value"] == "" and answer["controls"]["num_steps"]["value"] == 4
    assert not [name for name in opened if "nobody" in name or "stranger" in name or "elsewhere" in name]


def test_the_page_opens_no_model_that_it_does_not_list(
    handlers: Any, shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is named, and also where guidance borrows it."""
    engine, real = handlers.engine, Path(shelf.pictures)
    elsewhere = Path(shutil.copytree(real, tmp_path / "elsewhere"))
    (inside := real.parent / "inside").mkdir()
    (inside / "link").symlink_to(tmp_path)
    monkeypatch.setattr(studio.runtime.pretrained, "fetch", lambda *a: pytest.fail("asked the hub"))
    away = ["hf:nobody/nothing", str(elsewhere), f"{elsewhere}@4", f"{inside}/link/elsewhere", "~nobody/x"]
    away += [f"{inside}/link/../elsewhere", f"{real}/..", f"{real}/../../runs/../../elsewhere", "x" * 5000]
    for name in away:
        asked = Recipe(name, seeds="0", num_steps=1, sampler="euler")
        with pytest.raises(ValueError, match="one that this page lists"):
            engine.begin(asked)
        lent = replace(asked, model=shelf.pictures, guidance=f"autoguidance(scale=2,model={name})")
        with pytest.raises(ValueError, match="one that this page lists"):
            engine.begin(lent)
        with pytest.raises(handling.gr.Error, match="one that this page lists"):
            handlers.choose({"ticket": 1, "model": name})
    own = f"autoguidance(scale=2,model={shelf.pictures}@2)"
    assert engine.begin(Recipe(shelf.pictures, seeds="0", num_steps=1, guidance=own)).finished == 0
    for name in (f"{shelf.pictures}@2", f"{real.parent}/./points", f"{real}/../points", "fashion-dit"):
        assert engine.card(name)


def test_stop_keeps_the_batches_that_are_finished(handlers: Any, shelf: Any) -> None:
    flag = threading.Event()
    asked = Recipe(shelf.pictures, seeds="0-149", num_steps=3, sampler="euler")
    for news in handlers.engine.run(asked, flag, preview=False, every=0.0):
        if not isinstance(news, Result) and news.done == 7:  # in the third batch of 64
            flag.set()
    assert (
        isinstance(news, Result)
        and news.asked == 150
        and [r["seed"] for r in news.recipes] == list(range(128))
    )
    assert "128 finished of 150 are saved" in news.stopped and all(p.is_file() for p in news.files)


def test_a_place_in_the_line_is_told(handlers: Any, shelf: Any) -> None:
    values = [*vars(Recipe(shelf.pictures, seeds="0", num_steps=1, sampler="euler")).values(), False]
    long = Recipe(shelf.pictures, seeds="0", num_steps=100_000, sampler="euler")
    before = [handlers.jobs.sample(long, who) for who in ("another", "third")]
    run = handlers.generate(None, *values)
    status = handling.GOING.index("status")
    assert "Place 2 in the queue: 2 runs are before yours" in [next(run), next(run)][-1][status]
    for job in before:
        handlers.jobs.queue.stop(job)
    assert "seeds 0" in [row[status] for row in run][-1]


def test_only_pictures_of_the_page_are_chosen_whatever_the_browser_says(
    handlers: Any, tmp_path: Path
) -> None:
    outside = crafted(tmp_path / "outside.png", json.dumps(PLAIN))
    for path in (str(outside), f"{handlers.engine.out}/../outside.png", "/etc/passwd", "", ".jobs/index.db"):
        with pytest.raises(gr.Error, match="expected one below"):
            handlers.chosen.select(None, [path], 0)
        if path:
            with pytest.raises(gr.Error, match="expected one below"):
                handlers.chosen.again(path, {"sample": 1, "translate": 1})
