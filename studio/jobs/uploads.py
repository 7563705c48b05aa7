"""Pictures that were uploaded with a job: copies of them lie in the job's own folder, and are named by their
names alone."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from studio.jobs import limits, parts
from studio.jobs.artefacts import path_of
from studio.jobs.records import Job

SOURCES = "sources"  # the folder of uploads in that of their job


def check_names(names: Iterable[str | None]) -> None:
    """Raises ``ValueError`` for what could lie elsewhere than in the folder of uploads."""
    for name in filter(None, names):
        if "/" in name or "\\" in name or name.startswith("."):
            raise ValueError(f"got the file {limits.brief(name)}, expected the name of an upload")


def copied(sources: Sequence[str | Path], folder: Path, taken: Iterable[str] = ()) -> list[Path]:
    """The uploads in a folder that stays, under names of which no two, and none of those ``taken``, differ in
    their ending alone: a second ``cat.png`` is ``cat-2.png``."""
    folder.mkdir(parents=True)
    stems, made = {Path(name).stem.casefold() for name in taken}, []
    for source in map(Path, sources):
        stem, count = source.stem, 1
        while stem.casefold() in stems:
            count += 1
            stem = f"{source.stem}-{count}"
        stems.add(stem.casefold())
        made.append(Path(shutil.copyfile(source, folder / f"{stem}{source.suffix}")))
    return made


def beside(source: Path, sides: Sequence[int]) -> Path:
    """Where an upload lies that was converted to these sides (height, width); two uploads never share it."""
    folder = source.parent / f"{sides[1]}x{sides[0]}"
    folder.mkdir(exist_ok=True)
    return folder / f"{source.stem}.png"


def kept(out: Path, file: str, folder: str = "") -> Path | None:
    """The copy of an upload that a recipe names by ``file``, an address of any machine, or by its name with
    the ``folder`` of its job; None where it does not lie below the folder of outputs any more."""
    way = PurePosixPath(file.replace("\\", "/")).parts
    if SOURCES in way[1:-1]:
        at = len(way) - 1 - way[::-1].index(SOURCES)
        inner = "/".join(way[at - 1 :])
    elif folder and len(way) == 1:
        inner = f"{folder}/{SOURCES}/{file}"
    else:
        return None
    try:
        path = path_of(out, inner)
    except (ValueError, OSError):
        return None
    return path if path.is_file() else None


def forget(out: Path, job: Job, sheet: str = "") -> None:
    """Of a job that made nothing the copies go too; ``sheet``: a picture that does not count."""
    folder = out / job.folder
    if not job.folder or not (folder / SOURCES).is_dir() or (folder / parts.NAME).exists():
        return
    if all(path.name == sheet for path in folder.glob("*.png")):
        shutil.rmtree(folder, ignore_errors=True)
