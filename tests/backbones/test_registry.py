"""Registries: names resolve lazily; unknown names and options get a suggestion; values of the wrong type say
what was expected."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

import backbones
import guidance
import samplers
from backbones.registry import build, check_options, coerce, resolve, suggest

ROOT = Path(__file__).parents[2]


def thing(
    size: int,
    *,
    rate: float = 0.5,
    name: str | None = None,
    pair: tuple[float, float] | None = None,
    mode: Literal["a", "b"] = "a",
    widths: tuple[int, ...] = (),
    flag: bool = False,
    tree: dict[str, int] | None = None,
) -> dict[str, Any]:
    return dict(locals())


REGISTRY = {"thing": f"{__name__}:thing", "counter": "collections:Counter"}


def test_builds_with_checked_options() -> None:
    out = build(
        REGISTRY,
        "thing",
        "widget",
        {"size": 3, "rate": 1, "pair": [0, 1], "widths": [4, 5], "mode": "b", "tree": {"x": 1}},
    )
    assert (
        out["size"] == 3
        and out["widths"] == (4, 5)
        and out["mode"] == "b"
        and out["name"] is None
        and out["tree"] == {"x": 1}
    )
    assert out["rate"] == 1.0 and isinstance(out["rate"], float)  # an int passes for a float
    assert out["pair"] == (0.0, 1.0)


def test_resolve_is_lazy() -> None:
    assert resolve(REGISTRY, "counter", "x") is importlib.import_module("collections").Counter
    broken = REGISTRY | {"broken": "no_such_module:Thing"}
    assert resolve(broken, "thing", "x") is thing  # the broken line hurts only who asks for it
    with pytest.raises(ModuleNotFoundError):
        resolve(broken, "broken", "x")


def test_importing_a_registry_imports_no_entry() -> None:
    """Nor are entry points read at import, or for names of our own. torch._dynamo takes as long as torch."""
    code = (
        "import sys, backbones.plugins as p, backbones, samplers, guidance, studio.data\n"
        "late = {'samplers.solvers.adaptive', 'samplers.solvers.dpmpp', 'torchdiffeq', "
        "'backbones.originals.dit', 'diffusers', 'torch._dynamo'}\n"
        "assert not late & set(sys.modules), late & set(sys.modules)\n"
        "samplers.build('heun'); guidance.parse('cfg=2'); backbones.build('mlp')\n"
        "samplers.build_objective()\n"
        "assert p._read.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "widget 'thing' lacks size; set it in the config or as key=value"),
        ({"size": 1, "rats": 2}, "unknown option 'rats', expected one of size, rate.*did you mean 'rate'"),
        ({"size": 1, "flag-": True}, "did you mean 'flag'"),
        ({"size": "3"}, r"widget 'thing' option 'size' got '3' \(str\), expected int"),
        ({"size": True}, r"option 'size' got True \(bool\), expected int"),
        ({"size": 1.5}, "got 1.5"),
        ({"size": 1, "rate": "fast"}, "option 'rate' got 'fast'"),
        ({"size": 1, "rate": True}, "option 'rate' got True"),
        ({"size": 1, "mode": "c"}, "option 'mode' got 'c'.*expected one of 'a', 'b'"),
        ({"size": 1, "pair": [0.1]}, "option 'pair' got"),
        ({"size": 1, "pair": [0.1, "x"]}, "option 'pair' got"),
        ({"size": 1, "widths": [1, 2.5]}, "option 'widths' got"),
        ({"size": 1, "flag": 1}, "option 'flag' got 1"),
        ({"size": 1, "tree": [1]}, "option 'tree' got"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(REGISTRY, "thing", "widget", options)


@pytest.mark.parametrize(
    "name, message",
    [
        ("think", "got widget 'think', expected one of counter, thing; did you mean 'thing'"),
        ("zzz", "expected one of counter, thing$"),
        (3, "got widget 3"),
    ],
)
def test_wrong_names(name: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(REGISTRY, name, "widget")


def test_dashes_are_underscores_in_suggestions() -> None:
    assert suggest("noise-level", ["noise_level", "other"]) == "; did you mean 'noise_level'?"
    assert suggest("qqqq", ["noise_level"]) == ""


def test_coerce_leaves_what_it_cannot_judge() -> None:
    marker = object()
    assert coerce(marker, Any, "x") is marker and coerce(None, int | None, "x") is None
    assert check_options(lambda a, b=2: 0, {"a": marker}, "x") == {"a": marker}


@pytest.mark.parametrize(
    "registry, kind",
    [(backbones.REGISTRY, "backbone"), (samplers.REGISTRY, "sampler"), (guidance.REGISTRY, "rule")],
)
def test_every_entry_exists_and_its_options_are_keywords(registry: dict[str, str], kind: str) -> None:
    import inspect

    for name in registry:
        entry = resolve(registry, name, kind)
        for parameter in inspect.signature(entry).parameters.values():
            assert parameter.kind is not parameter.VAR_KEYWORD, (
                f"{name} hides its options behind **{parameter.name}"
            )
            if kind != "rule":  # a rule's main value may be written without its name
                assert parameter.kind is parameter.KEYWORD_ONLY, (name, parameter.name)
