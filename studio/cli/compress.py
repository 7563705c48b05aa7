"""`studio compress`."""

import sys
from typing import Annotated, Any

import typer

from studio.cli.options import (
    AsJson,
    Conditions,
    Device,
    Dtype,
    Guidance,
    NumSteps,
    OnPath,
    Solver,
    Threads,
    Weights,
    conditions_of,
    emit,
    guidance_of,
)

METHODS = "blocks,uncond,attention"


def compress(
    model: Annotated[
        str, typer.Argument(help="A run or exported folder, RUN@step, hf:org/name or a bundled model.")
    ],
    budget: Annotated[
        str,
        typer.Option(
            help="error=0.05: how far a sample may move, as a share of how far two of one class are apart; "
            "flops=0.5: what a run may cost, as a share of what it costs without a plan."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Of the plan; by default its settings.")] = None,
    num_steps: NumSteps = None,
    sampler: Solver = None,
    guidance: Guidance = "default",
    set_: Conditions = None,
    path: OnPath = "",
    methods: Annotated[
        str,
        typer.Option(
            help="Of blocks (reused between steps), uncond (the unconditional pass left out at some) and "
            "attention (windows, shared between steps and branches)."
        ),
    ] = METHODS,
    search: Annotated[
        str, typer.Option(help="Of attention: local, or greedy (as published, slow).")
    ] = "local",
    schedule: Annotated[
        str,
        typer.Option(
            help="Of blocks and the unconditional pass: adaptive (as measured) or interval (every n-th step)."
        ),
    ] = "adaptive",
    window: Annotated[
        int | None, typer.Option(help="Keys to each side of a query; default: an eighth of the tokens.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Sort tokens by squares of so many a side; default: 8 from 1,024 tokens on, else 0."
        ),
    ] = None,
    calibration: Annotated[int, typer.Option(help="Samples that it is measured on, an even number.")] = 8,
    overwrite: Annotated[bool, typer.Option(help="Replace a plan of this name.")] = False,
    weights: Weights = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Find out what of a model need not be computed at every step, and save it as a plan in its folder.
    Nothing is trained. A search that was interrupted goes on where it was.

    Examples: `studio compress fashion-dit --budget error=0.05 --name fast` · `studio sample fashion-dit --out
    pictures --plan fast` · `studio compress my-model --budget flops=0.4 --num-steps 50 --sampler euler`
    """
    from studio.compression import compress as run
    from studio.model.loading import load
    from studio.runtime.devices import set_threads
    from studio.runtime.recipes import next_line

    set_threads(threads)
    loaded = load(model, weights=weights, device=device, dtype=dtype)
    done = run(
        loaded.on_path(path) if path else loaded,
        budget,
        name=name,
        num_steps=num_steps,
        sampler=sampler,
        guidance=guidance_of(guidance),
        conditions=conditions_of(set_),
        methods=[m.strip() for m in methods.split(",") if m.strip()],
        search=search,
        schedule=schedule,
        window=window,
        tile=tile,
        calibration=calibration,
        overwrite=overwrite,
        on_trial=lambda text: print(text, file=sys.stderr, flush=True),
    )
    line = next_line(
        "sample",
        model,
        ("--out", "pictures"),
        *(("--set", item) for item in set_ or []),
        ("--num-steps", num_steps),
        ("--sampler", sampler),
        ("--guidance", None if guidance == "default" else guidance),
        ("--path", path or None),
        ("--plan", done.saved.name),
    )
    found: dict[str, Any] = {"plan": done.saved.name, "file": str(done.path), "map": str(done.map)}
    found |= {**done.saved.measured, "command": line}
    emit(found, as_json, [told(found), found["file"], found["map"], line])


def told(found: dict[str, Any]) -> str:
    """A plan in one line."""
    return (
        f"{found['plan']}: {found['flops']:.0%} of the operations ({found['gflops_before']:g} → "
        f"{found['gflops']:g} GFLOP a sample; of attention's core {found['attention_flops']:.0%}), error "
        f"{found['error']:.3g}, keeps {found['memory'] / 1e6:.1f} MB a sample; the search took as long as "
        f"{found['search_share']:g} runs of eight samples"
    )
