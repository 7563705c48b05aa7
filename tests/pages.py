"""Pages of the documentation as what is in them: blocks of code, lines of the command line, links.

A block that is not to be run says why in the comment before it: ``<!-- not run: reason -->``. A Python block
whose first line is a file's name, ``# my_parts.py``, is written to that file.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"  # pages that scripts write
PAGES = sorted(p for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if RESULTS not in p.parents)
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")
INLINE = re.compile(r"`(studio [^`…]+)`")


@dataclass(frozen=True)
class Block:
    """``kind``: python, or empty for the command line; ``why`` it is not run, where it is not."""

    kind: str
    text: str
    why: str = ""

    @property
    def file(self) -> str:
        """What it is written to, where it is a file."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named else ""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    return [Block(m["kind"], m["text"], m["why"] or "") for m in FENCE.finditer(page.read_text())]


def words(block: Block) -> list[list[str]]:
    """The command lines of a block, as words."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [w for w in (shlex.split(line, comments=True) for line in lines) if w]


def commands(page: Path) -> list[list[str]]:
    """Every call of studio on a page, in blocks and within sentences, without the word studio."""
    inside = [w for b in blocks(page) if not b.kind for w in words(b)]
    found = [shlex.split(m) for m in INLINE.findall(FENCE.sub("", page.read_text()))]
    return [w[1:] for w in inside + found if w[0] == "studio"]


def broken(page: Path) -> list[str]:
    """Links of a page that lead to no file."""
    text = FENCE.sub("", page.read_text())
    return [link for link, _ in LINK.findall(text) if not (page.parent / link).exists()]
