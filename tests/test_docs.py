"""What the documentation says is so: links lead somewhere, commands parse, and blocks of code run as they
stand, with less training and fewer samples."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
import torch
import typer
from PIL import Image

import studio
from backbones.plugins import Registry
from studio.cli.main import app, main
from studio.config import load_config

FEW = ["train.steps=4", "train.batch_size=8", "train.eval_every=0", "train.preview=false"]
SMALLER = {  # of what a page asks for in Python
    r'"train\.(minutes|steps)=[\d.]+"': ", ".join(f'"{w}"' for w in FEW),
    r'"steps": \d+': '"steps": 4, "preview": False, "eval_every": 0',
    r"\bnum=[\d_]+": "num=64",
    r"\bnum_steps=\d+": "num_steps=2",
    r'"num_steps": \[[\d, ]+\]': '"num_steps": [2, 3]',
}


def by_name(of: list[Path]) -> Any:
    return pytest.mark.parametrize("page", of, ids=map(pages.name, of))


@by_name(pages.PAGES)
def test_links_lead_to_files(page: Path) -> None:
    assert pages.broken(page) == []


@functools.cache
def studio_command() -> Any:
    return typer.main.get_command(app)


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a call, as its command would get them; none where a sentence only names a command."""
    group = studio_command()
    if len(words) == 1 and words[0] in group.commands:
        return {}
    with group.make_context("studio", list(words)) as above:
        _, command, rest = group.resolve_command(above, list(words))
        with command.make_context(words[0], rest, parent=above) as context:
            return dict(context.params)


@by_name(pages.PAGES)
def test_commands_parse_and_their_settings_exist(page: Path) -> None:
    for words in pages.commands(page):
        options = parsed(words)
        if words[0] == "train" and words[1].islower() and "/" not in words[1]:
            load_config(words[1], options["overrides"])


@by_name(pages.PAGES)
def test_blocks_are_run_or_say_why_not(page: Path) -> None:
    for block in pages.blocks(page):
        if block.kind == "python":
            compile(block.text, page.name, "exec")
        elif not block.kind and not block.why:
            assert {w[0] for w in pages.words(block)} == {"studio"}, block.text


def test_a_block_that_is_not_run_is_found_with_its_reason(tmp_path: Path) -> None:
    (page := tmp_path / "page.md").write_text(
        "See `studio ui` and [that](gone.md).\n\n"
        "<!-- not run: takes a day -->\n```\nstudio train x  # a note\n```\n\n"
        "```python\n# mine.py\nx = 1\n```\n"
    )
    day, mine = pages.blocks(page)
    assert (day.why, day.file, mine.kind, mine.file) == ("takes a day", "", "python", "mine.py")
    assert pages.commands(page) == [["train", "x"], ["ui"]] and pages.broken(page) == ["gone.md"]
    with pytest.raises(Exception, match="No such option"):
        parsed(["train", "points", "--no-such-option"])


def test_the_reference_has_every_public_name() -> None:
    page = (pages.ROOT / "docs" / "api" / "studio.md").read_text()
    told = set(re.findall(r"^::: studio\.(\w+)$", page, re.M))
    assert told == {n for n in studio.__all__ if not n.startswith("_")}


# ---- run ------------------------------------------------------------------------------------------


def smaller(words: list[str]) -> list[str]:
    """A call with less to compute."""
    out, command = list(words), words[0]
    if command == "train":
        out = [w for w in out if not re.match(r"train\.(steps|minutes)=", w)]
        if "--resume" in words:
            return [*out, "train.steps=6"]
        return [*out, *FEW]
    for option, value in (("--num", "64"), ("--num-steps", "2")):
        if option in out:
            out[out.index(option) + 1] = value
    if command == "sweep":
        out = [re.sub(r"^num_steps=.*", "num_steps=2,3", w) for w in out] + ["--num", "64"] * (
            "--num" not in out
        )
    takes = {p.name for p in studio_command().commands[command].params}
    made = command == "evaluate" and "--num" not in out  # samples that are there already
    if (
        "num_steps" in takes
        and not made
        and not any("num-steps" in w or w.startswith("num_steps=") for w in out)
    ):
        out += ["--num-steps", "2"]
    if "allow_small" in takes:
        out += ["--allow-small"]
    if "moses" in out:  # the others look at 40,000 molecules
        out += ["--metrics", "validity"]
    return out


def call(words: list[str]) -> None:
    threads = torch.get_num_threads()
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, f"studio {' '.join(words)}"
    finally:
        torch.set_num_threads(threads)


def desk(folder: Path) -> None:
    """The files that pages speak of."""
    draws = np.random.default_rng(0)
    for home, names in {"my-photos": ("cat", "dog"), "new-photos": ("cat", "dog"), "damaged": ("",)}.items():
        side = (28, 28) if home == "damaged" else (32, 32, 3)
        for name in names:
            (folder / home / name).mkdir(parents=True, exist_ok=True)
            for k in range(8):
                pixels = draws.integers(0, 256, side, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / home / name / f"{k}.png")
    Image.fromarray(draws.integers(0, 256, (28, 28), dtype=np.uint8)).save(folder / "shoe.png")
    chains = ["C" * n + end for n in range(2, 8) for end in ("", "O", "N", "C(=O)O", "c1ccccc1")]
    rows = [f"{smiles},{-len(smiles) / 4}" for smiles in chains]
    (folder / "my-molecules.csv").write_text("\n".join(["smiles,solubility", *rows]))


@pytest.mark.slow
@by_name([p for p in pages.PAGES if any(not b.why for b in pages.blocks(p) if b.kind in ("", "python"))])
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Image.Image, "show", lambda self: None)  # no screen here
    named: list[tuple[Registry, str]] = []
    entered = Registry.__setitem__
    monkeypatch.setattr(
        Registry, "__setitem__", lambda self, k, v: (named.append((self, k)), entered(self, k, v))[1]
    )
    modules, space = set(sys.modules), {"__name__": "page"}
    try:
        run_blocks(page, tmp_path, space)
    finally:  # other tests go over all names
        for registry, name in named:
            del registry[name]
        for name in set(sys.modules) - modules:
            if (tmp_path / f"{name}.py").is_file():
                del sys.modules[name]


def run_blocks(page: Path, folder: Path, space: dict[str, Any]) -> None:
    for block in pages.blocks(page):
        if block.why or block.kind not in ("", "python"):
            continue
        if not block.kind:
            for words in pages.words(block):
                call(smaller(words[1:]))
            continue
        text = block.text
        for what, instead in SMALLER.items():
            text = re.sub(what, instead, text)
        if block.file:
            (folder / block.file).write_text(text)
        else:
            exec(compile(text, pages.name(page), "exec"), space)


NOTEBOOKS = sorted((pages.ROOT / "examples").glob("*.ipynb"))


@by_name(NOTEBOOKS)
def test_notebooks_are_small_and_in_order(page: Path) -> None:
    cells = [c for c in json.loads(page.read_text())["cells"] if c["cell_type"] == "code"]
    assert page.stat().st_size < 70_000
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))


@pytest.mark.slow
@by_name(NOTEBOOKS)
def test_notebooks_run(page: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="pip install 'drift-studio[docs]'")
    import nbformat

    notebook = nbformat.read(page, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert any("image/png" in o.get("data", {}) for o in outputs)


# ---- built ----------------------------------------------------------------------------------------

LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(https?:|//)""", re.I)


@pytest.mark.slow
def test_the_site_builds_and_asks_nothing_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strictly, so every link and every name of the reference leads somewhere; no page is left out."""
    pytest.importorskip("material", reason="pip install 'drift-studio[docs]'")
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=pages.ROOT, check=True)
    site = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*.html")}
    docs = pages.ROOT / "docs"
    for page in docs.rglob("*.md"):
        name = page.relative_to(docs).with_suffix(".html").as_posix().replace("README", "index")
        assert name in site
    assert "CurveEncoder" in site["extending/encoder.html"] and "studio.train" in site["api/studio.html"]
    notebook = site["repository/examples/first_pictures.ipynb.html"]
    shown = re.findall(r'<img [^>]*src="([^"]+\.png)"', notebook)
    assert shown and all((tmp_path / "repository" / "examples" / name).is_file() for name in shown)
    assert {name for name, text in site.items() if LOADED.search(text)} == set()
    assert LOADED.search('<link rel="stylesheet" href="https://fonts.example/css">')
    assert (tmp_path / "search" / "search_index.js").stat().st_size > 10_000
