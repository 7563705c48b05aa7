"""`studio compare`."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.options import AsJson, Threads, emit
from studio.cli.sets import AllowSmall, Count, Features, Inception, Metrics, Ref


def compare(
    a: Annotated[str, typer.Argument(help="A set of samples: a folder, an .npz, or a file of molecules.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    ref: Ref,
    metrics: Metrics = None,
    features: Features = None,
    inception: Inception = None,
    allow_small: AllowSmall = False,
    rounds: Annotated[int, typer.Option(help="How often both sets are drawn again.")] = 200,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the result (.json) is kept.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Two sets of samples against one reference: every measure of both, the difference and its bootstrap
    interval. Slow measures (kid, pr, dc, nn, w2, fcd, similarity ...) are computed where they are asked for.

    Examples: `studio compare before after --ref fashion-mnist` · `studio compare a.npz b.npz --ref
    photos-ref.npz --metrics fid --rounds 100`
    """
    from studio.evaluation.comparing import compare as run
    from studio.runtime import files
    from studio.runtime.devices import set_threads

    if out is not None:
        if out.exists() and not overwrite:
            raise FileExistsError(f"{out} exists already; choose another --out or pass --overwrite")
        files.check_writable(out.parent)
    set_threads(threads)
    with Count("rounds") as bar:
        found = run(
            a,
            b,
            ref,
            metrics=metrics,
            features=features,
            inception=inception,
            allow_small=allow_small,
            rounds=rounds,
            level=level,
            seed=seed,
            on_progress=bar,
        )
    if out is not None:
        found.save(out)
    emit(found.tree(), as_json, [*found.lines(), *([f"kept in {out}"] if out else [])])
    if found.failed and metrics is not None:  # what was asked for is missing
        raise SystemExit(1)
