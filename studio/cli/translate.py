"""`studio translate`."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.options import (
    AsJson,
    Attention,
    Conditions,
    Device,
    Dtype,
    Guidance,
    NumSteps,
    Replace,
    Steps,
    Threads,
    Weights,
    conditions_of,
    emit,
    guidance_of,
)


def translate(
    model: Annotated[
        str, typer.Argument(help="A bridge: a run or exported folder, RUN@step or a bundled model.")
    ],
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    out: Annotated[Path, typer.Option(help="Folder for the translated pictures and before-after.png.")],
    num_steps: NumSteps = None,
    sampler: Annotated[
        str | None, typer.Option(help="bridge, bridge_sde, or an ODE sampler for models that know both ways.")
    ] = None,
    direction: Annotated[str, typer.Option(help="forward (as trained) or backward.")] = "forward",
    seed: Annotated[int, typer.Option(help="Added to the seed that every file name has.")] = 0,
    label: Annotated[
        str | None,
        typer.Option("--label", "--labels", help="A class for all pictures, where the model has classes."),
    ] = None,
    set_: Conditions = None,
    guidance: Guidance = "default",
    mask: Annotated[
        Path | None, typer.Option(help="White may change, black is kept, in every picture.")
    ] = None,
    resize: Annotated[bool, typer.Option(help="Convert pictures of another size or kind.")] = False,
    batch: Annotated[int, typer.Option(help="Pictures computed at once.")] = 32,
    deterministic: Annotated[
        bool, typer.Option(help="Bytes that do not depend on what is translated beside.")
    ] = False,
    overwrite: Replace = False,
    attention: Attention = "auto",
    weights: Weights = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Translate pictures through a bridge. Files that are there already are kept, so a call that was cut off
    goes on.

    Examples: `studio translate fashion-restore blurred/ --out restored` · `studio translate fashion-restore
    shoe.png --out restored --num-steps 5`
    """
    from studio.generation.translate import translate as run
    from studio.model.loading import load
    from studio.runtime.devices import set_threads

    set_threads(threads)
    with Steps() as bar:
        done = run(
            load(model, weights=weights, device=device, dtype=dtype, attention=attention),
            inputs,
            out,
            num_steps=num_steps,
            sampler=sampler,
            direction=direction,
            seed=seed,
            label=label,
            conditions=conditions_of(set_),
            guidance=guidance_of(guidance),
            mask=mask,
            resize=resize,
            batch=batch,
            deterministic=deterministic,
            overwrite=overwrite,
            on_step=bar,
        )
    result = {
        "written": [str(p) for p in done.written],
        "kept": [str(p) for p in done.kept],
        "failed": done.failed,
        "sheet": str(out / "before-after.png"),
        "notes": list(done.notes),
    }
    lines = [
        *result["written"],
        *done.notes,
        f"{len(done.written)} written, {len(done.kept)} were there, {len(done.failed)} failed",
        result["sheet"],
    ]
    emit(
        result, as_json, [*map(str, lines), *(f"failed: {name}: {why}" for name, why in done.failed.items())]
    )
    if done.failed:
        raise SystemExit(1)
