"""Packages as an installer leaves them: modules, and beside them a .dist-info with the entry points."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


def put(site: Path, name: str, modules: Mapping[str, str], points: Mapping[str, Mapping[str, str]]) -> Path:
    """A package in the folder ``site``; ``points``: group to name to module:attribute."""
    info = site / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{n} = {t}\n" for n, t in some.items()) for group, some in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return site


def put_example(site: Path) -> Path:
    """`examples/plugin` as its own pyproject.toml says it is."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    modules = {m: (EXAMPLE / f"{m}.py").read_text() for m in project["tool"]["setuptools"]["py-modules"]}
    return put(site, project["project"]["name"], modules, project["project"]["entry-points"])
