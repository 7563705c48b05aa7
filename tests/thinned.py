"""Matrices of tests of which `make test` runs a share and `make test-all` everything."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest


def thinned(every: int, *axes: Sequence[Any]) -> list[Any]:
    """All combinations for ``pytest.mark.parametrize``; one in ``every`` is fast, along the diagonals, so
    that each value of every axis is among them. The rest is slow."""
    found = []
    for places in itertools.product(*(range(len(axis)) for axis in axes)):
        values = [axis[k] for axis, k in zip(axes, places)]
        found.append(pytest.param(*values, marks=[pytest.mark.slow] if sum(places) % every else []))
    return found
