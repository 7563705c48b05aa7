"""The tower: each top-level package imports only those below it, no module imports itself by a detour, ``ui``
knows no tensors, and nothing needs torchvision."""

import ast
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORDER = ["backbones", "samplers", "guidance", "studio", "ui"]
ROOMS = [  # of studio, from the ground up
    "runtime",
    "config",
    "codecs",
    "chem",
    "data",
    "tasks",
    "metrics",
    "recipes",
    "checkpoints",
    "sampling",
    "model",
    "training",
    "compression",
    "generation",
    "jobs",
    "evaluation",
    "convert",
    "reproduce",
    "cli",
]
INNER = {  # of the floors below it: rooms and files, a line of those that do not import each other
    "samplers": [
        "names batch known",
        "spaces",
        "paths",
        "prediction times weights",
        "heads couplings",
        "denoiser objective",
        "solvers reparameterised gaussian_bridge",
    ],
    "guidance": [
        "rules",
        "borrowed probe gap",
        "apg autoguidance cfg dual plus_plus prior rescale tangential zero_star",
        "guided grammar",
    ],
}
PRESENT = [p for p in ORDER if (ROOT / p).is_dir()]


def modules() -> dict[str, Path]:
    """Every module of the tower by its dotted name; a package by the name of its folder."""
    found = {}
    for package in PRESENT:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All of them, those within others too, without the many nodes of their expressions."""
    left = [tree]
    while left:
        yield (node := left.pop())
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            left += getattr(node, part, ())


def imports(module: str, source: str, *, is_package: bool = False) -> set[str]:
    """Dotted names that a module imports anywhere; ``from a import b`` is a.b where that is a module of ours,
    else a."""
    names: set[str] = set()
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*above, *([base] if base else [])])
            names |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return names


@cache
def of(module: str) -> frozenset[str]:
    path = MODULES[module]
    return frozenset(imports(module, path.read_text(), is_package=path.name == "__init__.py"))


def upward(module: str, names: Set[str]) -> list[str]:
    floor = ORDER.index(module.split(".")[0])
    return sorted(n for n in names if n.split(".")[0] in ORDER[floor + 1 :])


def found(wrong: Callable[[str, Set[str]], list[str]], modules: Iterable[str]) -> dict[str, list[str]]:
    """What is wrong with the imports of those modules with which something is."""
    return {m: names for m in modules if (names := wrong(m, of(m)))}


def test_no_arrow_runs_up() -> None:
    assert found(upward, MODULES) == {}, "these import from a floor above their own"


def cycles(graph: Mapping[str, Set[str]]) -> list[str]:
    """The modules on a loop, by removing again and again those that import nothing which is left."""
    left = {m: {n for n in names if n in graph and n != m} for m, names in graph.items()}
    while free := [m for m, names in left.items() if not names & left.keys()]:
        for m in free:
            del left[m]
    return sorted(left)


def test_no_module_imports_itself_by_a_detour() -> None:
    """Of all imports: those within functions and those for types too."""
    assert cycles({m: of(m) for m in MODULES}) == []


def room(module: str) -> str:
    """The room of studio that a module lies in; empty for those outside of all."""
    parts = module.split(".")
    return parts[1] if len(parts) > 2 or (len(parts) == 2 and parts[1] in ROOMS) else ""


def above(module: str, names: Set[str]) -> list[str]:
    """Of what a module of a room imports, what lies in a room above it, or outside of the rooms, which is
    above them all."""
    own = ROOMS.index(room(module))
    return sorted(
        n for n in names if n.split(".")[0] == "studio" and (not room(n) or ROOMS.index(room(n)) > own)
    )


def test_rooms_of_studio_import_those_below() -> None:
    assert found(above, [m for m in MODULES if m.startswith("studio.") and room(m)]) == {}


def beside(module: str, names: Set[str]) -> list[str]:
    """Of what a module of a floor with an inner order imports of its own floor: what lies in its own line, or
    one above, but not in its own room."""
    floor, own = module.split(".")[:2]
    line = {name: i for i, names in enumerate(INNER[floor]) for name in names.split()}
    rooms = {n: n.split(".")[1] if "." in n else "" for n in names if n.split(".")[0] == floor}
    return sorted(n for n, r in rooms.items() if r != own and (not r or line[r] >= line[own]))


def test_rooms_of_a_floor_import_those_below() -> None:
    assert found(beside, [m for m in MODULES if "." in m and m.split(".")[0] in INNER]) == {}


def test_few_files_of_studio_lie_outside_a_room() -> None:
    outside = [m for m in MODULES if m.split(".")[0] == "studio" and not room(m)]
    assert len(outside) <= 6 and {room(m) for m in MODULES if m.startswith("studio.")} - {""} == set(ROOMS)


def test_lasting_names() -> None:
    from backbones.scan import selective_scan
    from backbones.wkv import bi_wkv

    assert (selective_scan.__module__, bi_wkv.__module__) == (
        "backbones.recurrences.scan",
        "backbones.recurrences.wkv",
    )


def test_the_ui_knows_no_tensors() -> None:
    for module in MODULES:
        heads = {n.split(".")[0] for n in of(module)}
        if module.split(".")[0] == "ui":
            assert "torch" not in heads, module
        else:
            assert "gradio" not in heads, module


def test_nothing_imports_torchvision() -> None:
    """It is no dependency: its version has to match torch's to the patch, and pictures are read with
    pillow."""
    files = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [n for n in inner if not n.startswith(".") and n not in ("build", "dist")]
        files += [Path(folder, n) for n in names if n.endswith(".py")]
    assert set(MODULES.values()) | {Path(__file__)} <= set(files)
    for path in files:
        if "torchvision" not in (source := path.read_text()):
            continue
        assert "torchvision" not in {n.split(".")[0] for n in imports("x", source)}, path.relative_to(ROOT)


def test_this_test_can_fail() -> None:
    assert imports("samplers.x", "import guidance.cfg\nfrom studio import train") == {
        "guidance.cfg",
        "studio",
    }
    assert upward("samplers.x", {"guidance.cfg", "backbones.dit", "torch"}) == ["guidance.cfg"]
    assert upward(
        "backbones.x", imports("backbones.x", "def f():\n    from samplers.paths import VPPath")
    ) == ["samplers.paths"]
    assert imports("samplers.x", "if TYPE_CHECKING:\n    import studio\n") == {"studio"}
    nested = "try:\n pass\nexcept E:\n import a\nelse:\n import b\nfinally:\n import c\n"
    nested += (
        "match x:\n case 1:\n  with y:\n   import d\nfor z in y:\n while z:\n  import e\nclass C:\n import f"
    )
    assert imports("x", nested) == set("abcdef")
    assert imports("x", "def f():\n    from torchvision.io import read_image") == {"torchvision.io"}
    assert imports("samplers.x", "from . import batch\nfrom .paths import Path") == {
        "samplers.batch",
        "samplers.paths",
    }
    assert imports("samplers", "from .batch import Batch", is_package=True) == {"samplers.batch"}
    assert above("studio.data.x", {"studio.chem.graphs", "studio.model.loading", "studio.api", "studio"}) == [
        "studio",
        "studio.api",
        "studio.model.loading",
    ]
    assert beside("samplers.paths.x", {"samplers.batch", "samplers.paths.vp", "samplers", "torch"}) == [
        "samplers"
    ]
    assert beside("samplers.times", {"samplers.weights", "samplers.heads.x"}) == [
        "samplers.heads.x",
        "samplers.weights",
    ]
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == ["a", "b", "c", "d"]
    assert PRESENT[:3] == ORDER[:3] and "backbones.dit" in MODULES
