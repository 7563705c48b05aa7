"""The command `studio reproduce`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.options import AsJson, Threads, emit


def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="A page; without one, --list shows what there is.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A few steps to see that it runs; its own folder, numbers without meaning."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where pages are kept; default docs/results, with --quick a temporary folder."),
    ] = None,
    jobs: Annotated[
        Path | None, typer.Option(help="Where the results of jobs are kept; default runs/reproduce/NAME.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Run the jobs of this pattern alone, such as 'points-*'; may be repeated."),
    ] = None,
    list_: Annotated[
        bool,
        typer.Option(
            "--list", help="The pages, or the jobs of one and which of them are done; nothing runs."
        ),
    ] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run a page's experiments and write it: README.md, table.csv and plots. What is done already is kept, so
    the same command goes on.

    Examples: `studio reproduce --list` · `studio reproduce wcfm --quick` · `studio reproduce wcfm`
    """
    from studio.reproduce import command
    from studio.runtime.devices import set_threads

    if name is None:
        if not list_:
            raise ValueError(
                f"got no page, expected one of {', '.join(command.pages())}; --list says what they are"
            )
        titles = command.pages()
        return emit({"pages": titles}, as_json, [f"{page:<26}{title}" for page, title in titles.items()])
    set_threads(threads)
    if list_:
        found = command.state(name, quick, jobs)
        rows = [{"job": job.name, "done": done, "minutes": job.minutes} for job, done in found]
        left = sum(job.minutes for job, done in found if not done)
        lines = [f"{'done' if r['done'] else 'to do':<7}{r['minutes']:>5.1f} min  {r['job']}" for r in rows]
        return emit(
            {"page": name, "jobs": rows, "minutes_left": round(left, 1)},
            as_json,
            [*lines, f"about {left:.0f} minutes left"],
        )
    written = command.reproduce(name, quick=quick, out=out, cache=jobs, only=only or ())
    result: dict[str, Any] = {
        "page": str(written.folder),
        "files": [str(p) for p in written.files],
        "interrupted": written.interrupted,
        "done": written.done,
        "jobs": written.jobs,
    }
    rest = (
        f"{'stopped with ' if written.interrupted else ''}{written.done} of {written.jobs} jobs done; the "
        "page is written when all are"
    )
    emit(result, as_json, result["files"] or [rest])
    if written.interrupted:
        raise SystemExit(130)
