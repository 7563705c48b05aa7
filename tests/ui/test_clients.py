"""Scripts that call a page of its own process: with nothing said, cancelled in the middle, killed in the
middle."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from later import Later
from processes import Page, paged, until
from warm import Process

gradio_client = Later("gradio_client")
LONG: dict[str, Any] = {"seeds": "0-127", "num_steps": 20_000, "sampler": "euler", "api_name": "/generate"}


@pytest.fixture(scope="module")
def page(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with paged(shelf.roots[0], tmp_path_factory.mktemp("clients")) as found:
        yield found


@pytest.mark.parametrize("said", [{"num_steps": 2}, pytest.param({}, marks=pytest.mark.slow)], ids=str)
def test_nothing_said_makes_the_first_model_of_the_list(said: dict[str, int], page: Page) -> None:
    client = gradio_client.Client(page.url, verbose=False)
    made = client.predict(**said, api_name="/generate")
    assert (
        made["recipes"][0]["model"] == client.predict(api_name="/models")[0]["model"]
        and made["stopped"] == ""
    )
    assert len(made["recipes"]) == 8 and all(
        (Path(made["folder"]) / Path(f).name).is_file() for f in made["files"]
    )


def test_a_cancelled_job_ends_at_once_and_the_next_one_runs(page: Page, shelf: Any) -> None:
    client = gradio_client.Client(page.url, verbose=False)
    job = client.submit(shelf.pictures, **LONG)
    until(lambda: any("done" in told for told in job.outputs()), 60)
    start = time.monotonic()
    assert job.cancel()
    # waits for the device
    made = gradio_client.Client(page.url, verbose=False).predict(
        shelf.pictures, seeds="5", num_steps=1, api_name="/generate"
    )
    assert [r["seed"] for r in made["recipes"]] == [5] and time.monotonic() - start < 20  # of minutes
    assert "Traceback" not in "".join(page.process.told())


def test_a_client_that_goes_away_leaves_no_traceback_and_nothing_running(
    page: Page, shelf: Any, tmp_path: Path
) -> None:
    script = (
        "import json, sys, time; from gradio_client import Client\n"
        "job = Client(sys.argv[1], verbose=False).submit(sys.argv[2], **json.loads(sys.argv[3]))\n"
        "while not any('done' in told for told in job.outputs()): time.sleep(0.05)\n"
        "print('runs', flush=True); time.sleep(600)"
    )
    gone = Process(
        ["-c", script, page.url, shelf.pictures, json.dumps(LONG)], cwd=tmp_path, env=dict(os.environ)
    )
    until(lambda: gone.told()[0] == "runs\n" or gone.poll() is not None, 60)
    gone.kill()
    assert gone.communicate()[0] == "runs\n"
    start = time.monotonic()
    made = gradio_client.Client(page.url, verbose=False).predict(
        shelf.pictures, seeds="6", num_steps=1, api_name="/generate"
    )
    assert [r["seed"] for r in made["recipes"]] == [6] and time.monotonic() - start < 40
    assert "Traceback" not in "".join(page.process.told())
