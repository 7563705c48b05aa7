"""A project with folders called like our packages: plain folders never get in the way of an editable set-up,
real packages do and are told."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from tiny import ROOT

TAKEN = (
    "configs",
    "ui",
    "data",
    "studio",
    "backbones",
    "samplers",
    "guidance",
    "benchmarks",
    "tests",
    "docs",
    "examples",
)
PACKAGES = ("backbones", "samplers", "guidance", "studio", "ui", "configs", "benchmarks")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `pip install -e` puts into site-packages, for a copy of the sources."""
    pytest.importorskip("setuptools", minversion="77")
    top = tmp_path_factory.mktemp("editable")
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name,
            top / "source" / name,
            ignore=shutil.ignore_patterns("models", "*.safetensors", "*.npz"),
        )
    (top / "source" / "data").mkdir()
    shutil.copy(ROOT / "data" / "molecules_moses_45k.csv.gz", top / "source" / "data")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, top / "source")
    build = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    made = subprocess.run(
        [sys.executable, "-c", build, str(top)],
        cwd=top / "source",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(next(top.glob("*.whl"))) as wheel:
        wheel.extractall(top / "site")
    return top / "site"


def inside(folder: Path, installed: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python there, with that set-up and no other: what the libraries' own folder says of further paths is
    not read."""
    libraries = Path(torch.__file__).parents[1]
    before = f"import site, sys; sys.path.append({str(libraries)!r}); site.addsitedir({str(installed)!r})"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-S", "-c", f"{before}\n{code}"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def module(name: str, *arguments: str) -> str:
    return (
        f"import runpy; sys.argv = {['studio', *arguments]!r}; runpy.run_module({name!r}, "
        "run_name='__main__', alter_sys=True)"
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name in TAKEN:
        (folder / name).mkdir()
        (folder / name / "mine.py").write_text("value = 7\n")
    (folder / "configs" / "demo.yaml").write_text("name: not-ours\n")
    return folder


def test_a_project_with_folders_of_the_same_names(project: Path, installed: Path) -> None:
    home = installed.parent / "source"
    code = (
        "import studio\nfrom importlib.util import find_spec\nprint(studio.__file__, "
        "*(find_spec(p).origin for p in ('guidance', 'ui')))"
    )
    found = inside(project, installed, code)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == [
        str(home / p) for p in ("studio/__init__.py", "guidance/__init__.py", "ui/__init__.py")
    ]


def test_the_command_line_there(project: Path, installed: Path) -> None:
    read = "from studio.config import load_config; print(load_config('demo').name)"
    done = inside(project, installed, f"{read}\n{module('studio', 'list', 'configs')}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "demo"
    assert "fashion-dit" in done.stdout and "moses-graph-dit" in done.stdout


def test_files_of_the_repository_are_found_from_anywhere(project: Path, installed: Path) -> None:
    code = (
        "from studio.runtime.name_clash import at_home; "
        "print(at_home('data/molecules_moses_45k.csv.gz'), at_home('data/mine.py'), "
        "at_home('data/none.npz'))"
    )
    found = inside(project, installed, code)
    home = installed.parent / "source"
    assert found.stdout.split() == [
        str(home / "data/molecules_moses_45k.csv.gz"),
        "data/mine.py",
        "data/none.npz",
    ], found.stderr


@pytest.mark.parametrize("name", ["configs", "data", "benchmarks", "tests", "examples"])
def test_modules_in_folders_that_are_no_packages_of_ours_are_still_the_users(
    project: Path, installed: Path, name: str
) -> None:
    found = inside(project, installed, f"import studio\nfrom {name} import mine\nprint(mine.value)")
    assert found.stdout.strip() == "7", found.stderr


@pytest.mark.parametrize("form", ["package", "module"])
@pytest.mark.parametrize("name", ["backbones", "guidance", "configs"])
def test_only_a_real_package_of_the_same_name_is_an_error(
    tmp_path: Path, installed: Path, name: str, form: str
) -> None:
    own = tmp_path / name / "__init__.py" if form == "package" else tmp_path / f"{name}.py"
    own.parent.mkdir(exist_ok=True)
    own.write_text("")
    found = inside(tmp_path, installed, "import studio")
    last = found.stderr.strip().splitlines()[-1]
    assert (
        found.returncode == 1
        and repr(name) in last
        and str(own.parent if form == "package" else own) in last
        and "rename" in last
    )


def test_a_page_of_another_is_told_when_ours_is_asked_for(tmp_path: Path, installed: Path) -> None:
    (tmp_path / "ui").mkdir()
    (tmp_path / "ui" / "__init__.py").write_text("")
    assert inside(tmp_path, installed, "import studio").returncode == 0
    found = inside(tmp_path, installed, module("studio", "ui"))
    assert (
        found.returncode == 2
        and str(tmp_path / "ui") in found.stderr
        and "rename" in found.stderr
        and "Traceback" not in found.stderr
    )


def test_a_set_up_whose_packages_lose_to_plain_folders_is_mended(tmp_path: Path) -> None:
    """Import hooks, as older editable set-ups have them, come after every folder on the path."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "guidance").mkdir()
    code = f"""
import sys
from importlib.util import spec_from_file_location
class Hook:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in {PACKAGES!r} and path is None:
            return spec_from_file_location(name, {str(ROOT)!r} + f"/{{name}}/__init__.py")
sys.meta_path.append(Hook)
import studio
from importlib.util import find_spec
print(find_spec("guidance").origin)
"""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert found.stdout.strip() == str(ROOT / "guidance" / "__init__.py"), found.stderr
