"""Shared by all tests: two threads, or one in each of several processes, and the golden files (safetensors
with a JSON of the same name)."""

# ruff: noqa: E402 (libraries read how many threads they may have when they are loaded)

import os

ALONE = "PYTEST_XDIST_WORKER" not in os.environ
if not ALONE:
    os.environ["OMP_NUM_THREADS"] = "1"  # of programs that tests start as well

import gc
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

# pytest puts this folder on the path, and its subfolders carry the packages' names: the packages themselves
# must be found first
sys.path.insert(0, str(Path(__file__).parents[1]))
gc.disable()  # until everything is collected, of which nothing is garbage

# begun first, so that no process is left alone with one of them at the end; the longest first
LONG = (
    "studio/generation/test_generate",
    "samplers/test_contracts_samplers",
    "samplers/test_from_diffusers",
    "samplers/test_wrapped_levels",
    "ui/test_bridge_page",
    "studio/training/test_processes",
    "studio/training/test_going_on",
    "studio/generation/test_generate_kills",
    "studio/training/test_kills",
    "studio/evaluation/test_evaluate",
    "studio/sampling/test_recipe_commands",
    "ui/test_clients",
    "samplers/test_known_entries",
    "studio/convert/test_convert_models",
    "studio/generation/test_generate_more",
    "studio/training/test_resume",
    "studio/training/test_bridges",
    "samplers/test_graph_steps",
    "studio/reproduce/test_wcfm_bars",
    "studio/codecs/test_graph_codec",
    "backbones/test_wkv",
    "backbones/test_compile",
    "ui/test_engine",
    "studio/training/test_one_clock",
    "studio/cli/test_cli_and_api",
    "samplers/test_own_coupling",
    "backbones/test_contracts_backbones",
    "studio/checkpoints/test_power_cut",
    "studio/reproduce/test_reproduce",
    "studio/training/test_chosen",
    "guidance/test_branches",
)
# run by one process, as they share what takes long to load or to start
TOGETHER = ("ui/", "backbones/test_convert.py", "studio/convert/", "studio/codecs/test_vae_codec.py")
GOLDEN = Path(__file__).parent / "golden"

# Runs are written so that they outlast a power cut, and tests write thousands: where there is memory to spare
# it holds their folders, as every file of a run waits for a disk
MEMORY, ENOUGH = Path("/dev/shm"), 8 * 2**30
if (
    os.access(MEMORY, os.W_OK)
    and min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > ENOUGH
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
Golden = tuple[dict[str, Any], dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    place = {here / f"{name}.py": k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file is run by one process, and some folders are."""
    from xdist.scheduler import LoadFileScheduling

    class Rooms(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((name for name in TOGETHER if file.startswith(f"tests/{name}")), file)

    return Rooms(config, log)


def pytest_collection_finish() -> None:
    import torch  # here, as the process that only deals out the tests needs none

    torch.set_num_threads(2 if ALONE else 1)
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Memory is given back where nothing is left to look at."""
    base = session.config._tmp_path_factory._basetemp
    if ALONE and not exitstatus and base is not None and MEMORY in base.parents:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a script of its own, as far as threads go that an earlier one asked for, and signals that
    were sent to it."""
    import torch

    # processes beside each other with more threads than cores wait for one another
    if not ALONE and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    if "studio.runtime.signals" in sys.modules:
        monkeypatch.setattr("studio.runtime.signals._noted", False)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """``golden(name)``: the tensors and the notes of tests/golden/name.{safetensors,json}."""
    from safetensors.torch import load_file

    def load(name: str) -> Golden:
        return load_file(GOLDEN / f"{name}.safetensors"), json.loads((GOLDEN / f"{name}.json").read_text())

    return load


@pytest.fixture(scope="session")
def strict() -> Callable[[float], float]:
    """``strict(limit)`` for outputs of whole networks in float64. They embed times in float32 all the same,
    as the originals do, and MKL rounds exp differently on Intel's CPUs than on the one that the goldens were
    recorded on: the original's own output moves by 1.5e-7 with it. The limit holds where exp has the recorded
    bits, 1e-6 elsewhere."""
    import torch

    frequencies = torch.exp(-math.log(10000.0) * torch.arange(128, dtype=torch.float32) / 128)
    return lambda limit: (
        limit if int(frequencies.view(torch.int32).sum()) == 129226262049 else max(limit, 1e-6)
    )
