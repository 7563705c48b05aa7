"""The command line. Progress on stderr, results on stdout, ``--json`` for machines; a wrong call ends in one
plain line and exit code 2.

Heavy imports wait until a command runs, so ``--help`` answers at once.
"""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli import cache, compare, convert, generate, reproduce, sets, sweep, translate
from studio.cli.options import (
    WIDTH,
    AsJson,
    Conditions,
    Device,
    Dtype,
    Steps,
    Threads,
    Weights,
    conditions_of,
    emit,
    guidance_of,
)

UI = "ui.app:main"
app = typer.Typer(
    name="studio",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings=WIDTH,
    pretty_exceptions_enable=False,
    help="Train, sample and steer conditional diffusion and flow-matching models.\n\n"
    "Examples:\n\n`studio sample fashion-dit --out pictures --seeds 0-7`\n\n`studio train "
    "images:my-folder train.minutes=30`\n\n`studio ui`",
)


@app.command(context_settings=WIDTH)
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


@app.command(context_settings=WIDTH)
def sample(
    model: Annotated[
        str, typer.Argument(help="A run or exported folder, RUN@step, hf:org/name or a bundled model.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for pictures, grid.png and recipe.json.")],
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
    num_steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Such as ab2, heun, 'ddim(eta=0.5)'.")] = None,
    guidance: Annotated[
        str, typer.Option(help="Such as cfg=2.0,interval=0.1:0.9; '' or none = off.")
    ] = "default",
    path: Annotated[
        str,
        typer.Option(
            help="Sample on another path than the model's own: linear, lipman, trig, edm or "
            "'vp(schedule=cosine)'."
        ),
    ] = "",
    init: Annotated[
        str | None,
        typer.Option(help="A picture to start from; for molecules the SMILES of a piece that stays."),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of the way is run anew: 0 keeps the picture, 1 ignores it.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="With --init: white may change, black is kept.")] = None,
    batch: Annotated[int, typer.Option(help="Samples computed at once (8, fixed, in bf16 on a CPU).")] = 64,
    deterministic: Annotated[
        bool, typer.Option(help="Bytes that do not depend on what is sampled beside.")
    ] = False,
    probe: Annotated[
        bool, typer.Option(help="Also write what guidance did in each step: probe.csv and probe.png.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace files of the same names.")] = False,
    weights: Weights = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Sample a few pictures with their recipes inside, and a grid.

    Examples: `studio sample fashion-dit --out pictures --seeds 0-7` · `studio sample fashion-dit --out bags
    --labels Bag --guidance cfg=2` · `studio sample fashion-dit --out again --init shoe.png --strength 0.5` ·
    `studio sample fashion-dit --out probed --guidance tcfg,cfg=3 --probe`
    """
    from studio.model.loading import load
    from studio.runtime.devices import set_threads
    from studio.runtime.seeds import AT_ONCE, parse_seeds

    chosen = parse_seeds(seeds, most=AT_ONCE)
    set_threads(threads)
    loaded = load(model, weights=weights, device=device, dtype=dtype)
    loaded = loaded.on_path(path) if path else loaded
    origin = {k: str(v) for k, v in (("init", init), ("mask", mask)) if v is not None}
    options: dict[str, Any] = dict(
        labels=labels,
        seeds=chosen,
        conditions=conditions_of(set_),
        num_steps=num_steps,
        sampler=sampler,
        guidance=guidance_of(guidance),
        init=init,
        strength=strength,
        mask=mask,
        batch=batch,
        deterministic=deterministic,
    )
    # what cannot be written is refused before anything is computed
    loaded.refuse(out, overwrite=overwrite, **options)
    rows: list[dict[str, Any]] | None = None
    if probe:
        from studio.model.probing import check_guided, places, save_probe

        places(out, overwrite)
        check_guided(loaded, options)
        rows = []
    with Steps() as bar:
        samples = loaded.sample(origin=origin, on_step=bar, probe=rows, **options)
    written = samples.save(out, overwrite=overwrite)
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


@app.command(context_settings=WIDTH)
def info(
    what: Annotated[str, typer.Argument(help="A MODEL, a folder of samples, or a PNG.")],
    guidance: Annotated[
        str | None,
        typer.Option(help="Of a MODEL: count the memory of the models that this guidance borrows."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a model is, or how a picture was made and the command that makes it again.

    Examples: `studio info fashion-dit` · `studio info pictures/seed-000003.png` · `studio info fashion-dit
    --guidance prior=fashion-ddpm,cfg=2`
    """
    from studio.cli.info import brief, describe
    from studio.runtime.recipes import shown

    result = describe(what, guidance)
    emit(result, as_json, [f"{shown(k) + ':':<14}{shown(v)}" for k, v in brief(result).items()])


@app.command("list", context_settings=WIDTH)
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            help="models, configs, backbones, samplers, guidance, data, paths, couplings, "
            "parameterisations, times, spaces, tasks, codecs, procedures, conditions, kinds, "
            "encoders, measures or plugins."
        ),
    ] = "models",
    roots: Annotated[list[Path] | None, typer.Option("--models", help="Folders to look for runs in.")] = None,
    as_json: AsJson = False,
) -> None:
    """What there is: models, configs, backbones, samplers, guidance rules, data sources, and what an
    objective is made of, by our names and those of papers; of what a plug-in brings, its package.

    Examples: `studio list` · `studio list samplers` · `studio list couplings`
    """
    from studio.cli.listing import catalogue

    result = catalogue(kind, [str(r) for r in roots or [Path("runs")]])
    emit({kind: result}, as_json, [f"{name:<22}{text}" for name, text in result.items()])


@app.command(context_settings=WIDTH)
def export(
    model: Annotated[str, typer.Argument(help="A run or RUN@step.")],
    out: Annotated[Path, typer.Option(help="Folder for the flat model.")],
    weights: Weights = "auto",
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16 storage.")] = "fp32",
    adapter: Annotated[
        bool, typer.Option(help="Only what a lora run has learned; the base must be at hand to use it.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing export.")] = False,
    as_json: AsJson = False,
) -> None:
    """Flatten a run to what inference needs: config.yaml, model.safetensors, meta.json, preview.png.

    Example: `studio export runs/photos --out photos-model --dtype fp16`
    """
    from studio.cli.info import use_of
    from studio.model.export import export as run_export
    from studio.runtime.recipes import told

    folder = run_export(model, out, weights=weights, dtype=dtype, overwrite=overwrite, adapter=adapter)
    emit({"folder": str(folder)}, as_json, [f"{folder}", told(lambda: use_of(str(folder)))])


@app.command(context_settings=WIDTH)
def flops(
    model: Annotated[str, typer.Argument(help="A MODEL, a config, or dit:SIZE such as dit:XL/2.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value for a config, or for the backbone's options.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Multiply-adds, parameters and tokens of one network evaluation, counted on a meta device (nothing is
    computed).

    Examples: `studio flops fashion-dit` · `studio flops dit:XL/2 input_size=32`
    """
    from studio.cli.info import count_flops

    result = count_flops(model, list(overrides or []))
    emit(result, as_json, [f"{k + ':':<14}{v}" for k, v in result.items()])


@app.command(context_settings=WIDTH)
def ui(
    models: Annotated[list[str] | None, typer.Option("--models", help="Folders to look for runs in.")] = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 7860,
    out: Annotated[Path, typer.Option(help="Where pictures are saved.")] = Path("outputs"),
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name by which the page may be asked for, beside its own.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
) -> None:
    """Open the page.

    Example: `studio ui --models runs --port 7860`
    """
    import importlib

    from studio.runtime import name_clash

    module, _, attribute = UI.partition(":")
    name_clash.check(module.partition(".")[0])
    getattr(importlib.import_module(module), attribute)(
        models=models or ["runs"],
        host=host,
        port=port,
        out=str(out),
        device=device,
        dtype=dtype,
        threads=threads,
        open_browser=open_browser,
        allow_hosts=tuple(allow_host or ()),
    )


for _command in (
    generate.generate,
    sets.evaluate,
    compare.compare,
    sets.reference,
    sweep.sweep,
    convert.convert,
    translate.translate,
    reproduce.reproduce,
    cache.cache,
):
    app.command(context_settings=WIDTH)(_command)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: what a user can mend is one line on stderr and exit code 2, Ctrl-C is 130, anything else a
    traceback."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    plain, warnings.formatwarning = warnings.formatwarning, _warning
    try:
        app(args, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except typer.Exit as done:
        raise SystemExit(done.exit_code) from None
    except Exception as error:
        # the parser's own errors have the former
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        if not hasattr(error, "format_message") and (
            not isinstance(error, ValueError | OSError | ImportError | RuntimeError) or _is_bug(error)
        ):
            raise
        print(f"error: {text}" if text else "", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        warnings.formatwarning = plain


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """What is told to a user is a sentence; what is told to those who write code says where."""
    return (
        f"warning: {message}\n"
        if category is UserWarning
        else f"{filename}:{lineno}: {category.__name__}: {message}\n"
    )


def _is_bug(error: BaseException) -> bool:
    """Errors we raise on purpose come from our own files; a RuntimeError from inside torch is a bug and keeps
    its traceback."""
    if not isinstance(error, RuntimeError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (
        trace is None or "site-packages" in trace.tb_frame.f_code.co_filename and type(error) is RuntimeError
    )


if __name__ == "__main__":
    main()
