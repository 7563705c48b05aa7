"""Of the commands over files those whose Python form takes a name as well as a model, and runs to its end:
`studio.sweep` and `studio.translate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.evaluation.sweep import Axis, parse_axis
from studio.evaluation.sweep import sweep as swept
from studio.generation.translate import Translated
from studio.generation.translate import translate as translated
from studio.model.loading import load
from studio.model.model import Model
from studio.runtime.progress import notebook_bar

Axes = Mapping[str, Sequence[Any]] | Sequence[str | Axis]


def sweep(
    model: str | Path | Model,
    out: str | Path,
    axes: Axes,
    *,
    guidance: str | None = "default",
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    **options: Any,
) -> list[dict[str, Any]]:
    """Every combination of a few settings, one dict each: its settings and what was measured. ``axes``:
    ``{"cfg.scale": [1, 2]}`` or ``["cfg.scale=1,2"]``; ``options`` as in `studio.evaluation.sweep.sweep`
    (``ref, metrics, num, images ...``). Tables and plots lie in ``out``; the same call goes on with what is
    there. Raises ``ValueError`` for what does not fit, before anything is made."""
    loaded = model if isinstance(model, Model) else load(model, weights=weights, device=device, dtype=dtype)
    rows: list[dict[str, Any]] = []
    with notebook_bar("sweep") as bar:
        for job, result, done, total in swept(loaded, out, _axes(axes), guidance_line=guidance, **options):
            rows.append({**job.settings, **(result.values if result else {})})
            bar(done, total)
    return rows


def _axes(axes: Axes) -> list[Axis]:
    if isinstance(axes, str):
        raise ValueError(
            f"got axes={axes!r}, expected a list such as [{axes!r}], or a dict such as "
            f"{{'cfg.scale': [1, 2]}}"
        )
    if not isinstance(axes, Mapping):
        return [a if isinstance(a, Axis) else parse_axis(a) for a in axes]
    made = []
    for key, values in axes.items():
        texts = tuple(map(str, [values] if isinstance(values, str | int | float) else values))
        if not texts or len(set(texts)) < len(texts):
            raise ValueError(f"got the values {list(texts)} for {key}, expected at least one, and each once")
        made.append(Axis(key.replace("-", "_"), texts))
    return made


def translate(
    model: str | Path | Model,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    **options: Any,
) -> Translated:
    """Pictures, or folders of pictures, through a bridge into the folder ``out``; ``options`` as in
    `studio.generation.translate.translate`."""
    loaded = model if isinstance(model, Model) else load(model, weights=weights, device=device, dtype=dtype)
    places = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    with notebook_bar("translating") as bar:
        return translated(loaded, places, out, **{"on_step": lambda p: bar(p.done, p.total), **options})
