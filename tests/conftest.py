"""Shared by all tests: two threads, and the golden files (safetensors with a JSON of the same name)."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

# pytest puts this folder on the path, and its subfolders carry the packages' names: the packages themselves must be found first
sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(2)

GOLDEN = Path(__file__).parent / "golden"
Golden = tuple[dict[str, Tensor], dict[str, Any]]


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """``golden(name)``: the tensors and the notes of tests/golden/name.{safetensors,json}."""

    def load(name: str) -> Golden:
        return load_file(GOLDEN / f"{name}.safetensors"), json.loads((GOLDEN / f"{name}.json").read_text())

    return load
