"""The command line. Progress on stderr, results on stdout, ``--json`` for machines; a wrong call ends in one
plain line and exit code 2.

Heavy imports wait until a command runs, so ``--help`` answers at once.
"""

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli import (
    cache,
    compare,
    compress,
    convert,
    diagnose,
    generate,
    library,
    reproduce,
    sample,
    sets,
    sweep,
    train,
    translate,
)
from studio.cli.options import (
    WIDTH,
    AsJson,
    Device,
    Dtype,
    Threads,
    Weights,
    emit,
)

UI = "ui.serve:main"
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


def _add(*commands: Callable[..., None]) -> None:
    for command in commands:
        app.command(context_settings=WIDTH)(command)


_add(train.train, sample.sample)


@app.command(context_settings=WIDTH)
def info(
    what: Annotated[str, typer.Argument(help="A MODEL, a folder of samples, or a PNG.")] = "",
    guidance: Annotated[
        str | None,
        typer.Option(help="Of a MODEL: count the memory of the models that this guidance borrows."),
    ] = None,
    attention: Annotated[
        bool,
        typer.Option(
            "--attention",
            help="In place of one: what was measured on this machine, or is now, and is chosen.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What a model is, or how a picture was made and the command that makes it again.

    Examples: `studio info fashion-dit` · `studio info pictures/seed-000003.png` · `studio info fashion-dit
    --guidance prior=fashion-ddpm,cfg=2` · `studio info --attention`
    """
    from studio.cli.info import brief, describe, measured_here
    from studio.runtime.recipes import shown

    if bool(what) == attention:
        raise ValueError(
            "got nothing to tell of, or two things; give a MODEL, samples or a PNG, or --attention"
        )
    if attention:
        found, lines = measured_here()
        return emit(found, as_json, lines)
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
    plan: Annotated[
        str | None,
        typer.Option(help="Of a MODEL: a whole run by this plan (a name or a file) and without it."),
    ] = None,
    batch: Annotated[int, typer.Option(help="With --plan: samples at once, whose memory is told.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Multiply-adds, parameters and tokens of one network evaluation, counted on a meta device (nothing is
    computed). With --plan also the operations of a run of one sample, where a multiply-add counts as two, and
    what the plan keeps in memory.

    Examples: `studio flops fashion-dit` · `studio flops dit:XL/2 input_size=32` · `studio flops fashion-dit
    --plan fast`
    """
    from studio.cli.info import count_flops
    from studio.cli.plans import lines, run_cost
    from studio.runtime.recipes import shown

    if plan is not None and overrides:
        raise ValueError("got overrides with --plan, which is for a model as it was trained; leave them out")
    planned = run_cost(model, plan, batch) if plan is not None else None
    result = count_flops(model, list(overrides or []))
    told = result if planned is None else result | lines(planned)
    if planned is not None:
        result = result | {"plan": planned}
    emit(result, as_json, [f"{k + ':':<14}{shown(v)}" for k, v in told.items()])


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
    user: Annotated[
        str | None,
        typer.Option(help="Who may open it: the password is in STUDIO_PASSWORD, or in --users."),
    ] = None,
    users: Annotated[
        Path | None, typer.Option(help="Everybody who may: a file of lines of --hash-password.")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Also by a public link of gradio's; asks for a password.")
    ] = False,
    hash_password: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Ask for NAME's password, print the line for --users, and end."),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
) -> None:
    """Open the page. A --host beyond this machine, and --share, want a password.

    Examples: `studio ui --models runs --port 7860` · `STUDIO_PASSWORD=... studio ui --host 0.0.0.0 --user
    ada` · `studio ui --hash-password ada >> people`
    """
    import importlib

    from studio.runtime import name_clash, passwords

    if hash_password is not None:
        word = typer.prompt(
            f"Password of {hash_password}", hide_input=True, confirmation_prompt=True, err=True
        )
        return print(passwords.hashed(hash_password, word))
    people = None if user is None and users is None else passwords.people(user, users)
    passwords.check(host, share, people)
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
        share=share,
        people=people,
    )


_add(
    library.library,
    library.jobs,
    generate.generate,
    sets.evaluate,
    compare.compare,
    sets.reference,
    sweep.sweep,
    convert.convert,
    translate.translate,
    compress.compress,
    reproduce.reproduce,
    diagnose.diagnose,
    cache.cache,
)


@functools.cache
def commands() -> Any:
    """What reads a command line: all commands and their options."""
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: what a user can mend is one line on stderr and exit code 2, Ctrl-C is 130, anything else a
    traceback."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    plain, warnings.formatwarning = warnings.formatwarning, _warning
    try:
        commands()(args, standalone_mode=False)
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
