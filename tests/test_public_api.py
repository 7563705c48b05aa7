"""The public functions tell an editor all of their options: keyword arguments with types, a line each."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import studio
from studio.data import from_arrays, from_dataset
from studio.model.model import Model
from studio.training.run import Run

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "train": studio.train,
    "load": studio.load,
    "generate": studio.generate,
    "evaluate": studio.evaluate,
    "sweep": studio.sweep,
    "translate": studio.translate,
    "compare": studio.compare,
    "compress": studio.compress,
    "from_arrays": from_arrays,
    "from_dataset": from_dataset,
    "Model.request": Model.request,
    "Model.sample": Model.sample,
    "Model.translate": Model.translate,
    "Model.refuse": Model.refuse,
    "Model.invert": Model.invert,
    "Model.log_prob": Model.log_prob,
    "Model.bits_per_dim": Model.bits_per_dim,
    "Model.interpolate": Model.interpolate,
    "Run.load": Run.load,
}
OBVIOUS = {"self", "model", "name", "inputs", "out", "dataset", "held_out", "a", "b", "ref"}
AS_IN = {"Model.request", "Model.refuse", "Model.translate", "Run.load"}  # their options are told elsewhere


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_option_has_a_name_and_a_type(name: str) -> None:
    parameters = [p for n, p in inspect.signature(FUNCTIONS[name]).parameters.items() if n != "self"]
    assert all(p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    assert all(p.annotation is not p.empty for p in parameters)


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - AS_IN))
def test_every_option_is_told(name: str) -> None:
    told = inspect.getdoc(FUNCTIONS[name]) or ""
    untold = [n for n in inspect.signature(FUNCTIONS[name]).parameters if f"``{n}``" not in told]
    assert set(untold) <= OBVIOUS


def test_what_two_functions_share_means_the_same_by_default() -> None:
    ours = inspect.signature(Model.sample).parameters
    for other in (Model.request, Model.refuse):
        shared = inspect.signature(other).parameters
        assert all(ours[n].default == p.default for n, p in shared.items() if n in ours and n != "self")
    assert set(inspect.signature(Model.request).parameters) - {"files"} <= set(ours)
