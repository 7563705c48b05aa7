"""The index of jobs: it only grows, both of its forms say the same, and nothing in it is lost."""

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from studio.jobs import Index, Item, Job, Wanted, tables
from studio.jobs.index import DATABASE, HOME, LINES


def job(name: str, created: float = 0.0, **more: object) -> Job:
    return Job(name, "sample", "dit", {"seeds": "0-3"}, created, **more)  # type: ignore[arg-type]


def item(
    name: str, label: str = "boot", seed: int | None = 0, created: float = 0.0, model: str = "dit"
) -> Item:
    return Item(name, "a", f"a/{name}.png", "image", model, label, seed, created)


@pytest.fixture(params=[False, True], ids=["database", "lines"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Index:
    return Index(tmp_path, lines=request.param)


def again(index: Index) -> Index:
    """What a later process reads."""
    return Index(index.home.parent)


def test_the_newest_state_counts_and_all_are_kept(index: Index) -> None:
    index.add(job("a", 1.0))
    index.add(job("b", 2.0))
    index.say(job("a", 1.0, state="running", holder="me", total=4, folder="x"))
    index.say(job("a", 1.0, state="done", done=4, total=4, folder="x", words="all of them"))
    for read in (index, again(index)):
        a = read.job("a")
        assert a is not None and (a.state, a.done, a.folder, a.words) == ("done", 4, "x", "all of them")
        assert a.spec == {"seeds": "0-3"} and read.job("c") is None
        assert [j.id for j in read.jobs()] == ["b", "a"] and [j.id for j in read.jobs(limit=1)] == ["b"]
        assert [j.id for j in read.jobs(("waiting", "running"))] == ["b"]
        assert read._ask("select count(*) from states") == [(4,)]


def test_marks_are_of_an_item_and_the_newest_counts(index: Index) -> None:
    index.keep([item("1"), item("2"), item("1", label="another")])
    index.mark(["1"], star=True)
    index.mark(["1", "2"], note="fine")
    index.mark(["2"], binned=True)
    for read in (index, again(index)):
        assert [(i.id, i.label, i.star, i.note) for i in read.items()] == [("1", "boot", True, "fine")]
        assert [i.id for i in read.items(Wanted(binned=True))] == ["2"] and read.count() == 1
    with pytest.raises(KeyError):
        index.mark(["3"], star=True)


def test_items_are_found_by_all_that_they_say(index: Index) -> None:
    index.keep([item("1", created=1.0), item("2", "bag", 1, 2.0), item("3", "100%_bag", None, 3.0, "dis")])
    index.mark(["1"], star=True, note="for the paper")
    asked = {
        "1": [
            Wanted(label="boot"),
            Wanted(seed=0),
            Wanted(starred=True),
            Wanted(text="PAPER"),
            Wanted(until=2.0),
        ],
        "2": [Wanted(seed=1), Wanted(label="bag"), Wanted(since=2.0, until=3.0)],
        "3": [Wanted(model="dis"), Wanted(text="%_"), Wanted(since=2.5)],
        "32": [Wanted(text="bag"), Wanted(since=2.0)],
        "321": [Wanted(), Wanted(job="a")],
        "": [Wanted(job="b"), Wanted(text="\\"), Wanted(text="'; drop table items")],
    }
    for found, questions in asked.items():
        for wanted in questions:
            assert "".join(i.id for i in index.items(wanted)) == found and index.count(wanted) == len(found)
    assert [i.id for i in index.items(offset=1, limit=1)] == ["2"]
    assert index.values("model") == ["dis", "dit"] and index.values("label", "dit") == ["bag", "boot"]


def test_an_unfinished_job_is_taken_once(index: Index) -> None:
    gone = job("a", state="running", holder="gone", done=2, total=4, folder="x")
    index.add(gone)
    assert index.take(gone, "me") and not index.take(gone, "you")
    now = index.job("a")
    assert now is not None and (now.holder, now.state, now.done, now.folder) == ("me", "waiting", 2, "x")
    index.say(job("b", state="done"))
    assert not index.take(job("b", state="done"), "me")


def test_two_processes_write_to_one_database(tmp_path: Path) -> None:
    here, there = Index(tmp_path), Index(tmp_path)
    threads = [
        threading.Thread(target=lambda i=i, k=k: i.keep([item(f"{k}-{n}") for n in range(20)]))
        for k, i in enumerate([here, there, here, there])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert here.count() == there.count() == 80


def test_a_drive_without_locks_has_lines_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = sqlite3.connect

    class Unlocked(sqlite3.Connection):
        def executescript(self, text: str) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("disk I/O error")

    def connect(place: object, **more: object) -> sqlite3.Connection:
        factory = {"factory": Unlocked} if isinstance(place, Path) else {}
        return plain(place, **more, **factory)  # type: ignore

    monkeypatch.setattr(sqlite3, "connect", connect)
    index = Index(tmp_path)
    assert "drive without the locks" in index.note and not (tmp_path / HOME / DATABASE).exists()
    index.keep([item("1")])
    monkeypatch.undo()
    lines = tmp_path / HOME / LINES
    assert json.loads(lines.read_text())["file"] == "a/1.png" and Index(tmp_path).count() == 1


def test_a_line_that_was_cut_off_harms_no_other(tmp_path: Path) -> None:
    index = Index(tmp_path, lines=True)
    index.keep([item("1"), item("2")])
    file = tmp_path / HOME / LINES
    file.write_text(file.read_text()[:-5])
    later = Index(tmp_path)
    later.keep([item("3")])
    assert {i.id for i in again(later).items()} == {"1", "3"}


def test_an_index_that_is_damaged_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / HOME).mkdir()
    (tmp_path / HOME / DATABASE).write_bytes(b"no database at all, but a user's file" * 40)
    with pytest.raises(ValueError, match="move it away"):
        Index(tmp_path)
    assert (tmp_path / HOME / DATABASE).stat().st_size > 1000


def without(folder: Path, table: str, column: str) -> None:
    """Leave the index of a folder as a version wrote it that did not know of this column."""
    with closing(sqlite3.connect(folder / HOME / DATABASE)) as base:
        for kind, name in base.execute(
            "select type, name from sqlite_master where sql is not null"
        ).fetchall():
            if kind in ("index", "view"):
                base.execute(f"drop {kind} {name}")
        base.execute(f"alter table {table} drop column {column}")
        base.commit()


def columns() -> list[tuple[str, str]]:
    """All that are no keys."""
    with closing(tables.opened(":memory:")) as base:
        return [(t, c[1]) for t in tables.NAMES for c in base.execute(f"pragma table_info({t})") if not c[5]]


def test_an_index_of_an_older_version_is_read_and_written_on(tmp_path: Path) -> None:
    """Whatever column it lacks; nothing that it says is lost."""
    index = Index(tmp_path / "now")
    index.add(job("a", state="done", done=1, total=1, folder="a", told={"files": ["1.png"]}))
    index.keep([item("1")])
    index.mark(["1"], star=True, note="kept")
    index.see("a", 5)
    index.close()
    assert len(columns()) > 20
    for table, column in columns():
        folder = shutil.copytree(tmp_path / "now", tmp_path / f"{table}-{column}")
        without(folder, table, column)
        for n in range(2):  # the second finds it whole
            older = Index(folder)
            older.keep([item(f"new {n}")])
            older.add(job(f"new {n}", told={"k": n}))
            assert len(older.jobs()) == (2 + n if (table, column) != ("states", "job") else 1 + n)
            assert older.count() == len(older.items()) == 2 + n and older.seen() is not None
            if table != "marks":
                assert [i.note for i in older.items() if i.id == "1"] == ["kept"]
            assert older.folders() is not None and older.job("new 0").told == {"k": 0}
            older.close()


def test_an_index_without_ids_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / HOME).mkdir()
    with closing(sqlite3.connect(tmp_path / HOME / DATABASE)) as base:
        base.execute("create table items (file text)")
    with pytest.raises(ValueError, match="its table items has no id.*move it away"):
        Index(tmp_path)


def test_older_lines_are_read(tmp_path: Path) -> None:
    index = Index(tmp_path, lines=True)
    index.add(job("a", state="done"))
    file = tmp_path / HOME / LINES
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({k: v for k, v in r.items() if k != "told"}) + "\n" for r in rows))
    assert again(index).job("a").told == {}


def test_twenty_five_thousand_items_are_paged(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.keep(item(f"{n:05d}", f"class {n % 10}", n, float(n)) for n in range(25_000))
    index.mark([f"{n:05d}" for n in range(0, 1000, 10)], star=True)
    assert index.count() == 25_000 and index.count(Wanted(label="class 3")) == 2_500
    assert [i.seed for i in index.items(offset=20_000, limit=3)] == [4999, 4998, 4997]
    assert index.count(Wanted(starred=True)) == 100
