"""What the commands share: options, how results are printed, a progress line."""

import os
from typing import Annotated, Any

import typer

from studio.runtime.progress import Bar
from studio.runtime.strict_json import to_json

WIDTH = {
    "max_content_width": 120,
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("_", "-"),
}
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option(help="auto (bf16 where the hardware has it), fp32, bf16 or fp16.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; default: the cores this process may use.")]
Weights = Annotated[
    str, typer.Option(help="auto (an average where there is one), ema, raw, or a profile such as ema-0.999.")
]
Guidance = Annotated[str, typer.Option(help="Such as cfg=2.0,interval=0.1:0.9; '' or none = off.")]
NumSteps = Annotated[int | None, typer.Option(help="Solver steps.")]
Solver = Annotated[str | None, typer.Option(help="Such as ab2, heun, 'ddim(eta=0.5)'.")]
OnPath = Annotated[
    str,
    typer.Option(
        help="Sample on another path than the model's own: linear, lipman, trig, edm or "
        "'vp(schedule=cosine)'."
    ),
]
UsePlan = Annotated[
    str,
    typer.Option(
        "--plan",
        help="What of the network need not be computed at every step (studio compress): a name, a file, auto "
        "or none.",
    ),
]
CacheLimit = Annotated[
    str | None,
    typer.Option(
        help="What a plan keeps may take so much memory in each process, such as 500MB; batches are made "
        "smaller to fit."
    ),
]
Attention = Annotated[
    str,
    typer.Option(help="auto (measured on this machine), sdpa, explicit, blocks, xformers, flex or varlen."),
]
Replace = Annotated[bool, typer.Option(help="Replace files of the same names.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Conditions = Annotated[
    list[str] | None, typer.Option("--set", help="NAME=VALUE for any condition; @FILE reads one.")
]


def emit(result: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """Results on stdout; under torchrun one process tells."""
    if "RANK" not in os.environ or _first():
        print(to_json(result) if as_json else "\n".join(lines))


def _first() -> bool:
    from studio.runtime.launch import launched

    return launched()[0] == 0


def conditions_of(items: list[str] | None) -> dict[str, Any]:
    """``--set NAME=VALUE`` items as a dict."""
    conditions: dict[str, Any] = {}
    for item in items or []:
        name, eq, value = item.partition("=")
        if not eq:
            raise ValueError(f"got --set {item!r}, expected NAME=VALUE")
        # a number has no equals sign, a name may
        if "=" in value and name not in ("label", "class") and not value.startswith(("@", "[")):
            name, _, value = item.rpartition("=")
        conditions[name] = value
    return conditions


def guidance_of(text: str) -> str | None:
    """``''`` and ``none`` switch guidance off."""
    return None if text in ("", "none") else text


class Steps:
    """A progress line of solver steps on stderr."""

    def __enter__(self) -> "Steps":
        self.bar: Bar | None = None
        return self

    def __call__(self, progress: Any) -> None:
        if self.bar is None:
            self.bar = Bar("sampling", progress.total, lines=False, transient=True)
        self.bar.update(progress.done, total=progress.total)

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()
