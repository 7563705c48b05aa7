"""The example of a coupling of one's own runs, and does what it says."""

import os
import re
from pathlib import Path

import pytest
import warm

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_example_of_an_own_coupling() -> None:
    done = warm.run(["examples/own_coupling.py"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    far = {
        name: float(value) for name, value in re.findall(r"(\w+): two steps are ([\d.]+) away", done.stdout)
    }
    assert far["sliced"] < 0.8 * far["independent"]  # straighter paths need fewer steps
