"""Every endpoint, called as scripts call it."""

from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
from later import Later
from PIL import Image

import studio
from studio.runtime.recipes import read_recipe
from ui.jobs import Jobs

clients = Later("gradio_client")


@pytest.fixture(scope="module")
def client(serving: tuple[str, Jobs]) -> Any:
    return clients.Client(serving[0], verbose=False)


def test_a_run_its_job_its_result_and_its_recipe(client: Any, shelf: Any) -> None:
    """The same seed by the page's API and in Python is the same picture."""
    made = client.predict(
        shelf.pictures, seeds="4,9", num_steps=3, sampler="euler", guidance="cfg=2", api_name="/generate"
    )
    job = client.predict(made["job"], api_name="/job")
    assert (job["state"], job["done"], job["total"], job["words"]) == ("done", 2, 2, "")
    assert job["spec"]["seeds"] == "4,9" and job["model"] == shelf.pictures
    assert client.predict(made["job"], api_name="/result") == made
    model = studio.load(shelf.pictures, device="cpu", dtype="fp32")
    own = model.sample(seeds=[4, 9], num_steps=3, sampler="euler", guidance="cfg=2")
    for path, value, recipe in zip(made["files"], own.values, own.recipes):
        assert np.array_equal(np.asarray(Image.open(path)), value[0].numpy()) and read_recipe(path) == recipe
    told = client.predict(clients.handle_file(made["files"][0]), api_name="/recipe")
    assert told["recipe"] == own.recipes[0] and told["command"].startswith(
        f"studio sample {shelf.pictures}@4"
    )


def test_a_result_lists_its_views(client: Any, shelf: Any, serving: tuple[str, Jobs]) -> None:
    """Those that the page has tabs for, each a file of its kind that is there to be fetched."""
    made = client.predict(shelf.points, seeds="0-19", num_steps=2, api_name="/generate")
    found = client.predict(made["job"], api_name="/result")
    jobs = serving[1]
    tabs = jobs.result(made["job"]).views
    assert [(v["name"], v["kind"]) for v in found["views"]] == [(v["name"], v["form"]) for v in tabs]
    assert found == made and {"picture", "table"} <= {v["kind"] for v in found["views"]}
    endings = {"picture": (".png", ".svg"), "animation": (".gif",), "table": (".csv",)}
    for view in found["views"]:
        path = Path(view["file"])
        assert path.parent == Path(made["folder"]) and path.suffix in endings[view["kind"]]
        with urlopen(f"{serving[0]}gradio_api/file={quote(view['file'])}") as answer:
            assert answer.read() == path.read_bytes() != b""
    Path(made["folder"], "samples.npz").unlink()
    Path(found["views"][0]["file"]).unlink()
    assert "sample again" in client.predict(made["job"], api_name="/result")["views"][0]["why"]


def test_pictures_are_translated(client: Any, serving: tuple[str, Jobs], tmp_path: Path) -> None:
    for name, size in (("a.png", 28), ("b.png", 40)):
        Image.new("L", (size, size), 90).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"no picture")
    files = [clients.handle_file(str(tmp_path / n)) for n in ("a.png", "b.png", "c.png")]
    made = client.predict(files, "fashion-restore", 2, 5, api_name="/translate")
    assert [Path(f).name for f in made["files"]] == ["a.png", "b.png"] and list(made["failed"]) == ["c.png"]
    assert all(Path(f).is_relative_to(serving[1].engine.out) for f in made["files"])
    assert client.predict(made["job"], api_name="/job")["kind"] == "translate"


def test_what_is_wrong_is_told_in_words(client: Any, shelf: Any) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"job": "nothing", "api_name": "/job"}, "not known here"),
        ({"job": "../../x", "api_name": "/result"}, "expected one that has made something"),
        ({"picture": None, "api_name": "/recipe"}, "give a picture"),
        ({"pictures": [], "api_name": "/translate"}, "pick a bridge"),
        ({"model": shelf.pictures, "seeds": "x", "api_name": "/generate"}, "got seeds 'x'"),
    ]
    for said, words in wrong:
        with pytest.raises(clients.exceptions.AppError, match=words):
            client.predict(**said)
    assert client.predict("nothing", api_name="/stop") == ""
    with pytest.raises((clients.exceptions.AppError, ValueError, OSError)):
        client.predict({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, api_name="/recipe")
