"""`studio generate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.options import (
    AsJson,
    Attention,
    CacheLimit,
    Conditions,
    Device,
    Dtype,
    Guidance,
    NumSteps,
    OnPath,
    Solver,
    Threads,
    UsePlan,
    Weights,
    conditions_of,
    emit,
    guidance_of,
)


def generate(
    model: Annotated[
        str, typer.Argument(help="A run or exported folder, RUN@step, hf:org/name or a bundled model.")
    ],
    out: Annotated[Path, typer.Option(help="Folder; a call that was interrupted is simply repeated.")],
    num: Annotated[
        int | None,
        typer.Option(
            "--num",
            "--num-samples",
            help="How many samples. torchrun takes --num for an option of its own: write "
            "--num-samples there.",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Their seeds, such as 0-49999; default 0 to num - 1.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="balanced, random, data (as often as in training), names and numbers repeated in turn "
            "(Bag,0,5-9, or a JSON list), or a file (.txt, .csv, .json, .npy)."
        ),
    ] = None,
    set_: Conditions = None,
    guidance: Guidance = "default",
    sampler: Solver = None,
    num_steps: NumSteps = None,
    batch: Annotated[str, typer.Option(help="Samples computed at once: auto or a number.")] = "auto",
    format: Annotated[
        str | None,
        typer.Option(
            help="png, npz (arr_0 uint8 NHWC, labels), both, or tar (archives of a thousand PNGs, their "
            "SHA-256 beside them)."
        ),
    ] = None,
    deterministic: Annotated[
        bool, typer.Option(help="The same bytes whatever the batch, the processes and the interruptions.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Remove the samples in the folder and start again.")
    ] = False,
    workers: Annotated[str, typer.Option(help="Local processes: auto or a number.")] = "auto",
    shard: Annotated[
        str | None,
        typer.Option(
            help="K/N: the part of machine K of N that share the folder; env: as RANK and WORLD_SIZE say, "
            "or the variables of Slurm."
        ),
    ] = None,
    path: OnPath = "",
    plan: UsePlan = "none",
    cache_limit: CacheLimit = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print how long it would take, on how much disk, and what a thousand cost; write nothing.",
        ),
    ] = False,
    attention: Attention = "auto",
    weights: Weights = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Make any number of samples, as for FID. What is there already is kept, so the same command goes on
    after an interruption.

    Sample i depends on its seed and label only. Works alone, under `torchrun` or `accelerate launch`, and on
    several machines with `--shard`.

    Examples: `studio generate fashion-dit --out fid --num 50000 --guidance cfg=1.5` · `torchrun
    --nproc_per_node 8 -m studio generate my-model --out fid --num-samples 50000` · `studio generate
    fashion-dit --out bags --num 1000 --labels Bag --format both`
    """
    from studio.generation import generate as run

    options: dict[str, Any] = dict(
        num=num,
        seeds=seeds,
        labels=labels,
        conditions=conditions_of(set_),
        num_steps=num_steps,
        guidance=guidance_of(guidance),
        sampler=sampler,
        batch=batch,
        format=format,
        deterministic=deterministic,
        overwrite=overwrite,
        weights=weights,
        device=device,
        dtype=dtype,
        threads=threads,
        workers=workers,
        shard=shard,
        path=path,
        plan=plan,
        cache_limit=cache_limit,
        attention=attention,
    )
    if dry_run:
        from studio.generation.dry_run import lines as told
        from studio.generation.dry_run import of_generation

        found = of_generation(model, out, **options)
        return emit(found, as_json, told(found))
    result = run(model, out, **options)
    there = result.num - result.missing - result.elsewhere
    lines = [
        f"{result.folder}  {there} of {result.num} samples ({result.written} new, "
        f"{result.samples_per_second} samples/s)"
    ]
    lines += [f"{result.npz}"] if result.npz else []
    lines += (
        [f"{result.foreign} files that are not samples were moved to {result.folder}/foreign"]
        if result.foreign
        else []
    )
    lines += [f"{result.elsewhere} samples of other shards are not there yet"] if result.elsewhere else []
    lines += [f"{result.missing} are missing: run the same command again to go on"] if result.missing else []
    emit(result.tree(), as_json, lines)
    if result.interrupted:
        raise SystemExit(130)
    if result.missing:
        raise SystemExit(1)
