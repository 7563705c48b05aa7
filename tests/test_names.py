"""Who asks whom: outside of the rooms that own them, nothing is compared with the name of a task or a codec,
with a family, or with the class of one. Tasks and codecs say what they can do."""

import ast
from pathlib import Path

import pytest

from studio.codecs.codec import REGISTRY as CODECS
from studio.tasks import REGISTRY as TASKS

ROOT = Path(__file__).parents[1]
OWNERS = ("studio/tasks/", "studio/codecs/")
FILES = sorted(
    p
    for package in ("backbones", "samplers", "guidance", "studio", "ui")
    for p in (ROOT / package).rglob("*.py")
    if not str(p.relative_to(ROOT)).startswith(OWNERS)
)
NAMES = {*TASKS.own, *CODECS.own}
KINDS = {"task", "codec", "family"}  # what holds such a name
CLASSES = {target.partition(":")[2] for registry in (TASKS, CODECS) for target in registry.own.values()} | {
    "Task",
    "Codec",
}


def holds_a_kind(node: ast.expr) -> bool:
    """``x.task``, ``codec``, ``info.codec["name"]``, ``codec.get("name")``, ``model.codec.name``."""
    if isinstance(node, ast.Call):
        return (
            isinstance(node.func, ast.Attribute) and node.func.attr == "get" and holds_a_kind(node.func.value)
        )
    if isinstance(node, ast.Subscript):
        return holds_a_kind(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr in KINDS or (node.attr == "name" and holds_a_kind(node.value))
    return isinstance(node, ast.Name) and node.id in KINDS


def texts(node: ast.expr) -> set[str]:
    """Names that are written out, alone or in brackets."""
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return {p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)}


def comparisons(source: str) -> list[int]:
    """Lines that compare a task, codec or family with a name of one, look one up in a table of such names, or
    ask for the class of one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = set().union(*(texts(s) for s in sides)) & NAMES
            if named and any(holds_a_kind(s) for s in sides):
                found.append(node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            if CLASSES & set(ast.unparse(node.args[1]).replace("|", " ").replace(".", " ").split()):
                found.append(node.lineno)
        elif isinstance(node, ast.Dict):
            keys = set().union(*(texts(key) for key in node.keys if key is not None))
            if len(keys & TASKS.own.keys()) > 1:
                found.append(node.lineno)
    return found


def test_no_name_is_compared_outside_the_rooms_that_own_it() -> None:
    found = {str(p.relative_to(ROOT)): comparisons(p.read_text()) for p in FILES}
    assert {k: v for k, v in found.items() if v} == {}, "ask the task or the codec what it can do"


@pytest.mark.parametrize(
    "source",
    [
        'a.task == "points"',
        'if info.task != "image": pass',
        'codec["name"] == "graph"',
        'x.codec.get("name") in ("pixels", "scale")',
        'other.codec.name == "pixels"',
        "isinstance(model.codec, GraphCodec)",
        'said = {"image": "pictures", "molecule": "graphs"}.get(data.task, "points")',
    ],
)
def test_this_test_can_fail(source: str) -> None:
    assert comparisons(source) == [1]


def test_what_is_no_comparison_of_names_passes() -> None:
    assert comparisons('a.task == b.task\nkind == "points"\nname = "image"\nt == "graph"') == []
