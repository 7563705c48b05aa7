"""Commands over sets of samples: generate, evaluate, reference, sweep."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.options import (
    AsJson,
    Conditions,
    Device,
    Dtype,
    Threads,
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
    guidance: Annotated[
        str, typer.Option(help="Such as cfg=2.0,interval=0.1:0.9; '' or none = off.")
    ] = "default",
    sampler: Annotated[str | None, typer.Option(help="Such as ab2, heun, 'ddim(eta=0.5)'.")] = None,
    num_steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
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
    path: Annotated[
        str,
        typer.Option(help="Sample on another path than the model's own: linear, lipman, trig, vp or edm."),
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print how long it would take, on how much disk, and what a thousand cost; write nothing.",
        ),
    ] = False,
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


Ref = Annotated[
    str,
    typer.Option(
        help="A reference file, an ADM .npz, a folder, images:DIR, npz:FILE, points:KIND, molecules:FILE, "
        "fashion-mnist or moses (@held_out: the test part)."
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="fid,sfid,is,pr,dc,kid,fd,fd_class,acc,nn; for points w2,energy,modes; for molecules "
        "validity,uniqueness,novelty,diversity,fcd,fragments,scaffolds,similarity,coverage,targets, "
        "and MOSES's: moses, or unique@1k,unique@10k,IntDiv,IntDiv2,Filters,FCD/Test,SNN,Frag,Scaf."
    ),
]
Features = Annotated[str | None, typer.Option(help="inception, lenet or efficientnet.")]
Inception = Annotated[
    Path | None, typer.Option(help="Weights of the FID Inception network; or set STUDIO_INCEPTION.")
]
AllowSmall = Annotated[bool, typer.Option(help="Frechet distances of fewer samples than dimensions.")]


def evaluate(
    samples: Annotated[
        str,
        typer.Argument(
            help="A folder of samples, an .npz, a .smi, .csv or .sdf of molecules, or a MODEL, which is "
            "sampled without writing pictures."
        ),
    ],
    ref: Ref,
    metrics: Metrics = None,
    features: Features = None,
    inception: Inception = None,
    allow_small: AllowSmall = False,
    filters: Annotated[
        str | None,
        typer.Option(
            help="For molecules: MOSES's rule lists, mcf.csv,wehi_pains.csv, or the wheel of molsets."
        ),
    ] = None,
    test_scaffolds: Annotated[
        str | None,
        typer.Option(help="For molecules: MOSES's scaffold split, a table or the wheel of molsets."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Fit pictures of both sides to so many pixels a side first: scaled, centre cut."),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="Fit pictures of both sides to 1 (grey) or 3 (RGB) channels first.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the result (.json) is kept; by default in the folder of samples."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace the result that is there under this name.")
    ] = False,
    num: Annotated[
        int | None, typer.Option("--num", "--num-samples", help="For a MODEL: how many samples (10000).")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="For a MODEL.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="For a MODEL: balanced, random, data, a list or a file.")
    ] = None,
    set_: Conditions = None,
    guidance: Annotated[str, typer.Option(help="For a MODEL.")] = "default",
    sampler: Annotated[str | None, typer.Option(help="For a MODEL.")] = None,
    num_steps: Annotated[int | None, typer.Option(help="For a MODEL.")] = None,
    batch: Annotated[str, typer.Option(help="For a MODEL.")] = "auto",
    weights: Weights = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure samples against a reference. Every distance stands beside that of two disjoint real sets, and
    the protocol is kept with the result.

    Examples: `studio evaluate fid --ref fashion-mnist` · `studio evaluate fashion-dit --num 10000 --guidance
    cfg=1.5 --ref fashion-mnist` · `studio evaluate samples.npz --ref VIRTUAL_imagenet256_labeled.npz
    --features inception --inception pt_inception-2015-12-05-6726825d.pth`
    """
    from studio.evaluation import evaluate as run
    from studio.runtime.devices import set_threads
    from studio.runtime.files import check_file, check_writable

    set_threads(threads)
    folder = Path(samples).expanduser()
    beside = out is None and (folder / "manifest.json").is_file()
    if out is not None:
        check_file(out, overwrite=overwrite)
    elif beside:
        check_writable(folder)
    with Count() as bar:
        result = run(
            samples,
            ref,
            metrics=metrics,
            features=features,
            inception=inception,
            allow_small=allow_small,
            num=num,
            seeds=seeds,
            labels=labels,
            conditions=conditions_of(set_),
            guidance="default" if guidance == "default" else guidance_of(guidance),
            sampler=sampler,
            num_steps=num_steps,
            batch=batch,
            weights=weights,
            device=device,
            dtype=dtype,
            on_progress=bar,
            filters=filters,
            test_scaffolds=test_scaffolds,
            size=size,
            channels=channels,
        )
    if beside:
        judge, against = (
            result.protocol.get("extractor") or result.protocol["task"],
            str(result.protocol["reference_hash"])[:8],
        )
        out = folder / f"evaluation-{judge}-{against}.json"
    if out is not None:
        result.save(out)
    emit(result.tree(), as_json, [*result.lines(), *([f"kept in {out}"] if out else [])])
    if result.failed:
        raise SystemExit(1)


def reference(
    data: Annotated[
        str, typer.Argument(help="A folder of pictures, an .npz, images:DIR, npz:FILE or fashion-mnist.")
    ],
    out: Annotated[Path, typer.Option(help="The reference file, an .npz.")],
    features: Features = None,
    inception: Inception = None,
    keep: Annotated[
        int, typer.Option(help="Real samples and features kept in the file, for precision and recall.")
    ] = 10000,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Make a reference file once, to measure against it ever after.

    Example: `studio reference images:photos --out photos-ref.npz --features inception --inception
    pt_inception-2015-12-05-6726825d.pth`
    """
    from studio.evaluation.reference import check_reference, make_reference
    from studio.evaluation.run import choose_extractor
    from studio.evaluation.sets import open_set
    from studio.runtime.devices import set_threads

    set_threads(threads)
    check_reference(out, keep=keep, overwrite=overwrite)
    real = open_set(data)
    extractor = choose_extractor(features, real, inception)
    path = make_reference(real, out, extractor, keep=keep, overwrite=overwrite)
    emit(
        {"reference": str(path), "extractor": extractor.name, "extractor_hash": extractor.hash},
        as_json,
        [f"{path}  ({extractor.name} {extractor.hash})"],
    )


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
    loaded = load(model, weights=weights, device=device, dtype=dtype)
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


class Count:
    """How many are done, on stderr: a line that changes, or one every ten seconds where stderr is not a
    terminal."""

    def __init__(self, what: str = "samples"):
        self.what = what

    def __enter__(self) -> "Count":
        self.shown, self.last = False, time.monotonic()
        return self

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            self.shown = True
            print(f"\r{done} of {total} {self.what}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            print(f"{done} of {total} {self.what}", file=sys.stderr, flush=True)

    def __exit__(self, *error: Any) -> None:
        if self.shown:
            print("\r", end="", file=sys.stderr)
