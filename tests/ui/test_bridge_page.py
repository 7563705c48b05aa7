"""The Bridge page: which models it offers, and what its button does."""

import re
import threading
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import driving
import numpy as np
import pytest
from later import Later
from PIL import Image

import studio
from studio.data.arrays import Arrays, Data
from studio.generation.translate import translate
from studio.jobs.recipe import Recipe
from studio.jobs.translation import Translation
from studio.runtime.recipes import read_recipe
from studio.runtime.seeds import seed_of
from ui.answers import BRIDGE
from ui.engine import Engine
from ui.jobs import Jobs

handling, gr, form = Later("ui.handlers"), Later("gradio"), Later("ui.bridge_form")
ui_app, bridging, dropped = Later("ui.app"), Later("ui.bridging"), Later("ui.dropped")


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


def pressed(
    jobs: Jobs,
    name: str | None,
    sources: list[str] | None,
    steps: int = 2,
    seed: int = 0,
    mask: str | None = None,
    drawn: Any = None,
    **more: Any,
) -> Any:
    """What Translate shows, each row by name."""
    values = {
        "bridge": name,
        "bridge-sampler": "",
        "bridge-steps": steps,
        "bridge-seed": seed,
        "bridge-direction": "forward",
        "bridge-label": "none",
        "bridge-resize": True,
    } | more
    for found in bridging.Bridging(jobs).press(None, sources, mask, drawn, *(values[k] for k in BRIDGE)):
        yield dict(zip(bridging.SHOWN, found))


def shown_files(found: dict[str, Any]) -> list[Path]:
    return [Path(p) for p, _ in found["bridge-gallery"]["value"]]


@pytest.fixture
def made(roots: tuple[str], tmp_path: Path) -> tuple[Jobs, str]:
    """The jobs of a page, and the bridge's name."""
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    return Jobs(engine), next(n for n in engine.bridges() if n.endswith("negatives"))


def grey(path: Path, shade: int = 90, size: int = 8) -> str:
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (size, size), shade).save(path)
    return str(path)


def test_the_button_translates_and_tells(made: tuple[Jobs, str], tmp_path: Path) -> None:
    jobs, name = made
    (tmp_path / "c.png").write_bytes(b"no picture")
    inputs = [grey(tmp_path / "a.png"), grey(tmp_path / "b.png", size=20), str(tmp_path / "c.png")]
    *_, found = pressed(jobs, name, inputs)
    assert "2 translated, 1 failed" in found["bridge-status"] and 'role="status"' in found["bridge-status"]
    assert '<th scope="row">c.png</th><td>does not decode' in found["bridge-failed"]
    files = shown_files(found)
    assert [p.name for p in files] == ["a.png", "b.png"] and Image.open(found["bridge-sheet"]).width > 8
    assert all(Image.open(p).size == (8, 8) for p in files)
    source = Path(read_recipe(files[0])["source"])
    assert source == files[0].parent / "sources" / "a.png"  # a place that stays
    assert source.read_bytes() == (tmp_path / "a.png").read_bytes()
    assert found["bridge-pair"].count('alt="Before: a.png"') == 2  # on each other and side by side
    assert "studio translate" in found["bridge-command"] and found["bridge-recipe"]["seed_base"] == 0


def test_what_is_refused_leaves_nothing(made: tuple[Jobs, str], tmp_path: Path) -> None:
    jobs, name = made
    (tmp_path / "c.png").write_bytes(b"no picture")
    fine, broken = [grey(tmp_path / "a.png")], [str(tmp_path / "c.png")]
    for sources, bridge, more, words in (
        (fine, None, {}, "pick a bridge"),
        (None, name, {}, "add one or more pictures"),
        (broken, name, {}, "none of 1 pictures can be translated"),
        (fine, name, {"bridge-direction": "backward"}, "towards its data only"),
        (fine, name, {"bridge-sampler": "nothing"}, "nothing"),
        (fine, name, {"bridge-steps": 0}, "got 0 steps"),
        (fine, name, {"mask": broken[0]}, "the mask c.png does not decode"),
    ):
        rows = pressed(jobs, bridge, sources, **more)
        with pytest.raises(gr.Error, match=words):
            while True:
                last = next(rows)
        assert words in last["bridge-status"] and last["translate"]["interactive"] is True
    assert not set(jobs.engine.out.glob("[!.]*"))


def test_stopped_before_it_began_leaves_nothing(made: tuple[Jobs, str], tmp_path: Path) -> None:
    jobs, name = made
    first = pressed(jobs, name, [grey(tmp_path / "a.png")], 1000)
    running = next(first)["job"]
    waiting = pressed(jobs, name, [grey(tmp_path / "b.png")])
    queued = next(waiting)["job"]
    folder = jobs.engine.out / jobs.engine.index.job(queued).folder
    assert (folder / "sources" / "b.png").is_file()
    assert "before it began" in jobs.queue.stop(queued)
    assert not folder.exists() and "before it began" in list(waiting)[-1]["bridge-status"]
    jobs.queue.stop(running)
    assert "nothing was translated" in list(first)[-1]["bridge-status"]
    assert not set(jobs.engine.out.glob("[!.]*"))


def test_two_uploads_of_one_name_are_both_translated(made: tuple[Jobs, str], tmp_path: Path) -> None:
    jobs, name = made
    uploads = (
        ("1", "cat.png"),
        ("2", "cat.png"),
        ("3", "cat.jpg"),
        ("4", "Cat-2.png"),
        ("5", "before-after.png"),
    )
    inputs = [grey(tmp_path / place / file, 40 * k) for k, (place, file) in enumerate(uploads)]
    *_, found = pressed(jobs, name, inputs)
    files = shown_files(found)
    names = ["cat.png", "cat-2.png", "cat-3.png", "Cat-2-2.png", "before-after-2.png"]
    assert [p.name for p in files] == names and Path(found["bridge-sheet"]).name == "before-after.png"
    assert (
        len({read_recipe(f)["source_hash"] for f in files}) == 5 and "5 translated" in found["bridge-status"]
    )
    assert read_recipe(files[0])["seed"] == seed_of(Path("cat.png"), 0)  # what the command line gives it


def test_a_mask_keeps_the_rest(made: tuple[Jobs, str], tmp_path: Path) -> None:
    """From a file of another size, and painted: black, and what is not painted, stays to the last bit."""
    jobs, name = made
    grey(tmp_path / "mask.png", 0, 16)
    with Image.open(tmp_path / "mask.png") as mask:
        mask.paste(255, (0, 0, 8, 16))
        mask.save(tmp_path / "mask.png")
    layer = Image.new("RGBA", (320, 320))
    layer.paste((20, 184, 166, 255), (0, 0, 160, 320))
    results = []
    for given in ({"mask": str(tmp_path / "mask.png")}, {"drawn": {"layers": [layer]}}):
        *_, found = pressed(jobs, name, [grey(tmp_path / "a.png")], **given)
        results.append(np.asarray(Image.open(shown_files(found)[0])))
    assert (results[0][:, 4:] == 90).all() and not (results[0][:, :4] == 90).all()
    assert np.array_equal(*results)
    rows = pressed(
        jobs, name, [grey(tmp_path / "a.png")], mask=str(tmp_path / "mask.png"), drawn={"layers": [layer]}
    )
    with pytest.raises(gr.Error, match="expected one"):
        list(rows)


def test_links_fill_the_form_and_run_nothing(made: tuple[Jobs, str], shelf: Any, tmp_path: Path) -> None:
    jobs, name = made
    *_, found = pressed(jobs, name, [grey(tmp_path / "a.png"), grey(tmp_path / "b.png", 9)], 4, 11)
    page, index = bridging.Bridging(jobs), jobs.engine.index
    job = found["job"] if isinstance(found["job"], str) else index.jobs()[0].id
    ran = len(index.jobs())

    def opened(**link: Any) -> dict[str, Any]:
        got = dict(zip(form.OPENED, page.form.open(1, link)))
        return got | {k: u.get("value") for k, u in got["bridge_answer"]["controls"].items()}

    got = opened(job=job)
    assert (got["bridge"], got["bridge-steps"], got["bridge-seed"]) == (name, 4, 11) and got["job"] == job
    assert [Path(p).name for p in got["sources"]] == ["a.png", "b.png"]
    *_, shown = page.follow(None, job, 1)
    assert "b.png · 2 of 2" in dict(zip(bridging.SHOWN, shown))["bridge-pair"]
    item = next(i for i in index.items() if i.file.endswith("b.png"))
    got = opened(item=item.id)
    assert (got["bridge-seed"], got["job"], got["bridge-at"]) == (11, job, 1)
    assert [Path(p).name for p in got["sources"]] == ["b.png"]
    kept = {"bridge": name, "bridge-steps": 7, "bridge-seed": 3, "bridge-direction": "forward"}
    got = opened(form=kept, own=job)
    assert got["bridge-steps"] == 7 and len(got["sources"]) == 2
    for wrong in ({"job": "../x"}, {"item": "none"}, {"form": {"bridge": "/etc/passwd"}}):
        with pytest.warns(UserWarning) if "form" not in wrong else nullcontext():
            assert opened(**wrong)["bridge-seed"] == 0  # as if nothing was said
    assert len(index.jobs()) == ran


def test_a_sampled_picture_is_sent_to_the_bridge(roots: tuple[str], shelf: Any, tmp_path: Path) -> None:
    jobs = Jobs(Engine((*roots, *shelf.roots), tmp_path / "out", device="cpu", dtype="fp32"))
    job = jobs.sample(Recipe(shelf.pictures, seeds="0", num_steps=2), "local")
    list(jobs.queue.watch(job))
    (item,) = jobs.engine.index.items()
    got = dict(zip(form.OPENED, bridging.Bridging(jobs).form.open(1, {"item": item.id})))
    assert got["sources"] == [str(jobs.engine.out / item.file)]


def test_the_zip_holds_the_whole_job(made: tuple[Jobs, str], tmp_path: Path) -> None:
    jobs, name = made
    *_, found = pressed(jobs, name, [grey(tmp_path / "a.png")])
    folder = shown_files(found)[0].parent
    with zipfile.ZipFile(bridging.Bridging(jobs).zip(jobs.engine.index.jobs()[0].id)) as packed:
        inside = {f"{folder.name}/{n}" for n in ("a.png", "before-after.png", "sources/a.png")}
        assert set(packed.namelist()) == inside
        assert packed.read(f"{folder.name}/a.png") == (folder / "a.png").read_bytes()


def test_bundled_bridges_say_what_they_expect(tmp_path: Path) -> None:
    page = bridging.Bridging(Jobs(Engine((), tmp_path / "out", device="cpu", dtype="fp32")))
    restore, emoji = (
        page.form.choose({"model": m, "ticket": 1})["controls"] for m in ("fashion-restore", "noto-twemoji")
    )
    assert "Expects degraded pictures, 28 × 28, grey." in restore["bridge-card"]["value"]
    assert not restore["bridge-direction"]["visible"] and restore["bridge-examples"]["visible"]
    assert [way for _, way in emoji["bridge-direction"]["choices"]] == ["forward", "backward"]
    assert emoji["bridge-direction"]["visible"] and "bridge_sde" in dict(emoji["bridge-sampler"]["choices"])
    examples = page.form.examples("fashion-restore")
    assert len(examples) == 10 and all(Image.open(p).size == (28, 28) for p in examples)


def test_a_translated_picture_goes_to_its_tab(made: tuple[Jobs, str], tmp_path: Path) -> None:
    jobs, name = made
    *_, found = pressed(jobs, name, [grey(tmp_path / "a.png")], 4, 11)
    file = str(shown_files(found)[0])
    answer = dropped.apply(jobs.engine, file, {"sample": 1, "translate": 2})
    controls = {k: u["value"] for k, u in answer["controls"].items() if k in BRIDGE}
    assert (answer["form"], answer["ticket"]) == ("translate", 2)
    assert controls == {
        "bridge": name,
        "bridge-sampler": "bridge",
        "bridge-steps": 4,
        "bridge-seed": 11,
        "bridge-direction": "forward",
        "bridge-label": "none",
        "bridge-resize": True,
    }
    shown = dict(zip(dropped.FOUND, dropped.look(jobs.engine, file)))
    assert "Bridge" in shown["apply"]["value"]
    assert shown["found_command"]["value"].startswith(f"studio translate {name}@2 ")


def test_stop_keeps_what_is_translated(made: tuple[Jobs, str], tmp_path: Path) -> None:
    jobs, name = made
    rows = pressed(jobs, name, [grey(tmp_path / f"{k}.png", k) for k in range(33)], 300)  # two batches
    next(rows)

    def stop() -> None:
        while len(list(jobs.engine.out.glob("*/*.png"))) < 32:
            time.sleep(0.01)
        jobs.queue.stop_all("local/translate")

    threading.Thread(target=stop, daemon=True).start()
    told = list(rows)
    found = told[-1]
    assert any("of 600 · " in str(t["bridge-status"]) for t in told)  # steps of both batches
    assert "Stopped · 32 of 33 translated" in found["bridge-status"] and len(shown_files(found)) == 32
    assert Path(found["bridge-sheet"]).name == "before-after.png"


@pytest.mark.slow
def test_the_page_in_a_browser(browser: Any, roots: tuple[str], tmp_path: Path) -> None:
    """Two uploads of one name, before and after, walking, a reload, a phone; nothing cut off, nothing dead;
    and a translated picture finds its way back to the page."""
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    uploads = [grey(tmp_path / str(k) / "cat.png", 80 * k) for k in (1, 2)]
    (tmp_path / "broken.png").write_bytes(b"no picture")

    def told(words: str, within: str = "#bridge-status") -> None:
        driving.told(page, words, within)

    def value(name: str) -> str:
        return str(page.input_value(f"#{name} input"))

    with driving.serve(engine) as url, driving.watched(browser, url) as page:
        driving.bridge(page, url)
        driving.pick(page, "negatives", "bridge")
        driving.settled(page, "translate")
        page.set_input_files("#sources input[type=file]", [*uploads, str(tmp_path / "broken.png")])
        page.fill("#bridge-steps input", "4")
        page.fill("#bridge-seed input", "11")
        page.wait_for_function("document.querySelector('#sources').innerText.split('cat').length == 3")
        page.keyboard.press("Control+Enter")
        told("2 translated, 1 failed")
        assert "broken.png" in page.inner_text("#bridge-failed table")
        assert page.is_enabled("#translate") and page.is_disabled("#bridge-stop")
        page.wait_for_function("document.querySelector('#bridge-pair .after')?.naturalWidth == 8")
        page.focus("#bridge-pair input[type=range]")
        page.keyboard.press("Home")
        assert page.evaluate("document.querySelector('.pair').style.getPropertyValue('--cut')") == "0%"
        page.click("#bridge-next")
        told("cat-2.png · 2 of 2", "#bridge-pair")
        page.keyboard.press("ArrowRight")
        told("cat.png · 1 of 2", "#bridge-pair")
        page.locator("#bridge-gallery .thumbnail-item").nth(1).click()
        told("cat-2.png · 2 of 2", "#bridge-pair")
        with page.expect_download() as got:
            page.click("#bridge-zip")
        assert got.value.suggested_filename.endswith(".zip")
        for width in (390, 768, 1400):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(150)
            box = page.locator("#bridge-pair .frame").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width, (width, box)
            assert box["width"] >= 200 and box["height"] >= 200, (width, box)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            if width == 390:
                assert driving.looks(page)["small"] == []
        page.reload()
        told("2 translated, 1 failed")
        driving.settled(page, "translate")
        assert (value("bridge-steps"), value("bridge-seed")) == ("4", "11")
        assert "broken" in page.inner_text("#sources")
        assert page.evaluate("drift.job()") == ""  # Create has none
        driving.create(page, url)
        page.set_input_files("#drop input[type=file]", str(next(engine.out.glob("*/cat-2.png"))))
        page.wait_for_selector("#apply")
        assert "Bridge" in page.inner_text("#apply") and "studio translate" in page.inner_text(
            "#found-command"
        )
        page.click("#apply")
        page.wait_for_selector("#bridge-seed", state="visible")
        page.wait_for_function("document.querySelector('#bridge-seed input').value == '11'")
        assert value("bridge-steps") == "4" and value("bridge").endswith("negatives")
        item = next(i.id for i in engine.index.items() if i.file.endswith("cat-2.png"))
        page.goto(f"{url}bridge?item={item}")
        told("cat-2.png · 2 of 2", "#bridge-pair")


def test_a_sample_goes_to_a_bridge_that_takes_it(roots: tuple[str], shelf: Any, tmp_path: Path) -> None:
    """Of the shelf's bridges the one of its sides, though it is not the first."""
    engine = Engine((*roots, *shelf.roots), tmp_path / "out", device="cpu", dtype="fp32")
    jobs = Jobs(engine)
    *_, result = jobs.queue.watch(jobs.sample(Recipe(shelf.pictures, seeds="5", num_steps=1), "me"))
    file = str(result.pictures[0])
    link = Later("ui.chosen").Chosen(jobs).below(file)["to_bridge"]
    item = re.search(r'href="/bridge\?item=([^"]+)"', link)
    assert item is not None
    opened = dict(zip(form.OPENED, form.Form(jobs).open(1, {"item": unquote(item[1])})))
    assert opened["sources"] == [file]
    assert opened["bridge_answer"]["source"].endswith("negatives")
    assert not next(iter(engine.bridges())).endswith("negatives")
    name = opened["bridge_answer"]["source"]
    list(jobs.queue.watch(jobs.translate(Translation(name, num_steps=1), [file], None, "me")))
    list(jobs.queue.watch(jobs.sample(Recipe(shelf.points, seeds="0-3", num_steps=1), "me")))
    library = Later("ui.library").Library(engine)
    points, translated, sampled = engine.index.items()
    ways = [str(library.detail(found.id)["links"]) for found in (sampled, translated, points)]
    assert [f"{item[0]}>Send to Bridge" in way for way in ways] == [True, False, False]
    assert [way.count("/bridge?item=") for way in ways] == [1, 0, 0]
    jobs.queue.close()


def test_what_a_translation_will_take_is_told(made: tuple[Jobs, str], tmp_path: Path) -> None:
    """The evaluations that it makes; its time as the last one took it here."""
    jobs, name = made
    files = [grey(tmp_path / f"{k}.png") for k in range(3)]
    estimating = Later("ui.estimating")

    def told(count: int = 3, bridge: str | None = name, sampler: str | None = "bridge_sde") -> str:
        return str(estimating.of_pictures(jobs.engine, files[:count], bridge, 4, sampler))

    assert "a guess" in told()
    *_, last = pressed(jobs, name, files, 4, **{"bridge-sampler": "bridge_sde"})
    assert "3 translated" in last["bridge-status"] and "guess" not in told()
    job, made_of = jobs.engine.index.jobs()[0], []
    translate(
        jobs.engine.model(name),
        files[:1],
        tmp_path / "again",
        num_steps=4,
        sampler="bridge_sde",
        on_step=lambda p: made_of.append(p.step.evaluations),
    )
    assert f"(3 samples, {made_of[-1]} evaluations each)" in told()
    seconds = jobs.engine.estimate(Recipe(name, seeds="0-2", num_steps=4, sampler="bridge_sde")).seconds
    assert seconds == pytest.approx(3 * job.told["each"])
    assert "(1 sample, " in told(1)
    assert told(0) == told(bridge=None) == told(bridge="/etc/passwd") == told(sampler="nothing") == ""


def test_broken_uploads_are_told_at_their_fields(made: tuple[Jobs, str], tmp_path: Path) -> None:
    """A text, a picture that ends early, and one that is huge: each by its name, before anything is asked."""
    jobs, name = made
    fine = grey(tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(0, 255, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    whole = (tmp_path / "noise.png").read_bytes()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    page = form.Form(jobs)
    wrong = [str(tmp_path / f"{n}.png") for n in ("text", "cut", "huge")]
    told = page.sent(name, [fine, *wrong], True)
    for words in (
        "text.png does not decode (its first bytes are of no kind that is known",
        "cut.png does not decode (it ends early)",
        "huge.png has 9000×9000 pixels, expected at most 64,000,000",
    ):
        assert words in told
    assert "a.png " not in told and str(tmp_path) not in told and told.count("note bad") == 3
    for mask, words in zip(wrong, ("no kind that is known", "ends early", "9000×9000 pixels")):
        found = page.masked(name, mask)
        assert words in found and str(tmp_path) not in found
    assert page.masked(name, fine) == page.sent(name, [fine], True) == page.sent(name, None, True) == ""
    assert "let it be converted" in page.sent(name, [grey(tmp_path / "b.png", size=20)], False)


def test_each_page_leaves_jobs_and_items_of_the_other(made: tuple[Jobs, str], tmp_path: Path) -> None:
    jobs, name = made
    job = jobs.translate(Translation(name, num_steps=2), [grey(tmp_path / "a.png")], None, "me")
    create = handling.Handlers(jobs)
    assert all(update == gr.skip() for row in create.follow(None, job, False) for update in row)
    list(jobs.queue.watch(job))
    item = jobs.engine.index.items()[0]
    for link in ({"item": item.id}, {"job": job}):
        with pytest.warns(UserWarning, match="does not fill the form"):
            assert create.open(1, link)["form"] == "sample"
    jobs.queue.close()
