"""The commands `studio library` and `studio jobs`: what the index of a folder of outputs knows."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.options import AsJson, emit

Out = Annotated[Path, typer.Option(help="The folder of outputs, as `studio ui --out`.")]
Limit = Annotated[int, typer.Option(help="At most so many, the newest first.")]
NONE_YET = "there is no index in {out} yet: --adopt makes one of the pictures that lie there"


def library(
    out: Out = Path("outputs"),
    model: Annotated[str, typer.Option(help="Made by this MODEL.")] = "",
    class_: Annotated[str, typer.Option("--class", help="Of this class.")] = "",
    seed: Annotated[int | None, typer.Option(help="Of this seed.")] = None,
    since: Annotated[str, typer.Option(help="Made from this date or time on, such as 2026-11-30.")] = "",
    until: Annotated[str, typer.Option(help="Made up to this date, its day included, or time.")] = "",
    starred: Annotated[bool, typer.Option("--starred", help="With a star.")] = False,
    bin_: Annotated[bool, typer.Option("--bin", help="In the bin.")] = False,
    text: Annotated[str, typer.Option(help="With this in the model, the class or the note.")] = "",
    limit: Limit = 50,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="First look for pictures with recipes that no job has written.")
    ] = False,
    star: Annotated[list[str] | None, typer.Option(metavar="ID", help="Give it a star.")] = None,
    unstar: Annotated[list[str] | None, typer.Option(metavar="ID", help="Take its star away.")] = None,
    delete: Annotated[list[str] | None, typer.Option(metavar="ID", help="Into the bin.")] = None,
    restore: Annotated[list[str] | None, typer.Option(metavar="ID", help="Out of the bin.")] = None,
    note: Annotated[tuple[str, str] | None, typer.Option(metavar="ID TEXT", help="Note something.")] = None,
    empty_bin: Annotated[
        bool, typer.Option("--empty-bin", help="Tell what lies in the bin; with --yes remove those files.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --empty-bin: for good.")] = False,
    as_json: AsJson = False,
) -> None:
    """What was made, found again: by model, class, seed, date or star. What is deleted lies in the bin until
    that is emptied.

    Examples: `studio library --model fashion-dit --class Bag` · `studio library --adopt` · `studio library
    --star ID --star ID` · `studio library --bin` · `studio library --empty-bin --yes`
    """
    from studio.jobs import Wanted, artefacts, emptying
    from studio.jobs.found import adopt as adopt_all

    if limit < 1:
        raise ValueError(f"got --limit {limit}, expected 1 or more")
    if yes and not empty_bin:
        raise ValueError("got --yes without --empty-bin, which it is for; add it, or leave --yes out")
    wanted = Wanted(
        model=model,
        label=class_,
        seed=seed,
        text=text,
        since=artefacts.moment(since),
        until=artefacts.moment(until, end=True),
        starred=starred,
        binned=bin_,
    )
    if not adopt and out.is_dir() and not artefacts.indexed(out):
        return emit({"items": [], "count": 0}, as_json, [NONE_YET.format(out=out)])
    index = artefacts.opened(out)
    ends = [index.note] if index.note else []
    result: dict[str, Any] = {}
    if adopt:
        found = adopt_all(index, out)
        result["adopted"] = found.items
        ends.append(f"{found.items:,} new in {found.folders:,} folders that were read")
    marks: list[tuple[str, list[str], dict[str, Any]]] = [
        ("starred", star or [], {"star": True}),
        ("unstarred", unstar or [], {"star": False}),
        ("moved into the bin", delete or [], {"binned": True}),
        ("taken out of the bin", restore or [], {"binned": False}),
        ("noted", [note[0]] if note else [], {"note": note[1] if note else None}),
    ]
    artefacts.checked(index, [name for _, ids, _ in marks for name in ids])
    for words, ids, change in marks:
        if ids:
            index.mark(ids, **change)
            ends.append(f"{words}: {', '.join(ids)}")
    if empty_bin:
        gone = emptying.empty(index, out) if yes else emptying.look(index, out)
        result |= {"removed": yes, "files": [str(p) for p in gone.files], "bytes": gone.bytes}
        ends.append(f"removed {gone}" if yes else f"{gone}; --empty-bin --yes removes it for good")
    if empty_bin or any(ids for _, ids, _ in marks):
        return emit(result, as_json, ends)
    items, count = index.items(wanted, limit=limit), index.count(wanted)
    result |= {"items": [asdict(i) for i in items], "count": count}
    lines = [
        f"{i.id:<36}{artefacts.when(i.created)}  {'★' if i.star else ' '} {i.file}  {i.model}"
        + "".join(
            f"  {word}" for word in (i.label, "" if i.seed is None else f"seed {i.seed}", i.note) if word
        )
        for i in items
    ]
    more = f"; --limit {count} shows all" if count > len(items) else ""
    emit(result, as_json, [*lines, *ends, f"{len(items):,} of {count:,}{more}"])


def jobs(
    out: Out = Path("outputs"),
    state: Annotated[str, typer.Option(help="waiting, running, done, stopped or failed.")] = "",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """What was asked for and how it went, the newest first; also what runs now, in the page or elsewhere.

    Examples: `studio jobs` · `studio jobs --state running` · `studio jobs --out pictures --json`
    """
    from studio.jobs import artefacts
    from studio.jobs.records import STATES
    from studio.runtime.recipes import shown

    if limit < 1:
        raise ValueError(f"got --limit {limit}, expected 1 or more")
    if state and state not in STATES:
        raise ValueError(f"got --state {state}, expected one of {', '.join(STATES)}")
    if out.is_dir() and not artefacts.indexed(out):
        return emit({"jobs": []}, as_json, [f"no job has written to {out} yet"])
    found = artefacts.opened(out).jobs((state,) if state else (), limit=limit)
    lines = [
        f"{j.id:<18}{j.kind:<11}{j.state:<9}{f'{j.done}/{j.total}':>11}  {artefacts.when(j.created)}  "
        + "  ".join(filter(None, (shown(j.model), j.folder, shown(j.words))))
        for j in found
    ]
    emit({"jobs": [asdict(j) for j in found]}, as_json, lines or ["no job of that kind"])
