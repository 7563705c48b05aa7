"""Who asks whom: outside of the rooms that own them, nothing is compared with the name of a task, a codec, a
backbone, a data set or a condition, with a family, or with the class of one; and nothing is decided by how
many sides a shape has. Tasks, codecs, backbones and data sets say what they can do."""

import ast
from pathlib import Path

import pytest

from backbones import REGISTRY as BACKBONES
from studio.codecs.codec import REGISTRY as CODECS
from studio.data import REGISTRY as DATA
from studio.data.conditions import SLOTS
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
READ = {*BACKBONES.own, *DATA.own, *SLOTS}  # names that count where they are read, see `reads_a_name`
# where a shape is taken apart
SHAPES = ("studio/data/", "studio/sampling/inputs.py")
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


def reads_a_name(node: ast.expr) -> bool:
    """``x.name``, ``spec["name"]``, ``spec.get("name")``, ``source.partition(":")[0]``."""
    if isinstance(node, ast.Attribute):
        return node.attr == "name"
    if isinstance(node, ast.Subscript):
        inner = node.value
        cut = isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute)
        return texts(node.slice) == {"name"} or (cut and inner.func.attr in ("partition", "split"))
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and bool(node.args)
        and texts(node.args[0]) == {"name"}
    )


def counts_sides(node: ast.expr) -> bool:
    """``len(x.shape)``, ``len(self.sample_shape)``."""
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "len"
        and ast.unparse(node.args[0]).endswith("shape")
    )


def texts(node: ast.expr) -> set[str]:
    """Names that are written out, alone or in brackets."""
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return {p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)}


def comparisons(source: str, *, shapes: bool = True) -> list[int]:
    """Lines that compare a task, codec or family with a name of one, look one up in a table of such names,
    choose between two of them, or ask for the class of one; and lines that compare another name that is read,
    or (``shapes``) how many sides a shape has, with a constant."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            words = set().union(*(texts(s) for s in sides))
            named, said = words & NAMES, words & READ
            number = any(isinstance(s, ast.Constant) and isinstance(s.value, int) for s in sides)
            if (
                (named and any(holds_a_kind(s) for s in sides))
                or (said and any(reads_a_name(s) for s in sides))
                or (shapes and number and any(counts_sides(s) for s in sides))
            ):
                found.append(node.lineno)
        elif (
            isinstance(node, ast.IfExp)
            and len((texts(node.body) | texts(node.orelse)) & TASKS.own.keys()) > 1
        ):
            found.append(node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            if CLASSES & set(ast.unparse(node.args[1]).replace("|", " ").replace(".", " ").split()):
                found.append(node.lineno)
        elif isinstance(node, ast.Dict):
            keys = set().union(*(texts(key) for key in node.keys if key is not None))
            if len(keys & TASKS.own.keys()) > 1:  # a registry may have entries of such names
                if "" in {ast.unparse(value).partition(":")[2] for value in node.values}:
                    found.append(node.lineno)
    return found


def test_no_name_is_compared_outside_the_rooms_that_own_it() -> None:
    found = {}
    for path in FILES:
        name = str(path.relative_to(ROOT))
        studio = name.startswith("studio/") and not name.startswith(SHAPES)
        found[name] = comparisons(path.read_text(), shapes=studio)
    assert {k: v for k, v in found.items() if v} == {}, "ask the task, the codec, ... what it can do"


@pytest.mark.parametrize(
    "source",
    [
        'a.task == "points"',
        'if info.task != "image": pass',
        'codec["name"] == "graph"',
        'x.codec.get("name") in ("pixels", "scale")',
        'other.codec.name == "pixels"',
        "isinstance(model.codec, GraphCodec)",
        "if len(self.sample_shape) == 3: pass",
        "pick = a if len(info.shape) != 3 else b",
        'asked.backbone.get("name") == "dit"',
        'spec["name"] in ("images", "npz")',
        'source.partition(":")[0] in ("images", "npz")',
        'any(f.name == "image" for f in fields)',
        'task = "image" if value.ndim == 3 else "points"',
        'said = {"image": "pictures", "molecule": "graphs"}.get(data.task, "points")',
    ],
)
def test_this_test_can_fail(source: str) -> None:
    assert comparisons(source) == [1]


def test_what_is_no_comparison_of_names_passes() -> None:
    assert comparisons('a.task == b.task\nkind == "points"\nname = "image"\nt == "graph"') == []
    assert (
        comparisons('a.name == b.name\nname == "sfid"\nlen(a.shape) == len(b.shape)\nx.name == "mine"') == []
    )


def test_files_of_tests_have_names_of_their_own() -> None:
    """Of two with one name pytest collects neither where both are asked for."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_line_is_over_110_columns() -> None:
    """Of any module: ruff lets a line pass that ends in a remark to a checker."""
    rooms = (
        *("backbones", "samplers", "guidance", "studio", "ui"),
        "tests",
        "benchmarks",
        "examples",
        "docs",
    )
    wide = [
        f"{path.relative_to(ROOT)}:{i}"
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 110
    ]
    assert wide == []
