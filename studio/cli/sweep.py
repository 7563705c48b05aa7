"""`studio sweep`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.options import AsJson, Device, Dtype, Threads, UsePlan, Weights, emit, guidance_of
from studio.cli.sets import AllowSmall, Features, Inception, Metrics


def sweep(
    model: Annotated[str, typer.Argument(help="A MODEL.")],
    out: Annotated[Path, typer.Option(help="Folder; a sweep that was interrupted is simply repeated.")],
    x: Annotated[str, typer.Option("--x", help="KEY=VALUE,VALUE to the right, such as cfg.scale=1,1.5,2,3.")],
    y: Annotated[str | None, typer.Option("--y", help="Downwards, such as num_steps=10,20,50.")] = None,
    z: Annotated[str | None, typer.Option("--z", help="A third one, such as 'sampler=ab2,heun'.")] = None,
    ref: Annotated[
        str | None,
        typer.Option(
            help="What to measure against, as in studio evaluate; default: the data the model was trained on."
        ),
    ] = None,
    metrics: Metrics = None,
    features: Features = None,
    inception: Inception = None,
    allow_small: AllowSmall = False,
    num: Annotated[
        int, typer.Option("--num", "--num-samples", help="Samples measured at each combination.")
    ] = 1000,
    labels: Annotated[str | None, typer.Option(help="balanced, random, data, a list or a file.")] = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images", help="A contact sheet; alone, without --ref or --metrics, nothing is measured."
        ),
    ] = False,
    pictures: Annotated[int, typer.Option(help="Pictures of each combination in the contact sheet.")] = 4,
    guidance: Annotated[str, typer.Option(help="What is not swept of it.")] = "default",
    sampler: Annotated[str | None, typer.Option(help="Where it is not swept.")] = None,
    num_steps: Annotated[int | None, typer.Option(help="Where it is not swept.")] = None,
    plan: UsePlan = "none",
    weights: Weights = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Every combination of a few settings, with the same seeds: a table, heat maps and a contact sheet.

    Example: `studio sweep fashion-dit --out sweep --x cfg.scale=1,1.5,2,3 --y num_steps=10,20,50 --metrics
    fd,acc --images`
    """
    from studio.evaluation.sweep import parse_axis
    from studio.evaluation.sweep import sweep as run
    from studio.model.loading import load
    from studio.runtime.devices import set_threads

    set_threads(threads)
    axes = [parse_axis(text) for text in (x, y, z) if text is not None]
    loaded = load(model, weights=weights, device=device, dtype=dtype).planned(plan)
    rows: list[dict[str, Any]] = []
    steps = run(
        loaded,
        out,
        axes,
        ref=ref,
        metrics=metrics,
        features=features,
        inception=None if inception is None else str(inception),
        num=num,
        labels=labels,
        images=pictures if images else 0,
        allow_small=allow_small,
        guidance_line="default" if guidance == "default" else guidance_of(guidance),
        sampler=sampler,
        num_steps=num_steps,
    )
    for job, result, done, total in steps:
        rows.append({**job.settings, **(result.values if result else {})})
        print(
            f"{done} of {total} · "
            + " · ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items()),
            file=sys.stderr,
        )
    written = sorted(str(p) for p in out.iterdir() if p.is_file() and not p.name.startswith("."))
    emit({"rows": rows, "files": written}, as_json, written)
