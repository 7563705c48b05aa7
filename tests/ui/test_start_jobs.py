"""Runs that start from a picture, as jobs: the bytes of Python and of the command that is shown; what is kept
of uploads, and what is refused of strangers."""

import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import studio
from studio.cli.main import app
from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from studio.model import catalog
from studio.runtime.signals import Stopped
from studio.sampling.commands import command_of
from ui.engine import Engine
from ui.jobs import Jobs

PATIENCE = 60


@pytest.fixture
def jobs(shelf: Any, tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32"))
    yield made
    made.queue.close(PATIENCE)


@pytest.fixture
def cat(tmp_path: Path) -> str:
    """A large picture in colours: it is scaled, cropped and made grey as what trained was."""
    pixels = np.random.default_rng(3).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.jpg")
    return str(tmp_path / "cat.jpg")


@pytest.fixture
def left_half(tmp_path: Path) -> str:
    """What may change: of sides of its own."""
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    mask.save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


def made_by(jobs: Jobs, name: str) -> Result:
    *_, made = jobs.queue.watch(name)
    assert isinstance(made, Result)
    return made


@pytest.mark.parametrize("masked", (False, True))
def test_the_job_python_and_the_command_make_the_same_bytes(
    masked: bool, jobs: Jobs, shelf: Any, cat: str, left_half: str, tmp_path: Path
) -> None:
    asked = Recipe(shelf.pictures, seeds="4,7", label="1", strength=0.0 if masked else 0.5, dtype="fp32")
    made = made_by(jobs, jobs.sample(asked, "me", cat, left_half if masked else None))
    recipe = made.recipes[0]
    seen = Path(recipe["init"])
    assert seen == made.folder / "sources" / "8x8" / "cat.png" and Image.open(seen).size == (8, 8)
    assert (made.folder / "sources" / "cat.jpg").read_bytes() == Path(cat).read_bytes()
    assert recipe["strength"] == (1.0 if masked else 0.5) and ("mask" in recipe) == masked
    model = studio.load(shelf.pictures, device="cpu", dtype="fp32")
    options: dict[str, Any] = {"init": seen, "mask": Path(recipe["mask"])} if masked else {"init": seen}
    python = model.sample(seeds=[4, 7], labels="1", strength=recipe["strength"], **options)
    assert python.recipes == made.recipes
    python.save(tmp_path / "python")
    line = shlex.split(command_of(recipe))
    line[line.index("--out") + 1] = str(tmp_path / "line")
    line[line.index("--seeds") + 1] = "4,7"  # both at once, as a batch is rounded
    done = CliRunner().invoke(app, [*line[1:], "--device", "cpu"])
    assert done.exit_code == 0, done.output
    for path in made.pictures:
        for other in ("python", "line"):
            assert (tmp_path / other / path.name).read_bytes() == path.read_bytes()
    pixels = [np.asarray(Image.open(p)) for p in made.pictures]
    start = np.asarray(Image.open(seen))
    assert not np.array_equal(*pixels) and all((p[:, :4] != start[:, :4]).any() for p in pixels)
    if masked:
        assert all(np.array_equal(p[:, 4:], start[:, 4:]) for p in pixels)  # to the last bit


def test_a_picture_of_the_right_size_is_taken_as_it_is(jobs: Jobs, shelf: Any, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 90).save(tmp_path / "flat.png")
    asked = Recipe(shelf.pictures, seeds="0", num_steps=4)
    made = made_by(jobs, jobs.sample(asked, "me", str(tmp_path / "flat.png")))
    assert made.recipes[0]["init"] == str(made.folder / "sources" / "flat.png")
    assert made.recipes[0]["strength"] == 0.6  # the usual one
    assert [p.name for p in (made.folder / "sources").iterdir()] == ["flat.png"]


def test_uploads_of_any_names_never_take_each_others_place(jobs: Jobs, shelf: Any, tmp_path: Path) -> None:
    """A picture that is called as the mask would be once it is converted, and the other way round."""
    asked = Recipe(shelf.pictures, seeds="0", num_steps=2)
    for k, (init, mask) in enumerate((("8x8.png", "8x8.png"), ("mask-8x8.png", "mask.png"))):
        files = [tmp_path / f"{k}{kind}" / name for kind, name in (("i", init), ("m", mask))]
        for path, shade in zip(files, (10, 200)):
            path.parent.mkdir()
            Image.new("L", (16, 16), shade).save(path)
        with pytest.warns(UserWarning, match="white everywhere"):
            made = made_by(jobs, jobs.sample(asked, "me", *map(str, files)))
        shown = [int(np.asarray(Image.open(made.recipes[0][key])).max()) for key in ("init", "mask")]
        assert shown == [10, 255]


def test_a_cut_off_run_goes_on_with_its_picture(
    jobs: Jobs, shelf: Any, cat: str, left_half: str, tmp_path: Path
) -> None:
    """After the uploads are gone from where they came; to the same bytes."""
    asked = Recipe(shelf.pictures, seeds="0-99", num_steps=40, sampler="euler(resample=1)", label="0")
    name = jobs.sample(asked, "me", cat, left_half)
    end = time.monotonic() + PATIENCE
    while (found := jobs.engine.index.job(name)) is None or found.done < 64:
        assert time.monotonic() < end
        time.sleep(0.002)
    jobs.queue.close(PATIENCE)
    for path in (cat, left_half):
        Path(path).unlink()
    later = Jobs(Engine(shelf.roots, jobs.engine.out, device="cpu", dtype="fp32"))
    assert later.queue.take_up() == [name]
    made = made_by(later, name)
    later.queue.close()
    again = studio.load(shelf.pictures, device="cpu", dtype="fp32").sample(
        seeds="0-99",
        num_steps=40,
        sampler="euler(resample=1)",
        labels="0",
        init=made.recipes[0]["init"],
        mask=made.recipes[0]["mask"],
    )
    assert again.recipes == made.recipes
    pictures = [np.asarray(Image.open(p)) for p in made.pictures]
    assert np.array_equal(np.stack(pictures), again.values[:, 0].numpy())


def test_what_is_refused_leaves_nothing(
    jobs: Jobs, shelf: Any, cat: str, left_half: str, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    np.save(tmp_path / "array.npy", np.zeros((8, 9), np.uint8))
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    asked = Recipe(shelf.pictures, seeds="0", num_steps=2)
    for settings, init, mask, words in (
        (asked, str(tmp_path / "text.png"), None, "the picture text.png does not decode"),
        (asked, str(tmp_path / "array.npy"), None, "got a picture of shape"),
        (asked, str(tmp_path / "huge.png"), None, "huge.png has 9000×9000 pixels"),
        (asked, cat, str(tmp_path / "text.png"), "the mask text.png does not decode"),
        (replace(asked, model=shelf.points), cat, None, "cannot start from a picture"),
        (replace(asked, strength=1.5), cat, None, "got strength 1.5"),
        (
            replace(asked, init="dog.png"),
            None,
            None,
            "starts from the file 'dog.png', which was not given",
        ),
        (replace(asked, init="../dog.png"), None, None, "expected the name of an upload"),
        (replace(asked, mask="m.png"), None, None, "a mask without a picture"),
    ):
        with pytest.raises(ValueError, match=words):
            jobs.sample(settings, "me", init, mask)
    name = jobs.sample(replace(asked, sampler="nothing"), "me", cat)  # only its model can say so
    with pytest.raises(ValueError, match="nothing"):
        list(jobs.queue.watch(name))
    assert not list(jobs.engine.out.glob("[!.]*"))


def test_stopped_before_it_began_leaves_nothing(jobs: Jobs, shelf: Any, cat: str) -> None:
    asked = Recipe(shelf.pictures, seeds="0", num_steps=3000, sampler="euler")
    first, second = (jobs.sample(asked, "me", cat) for _ in range(2))
    for name in (second, first):
        jobs.queue.stop(name)
        with pytest.raises(Stopped):
            list(jobs.queue.watch(name))
    assert not list(jobs.engine.out.glob("[!.]*"))


def test_a_stranger_names_no_file(jobs: Jobs, shelf: Any) -> None:
    good = {"model": "m", "seeds": "0", "init": "cat.png", "mask": "mask.png", "strength": 0.5}
    assert Recipe.parse(good) == Recipe("m", seeds="0", init="cat.png", mask="mask.png", strength=0.5)
    assert Recipe.parse({"model": "m", "strength": 1}).strength == 1.0
    wrong: list[tuple[dict[str, Any], str]] = [
        *(({"init": name}, "the name of an upload") for name in ("../x", "/etc/passwd", ".x", "a\\b", "..")),
        ({"init": "a", "mask": "b/c"}, "the name of an upload"),
        ({"init": ["a"]}, "expected a text"),
        *(({"strength": v}, "strength") for v in (-0.1, 1.1, "much", True, None, 10**400)),
    ]
    for said, words in wrong:
        with pytest.raises(ValueError, match=words):
            Recipe.parse({"model": "m", **said})
    bad = {"seed": 1, "weights": "raw", "num_steps": 2, "sampler": "euler", "guidance": "", "dtype": "fp32"}
    said = Recipe.parse({**bad, "model": shelf.pictures, "init": "/etc/passwd", "strength": 0.5})
    assert said.init == "passwd"  # and nothing of that name lies with the job
    with pytest.raises(ValueError, match="which was not given"):
        jobs.sample(said, "me")


def test_models_say_whether_they_can() -> None:
    from studio.checkpoints.find import card

    found = {name: catalog.takes_picture(card(name)) for name in ("fashion-dit", "fashion-restore")}
    assert found == {"fashion-dit": True, "fashion-restore": False}


def test_where_an_upload_lies_now(tmp_path: Path) -> None:
    """Also after the folder of outputs was moved; never elsewhere, and not through a link."""
    from studio.jobs.uploads import kept

    there = tmp_path / "out" / "job" / "sources" / "8x8" / "cat.png"
    there.parent.mkdir(parents=True)
    there.touch()
    (tmp_path / "secret.png").touch()
    out = tmp_path / "out"
    assert kept(out, "/somewhere/else/job/sources/8x8/cat.png") == there
    assert kept(out, "C:\\old\\job\\sources\\8x8\\cat.png") == there
    (there.parent.parent / "dog.png").touch()
    assert kept(out, "dog.png", "job") == there.parent.parent / "dog.png" and kept(out, "dog.png") is None
    (there.parent / "link.png").symlink_to(tmp_path / "secret.png")
    for file in (
        "job/sources/8x8/link.png",
        "../sources/secret.png",
        "/x/job/sources/../../secret.png",
        "\0",
    ):
        assert kept(out, file) is None
    assert kept(out, "secret.png", "..") is None and kept(out, "sources", "job") is None
