"""Who gets in, and to what: passwords, pages served elsewhere, files outside the folder of outputs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import driving
import httpx
import pytest
from later import Later

from studio.jobs.index import HOME
from studio.runtime import passwords
from ui.engine import Engine
from ui.hosts import Hosts, names_of

gradio_client, ui_app = Later("gradio_client"), Later("ui.app")


@pytest.fixture(scope="module")
def locked(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page that asks for Ada's password."""
    engine = Engine(shelf.roots, tmp_path_factory.mktemp("locked") / "out", device="cpu", dtype="fp32")
    people = dict([passwords.hashed("ada", "engine no 9").split(":", 1)])
    with driving.serve(engine, people=people) as url:
        yield url


def test_a_page_with_people_is_closed_to_all_others(locked: str) -> None:
    for path in ("config", "gradio_api/info", "gradio_api/file=/x", "gradio_api/queue/data?session_hash=a"):
        assert httpx.get(locked + path).status_code == 401, path
    body = {"data": [], "fn_index": 0, "session_hash": "a"}
    for path in ("queue/join", "call/models", "run/models", "upload"):
        assert httpx.post(f"{locked}gradio_api/{path}", json=body).status_code == 401, path
    for page in ("", "bridge", "library"):
        shown = httpx.get(locked + page)
        assert shown.status_code == 200 and '"auth_required":true' in shown.text
        assert '"components":[]' in shown.text
    for name, word in (("ada", "wrong one"), ("eve", "engine no 9")):
        told = httpx.post(f"{locked}login", data={"username": name, "password": word})
        assert told.status_code == 400 and "set-cookie" not in told.headers
    client = gradio_client.Client(locked, auth=("ada", "engine no 9"), verbose=False)
    assert client.predict(api_name="/models")


def test_a_page_served_elsewhere_may_not_ask(served: tuple[str, Engine]) -> None:
    url, _ = served
    port = httpx.URL(url).port
    own = [f"http://127.0.0.1:{port}", f"http://localhost:{port}", f"http://[::1]:{port}"]
    foreign = [
        "null",
        "http://evil.example",
        f"http://evil.example:{port}",
        f"http://127.0.0.1.evil.example:{port}",
        f"http://localhost@evil.example:{port}",
        f"http://127.0.0.1:{port + 1}",
        "http://127.0.0.1",
        f"file://127.0.0.1:{port}",
        "",
    ]
    asking = {"": "get", "config": "get", "gradio_api/queue/data?session_hash=a": "get"}
    asking |= {f"gradio_api/{path}": "post" for path in ("queue/join", "upload", "run/models", "call/stop")}
    for origin in foreign:
        for path, method in asking.items():
            told = httpx.request(method, url + path, headers={"Origin": origin})
            assert told.status_code == 403 and "expected one from this page" in told.text, (origin, path)
    for origin in own:
        assert httpx.get(f"{url}config", headers={"Origin": origin}).status_code == 200, origin
    numbers = Hosts(None, names_of("0.0.0.0"), numbers=True)  # type: ignore[arg-type]
    assert numbers.asks("http://10.0.0.7:80", "10.0.0.7:80")
    assert not numbers.asks("http://10.0.0.8:80", "10.0.0.7:80")
    scope = {
        "type": "websocket",
        "path": "/x",
        "headers": [(b"host", b"localhost"), (b"origin", b"http://a")],
    }
    assert (numbers.refusal(scope) or (0,))[0] == 403


def test_nothing_outside_the_folder_of_outputs_is_served(served: tuple[str, Engine], tmp_path: Path) -> None:
    url, engine = served
    assert (engine.index.jobs() or True) and (engine.out / HOME).is_dir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.txt").write_text("hidden")
    (engine.out / "plain.txt").write_text("served")
    (engine.out / "file-link.txt").symlink_to(tmp_path / "secret" / "a.txt")
    (engine.out / "folder-link").symlink_to(tmp_path / "secret")
    out = engine.out
    assert httpx.get(f"{url}gradio_api/file={out}/plain.txt").text == "served"
    closed = [
        out / "file-link.txt",
        out / "folder-link" / "a.txt",
        f"{out}/../../{tmp_path.name}/secret/a.txt",
        f"{out}/%2e%2e/%2e%2e/etc/passwd",
        *[p for p in (out / HOME).iterdir()],
        f"{out}/a%00b",
        f"{out}/{'a' * 5000}",
        "http://127.0.0.1:1/",
        "HTTPS://example.org/a.png",
        "file:///etc/passwd",
    ]
    for path in closed:
        told = httpx.get(f"{url}gradio_api/file={path}")
        assert told.status_code in (403, 404) and "hidden" not in told.text, path
    assert httpx.get(f"{url}gradio_api/proxy=https://a.hf.space/x").status_code == 403
