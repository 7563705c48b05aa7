"""What was asked for and what came of it: jobs and their items, in an index that only grows.

Rows are added and never changed: a job's newest state counts, and of an item the newest mark (star, note,
bin). The index is a SQLite file; on a drive that has no locks for it, one JSON object a line, read into a
database in memory, so that the same questions serve both. Files are named as seen from the folder of outputs,
which may be moved with all in it.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from studio.jobs.records import UNFINISHED, Item, Job, Wanted
from studio.jobs.tables import NAMES, NoLocks, opened
from studio.runtime.strict_json import to_json

HOME = ".jobs"  # below the folder of outputs
DATABASE, LINES = "index.db", "index.jsonl"
_COLUMNS = tuple(f.name for f in fields(Job))
_JOBS = f"select {', '.join(_COLUMNS)} from jobs join newest_states on job = id"
_MARKED = "items left join marks on n = (select max(n) from marks where item = items.id)"
_ITEMS = (
    "select items.id, job, file, task, model, label, seed, created, coalesce(star, 0), coalesce(note, ''), "
    f"coalesce(binned, 0), coalesce(gone, 0) from {_MARKED}"
)


class Index:
    """The index below a folder of outputs; made where there is none. ``note``: what it had to do without, ""
    for nothing. Several threads may use it, and several processes where it is a database. Raises
    ``ValueError`` for one that is damaged or that another process does not let go."""

    def __init__(self, out: str | Path, *, lines: bool = False):
        self.home, self.note, self._lock = Path(out) / HOME, "", threading.RLock()
        self.home.mkdir(parents=True, exist_ok=True)
        self._lines = self.home / LINES if lines or (self.home / LINES).exists() else None
        if self._lines is None:
            try:
                self._base = opened(self.home / DATABASE)
                return
            except NoLocks as error:
                self.note = str(error)
                self._lines = self.home / LINES
        self._base = opened(":memory:")
        self._read()

    # ---- what is added

    def add(self, job: Job) -> None:
        """A job, in the state that it says."""
        row = {
            "id": job.id,
            "kind": job.kind,
            "model": job.model,
            "spec": json.dumps(job.spec),
            "created": job.created,
        }
        self._write([("jobs", row), ("states", self._state(job))])

    def say(self, job: Job) -> None:
        """A job's new state."""
        self._write([("states", self._state(job))])

    def take(self, job: Job, holder: str) -> bool:
        """Make an unfinished job that nobody works on any more another holder's; False where someone was
        faster."""
        with self._lock, self._base:
            if self._lines is None:
                self._base.execute("begin immediate")
            now = self.job(job.id)
            if now is None or now.state not in UNFINISHED or now.holder != job.holder:
                return False
            self._put([("states", self._state(now) | {"holder": holder, "state": "waiting"})])
        return True

    def keep(self, items: Iterable[Item]) -> None:
        """Things that were made. One that is there already stays as it is."""
        names = ("id", "job", "file", "task", "model", "label", "seed", "created")
        self._write([("items", {n: getattr(i, n) for n in names}) for i in items])

    def mark(
        self,
        ids: Iterable[str],
        *,
        star: bool | None = None,
        note: str | None = None,
        binned: bool | None = None,
        gone: bool | None = None,
    ) -> None:
        """Star, note or bin items, or say that their files are gone; what is None stays as it was. Raises
        ``KeyError`` for one that is not there."""
        rows = []
        for name in ids:
            if (old := self.item(name)) is None:
                raise KeyError(name)
            rows.append(
                {
                    "item": name,
                    "at": time.time(),
                    "star": int(old.star if star is None else star),
                    "note": old.note if note is None else note,
                    "binned": int(old.binned if binned is None else binned),
                    "gone": int(old.gone if gone is None else gone),
                }
            )
        self._write([("marks", row) for row in rows])

    def see(self, folder: str, mtime: int) -> None:
        """What lies in a folder was looked through when it was as old as this (nanoseconds since 1970)."""
        self._write([("seen", {"folder": folder, "mtime": mtime})])

    # ---- what is asked

    def seen(self) -> dict[str, int]:
        """Of folders that were looked through, how old they were."""
        return dict(self._ask("select folder, mtime from seen order by n"))

    def folders(self, *, beside: str = "") -> set[str]:
        """The folders of all jobs, of those ``beside`` a kind."""
        rows = self._ask("select distinct folder from states join jobs on id = job where kind != ?", [beside])
        return {row[0] for row in rows if row[0]}

    def job(self, name: str) -> Job | None:
        """A job by its id; None for any other text, or what is none."""
        if not _is_id(name):
            return None
        return next(iter(self._jobs(f"{_JOBS} where id = ?", [name])), None)

    def jobs(self, states: Sequence[str] = (), *, model: str = "", limit: int = -1) -> list[Job]:
        """Jobs (of one model), the newest first."""
        marks = ", ".join("?" * len(states))
        parts = [f"state in ({marks})"] * bool(states) + ["model = ?"] * bool(model)
        where = f" where {' and '.join(parts)}" if parts else ""
        values = [*states, *([model] if model else []), limit]
        return self._jobs(f"{_JOBS}{where} order by created desc, id desc limit ?", values)

    def item(self, name: str) -> Item | None:
        """An item by its id, as `job`."""
        if not _is_id(name):
            return None
        return next(iter(self._items(f"{_ITEMS} where items.id = ?", [name])), None)

    def items(self, wanted: Wanted = Wanted(), *, offset: int = 0, limit: int = -1) -> list[Item]:
        """Items, the newest first, those of a job in its order."""
        where, values = wanted.where()
        return self._items(
            f"{_ITEMS} where {where} order by created desc, items.id limit ? offset ?",
            [*values, limit, offset],
        )

    def count(self, wanted: Wanted = Wanted()) -> int:
        """How many items there are."""
        where, values = wanted.where()
        rows = self._ask(f"select count(*) from {_MARKED} where {where}", values)
        return int(rows[0][0])

    def values(self, column: Literal["model", "label"], model: str = "") -> list[str]:
        """The models, or classes (of one model), that items have."""
        assert column in ("model", "label")
        where, given = (" where model = ?", [model]) if model else ("", [])
        rows = self._ask(f"select distinct {column} from items{where} order by {column}", given)
        return [row[0] for row in rows if row[0]]

    def close(self) -> None:
        self._base.close()

    # ----

    def _state(self, job: Job) -> dict[str, Any]:
        names = ("state", "holder", "done", "total", "folder", "words")
        said = {k: getattr(job, k) for k in names}
        return {"job": job.id, "at": time.time(), **said, "told": to_json(job.told)}

    def _ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._base.execute(text, values).fetchall()

    def _jobs(self, text: str, values: Sequence[Any]) -> list[Job]:
        found = []
        for row in self._ask(text, values):
            said: dict[str, Any] = dict(zip(_COLUMNS, row))
            found.append(Job(**said | {"spec": json.loads(said["spec"]), "told": json.loads(said["told"])}))
        return found

    def _items(self, text: str, values: Sequence[Any]) -> list[Item]:
        found = []
        for row in self._ask(text, values):
            said: dict[str, Any] = dict(zip((f.name for f in fields(Item)), row))
            found.append(Item(**said | {k: bool(said[k]) for k in ("star", "binned", "gone")}))
        return found

    def _write(self, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        try:
            with self._lock, self._base:
                self._put(rows)
        except sqlite3.OperationalError as error:
            raise OSError(f"cannot write to the index in {self.home} ({error}); make room there") from None

    def _put(self, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        if self._lines is not None and rows:
            with self._lines.open("a", encoding="utf-8") as out:
                out.writelines(json.dumps({"table": table, **row}) + "\n" for table, row in rows)
        for table, row in rows:
            self._insert(table, row)

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        places = ", ".join("?" * len(row))
        self._base.execute(
            f"insert or ignore into {table} ({', '.join(row)}) values ({places})", list(row.values())
        )

    def _read(self) -> None:
        """The lines into memory. A last line that was cut off is left out."""
        assert self._lines is not None
        if not self._lines.exists():
            return
        known = {table: {c[1] for c in self._ask(f"pragma table_info({table})")} for table in NAMES}
        text = self._lines.read_text(encoding="utf-8", errors="replace")
        with self._base:
            for line in text.splitlines():
                try:
                    row = json.loads(line)
                    table = row.pop("table")
                except (ValueError, KeyError, AttributeError, TypeError):
                    continue
                if table in known and row.keys() <= known[table]:
                    self._insert(table, row)
        if text and not text.endswith("\n"):
            with self._lines.open("a", encoding="utf-8") as out:
                out.write("\n")


def _is_id(name: object) -> bool:
    """Whether the database may be asked for it: a stranger may say anything, also half of a character."""
    return isinstance(name, str) and name.isprintable()
