"""Of the commands over files those whose Python form takes a name as well as a model, and runs to its end:
`studio.sweep` and `studio.translate`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.evaluation.sweep import Axis, parse_axis
from studio.evaluation.sweep import sweep as swept
from studio.generation.translate import Translated
from studio.generation.translate import translate as translated
from studio.metrics.features import Extractor
from studio.model.loading import load
from studio.model.model import Model
from studio.runtime.progress import notebook_bar
from studio.sampling.forms import Conditions, Guidance, Picture

Axes = Mapping[str, Sequence[Any]] | Sequence[str | Axis]


def sweep(
    model: str | Path | Model,
    out: str | Path,
    axes: Axes,
    *,
    ref: str | Path | None = None,
    metrics: str | None = None,
    features: str | Extractor | None = None,
    inception: str | None = None,
    num: int = 1000,
    labels: str | None = None,
    images: int = 0,
    allow_small: bool = False,
    guidance: str | None = "default",
    sampler: str | None = None,
    num_steps: int | None = None,
    conditions: Conditions = None,
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
) -> list[dict[str, Any]]:
    """Every combination of a few settings, one dict each: its settings and what was measured. Tables and
    plots lie in ``out``; the same call goes on with what is there.

    - ``axes``: ``{"cfg.scale": [1, 2]}`` or ``["cfg.scale=1,2"]``.
    - ``ref``, ``metrics``, ``features``, ``inception``, ``allow_small``: as in `studio.evaluate`; without
      ``ref`` the model's own training data is the reference.
    - ``num``: samples of each combination; ``labels``: theirs, as in `studio.generate`.
    - ``images``: pictures of each combination on a sheet.
    - ``guidance``, ``sampler``, ``num_steps``, ``conditions``: what all combinations share.
    - ``weights``, ``device``, ``dtype``: as in `studio.load`.

    Raises ``ValueError`` for what does not fit, before anything is made.
    """
    loaded = model if isinstance(model, Model) else load(model, weights=weights, device=device, dtype=dtype)
    rows: list[dict[str, Any]] = []
    with notebook_bar("sweep") as bar:
        for job, result, done, total in swept(
            loaded,
            out,
            _axes(axes),
            ref=ref,
            metrics=metrics,
            features=features,
            inception=inception,
            num=num,
            labels=labels,
            images=images,
            allow_small=allow_small,
            guidance_line=guidance,
            sampler=sampler,
            num_steps=num_steps,
            conditions=conditions,
        ):
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
    num_steps: int | None = None,
    sampler: str | None = None,
    direction: str = "forward",
    seed: int = 0,
    label: int | str | None = None,
    guidance: Guidance = "default",
    conditions: Conditions = None,
    mask: Picture = None,
    resize: bool = False,
    batch: int = 32,
    deterministic: bool = False,
    overwrite: bool = False,
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    on_step: Callable[[Any], Any] | None = None,
) -> Translated:
    """Pictures, or folders of pictures, through a bridge into the folder ``out``.

    - ``num_steps``, ``sampler``, ``guidance``, ``conditions``, ``batch``, ``deterministic``: as in
      `Model.sample`.
    - ``direction``: ``backward`` for models that know the way back.
    - ``seed``: of all; each picture adds what its file name gives.
    - ``label``: a class for all of them, where the model has classes.
    - ``mask``: a file or (H, W) bool: white may change, the rest of every source is kept.
    - ``resize``: convert pictures of another size or kind as the training data is converted.
    - ``overwrite``: replace files that another recipe has made.
    - ``weights``, ``device``, ``dtype``: as in `studio.load`.
    - ``on_step``: called with every step's `Progress`.

    Raises ``ValueError`` where nothing could be translated, ``FileExistsError`` for a file that another
    recipe has made.
    """
    loaded = model if isinstance(model, Model) else load(model, weights=weights, device=device, dtype=dtype)
    places = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    with notebook_bar("translating") as bar:
        return translated(
            loaded,
            places,
            out,
            num_steps=num_steps,
            sampler=sampler,
            direction=direction,
            seed=seed,
            label=label,
            guidance=guidance,
            conditions=conditions,
            mask=mask,
            resize=resize,
            batch=batch,
            deterministic=deterministic,
            overwrite=overwrite,
            on_step=on_step or (lambda p: bar(p.done, p.total)),
        )
