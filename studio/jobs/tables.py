"""The tables of the index of jobs and items. Columns are only ever added, each with what it means where an
older version has not said it, so that an index of any age is read and written on."""

import sqlite3
from contextlib import closing
from pathlib import Path

NAMES = ("jobs", "states", "items", "marks", "seen")
PATIENCE = 10.0  # seconds that a writer waits for another process

TABLES = """
create table if not exists jobs (
    id text primary key, kind text default 'sample', model text default '', spec text default '{}',
    created real default 0
);
create table if not exists states (
    n integer primary key, job text default '', at real default 0, state text default 'failed',
    holder text default '', done integer default 0, total integer default 0, folder text default '',
    words text default '', told text default '{}'
);
create table if not exists items (
    id text primary key, job text default '', file text default '', task text default 'image',
    model text default '', label text default '', seed integer, created real default 0
);
create table if not exists marks (
    n integer primary key, item text default '', at real default 0, star integer default 0,
    note text default '', binned integer default 0, gone integer default 0
);
create table if not exists seen (n integer primary key, folder text default '', mtime integer default 0);
"""
FINDING = """
create index if not exists states_job on states (job);
create index if not exists items_created on items (created);
create index if not exists items_job on items (job);
create index if not exists items_file on items (file);
create index if not exists marks_item on marks (item);
create view if not exists newest_states as
    select states.* from states join (select max(n) as last from states group by job) on n = last;
"""


class NoLocks(ValueError):
    """A drive on which SQLite finds none of the locks that it needs."""


def opened(place: str | Path) -> sqlite3.Connection:
    """The database at a place, with all tables; made where there is none. Raises `NoLocks`, and
    ``ValueError`` for a file that is none or that another process does not let go."""
    made = isinstance(place, Path) and not place.exists()
    try:
        base = sqlite3.connect(place, timeout=PATIENCE, check_same_thread=False)
        base.executescript(TABLES)
        _complete(base)
        base.executescript(FINDING)
    except sqlite3.DatabaseError as error:
        if made and isinstance(error, sqlite3.OperationalError):
            Path(place).unlink(missing_ok=True)
            raise NoLocks(
                f"{Path(place).parent} lies on a drive without the locks of a database ({error}); the index "
                "is kept as JSON lines there, for one process at a time"
            ) from None
        raise ValueError(
            f"cannot read the index {place} ({error}); wait where another process writes to it, or move it "
            "away: the files that it names stay"
        ) from None
    return base


def _complete(base: sqlite3.Connection) -> None:
    """Add the columns that an index of an older version lacks."""
    lacking = _lacking(base)
    if not lacking:
        return
    with base:
        base.execute("begin immediate")
        for table, name, kind, default in _lacking(base):  # another process may have been faster
            base.execute(f"alter table {table} add column {name} {kind} default {default or 'null'}")


def _lacking(base: sqlite3.Connection) -> list[tuple[str, str, str, str | None]]:
    """Table, name, type and default of each column that is not there."""
    found = []
    with closing(sqlite3.connect(":memory:")) as now:
        now.executescript(TABLES)
        for table in NAMES:
            has = {column[1] for column in base.execute(f"pragma table_info({table})")}
            for _, name, kind, _, default, key in now.execute(f"pragma table_info({table})"):
                if name in has:
                    continue
                if key:
                    raise sqlite3.DatabaseError(f"its table {table} has no {name}")
                found.append((table, name, kind, default))
    return found
