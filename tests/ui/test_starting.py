"""Start from a picture, on the page: what is shown of it, what a run is given, how the form gets it back."""

import shutil
from pathlib import Path
from typing import Any

import driving
import numpy as np
import pytest
from later import Later
from PIL import Image

from studio.jobs.recipe import Recipe
from studio.runtime.recipes import read_recipe
from ui.answers import CONTROLS
from ui.engine import Engine
from ui.jobs import Jobs

handling, starting, dropped = Later("ui.handlers"), Later("ui.starting"), Later("ui.dropped")
giving = Later("ui.given")
gr, clients = Later("gradio"), Later("gradio_client")
TICKETS = {"sample": 3, "translate": 4}


@pytest.fixture
def page(shelf: Any, tmp_path: Path) -> Any:
    return handling.Handlers(Jobs(Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")))


@pytest.fixture
def cat(tmp_path: Path) -> str:
    """An upload, where the browser's copy would lie."""
    (tmp_path / "upload").mkdir()
    pixels = np.random.default_rng(3).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "upload" / "cat.png")
    return str(tmp_path / "upload" / "cat.png")


def brush(box: tuple[int, int, int, int] = (0, 0, 160, 320)) -> dict[str, Any]:
    """What is painted in the editor, as it hands it over."""
    layer = Image.new("RGBA", (320, 320))
    layer.paste((20, 184, 166, 255), box)
    return {"layers": [layer]}


def shown(found: Any) -> dict[str, Any]:
    """What an answer of the part sets, by name."""
    found = {k: v for k, v in zip(starting.SHOWN, found) if v != gr.skip()}
    if "drawn" in found:  # None where nothing can be painted
        found["drawn"] = found["drawn"].get("value") if found["drawn"]["visible"] else None
        assert found.pop("mask-file")["visible"] == (
            found["drawn"] is not None
        )  # either says what may change
    return found


def pressed(page: Any, model: str, *given: Any, seeds: str = "4") -> dict[str, Any]:
    """What Generate shows in the end."""
    settings = Recipe(model, seeds=seeds, num_steps=4, sampler="euler", guidance="", dtype="fp32")
    values = [vars(settings)[name] for name in CONTROLS]
    numbers = (None,) * (len(starting.GIVEN) + len(giving.NUMBERS) - len(given))
    (job, *_), *_ = page.generate(None, *values, *given, *numbers, False)
    return dict(zip(handling.SHOWN, page.shown(None, job)))


def filled(page: Any, answer: dict[str, Any]) -> dict[str, Any]:
    """The part after an answer has set the form; the strength with it."""
    controls = answer["controls"]
    found = shown(page.starting.fill(controls["started"]["value"], None, "whole", None))
    return found | {"strength": controls.get("strength", {}).get("value")}


def test_models_that_cannot_do_not_show_it(page: Any, shelf: Any) -> None:
    for model, can in ((shelf.pictures, True), (shelf.points, False)):
        answer = page.choose({"ticket": 7, "model": model, "rest": ""})
        assert answer["controls"]["from-picture"]["visible"] is can
        assert "strength" not in answer["controls"]  # what was chosen stays


def test_what_the_model_sees_is_told_and_painted_on(page: Any, shelf: Any, cat: str, tmp_path: Path) -> None:
    part = page.starting
    assert shown(part.sent(shelf.pictures, None, "part")) == {"init-note": "", "drawn": None}
    whole = shown(part.sent(shelf.pictures, cat, "whole"))
    assert "8 × 8, grey" in whole["init-note"] and whole["drawn"] is None
    turned = shown(part.turned(shelf.pictures, cat, "part", 0.6, brush()))
    assert turned["strength"] == 1.0 and turned["drawn"]["background"].size == (320, 320)
    assert turned["drawn"]["layers"][0].getchannel("A").getbbox() == (0, 0, 160, 320)  # it stays
    assert "strength" not in shown(part.turned(shelf.pictures, cat, "part", 0.35, None))  # it was chosen
    (tmp_path / "upload" / "text.png").write_text("no picture")
    found = shown(part.sent(shelf.pictures, str(tmp_path / "upload" / "text.png"), "part"))
    assert "text.png does not decode" in found["init-note"] and found["drawn"] is None
    picked = {"ticket": 1, "model": shelf.pictures}  # another model: the picture that is there, as it sees it
    assert shown(part.fill(picked, cat, "part", brush()))["drawn"]["layers"]
    assert shown(part.fill({**picked, "model": shelf.points}, cat, "part", brush())) == {}


def test_a_run_is_given_what_stands_there(page: Any, shelf: Any, cat: str) -> None:
    """And nothing of it where the model cannot."""
    found = pressed(page, shelf.pictures, 0.5, cat, "part", brush(), seeds="4-5")
    asked, recipe = str(found["status"]), read_recipe(found["paths"][0])
    assert all(words in asked for words in ("from cat.png", "strength 0.5", "mask mask"))
    assert recipe["strength"] == 0.5 and "--mask" in found["command"] and "mask=" in found["python"]
    start = np.asarray(Image.open(recipe["init"]))
    for path in found["paths"]:
        made = np.asarray(Image.open(path))
        assert np.array_equal(made[:, 4:], start[:, 4:]) and (made[:, :4] != start[:, :4]).any()
    with pytest.raises(gr.Error, match="paint over what may change"):
        pressed(page, shelf.pictures, 1, cat, "part", None)
    assert "init" not in read_recipe(pressed(page, shelf.points, 0.5, cat, "part", brush())["paths"][0])
    assert "strength" not in read_recipe(pressed(page, shelf.pictures, 0.5, None, "part", None)["paths"][0])


def test_a_picture_made_so_gives_the_form_back(page: Any, shelf: Any, cat: str, tmp_path: Path) -> None:
    """From itself, a link, the job's own tab and the file dropped again, to the same bytes; where the sources
    are gone it is said."""
    found = pressed(page, shelf.pictures, 0.75, cat, "part", brush((0, 0, 230, 90)))
    picture, index = Path(found["paths"][0]), page.engine.index
    job = index.jobs()[0]
    copy = shutil.copyfile(picture, tmp_path / "upload" / "again.png")
    sent = {"path": "/somewhere/cat.png", "url": "x"}
    kept = {"model": shelf.pictures, "strength": 0.75, "init": sent}
    ways = {
        "itself": page.chosen.again(str(picture), TICKETS),
        "dropped": dropped.apply(page.engine, str(copy), TICKETS),
        "item": page.open(1, {"item": index.items()[0].id}),
        "job": page.open(1, {"job": job.id}),
        "reload": page.open(1, {"form": kept, "own": job.id}),
    }
    for name, answer in ways.items():
        form = filled(page, answer)
        assert form["way"] == "part" and form["strength"] == 0.75 and Path(form["init"]).is_file(), name
        assert form["from-picture"]["open"] is True
        again = pressed(page, shelf.pictures, 0.75, form["init"], form["way"], form["drawn"])
        mine, theirs = (np.asarray(Image.open(read_recipe(p)["mask"])) for p in (again["paths"][0], picture))
        assert np.array_equal(mine, theirs), name
        assert np.array_equal(np.asarray(Image.open(again["paths"][0])), np.asarray(Image.open(picture)))
    for other in ({**kept, "init": None}, {**kept, "init": {"path": "/somewhere/dog.png"}}):
        assert filled(page, page.open(1, {"form": other, "own": job.id}))["init"] is None  # it was taken away
    shutil.rmtree(picture.parent / "sources")
    with pytest.warns(UserWarning, match="another picture, 'cat.png', which does not lie here.*paint over"):
        form = filled(page, page.chosen.again(str(picture), TICKETS))
    assert form["init"] is None and form["way"] == "part" and form["strength"] == 0.75
    note = dict(zip(dropped.FOUND, dropped.look(page.engine, str(copy))))["found_note"]
    assert "does not lie here" in note


def test_links_and_strangers_name_no_file(page: Any, shelf: Any) -> None:
    said = {"model": shelf.pictures, "init": "cat.png", "strength": 0.3}
    with pytest.warns(UserWarning, match="another picture, 'cat.png'"):
        form = filled(page, page.open(1, {"recipe": said}))
    assert form["init"] is None and form["strength"] == 0.3
    with pytest.warns(UserWarning, match="expected the name of an upload"):
        page.open(1, {"recipe": said | {"init": "../../etc/passwd"}})
    for file in ("/etc/passwd", "../x", ".jobs/index.db"):
        with pytest.raises(gr.Error, match="expected one below"):
            page.starting.fill({"model": shelf.pictures, "init": file, "mask": ""}, None, "whole", None)
    plain = filled(page, page.open(1, {"recipe": {"model": shelf.pictures}}))
    assert plain["init"] is None and plain["strength"] is None and "from-picture" not in plain


def test_scripts_send_files(serving: tuple[str, Jobs], shelf: Any, cat: str, tmp_path: Path) -> None:
    client = clients.Client(serving[0], verbose=False)
    white = Image.new("L", (8, 8))
    white.paste(255, (0, 0, 4, 8))
    white.save(tmp_path / "mask.png")
    init, mask = (clients.handle_file(str(path)) for path in (cat, tmp_path / "mask.png"))
    said = {"seeds": "4", "num_steps": 4, "init": init, "mask": mask}
    made = client.predict(shelf.pictures, **said, api_name="/generate")
    recipe = made["recipes"][0]
    pixels, start = (np.asarray(Image.open(p)) for p in (made["files"][0], recipe["init"]))
    assert np.array_equal(pixels[:, 4:], start[:, 4:]) and recipe["strength"] == 1.0
    with pytest.raises(clients.exceptions.AppError, match="give init too"):
        client.predict(shelf.pictures, mask=mask, api_name="/generate")


@pytest.mark.slow
def test_a_picture_is_sent_painted_and_made_anew(
    browser: Any, serving: tuple[str, Jobs], shelf: Any, cat: str
) -> None:
    """In a real browser: changed as a whole, then a painted part; after a reload the form has it all, and the
    same part is painted."""
    url, jobs = serving
    said = {"model": shelf.pictures, "seeds": "0-2", "num_steps": 3, "sampler": "euler"}

    def masks() -> list[Any]:
        made = [job for job in jobs.engine.index.jobs() if job.spec.get("mask")]
        found = [Path(jobs.engine.out / job.folder / "sources" / job.spec["mask"]) for job in made]
        return [np.asarray(Image.open(path)) for path in found]

    with driving.watched(browser, url) as page:
        driving.create(page, url, **said)
        page.click("#from-picture button.label-wrap")
        page.set_input_files("#init input[type=file]", cat)
        driving.told(page, "8 × 8, grey", "#init-note")
        page.click("#generate")
        driving.told(page, "from cat.png", "#status")
        driving.pictures(page, 3)
        page.get_by_label("Repaint a part").check()
        canvas = page.locator("#drawn canvas").first
        canvas.wait_for()
        driving.told(page, "may change", "#init-note")
        page.wait_for_timeout(1500)  # the editor draws its picture
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2 - 30, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2 + 30, box["y"] + box["height"] / 2, steps=12)
        page.mouse.up()
        count = len(masks())
        page.click("#generate")
        driving.told(page, "mask mask", "#status")
        driving.told(page, "saved in", "#status")
        page.reload()
        page.wait_for_selector("#card .chips")
        driving.settled(page)
        page.locator("#drawn canvas").first.wait_for()
        driving.told(page, "may change", "#init-note")
        page.wait_for_timeout(1500)
        page.click("#generate")
        for _ in range(600):
            if len(masks()) == count + 2:
                break
            page.wait_for_timeout(100)
        page.click("#init button[aria-label='Remove Image']")
        page.locator("#drawn canvas").first.wait_for(state="detached")
        last, first = masks()[:2]
        assert len(masks()) == count + 2 and np.array_equal(first, last) and 0 < first.mean() < 255
