"""The site, where docs/ alone is not enough: what its pages link to elsewhere in the repository comes along
as pages of its own, scripts as code and notebooks with their outputs, and the links lead there.

In the repository the same links lead to the files themselves.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=(?:#[^)\s]*)?\))")
PICTURES = {".png", ".gif", ".svg", ".jpg"}


def place(link: str, page: Path) -> Path | None:
    """The file that a relative link on a page leads to, of a folder its README; None where there is none."""
    target = Path(os.path.normpath(page.parent / link))
    target = target / "README.md" if target.is_dir() else target
    return target if target.is_file() and target.is_relative_to(ROOT) else None


def uri(target: Path) -> str:
    """Where a file of the repository lies in the site."""
    if target.is_relative_to(ROOT / "docs"):
        return target.relative_to(ROOT / "docs").as_posix()
    plain = target.suffix == ".md" or target.suffix in PICTURES
    return f"repository/{target.relative_to(ROOT).as_posix()}{'' if plain else '.md'}"


def on_files(files: Files, config: Any) -> Files:
    waiting = [Path(f.abs_src_path) for f in files.documentation_pages() if f.abs_src_path]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for link in LINK.findall(page.read_text()):
            target = place(link, page)
            if target is None or target in seen or target.is_relative_to(ROOT / "docs"):
                continue
            seen.add(target)
            for file in brought(target, config):
                files.append(file)
            if target.suffix == ".md":
                waiting.append(target)
    return files


def brought(target: Path, config: Any) -> list[File]:
    """A file of the repository as files of the site."""
    if target.suffix == ".md" or target.suffix in PICTURES:
        return [File.generated(config, uri(target), content=target.read_bytes())]
    if target.suffix == ".ipynb":
        from nbconvert import MarkdownExporter

        name = target.stem
        text, found = MarkdownExporter().from_filename(str(target), {"output_files_dir": name})
        beside = {f"{Path(uri(target)).parent}/{k}": v for k, v in found["outputs"].items()}
        return [File.generated(config, uri(target), content=text)] + [
            File.generated(config, k, content=v) for k, v in beside.items()
        ]
    language = {".py": "python", ".yaml": "yaml", ".toml": "toml"}.get(target.suffix, "text")
    text = f"# {target.name}\n\n````{language}\n{target.read_text()}````\n"
    return [File.generated(config, uri(target), content=text)]


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    here = page.file.src_uri
    source = (
        ROOT / here.removeprefix("repository/") if here.startswith("repository/") else ROOT / "docs" / here
    )

    def led(match: re.Match[str]) -> str:
        target = place(match[1], source)
        return match[1] if target is None else os.path.relpath(uri(target), os.path.dirname(here) or ".")

    # a page's title is its heading only where nothing stands before it
    return LINK.sub(led, re.sub(r"\A\s*<!--.*?-->\s*", "", markdown, flags=re.S))
