"""Tests of molecules: where the repository lies."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> str:
    return str(Path(__file__).parents[3])
