"""`studio train`."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.options import (
    AsJson,
    Device,
    Dtype,
    Threads,
    emit,
)


def train(
    config: Annotated[
        str,
        typer.Argument(help="A YAML file, a shipped config (studio list configs), images:DIR or npz:FILE."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as train.steps=1000.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with an existing run.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Remove an existing run and start again.")] = False,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A MODEL to fine-tune: its weights to begin with; lora.rank=8 trains adapters only.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            help="Print the resolved config, and how long it would take in what memory and on what disk; "
            "write nothing."
        ),
    ] = False,
    strict: Annotated[bool, typer.Option(help="A picture that does not decode is an error.")] = False,
    device: Device = "auto",
    dtype: Dtype = "",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train a model. Ctrl-C saves a checkpoint; `--resume` goes on to the same bytes.

    Examples: `studio train fashion-dit` · `studio train images:photos data.size=64 train.minutes=30 --out
    runs/photos` · `studio train runs/photos/config.yaml --resume` · `studio train images:new-photos --from
    runs/photos lora.rank=8 train.minutes=10`
    """
    from studio.runtime.devices import set_threads

    changes = (
        list(overrides or [])
        + ([f"train.dtype={dtype}"] if dtype else [])
        + (["data.strict=true"] if strict else [])
    )
    set_threads(threads)
    if dry_run:
        from studio.cli.info import brief
        from studio.training.dry_run import lines, of_training

        result = of_training(
            config, changes, out=out, resume=resume, overwrite=overwrite, start_from=start_from, device=device
        )
        return emit(result, as_json, lines(brief(result) | {"yaml": result["yaml"]}))
    from studio.cli.info import use_of
    from studio.runtime.recipes import told
    from studio.training.run import train as run_training

    run = run_training(
        config, changes, out=out, resume=resume, overwrite=overwrite, start_from=start_from, device=device
    )
    result = {
        "run": str(run.folder),
        "step": run.step,
        "interrupted": run.interrupted,
        **{k: v for k, v in run.metrics.items() if k != "step"},
    }
    emit(
        result,
        as_json,
        [
            f"{run.folder}  step {run.step}"
            + ("  (stopped; go on with --resume)" if run.interrupted else ""),
            told(lambda: use_of(str(run.folder))),
        ],
    )
    if run.interrupted:
        raise SystemExit(130)
