"""Runs that many tests look at, trained once."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import dit_config, points_config, write_pictures

import studio
from studio.model.model import Model
from studio.training.run import Run


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded pictures and features are cached beside the tests, not in the user's home; processes of one
    call of pytest share them. What was measured on this machine before holds here too."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER_COUNT") else base
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    known, here = (Path(at, "drift-studio", "measured") for at in (home, shared / "cache"))
    if known.is_dir():
        draft = shutil.copytree(known, tmp_path_factory.mktemp("known") / "measured")
        here.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # another process was faster
            draft.rename(here)
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:  # but the list of fonts, which takes seconds to be made
            patch.setenv("MPLCONFIGDIR", str(Path(home, "matplotlib")))
        patch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks of a few numbers only wait for a second thread, for a long time when the machine has something
    else to do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 grey 8×8 pictures of four classes."""
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures.npz")


@pytest.fixture(scope="session")
def picture_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A class-conditional DiT, 48 steps, with previews, held-out losses and a weak snapshot."""
    config = dit_config(pictures, steps=48, save_every=16, eval_every=16, preview=True)
    return studio.train(config, out=tmp_path_factory.mktemp("runs") / "tiny", quiet=True)


@pytest.fixture(scope="session")
def points_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An unconditional MLP on eight Gaussians."""
    return studio.train(
        points_config(steps=40, save_every=20), out=tmp_path_factory.mktemp("runs") / "dots", quiet=True
    )


@pytest.fixture(scope="session")
def picture_model(picture_run: Run) -> Model:
    return studio.load(picture_run.folder, dtype="fp32", device="cpu")


@pytest.fixture(scope="session")
def points_model(points_run: Run) -> Model:
    return studio.load(points_run.folder, dtype="fp32", device="cpu")


@pytest.fixture(scope="session")
def root() -> str:
    """Where the repository lies."""
    return str(Path(__file__).parents[2])
