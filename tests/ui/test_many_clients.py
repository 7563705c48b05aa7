"""Eight clients at once, each of which gets its own; and memory over many runs."""

import ctypes
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from later import Later

from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from studio.runtime.recipes import read_recipe
from ui.engine import KEEP_MODELS, Engine
from ui.jobs import Jobs

gradio_client = Later("gradio_client")


def test_eight_clients_at_once_get_their_own_seeds(serving: tuple[str, Jobs], shelf: Any) -> None:
    """Each with another model's step, seeds and guidance than the next one."""
    url, jobs = serving

    def ask(k: int) -> tuple[list[int], Any]:
        seeds = [10 * k, 10 * k + 3]
        made = gradio_client.Client(url, verbose=False).predict(
            f"{shelf.pictures}@{2 + 2 * (k % 2)}",
            seeds=",".join(map(str, seeds)),
            num_steps=2,
            sampler="euler",
            guidance=f"cfg={1 + k}",
            api_name="/generate",
        )
        return seeds, made

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert len({made["folder"] for _, made in answers}) == len({made["job"] for _, made in answers}) == 8
    for k, (seeds, made) in enumerate(answers):
        assert [r["seed"] for r in made["recipes"]] == seeds and not made["stopped"]
        assert {r["guidance"] for r in made["recipes"]} == {f"cfg={1 + k}"}
        assert {r["model"] for r in made["recipes"]} == {f"{shelf.pictures}@{2 + 2 * (k % 2)}"}
        for path, recipe in zip(made["files"], made["recipes"]):
            assert read_recipe(path) == recipe and Path(path).parent == Path(made["folder"])
    assert len(jobs.engine._models) <= KEEP_MODELS


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_two_hundred_runs_take_no_more_memory_than_a_hundred(shelf: Any, tmp_path: Path) -> None:
    """By turns of three models, more than are kept, through one queue. Over the last hundred runs the objects
    that are held grow by less than ten a run, and the memory by less than 8 MB, once the allocator has given
    back the holes that models leave in its heap."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("only glibc gives back the holes of its heap when it is asked to")
    jobs = Jobs(Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32"))
    models = [f"{shelf.pictures}@2", f"{shelf.pictures}@4", shelf.points]
    objects, memory = [], []
    for k in range(199):
        asked = Recipe(models[k % 3], seeds=f"{k}-{k + 7}", num_steps=2, sampler="euler", guidance="")
        *_, made = jobs.queue.watch(jobs.sample(asked, "me"), preview=True)
        assert isinstance(made, Result) and len(made.recipes) == 8
        if k in (99, 198):  # with the same models held
            gc.collect()
            libc.malloc_trim(0)
            objects.append(len(gc.get_objects()))
            memory.append(resident())
    jobs.queue.close()
    assert objects[1] - objects[0] < 1000, objects
    assert memory[1] - memory[0] < 8_000_000, memory
    assert len(jobs.engine._models) <= KEEP_MODELS
