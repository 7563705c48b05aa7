"""Commands that measure sets of samples: evaluate, reference."""

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
    UsePlan,
    Weights,
    conditions_of,
    emit,
    guidance_of,
)

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
        str | None,
        typer.Option(
            help="Fit pictures of both sides first: scaled, centre cut; N pixels a side or HEIGHT,WIDTH."
        ),
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
    plan: UsePlan = "none",
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
            plan=plan,
            weights=weights,
            device=device,
            dtype=dtype,
            on_progress=bar,
            filters=filters,
            test_scaffolds=test_scaffolds,
            size=_size(size),
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


def _size(text: str | None) -> Any:
    """``64`` as a number, ``16,24`` as two; what is neither is refused by what takes it."""
    from studio.config.overrides import read

    several = None if text is None else read(text, tuple[int, ...])
    return several[0] if several and len(several) == 1 else several


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
