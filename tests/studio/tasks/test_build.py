"""`studio.tasks.build`, after nothing but ``import studio``."""

import subprocess
import sys

import pytest

from studio.tasks import REGISTRY, build


def test_every_task_is_built_by_its_name() -> None:
    assert all(build(name).name == name for name in REGISTRY)
    with pytest.raises(ValueError, match="did you mean 'posterior'"):
        build("posteriors")


def test_nothing_else_has_to_be_imported() -> None:
    code = "import studio; print(studio.tasks.build('posterior').simulate(2, seed=0)['values'].shape)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "(2, 3)\n"
