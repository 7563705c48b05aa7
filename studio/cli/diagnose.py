"""The command `studio diagnose`."""

from typing import Annotated, Any

import typer

from studio.cli.options import AsJson, emit

MOST = 8000  # samples of a set


def diagnose(
    what: Annotated[str, typer.Argument(help="time-posterior: how well a noisy sample tells its time.")],
    data: Annotated[
        str | None,
        typer.Argument(help="A data set or folder of samples, such as fashion-mnist; without one Gaussians."),
    ] = None,
    std: Annotated[float, typer.Option(help="Deviation of the Gaussians.")] = 0.5,
    dims: Annotated[str, typer.Option(help="Their dimensions.")] = "2,16,64,784,3072",
    num: Annotated[int, typer.Option(min=1, help="Noisy samples that are asked.")] = 500,
    as_json: AsJson = False,
) -> None:
    """Of z = (1 − t) x + t ε the deviation of t given z, averaged: near 0 a network need not be told the
    time, at 0.289 nothing tells it. Exact for Gaussians, of data by a kernel estimate.

    Examples: `studio diagnose time-posterior` · `studio diagnose time-posterior fashion-mnist`
    """
    from studio.metrics.time_posterior import of_data, of_gaussian

    if what != "time-posterior":
        raise ValueError(f"got {what!r} to diagnose, expected time-posterior")
    if data is None:
        each = [int(d) for d in dims.split(",")]
        found = {f"gaussian of {d} dimensions": of_gaussian(d, std, draws=8 * num) for d in each}
    else:
        found = {data: of_data(_values(data), draws=num)}
    emit(found, as_json, [f"{name:<32}{value:.3f}" for name, value in found.items()])


def _values(data: str) -> Any:
    """(N, ...) some of a set, as networks see them: pictures from −1 to 1, numbers over their deviation."""
    import numpy as np

    from studio.evaluation.sets import open_set

    values = np.asarray(open_set(data).values[:MOST])
    if values.dtype.kind not in "biuf":
        raise ValueError(f"got {data} of {values.dtype}, expected pictures or numbers")
    return values / 127.5 - 1 if values.dtype == np.uint8 else values / (values.std() or 1.0)
