"""The recipes of samples: everything that made each of them."""

from collections.abc import Mapping
from typing import Any

import torch

from studio import sampling
from studio.data.labels import no_label
from studio.model.loaded import Loaded
from studio.runtime.devices import DTYPE_NAMES
from studio.runtime.version import __version__


def recipes_of(
    model: Loaded, request: sampling.Request, origin: Mapping[str, Any], lent: Mapping[str, str]
) -> tuple[dict[str, Any], ...]:
    """One dict per sample of a request. ``origin``: further entries of all; ``lent``: hashes of the models
    that its guidance borrows, by name."""
    kind = model.denoiser.dtype or torch.float32
    common: dict[str, Any] = {
        "model": model.name,
        "model_hash": model.hash,
        "weights": model.weights,
        "num_steps": request.num_steps,
        "sampler": request.sampler,
        "guidance": request.guidance,
        "dtype": DTYPE_NAMES[kind],
        "studio": __version__,
        "torch": torch.__version__.split("+")[0],
    }
    if lent:
        common["borrowed"] = dict(lent)
    if request.init is not None:
        common["strength"] = request.strength
    if request.deterministic:
        common["deterministic"] = True
    if model.path:
        common["path"] = model.path
    if request.attention != "auto":
        common["attention"] = request.attention
    if request.plan is not None:
        common["plan"] = request.plan_name
        common["plan_hash"] = request.plan.hash
    if request.sources is not None:
        common["direction"] = request.direction
    out = []
    for i, seed in enumerate(request.seeds):
        recipe = {**common, **origin, "seed": seed}
        if request.labels is not None:
            label = request.labels[i]
            recipe |= {
                "label": label,
                "class": model.classes[label] if label >= 0 else no_label(model.classes),
            }
        if request.numeric is not None:
            raw = zip(model.info.numeric, request.numeric[i], model.info.numeric_mean, model.info.numeric_std)
            recipe["conditions"] = dict(request.values) or {
                n: float(f"{v * s + m:.12g}") for n, v, m, s in raw if v == v
            }
        if texts := {k: v[i] for k, v in request.texts.items() if v[i]}:
            recipe["fields"] = texts
        if request.settings:
            own = {k: v[i] if isinstance(v, tuple) else v for k, v in request.settings.items()}
            recipe["conditions"] = {**recipe.get("conditions", {}), **own}
        out.append(recipe)
    return tuple(out)
