"""The user's cache: a full disk leaves no half of a file, what is old can be listed and removed, and nothing
else is."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.cli.main import main
from studio.data import kept
from studio.data.images import images
from studio.metrics import features
from studio.runtime import caches, files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "drift-studio"


def folder_of_pictures(path: Path, shade: int = 0) -> Path:
    for name in ("a", "b"):
        (path / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((8, 8), shade + i, np.uint8)).save(path / name / f"{i}.png")
    return path


def below(home: Path) -> list[str]:
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()) if home.is_dir() else []


@pytest.mark.parametrize("room", [0, 60, 200, 10**9])
def test_a_full_disk_leaves_no_half(
    room: int, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``room`` bytes can be written before the disk is full."""
    left, opened = [room], open

    class Full:
        def __init__(self, handle: Any):
            self.handle = handle

        def write(self, data: bytes) -> int:
            left[0] -= len(data)
            if left[0] < 0:
                self.handle.write(bytes(data)[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.handle.write(data)

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *error: Any) -> None:
            self.handle.close()

    monkeypatch.setattr(os, "fdopen", lambda handle, mode: Full(opened(handle, mode)))
    data = images(path=str(folder_of_pictures(tmp_path / "photos")))
    assert len(data.train) > 0
    there = below(home)
    assert len(there) == (2 if room == 10**9 else 0), there
    told = any("could not be kept" in note for note in data.notes)
    assert told == (room != 10**9)
    monkeypatch.undo()


def entry(path: Path, days: float, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


@pytest.fixture
def filled(home: Path) -> Path:
    for k, days in enumerate((1, 20, 40, 400)):
        for suffix in (".npy", ".json"):
            entry(home / f"{k:024x}{suffix}", days)
        entry(home / "molecules" / f"{k:064x}.npz", days)
        entry(home / "features" / f"{k:032x}.safetensors", days)
    entry(home / "features" / f".{9:032x}.ab12cd", 1)  # left by a process that was killed
    entry(home / f".{9:024x}.npy.x1y2", 0)  # being written
    entry(home / "notes.txt", 900)
    entry(home / "peers" / "torch" / f"{3:024x}.npy", 900)
    (home / f"{5:024x}.npy").symlink_to(home / "notes.txt")
    return home


def test_listing_removes_nothing(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = below(filled)
    main(["cache", "--json"])
    told = json.loads(capsys.readouterr().out)
    kinds = [e["kind"] for e in told["entries"]]
    assert {k: kinds.count(k) for k in kinds} == {"pictures": 4, "molecules": 4, "features": 4, "draft": 2}
    assert told["mb"] == pytest.approx(0.018) and told["folder"] == str(filled)
    main(["cache"])
    assert "used 400 days ago" in capsys.readouterr().out and below(filled) == before


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ([], 2),
        (["--days", "10"], 1),
        (["--days", "0"], 0),
        (["--days", "1000"], 4),
        (["--days", "1000", "--most", "8 KB"], 2),
        (["--most", "0"], 0),
    ],
)
def test_pruning(words: list[str], left: int, filled: Path) -> None:
    main(["cache", "--prune", *words])
    there = below(filled)
    for place, each in ((".", 2), ("molecules", 1), ("features", 1)):
        mine = [
            n
            for n in there
            if (Path(n).parent == Path(place))
            and caches.KINDS[{".": "pictures"}.get(place, place)][1].fullmatch(Path(n).name)
        ]
        assert len([n for n in mine if not (filled / n).is_symlink()]) == each * left, there
    assert f".{9:024x}.npy.x1y2" in there and f"features/.{9:032x}.ab12cd" not in there
    assert {"notes.txt", f"peers/torch/{3:024x}.npy", f"{5:024x}.npy"} <= set(there), "what is not ours stays"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--most", "2GB"], "--prune"),
        (["--prune", "--most", "two"], "such as 500MB"),
        (["--prune", "--days", "-1"], "0 or more"),
    ],
)
def test_refusals(words: list[str], told: str, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = below(filled)
    with pytest.raises(SystemExit):
        main(["cache", *words])
    assert told in capsys.readouterr().err and below(filled) == before


def test_use_keeps_an_entry_young(home: Path, tmp_path: Path) -> None:
    photos = folder_of_pictures(tmp_path / "photos")
    first = images(path=str(photos))
    [made] = caches.entries()
    for path in made.files:
        os.utime(path, (1.0, 1.0))
    again = images(path=str(photos))
    [found] = caches.entries()
    assert found.kind == "pictures" and time.time() - found.used < 60 and len(again.train) == len(first.train)
    caches.remove(caches.entries())
    assert below(home) == [] and len(again.train[0]) == len(first.train[0]), (
        "a run that has it open keeps what it has"
    )


def test_names_are_those_that_are_written(home: Path, tmp_path: Path) -> None:
    """What the parts write is what the listing knows."""
    images(path=str(folder_of_pictures(tmp_path / "photos")))
    made = features.Features("lenet", "hash", features.Moments(), None, None, None)
    features.cached("key", lambda: made)
    files.write_text(home / "other.txt", "x")
    assert sorted({e.kind for e in caches.entries()}) == ["features", "pictures"]
    assert kept.cache_home() == home
