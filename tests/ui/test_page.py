"""The page over the engine: handlers as they are called, and a served page driven over the network."""

import re
import threading
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from later import Later
from PIL import Image

from studio.jobs.recipe import OWN, START, Recipe
from studio.runtime.recipes import read_recipe
from ui.answers import CONTROLS
from ui.engine import Engine
from ui.hosts import Hosts, names_of
from ui.jobs import Jobs

handling, gr = Later("ui.handlers"), Later("gradio")
ui_app, ui_serve, gradio_client = Later("ui.app"), Later("ui.serve"), Later("gradio_client")


@pytest.fixture
def handlers(shelf: Any, tmp_path: Path) -> Any:
    return handling.Handlers(Jobs(Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")))


def values(answer: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """A handler's answer by name, updates reduced to their value; what it leaves alone is left out."""
    found = {}
    for name, item in zip(names, answer):
        if isinstance(item, dict) and item.get("__type__") == "update":
            item = item.get("value", item)
        if not (isinstance(item, dict) and item.get("__type__") == "update"):
            found[name] = item
    return found


def inputs(settings: Recipe, *, preview: bool = True) -> list[Any]:
    start = [0.6, None, "whole", None, None, None, None, 0.6]  # of GIVEN and NUMBERS
    return [*plain(settings).values(), *start, preview]


def of(handlers: Any, first: Any, *_: Any) -> dict[str, Any]:
    """What the page shows in the end of the run whose first answer this is."""
    job = values(first, handling.GOING)["job"]
    return values(handlers.shown(None, job), handling.SHOWN)


def set_by(answer: dict[str, Any]) -> dict[str, Any]:
    """The values that an answer has for the controls."""
    return {name: answer["controls"][name]["value"] for name in CONTROLS}


def plain(settings: Recipe) -> dict[str, Any]:
    """The settings that have a control."""
    return {k: v for k, v in asdict(settings).items() if k in CONTROLS}


def asked(model: str, seeds: str = "0-9") -> dict[str, Any]:
    return {"ticket": 7, "model": model, "rest": seeds}


def test_controls_are_the_settings() -> None:
    assert (*CONTROLS, *START) == tuple(f.name for f in fields(Recipe))


def test_choosing_a_model_sets_its_own_defaults(handlers: Any, shelf: Any) -> None:
    answer = handlers.choose(asked(shelf.pictures))
    assert set_by(answer) == plain(
        Recipe(shelf.pictures, "ema-0.9", OWN, "0-9", 5, "heun", "cfg=1.5,interval=0.1:0.9", dtype="fp32")
    )
    assert (answer["form"], answer["ticket"], answer["source"]) == ("sample", 7, shelf.pictures)
    label = answer["controls"]["label"]
    assert label["visible"] is True and label["choices"] == [
        (name, name) for name in (OWN, "none", "0", "1", "2")
    ]
    points = handlers.choose(asked(shelf.points))
    assert set_by(points)["seeds"] == "0-999" and points["controls"]["label"]["visible"] is False
    assert set_by(handlers.choose(asked(shelf.points, "4,7")))["seeds"] == "4,7"  # what was typed stays
    with pytest.raises(gr.Error, match="got model 'nowhere'"):
        handlers.choose(asked("nowhere", "0"))


def test_generate_shows_previews_and_then_files(handlers: Any, shelf: Any) -> None:
    settings = Recipe(shelf.pictures, seeds="0-2", num_steps=400, sampler="euler")
    first, *middle, last = handlers.generate(None, *inputs(settings))
    assert values(first, handling.GOING)["job"] and first[handling.GOING.index("stop")]["interactive"] is True
    assert "Loading squares" in values(middle[0], handling.GOING)["status"]
    seen = [s for row in middle if "preview" in (s := values(row, handling.GOING))]
    assert seen and all(re.search(r"step \d+ of 400", s["status"]) for s in seen)
    assert all('src="data:image/png;base64,' in s["preview"] for s in seen)
    shown = of(handlers, first)
    assert [Path(p).name for p in shown["paths"]] == [f"seed-00000{i}.png" for i in range(3)] and [
        p for p, _ in shown["gallery"]
    ] == shown["paths"]
    assert [text for _, text in shown["gallery"]] == ["0 · 0", "1 · 1", "2 · 2"] and last[
        handling.GOING.index("stop")
    ]["interactive"] is False
    below = {name: shown[name] for name in Later("ui.chosen").BOTTOM if name in shown}
    assert below["recipe"] == read_recipe(shown["paths"][0]) and below["command"].startswith(
        f"studio sample {shelf.pictures}@4 --out again --seeds 0 "
    )
    assert below["download"] == shown["paths"][0]
    assert not any(
        "data:image" in str(answer) for answer in handlers.generate(None, *inputs(settings, preview=False))
    )


def test_restore_sets_every_control(handlers: Any, shelf: Any) -> None:
    settings = Recipe(
        shelf.pictures, "raw", "2", "11", 3, "ddim(eta=0.5)", "cfg=3,interval=0.2:0.8", "", "fp32", True
    )
    picture = of(handlers, *handlers.generate(None, *inputs(settings)))["paths"][0]
    answer = Later("ui.dropped").apply(handlers.engine, picture, {"sample": 3, "translate": 4})
    assert (
        set_by(answer) == plain(settings) and answer["ticket"] == 3 and Recipe(**set_by(answer)) == settings
    )


def test_stop_ends_the_run_and_tells_where(handlers: Any, shelf: Any) -> None:
    run = handlers.generate(
        None, *inputs(Recipe(shelf.pictures, seeds="0-3", num_steps=100_000, sampler="euler"))
    )
    while not re.search(r"step \d+ of", values(next(run), handling.GOING).get("status", "")):
        pass
    taken = handlers.stop(None)
    *_, last = run
    text = values(last, handling.GOING)["status"]
    assert "Stopped after step" in text and "nothing was saved" in text
    assert taken[handling.GOING.index("stop")]["interactive"] is False
    assert last[handling.GOING.index("generate")]["interactive"] is True and not list(
        handlers.engine.out.glob("[!.]*")
    )
    assert "Nothing runs" in values(handlers.stop(None), handling.GOING)["status"]


def test_a_run_goes_on_without_whoever_asked_for_it(handlers: Any, shelf: Any) -> None:
    asked = Recipe(shelf.pictures, seeds="0-2", num_steps=40, sampler="euler")
    run = handlers.generate(None, *inputs(asked))
    job = values(next(run), handling.GOING)["job"]
    next(run)
    run.close()
    first, *_, last = handlers.follow(None, job, False)
    shown = of(handlers, first)
    assert "3 samples" in values(last, handling.GOING)["status"]
    assert values(first, handling.GOING)["job"] == job and [Path(p).name[-5] for p in shown["paths"]] == [
        "0",
        "1",
        "2",
    ]
    later = handling.Handlers(Jobs(handlers.engine))  # as after the page was served anew
    assert of(later, first)["paths"] == shown["paths"]
    for other in ("", "nothing", job):
        assert [values(row, handling.GOING) for row in later.follow(None, other, False)] == [{}]
    assert values(later.shown(None, "nothing"), handling.SHOWN) == {}


def test_mistakes_become_toasts_and_stay_readable(handlers: Any, shelf: Any) -> None:
    run = handlers.generate(None, *inputs(Recipe(shelf.pictures, seeds="<i>")))
    answer = next(run)  # before a model is opened
    assert (
        "got seeds '&lt;i&gt;'" in values(answer, handling.GOING)["status"]
        and answer[handling.GOING.index("stop")]["interactive"] is False
    )
    with pytest.raises(gr.Error, match="got seeds"):
        next(run)
    with pytest.raises(gr.Error, match="pick a model first"):
        list(handlers.generate(None, *inputs(Recipe(""))))


def test_served_page_generates_files_with_recipes(served: tuple[str, Engine], shelf: Any) -> None:
    url, engine = served
    client = gradio_client.Client(url, verbose=False)
    assert shelf.pictures in [m["model"] for m in client.predict(api_name="/models")]
    answer = client.predict(
        shelf.pictures, seeds="4,6", num_steps=2, sampler="euler", guidance="cfg=2", api_name="/generate"
    )
    assert [Path(p).name for p in answer["files"]] == ["seed-000004.png", "seed-000006.png", "grid.png"]
    for path, recipe in zip(answer["files"], answer["recipes"]):
        assert (
            read_recipe(path) == recipe
            and recipe["sampler"] == "euler"
            and Path(path).is_relative_to(engine.out)
        )
    fetched = httpx.get(f"{url}gradio_api/file={answer['files'][0]}")
    assert fetched.content == Path(answer["files"][0]).read_bytes()  # the text inside is not stripped
    with pytest.raises(gradio_client.exceptions.AppError, match="did you mean 'euler'"):
        client.predict(shelf.pictures, sampler="eulr", api_name="/generate")
    assert client.predict(api_name="/stop") == ""


def test_served_page_gives_nothing_but_pictures(
    served: tuple[str, Engine], shelf: Any, tmp_path: Path
) -> None:
    url, engine = served
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    for path in (
        outside,
        Path(shelf.pictures) / "config.yaml",
        engine.out.parent / "out-other",
        Path("/etc/passwd"),
    ):
        assert httpx.get(f"{url}gradio_api/file={path}").status_code in (403, 404)
    names = set(httpx.get(f"{url}gradio_api/info").json()["named_endpoints"])
    assert names == {
        f"/{name}" for name in ("generate", "translate", "job", "result", "stop", "models", "recipe")
    }  # internals stay private
    config = httpx.get(f"{url}config").json()
    assert config["analytics_enabled"] is False and config["title"] == "drift-studio"


def press(url: str, session: str, data: list[Any]) -> None:
    """What the browser sends when Generate is pressed."""
    known = httpx.get(f"{url}config").json()["dependencies"]
    event = next(d for d in known if len(d["inputs"]) == len(data))
    body = {"data": data, "fn_index": event["id"], "session_hash": session}
    assert httpx.post(f"{url}gradio_api/queue/join", json=body).status_code == 200


def wait_for(url: str, session: str) -> None:
    with httpx.stream(
        "GET", f"{url}gradio_api/queue/data", params={"session_hash": session}, timeout=30
    ) as stream:
        for line in stream.iter_lines():
            if '"process_completed"' in line:
                return


def test_one_click_on_the_served_page(served: tuple[str, Engine], shelf: Any) -> None:
    url, engine = served
    before = set(engine.out.glob("[!.]*"))
    press(url, "click", inputs(Recipe(shelf.pictures, seeds="1", num_steps=2, sampler="euler")))
    wait_for(url, "click")
    (folder,) = set(engine.out.glob("[!.]*")) - before
    assert read_recipe(folder / "seed-000001.png")["seed"] == 1
    assert np.asarray(Image.open(folder / "seed-000001.png")).shape == (8, 8)


def test_stop_reaches_the_run_of_its_own_session(serving: tuple[str, Jobs], shelf: Any) -> None:
    url, jobs = serving
    before = set(jobs.engine.out.glob("[!.]*"))
    press(url, "long", inputs(Recipe(shelf.pictures, seeds="0-63", num_steps=100_000, sampler="euler")))
    waiting = threading.Thread(target=wait_for, args=(url, "long"))
    waiting.start()
    for _ in range(300):
        if mine := jobs.queue.of("long"):
            break
        time.sleep(0.1)
    assert gradio_client.Client(url, verbose=False).predict(api_name="/stop") == ""  # another session
    assert not mine[0].flag.is_set()
    assert jobs.queue.stop_all("long", wait=30).startswith("Stopped after step")
    waiting.join(30)
    assert not waiting.is_alive() and set(jobs.engine.out.glob("[!.]*")) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:99"}, "which is not there"),
        ({"dtype": "fp8"}, "got dtype 'fp8'"),
        ({"port": 70000}, "cannot serve at"),
    ],
)
def test_what_cannot_be_served_is_said_before_it_starts(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        ui_serve.main(out=str(tmp_path / "out"), **options)


def test_a_foreign_host_is_refused(served: tuple[str, Engine]) -> None:
    url, _ = served
    port = httpx.URL(url).port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "10.0.0.7",
        "",
        "[::1]x",
    ):
        for path in ("", "config", "gradio_api/info"):
            answer = httpx.get(f"{url}{path}", headers={"Host": host})
            assert answer.status_code == 400, (host, path)
    for host in (f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert httpx.get(f"{url}config", headers={"Host": host}).status_code == 200, host
    everywhere = Hosts(None, names_of("0.0.0.0", ["studio.lan"]), numbers=True)  # type: ignore[arg-type]
    assert (
        everywhere.knows("192.168.1.7:7860")
        and everywhere.knows("studio.lan")
        and not everywhere.knows("evil.example")
    )


def test_models_tell_conditions_and_bridges(served: tuple[str, Engine]) -> None:
    url, _ = served
    listed = {m["model"]: m for m in gradio_client.Client(url, verbose=False).predict(api_name="/models")}
    assert (
        listed["fashion-restore"]["kind"] == "bridge"
        and listed["fashion-restore"]["starts_from"] == "degraded pictures"
    )
    assert listed["fashion-dit"]["kind"] == "generator" and listed["fashion-dit"]["conditions"] == {}
    conditions = listed["moses-graph-dit"]["conditions"]
    assert list(conditions) == ["logP", "QED", "TPSA", "atoms"] and conditions["atoms"] == [1, 26]
    assert all(low < high for low, high in conditions.values())
