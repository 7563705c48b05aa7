"""A job, an item that a job made, and what a person looks for among items."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNFINISHED = ("waiting", "running")
STATES = (*UNFINISHED, "done", "stopped", "failed")


@dataclass(frozen=True)
class Job:
    """A job as the index knows it.

    ``kind`` and ``spec``: what was asked for; ``state``: waiting, running, done, stopped or failed, since
    ``at``; ``holder``: the process that has it; ``done`` of ``total`` samples are kept in ``folder``;
    ``words``: how it ended, and ``told`` what else there is to say of what it made. Times are in seconds
    since 1970.
    """

    id: str
    kind: str
    model: str
    spec: Mapping[str, Any]
    created: float
    state: str = "waiting"
    at: float = 0.0
    holder: str = ""
    done: int = 0
    total: int = 0
    folder: str = ""
    words: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One thing that a job made: ``file`` as seen from the folder of outputs, and what it can be found by.
    ``seed`` is None for a drawing of many samples together. ``binned``: to be removed when the bin is
    emptied; ``gone``: its file was."""

    id: str
    job: str
    file: str
    task: str
    model: str
    label: str
    seed: int | None
    created: float
    star: bool = False
    note: str = ""
    binned: bool = False
    gone: bool = False


@dataclass(frozen=True)
class Wanted:
    """Which items. An empty field asks for nothing; ``text`` is looked for in the model, the class and the
    note; ``since`` and ``until`` are in seconds since 1970; ``folder`` is seen from the folder of outputs,
    with all that lies below it, "" for that folder alone. Of ``binned`` and ``gone`` None is both."""

    model: str = ""
    label: str = ""
    seed: int | None = None
    job: str = ""
    text: str = ""
    since: float | None = None
    until: float | None = None
    folder: str | None = None
    starred: bool = False
    binned: bool | None = False
    gone: bool | None = False

    def where(self) -> tuple[str, list[Any]]:
        """An SQL condition and its values."""
        parts: list[tuple[str, Any]] = [
            (f"coalesce({k}, 0) = ?", int(v))
            for k in ("binned", "gone")
            if (v := getattr(self, k)) is not None
        ]
        parts += [(f"{k} = ?", v) for k in ("model", "label", "job") if (v := getattr(self, k))]
        if self.seed is not None:
            parts.append(("seed = ?", self.seed))
        if self.since is not None:
            parts.append(("created >= ?", self.since))
        if self.until is not None:
            parts.append(("created < ?", self.until))
        if self.folder is not None:  # the character after "/" is "0"
            inside = [("file >= ?", f"{self.folder}/"), ("file < ?", f"{self.folder}0")]
            parts += inside if self.folder else [("instr(file, ?) = 0", "/")]
        if self.starred:
            parts.append(("star = ?", 1))
        if self.text:
            like = "%" + "".join(f"\\{c}" if c in "%_\\" else c for c in self.text) + "%"
            parts.append(("(model || ' ' || label || ' ' || coalesce(note, '')) like ? escape '\\'", like))
        return " and ".join(p for p, _ in parts) or "true", [v for _, v in parts]
