"""What an evaluation found, with the protocol it was found under; results of different protocols never share
a table without a mark."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studio.runtime import files
from studio.runtime.strict_json import numbers

RULER = (
    "extractor",
    "extractor_hash",
    "samples",
    "reference_hash",
    "reference_n",
    "sample_dtype",
    "labels",
    "test_hash",
)


@dataclass(frozen=True)
class Result:
    """``values`` and ``floor`` by measure; ``failed``: measures that could not be computed, and why;
    ``protocol``: how."""

    name: str
    values: dict[str, float]
    floor: dict[str, float]
    failed: dict[str, str]
    protocol: dict[str, Any]

    @property
    def ruler(self) -> tuple[Any, ...]:
        """The part of the protocol that must agree for two numbers to be comparable; sampler, steps and
        guidance are what is compared."""
        return tuple(json.dumps(self.protocol.get(k)) for k in RULER)

    def tree(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """A measure a line, its floor beside it, then the protocol."""
        width = (
            max(
                [len(k) for k in [*self.values, *self.failed, *(self.protocol.get("not_shown") or {})]],
                default=8,
            )
            + 2
        )
        head = f"{'':<{width}}{'value':>12}{'real':>12}"
        rows = [
            f"{k:<{width}}{v:>12.4f}" + (f"{self.floor[k]:>12.4f}" if k in self.floor else "")
            for k, v in self.values.items()
        ]
        rows += [f"{k:<{width}}not computed: {why}" for k, why in self.failed.items()]
        not_shown = self.protocol.get("not_shown") or {}
        rows += [f"{k:<{width}}{why}" for k, why in not_shown.items()]
        return [
            head,
            *rows,
            "",
            *(f"{k}: {v}" for k, v in self.protocol.items() if v not in (None, {}, "") and k != "not_shown"),
        ]

    def save(self, path: Path) -> Path:
        files.write_json(path, self.tree())
        return path


def load_result(path: str | Path) -> Result:
    """Raises ``ValueError`` for a file that is no result."""
    try:
        tree = json.loads(Path(path).read_text())
        found = {k: tree[k] for k in ("name", "values", "floor", "failed", "protocol")}
        return Result(**{**found, **{k: numbers(found[k]) for k in ("values", "floor")}})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a result of studio evaluate ({error!r})") from None


def table(results: Sequence[Result]) -> str:
    """Markdown, a result a row; a row whose ruler differs from the first one's is marked and says in what."""
    if not results:
        raise ValueError("got no results, expected at least one")
    columns = list(dict.fromkeys(k for r in results for k in r.values))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    notes: list[str] = []
    for r in results:
        mark = ""
        if r.ruler != results[0].ruler:
            differing = [
                f"{k} {r.protocol.get(k)} instead of {results[0].protocol.get(k)}"
                for k in RULER
                if r.protocol.get(k) != results[0].protocol.get(k)
            ]
            mark = "\\*" * (len(notes) + 1)
            notes.append(f"{mark} not comparable with the first row: {'; '.join(differing)}")
        cells = [f"{r.values[c]:.4g}" if c in r.values else "–" for c in columns]
        lines.append(f"| {r.name}{mark} | " + " | ".join(cells) + " |")
    floor = results[0].floor
    if floor:
        lines.append(
            "| *real against real* | "
            + " | ".join(f"{floor[c]:.4g}" if c in floor else "–" for c in columns)
            + " |"
        )
    return "\n".join([*lines, *(["", *notes] if notes else [])])
