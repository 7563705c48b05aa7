"""Start from numbers: files of a sample or of what is known of it, as jobs and on the page; masks as files.
The same bytes as in Python and by the command that is shown; what cannot be is told at its field."""

import shlex
import zipfile
from pathlib import Path
from typing import Any

import driving
import numpy as np
import pytest
import torch
from later import Later
from PIL import Image
from typer.testing import CliRunner

import studio
from studio.checkpoints.find import card
from studio.cli.main import app
from studio.jobs import numbers
from studio.jobs.recipe import FILES, Recipe
from studio.jobs.result import Result
from studio.model import catalog
from studio.sampling.commands import command_of
from ui.answers import CONTROLS
from ui.engine import Engine
from ui.jobs import Jobs

handling, starting, giving = Later("ui.handlers"), Later("ui.starting"), Later("ui.given")
gr, clients = Later("gradio"), Later("gradio_client")


@pytest.fixture
def page(shelf: Any, tmp_path: Path) -> Any:
    return handling.Handlers(Jobs(Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Uploads: of a point its second number is known, of a picture the left half."""
    home = tmp_path / "upload"
    home.mkdir()
    left = np.zeros((8, 8), bool)
    left[:, :4] = True
    pixels = np.random.default_rng(2).integers(0, 255, (1, 8, 8), dtype=np.uint8)
    made: dict[str, Any] = {
        "point": np.array([np.nan, 0.25], np.float32),
        "stays": np.array([False, True]),
        "whole": np.array([0.5, 0.25], np.float32),
        "wrong": np.zeros(3, np.float32),
        "pixels": pixels,
        "free": ~left,
    }
    for name, array in made.items():
        np.save(home / f"{name}.npy", array)
    np.savez(home / "both.npz", given=made["point"], known=made["stays"])
    np.savez(home / "picture.npz", given=pixels, known=left[None])
    (home / "text.npy").write_text("no numbers")
    np.save(home / "pickle.npy", np.array([{}], object), allow_pickle=True)
    huge = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (900000000000,), }".ljust(117)
    )
    (home / "huge.npy").write_bytes(huge + b"\n")
    with zipfile.ZipFile(home / "bomb.npz", "w") as archive:
        archive.writestr("given.npy", huge + b"\n")
    return {path.name: str(path) for path in home.iterdir()}


def pressed(page: Any, model: str, seeds: str = "4", **said: Any) -> tuple[Result, dict[str, Any]]:
    """What Generate makes of a form, and what it shows in the end."""
    settings = Recipe(model, seeds=seeds, num_steps=4, sampler="euler", guidance="", dtype="fp32")
    start = [said.get(name) for name in (*starting.GIVEN, *giving.NUMBERS)]
    (job, *_), *_ = page.generate(None, *(vars(settings)[name] for name in CONTROLS), *start, False)
    return page.jobs.result(job), dict(zip(handling.SHOWN, page.shown(None, job)))


@pytest.mark.parametrize("said", ({"given": "point.npy", "known": "stays.npy"}, {"given": "both.npz"}))
def test_known_entries_stay_as_in_python_and_by_the_command(
    page: Any, shelf: Any, files: dict[str, str], said: dict[str, str], tmp_path: Path
) -> None:
    result, found = pressed(page, shelf.points, "4,7", **{k: files[v] for k, v in said.items()})
    recipe = result.recipes[0]
    sent = [Path(recipe[k]) for k in ("known", "given")]
    assert {p.parent for p in sent} == {result.folder / "sources"} and len(set(sent)) == len(said)
    assert f"known {said['given']}" in found["status"] and "--known" in found["command"]
    model = studio.load(shelf.points, device="cpu", dtype="fp32")
    options: dict[str, Any] = {"num_steps": 4, "sampler": recipe["sampler"], "guidance": ""}
    own = model.sample(seeds=[4, 7], known=sent[0], given=sent[1], **options)
    with np.load(result.folder / "samples.npz") as saved:
        values = torch.from_numpy(saved["arr_0"])
    assert torch.equal(values, own.values) and values[:, 1].tolist() == [0.25, 0.25]
    line = shlex.split(command_of(result.recipes[0] | {"seed": [4, 7]}))
    line[line.index("--out") + 1] = str(tmp_path / "line")
    done = CliRunner().invoke(app, [*line[1:], "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "line" / "samples.npz").read_bytes() == (result.folder / "samples.npz").read_bytes()


def test_a_sample_is_changed_where_nothing_says_what_stays(
    page: Any, shelf: Any, files: dict[str, str]
) -> None:
    result, found = pressed(page, shelf.points, given=files["whole.npy"], share=0.5)
    recipe = result.recipes[0]
    assert recipe["strength"] == 0.5 and Path(recipe["init"]).name == "whole.npy" and "known" not in recipe
    assert "from whole.npy" in found["status"] and "--init" in found["command"]


def test_pictures_as_numbers_and_masks_as_files(
    page: Any, shelf: Any, files: dict[str, str], tmp_path: Path
) -> None:
    """Known pixels, a start, and a mask of either kind of file: what stays is there to the last bit."""
    pixels = np.load(files["pixels.npy"])[0]
    Image.fromarray(pixels).save(tmp_path / "upload" / "cat.png")
    white = np.load(files["free.npy"]).astype(np.uint8) * 255
    Image.fromarray(white).save(tmp_path / "upload" / "mask.png")
    cat, mask = (str(tmp_path / "upload" / name) for name in ("cat.png", "mask.png"))
    part = {"init": cat, "way": "part", "strength": 1.0}
    for said in (
        {"given": files["picture.npz"]},
        {**part, "mask-file": files["free.npy"]},
        {**part, "mask-file": mask},
    ):
        result, _ = pressed(page, shelf.pictures, **said)
        made = np.asarray(Image.open(result.pictures[0]))
        assert np.array_equal(made[:, :4], pixels[:, :4]) and (made[:, 4:] != pixels[:, 4:]).any()
    result, _ = pressed(page, shelf.pictures, given=files["pixels.npy"], share=0.1)
    made = np.asarray(Image.open(result.pictures[0])).astype(int)
    assert result.recipes[0]["init"].endswith("pixels.npy") and (made != pixels).any()
    with pytest.raises(gr.Error, match="expected one of them"):
        pressed(page, shelf.pictures, **part, given=files["picture.npz"], **{"mask-file": mask})


WRONG = {
    "wrong.npy": "got given of shape (3,), expected (2,)",
    "text.npy": "text.npy is no .npy or .npz of plain arrays",
    "pickle.npy": "pickle.npy is no .npy or .npz of plain arrays",
    "huge.npy": "huge.npy is no .npy or .npz of plain arrays",
    "bomb.npz": "bomb.npz is no .npy or .npz of plain arrays",
    "picture.npz": "got known of shape (1, 8, 8), expected (2,)",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_told_at_its_field(page: Any, shelf: Any, files: dict[str, str], name: str) -> None:
    """And refused of a run, with nothing left behind; of what says that it is huge nothing is unpacked."""
    given, known = files[name], files["stays.npy"] if name == "wrong.npy" else None
    found = dict(zip(giving.SHOWN, page.giving.sent(shelf.points, given, known, "0-9")))
    assert WRONG[name] in found["given-note"] and "bad" in found["given-note"]
    assert str(Path(given).parent) not in found["given-note"]
    with pytest.raises(gr.Error):
        pressed(page, shelf.points, given=given, known=known)
    assert not list(page.engine.out.glob("[!.]*"))


def test_more_numbers_than_may_be(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "MOST_NUMBERS", 3)
    with pytest.raises(ValueError, match="both.npz has 4 numbers, expected at most 3"):
        numbers.names_in(Path(files["both.npz"]))
    assert numbers.names_in(Path(files["wrong.npy"])) == ()


def test_what_the_model_makes_of_them_is_told(page: Any, shelf: Any, files: dict[str, str]) -> None:
    def told(model: str, given: str | None, known: str | None = None) -> dict[str, Any]:
        return dict(zip(giving.SHOWN, page.giving.sent(model, given, known, "0-9")))

    both = told(shelf.points, files["both.npz"])
    assert "1 of 2 entries stay" in both["given-note"] and both["stays"] and not both["share"]["visible"]
    whole = told(shelf.points, files["whole.npy"])
    assert "2 numbers, all changed" in whole["given-note"] and whole["share"]["visible"]
    assert "Add the numbers" in told(shelf.points, None, files["stays.npy"])["given-note"]
    assert told(shelf.points, None)["given-note"] == ""
    bad = page.starting.masked(shelf.pictures, files["stays.npy"])
    assert "got a mask of" in bad and "bad" in bad
    assert "says what may change" in page.starting.masked(shelf.pictures, files["free.npy"])


def test_models_that_cannot_do_not_show_it(page: Any, shelf: Any) -> None:
    """Of a molecule a piece is given, and a bridge starts from its source."""
    for name, can in ((shelf.points, True), (shelf.pictures, True), ("moses-graph-dit", False)):
        answer = page.choose({"ticket": 7, "model": name, "rest": ""})
        assert answer["controls"]["from-numbers"]["visible"] is can
    assert not catalog.takes_numbers(card("fashion-restore"))


@pytest.mark.parametrize("said", ({"given": "both.npz"}, {"given": "whole.npy", "share": 0.25}))
def test_the_form_comes_back(page: Any, shelf: Any, files: dict[str, str], said: dict[str, Any]) -> None:
    """From the library, a link to the job and a reload; where the files are gone it is said."""
    said = said | {"given": files[said["given"]]}
    pressed(page, shelf.points, **said)
    index = page.engine.index
    job = index.jobs()[0]
    sent = {"path": said["given"], "url": "x"}
    kept = {"model": shelf.points, "given": sent, "known": None, "share": said.get("share"), "init": None}
    for link in ({"item": index.items()[0].id}, {"job": job.id}, {"form": kept, "own": job.id}):
        answer = page.open(1, link)["controls"]
        found = page.giving.fill(answer["started"]["value"], None, None, "4")
        form = dict(zip(giving.SHOWN, found))
        assert Path(form["given"]).parent.name == "sources" and form["from-numbers"]["open"], link
        assert answer.get("share", {}).get("value") == said.get("share"), link
        picture = dict(
            zip(starting.SHOWN, page.starting.fill(answer["started"]["value"], None, "whole", None))
        )
        assert picture["init"] is None and "open" not in picture["from-picture"], link
    Path(form["given"]).unlink()
    with pytest.warns(UserWarning, match="from other numbers, '.*', which do not lie here"):
        page.open(1, {"item": index.items()[0].id})


def test_scripts_send_files(serving: tuple[str, Jobs], shelf: Any, files: dict[str, str]) -> None:
    client = clients.Client(serving[0], verbose=False)
    known, given = (clients.handle_file(files[name]) for name in ("stays.npy", "point.npy"))
    said = {"seeds": "4-5", "num_steps": 2, "known": known, "given": given}
    made = client.predict(shelf.points, **said, api_name="/generate")
    with np.load(Path(made["folder"]) / "samples.npz") as saved:
        assert saved["arr_0"][:, 1].tolist() == [0.25, 0.25]
    with pytest.raises(clients.exceptions.AppError, match="give both, or neither"):
        client.predict(shelf.points, known=known, api_name="/generate")


def test_strangers_name_no_file(shelf: Any) -> None:
    for said, words in (
        ({"known": "../x.npy", "given": "x.npy"}, "expected the name of an upload"),
        ({"known": "x.npy"}, "give both, or neither"),
        ({"known": "x.npy", "given": "x.npy", "init": "y.npy"}, "expected one of them"),
    ):
        with pytest.raises(ValueError, match=words):
            Recipe.parse({"model": shelf.points, **said})
    assert FILES == ("init", "mask", "known", "given")


@pytest.mark.slow
def test_in_the_browser(browser: Any, serving: tuple[str, Jobs], shelf: Any, files: dict[str, str]) -> None:
    """Uploads that are none are told of at their fields, in words of ours alone, whatever was sent before;
    what is known stays, and comes back with the page."""
    url, _ = serving
    home = Path(files["text.npy"]).parent
    (home / "text.png").write_text("no picture")
    Image.new("1", (9000, 9000)).save(home / "huge.png")
    Image.new("1", (15_000, 15_000)).save(home / "bomb.png")
    with driving.watched(browser, url) as page:
        driving.create(page, url, model=shelf.pictures, seeds="0-1", num_steps=2)
        page.click("#from-picture button.label-wrap")
        for name, words in (
            ("text.png", "text.png does not decode (its first bytes"),
            ("bomb.png", "bomb.png has too many pixels"),
            ("huge.png", "huge.png has 9000×9000 pixels"),
        ):
            page.set_input_files("#init input[type=file]", str(home / name))
            driving.told(page, words, "#init-note")
            page.click("#init button[aria-label='Remove Image']")
            page.wait_for_function("document.querySelector('#init-note').innerText.trim() == ''")
        driving.create(page, url, model=shelf.points, seeds="0-3", num_steps=2)
        page.click("#from-numbers button.label-wrap")
        page.set_input_files("#given input[type=file]", files["wrong.npy"])
        driving.told(page, "got a sample of shape (3,), expected (2,)", "#given-note")
        page.click("#given button[aria-label='Clear']")
        page.wait_for_function("document.querySelector('#given-note').innerText.trim() == ''")
        page.set_input_files("#given input[type=file]", files["both.npz"])
        driving.told(page, "1 of 2 entries stay", "#given-note")
        page.click("#generate")
        driving.told(page, "known both.npz")
        driving.told(page, "saved in")
        page.reload()
        page.wait_for_selector("#card .chips")
        driving.settled(page)
        driving.told(page, "1 of 2 entries stay", "#given-note")
        assert not page.locator(".toast-body").count()
