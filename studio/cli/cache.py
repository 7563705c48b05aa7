"""The command `studio cache`."""

import time
from typing import Annotated, Any

import typer

from studio.cli.options import AsJson, emit


def cache(
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove what was not used for --days, then the least recently used until --most is met.",
        ),
    ] = False,
    days: Annotated[
        float, typer.Option(help="With --prune: keep what was used in so many days; 0 removes everything.")
    ] = 30,
    most: Annotated[
        str | None, typer.Option(help="With --prune: keep at most this much, such as 2GB.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What is kept to be faster the next time (decoded pictures, molecules, features), and what to remove of
    it. All of it is made again when it is needed.

    Examples: `studio cache` · `studio cache --prune` · `studio cache --prune --most 2GB` · `studio cache
    --prune --days 0`
    """
    from studio.runtime import caches
    from studio.runtime.files import cache_home

    if not days >= 0:
        raise ValueError(f"got --days {days}, expected 0 or more")
    limit = None if most is None else caches.size_of(most)
    if not prune and (most is not None or days != 30):
        raise ValueError(
            "got --days or --most without --prune, expected them with it; add --prune to remove anything"
        )
    listed, now = caches.entries(), time.time()
    going = caches.old(listed, days=days, most=limit) if prune else []
    freed = caches.remove(going)
    rows: list[dict[str, Any]] = [
        {
            "kind": e.kind,
            "name": e.name,
            "mb": round(e.bytes / 1e6, 3),
            "days": round((now - e.used) / 86400, 2),
            "removed": e in going,
        }
        for e in listed
    ]
    total = sum(e.bytes for e in listed) - freed
    lines = [
        f"{r['kind']:<11}{r['name'][:12]:<14}{r['mb']:>10.1f} MB  used {r['days']:.0f} days "
        f"ago{'  removed' if r['removed'] else ''}"
        for r in rows
    ]
    ends = [f"removed {len(going)} of {len(listed)}, {freed / 1e6:.1f} MB"] if prune else []
    last = f"{total / 1e6:.1f} MB in {len(listed) - len(going)} entries in {cache_home()}"
    result = {
        "folder": str(cache_home()),
        "entries": rows,
        "mb": round(total / 1e6, 3),
        "freed_mb": round(freed / 1e6, 3),
    }
    emit(result, as_json, [*lines, *ends, last])
