"""What `studio reproduce` does: run the jobs that are missing, then write the page."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from backbones.registry import resolve
from studio.reproduce.jobs import Job, Page, Result, load, run_jobs
from studio.reproduce.page import MARK, protocol
from studio.reproduce.pages import PAGES
from studio.runtime import files

RUNS, RESULTS = Path("runs") / "reproduce", Path("docs") / "results"


@dataclass(frozen=True)
class Written:
    """``folder`` of the page and ``files`` in it; none where jobs are missing, because of a signal
    (``interrupted``) or because only some were asked for."""

    folder: Path
    files: tuple[Path, ...]
    interrupted: bool
    done: int
    jobs: int


def find(name: str) -> Page:
    """Raises ``ValueError`` with the nearest name for a page that does not exist."""
    page: Page = resolve(PAGES, name, "page")
    return page


def pages() -> dict[str, str]:
    """Titles by name."""
    return {name: find(name).title for name in PAGES}


def places(
    name: str, quick: bool, out: str | Path | None, cache: str | Path | None = None
) -> tuple[Path, Path]:
    """The page's folder and that of its jobs. A quick run keeps to itself: its own name, a temporary folder
    unless told otherwise."""
    if not quick:
        return Path(RESULTS if out is None else out) / name, Path(RUNS / name if cache is None else cache)
    folder = Path(tempfile.mkdtemp(prefix="studio-reproduce-") if out is None else out) / f"{name}-quick"
    return folder, Path(folder / "jobs" if cache is None else cache)


def state(name: str, quick: bool = False, cache: str | Path | None = None) -> list[tuple[Job, bool]]:
    """The jobs of a page and whether each is done."""
    folder = cache if cache is not None else None if quick else RUNS / name
    return [
        (job, folder is not None and load(job, Path(folder)) is not None) for job in find(name).jobs(quick)
    ]


def reproduce(
    name: str,
    *,
    quick: bool = False,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    only: Sequence[str] = (),
    quiet: bool = False,
) -> Written:
    """Run what is missing of a page and write it. The same call goes on after an interruption.

    ``quick`` is a smoke run of a few steps whose numbers mean nothing. ``cache``: where the results of jobs
    lie. ``only``: patterns of job names (``*``, ``?``); the others are left, and the page is written once all
    are done. Raises ``ValueError`` for an unknown page or a pattern without a job, ``FileExistsError`` for a
    folder that holds something else.
    """
    page = find(name)
    jobs = page.jobs(quick)
    for pattern in only:
        if not any(fnmatchcase(job.name, pattern) for job in jobs):
            raise ValueError(
                f"got --only {pattern}, expected a pattern of jobs of {name}; studio reproduce {name} "
                "--list shows them"
            )
    folder, cache = places(name, quick, out, cache)
    readme = folder / "README.md"
    if readme.is_file() and not readme.read_text().startswith(MARK):
        raise FileExistsError(f"{readme} was not written by studio reproduce; choose another --out")
    files.check_writable(folder)
    files.check_writable(cache)
    asked = [job for job in jobs if not only or any(fnmatchcase(job.name, pattern) for pattern in only)]
    left = {job.name: job.minutes for job in asked if load(job, cache) is None}

    def tell(result: Result, done: int, total: int) -> None:
        if left.pop(result.name, None) is not None and not quiet:
            rest = f" · about {sum(left.values()):.0f} minutes left" if left and not quick else ""
            print(
                f"{done} of {total} · {result.name} · {result.seconds:.0f} s{rest}",
                file=sys.stderr,
                flush=True,
            )

    stopped = run_jobs(asked, cache, on_done=tell) is None
    results = {job.name: found for job in jobs if (found := load(job, cache)) is not None}
    if stopped or len(results) < len(jobs):
        return Written(folder, (), stopped, len(results), len(jobs))
    folder.mkdir(parents=True, exist_ok=True)
    body = page.write(results, folder)
    note = (
        "\n**This is a quick run: a few steps to see that everything works. Its numbers mean nothing.**\n"
        if quick
        else ""
    )
    command = f"studio reproduce {name}" + (" --quick" if quick else "")
    files.write_text(
        readme,
        f"{MARK} -->\n\n# "
        f"{page.title}\n{note}\n{body.strip()}\n\n{protocol(list(results.values()), command)}\n",
    )
    written = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return Written(folder, tuple(written), False, len(jobs), len(jobs))
