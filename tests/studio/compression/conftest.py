"""A small model of its own folder, and a trial of it."""

import shutil
from pathlib import Path

import pytest

import studio
from studio.compression.trial import Trial, pairs
from studio.model.model import Model
from studio.training.run import Run


@pytest.fixture(scope="module")
def model(picture_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Sixteen tokens, two layers of attention; 4 steps of ab2, guided in the middle ones."""
    folder = tmp_path_factory.mktemp("compressed") / "tiny"
    shutil.copytree(picture_run.folder, folder)
    return studio.load(folder, dtype="fp32", device="cpu")


@pytest.fixture(scope="module")
def trial(model: Model) -> Trial:
    seeds, labels = pairs(4, model.classes)
    assert labels is not None
    request, _ = model.request(
        seeds=seeds, labels=list(labels), num_steps=8, sampler="heun", guidance="cfg=3"
    )
    return Trial(model, request)


def folder_of(model: Model) -> Path:
    return model.folder / "plans"
