"""`studio sample`."""

import sys
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
    Replace,
    Solver,
    Steps,
    Threads,
    UsePlan,
    Weights,
    conditions_of,
    emit,
    guidance_of,
)


def sample(
    model: Annotated[
        str, typer.Argument(help="A run or exported folder, RUN@step, hf:org/name or a bundled model.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for pictures, grid.png and recipe.json.")],
    context: typer.Context,
    preset: Annotated[
        str | None,
        typer.Option(help="Settings under a name (studio info MODEL lists them), where no option says more."),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Numbers and ranges: 0-7,12; at most 100,000 (studio generate makes more).")
    ] = "0-7",
    labels: Annotated[
        str | None,
        typer.Option(
            help='Names, numbers and ranges of classes, or a JSON list such as ["a, b", 3, -1]; one or as '
            "many as seeds; none = unconditional."
        ),
    ] = None,
    set_: Conditions = None,
    num_steps: NumSteps = None,
    sampler: Solver = None,
    guidance: Guidance = "default",
    path: OnPath = "",
    plan: UsePlan = "none",
    cache_limit: CacheLimit = None,
    init: Annotated[
        str | None,
        typer.Option(help="A picture to start from; for molecules the SMILES of a piece that stays."),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of the way is run anew: 0 keeps the picture, 1 ignores it.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="With --init: white may change, black is kept.")] = None,
    known: Annotated[
        Path | None,
        typer.Option(help="With --given: an .npy (or .npz) of bools, true for the entries that stay."),
    ] = None,
    given: Annotated[
        Path | None, typer.Option(help="The values of the known entries, in the data's own unit.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Samples computed at once (8, fixed, in bf16 on a CPU).")] = 64,
    deterministic: Annotated[
        bool, typer.Option(help="Bytes that do not depend on what is sampled beside.")
    ] = False,
    probe: Annotated[
        bool, typer.Option(help="Also write what guidance did in each step: probe.csv and probe.png.")
    ] = False,
    gif: Annotated[
        bool, typer.Option(help="Also write how the first samples came about, step by step: trajectory.gif.")
    ] = False,
    overwrite: Replace = False,
    attention: Attention = "auto",
    weights: Weights = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Sample a few pictures with their recipes inside, and a grid.

    Examples: `studio sample fashion-dit --out pictures --seeds 0-7` · `studio sample fashion-dit --out bags
    --labels Bag --guidance cfg=2` · `studio sample fashion-dit --out quick --preset fast` · `studio sample
    fashion-dit --out again --init shoe.png --strength 0.5` · `studio sample fashion-dit --out probed
    --guidance tcfg,cfg=3 --probe`
    """
    from studio.cli import preset as presets
    from studio.jobs.taught import teach
    from studio.model.loading import load
    from studio.runtime.devices import set_threads
    from studio.runtime.seeds import AT_ONCE, parse_seeds

    own: dict[str, Any] = dict(
        labels=labels,
        seeds=seeds,
        set_=conditions_of(set_),
        num_steps=num_steps,
        sampler=sampler,
        guidance=guidance_of(guidance),
        plan=plan,
        weights=weights,
        dtype=dtype,
        deterministic=deterministic,
    )
    if preset is not None:
        found = presets.options(context, preset, model, out)
        own |= found | {"set_": found.get("set_", {}) | own["set_"]}
    chosen = parse_seeds(own["seeds"], most=AT_ONCE)
    set_threads(threads)
    loaded = load(model, weights=own["weights"], device=device, dtype=own["dtype"], attention=attention)
    loaded = (loaded.on_path(path) if path else loaded).planned(own["plan"], cache_limit)
    files = {"init": init, "mask": mask, "known": known, "given": given}
    origin = {k: str(v) for k, v in files.items() if v is not None}
    options: dict[str, Any] = dict(
        labels=own["labels"],
        seeds=chosen,
        conditions=own["set_"],
        num_steps=own["num_steps"],
        sampler=own["sampler"],
        guidance=own["guidance"],
        init=init,
        strength=strength,
        mask=mask,
        known=known,
        given=given,
        batch=batch,
        deterministic=own["deterministic"],
    )
    # what cannot be written is refused before anything is computed
    loaded.refuse(out, overwrite=overwrite, **options)
    rows: list[dict[str, Any]] | None = None
    if probe:
        from studio.model.probing import check_guided, places, save_probe

        places(out, overwrite)
        check_guided(loaded, options)
        rows = []
    film = None
    if gif:
        from studio.model.trajectory import Trajectory

        film = Trajectory(loaded, out, overwrite=overwrite)
    with Steps() as bar:
        told = bar if film is None else film.beside(bar)
        samples = loaded.sample(origin=origin, on_step=told, probe=rows, **options)
    written = samples.save(out, overwrite=overwrite)
    if film is None and rows is None:  # which take time of their own
        teach(out, loaded, model, samples, batch)
    if film is not None:
        written.append(film.save(samples))
    if rows:
        written += save_probe(rows, out, overwrite=overwrite)
    elif rows is not None:
        print(
            "no step was guided, so there is no probe: the interval of the guidance lies between two steps",
            file=sys.stderr,
        )
    result: dict[str, Any] = {
        "files": [str(p) for p in written],
        "grid": str(out / "grid.png"),
        "seconds": round(samples.seconds, 3),
        "recipe": samples.recipes[0],
    }
    emit(result, as_json, [*result["files"], result["grid"]])
