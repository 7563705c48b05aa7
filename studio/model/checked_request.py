"""What a caller asks of a model, checked: everything that does not fit is refused before anything is
computed."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

import guidance as guidance_floor
from backbones.registry import plain, real, whole
from guidance import describe
from guidance.grammar import CUSTOM
from guidance.rules import Rule
from samplers.solvers.bridge import facing
from studio import sampling
from studio.checkpoints import plans
from studio.data.conditions import Asked, asked, missing
from studio.data.labels import parse_labels
from studio.model.cache_limit import batch_within
from studio.model.loaded import Loaded
from studio.runtime.seeds import AT_ONCE, MOST, parse_seeds
from studio.sampling import sampler_spec, starts
from studio.sampling.kept import Kept, kept


def checked_request(
    model: Loaded,
    *,
    labels: Any = None,
    seeds: Any = None,
    num_steps: int | None = None,
    guidance: Any = "default",
    sampler: Any = None,
    conditions: Mapping[str, Any] | None = None,
    init: Any = None,
    strength: float | None = None,
    mask: Any = None,
    known: Any = None,
    given: Any = None,
    batch: int = 64,
    deterministic: bool = False,
    sources: Tensor | None = None,
    direction: str = "forward",
    noise: Any = None,
    files: bool = True,
    rules_of: Callable[[Any], list[Rule]],
) -> tuple[sampling.Request, list[Rule] | None]:
    """A checked request, and the guidance as rules where no line describes them (`guidance.grammar.CUSTOM`).
    ``files``: whether conditions may name files, which a stranger may not.
    Raises ``ValueError`` for anything that does not fit."""
    defaults = model.config.sample
    own = starts.asked(noise, model.info.shape, model.denoiser, plain=not model.codec.parts)
    chosen = _seeds(seeds, own, MOST if sources is not None else AT_ONCE)
    if not chosen:
        raise ValueError("got no seeds, expected at least one")
    sources = None if sources is None else model.numbers(sources)
    _check_start(model, sources, direction, init, len(chosen))
    if init is None and strength is not None:
        raise ValueError(
            f"got strength={strength} without a picture to start from; give it with --init, or leave "
            "--strength out"
        )
    if init is None and mask is not None and sources is None:
        raise ValueError("got a mask without a picture; give the picture to keep with --init")
    held = kept(known, given, model.sample_shape, len(chosen), model.codec, model.name)
    _check_alone(held, model, init, sources)
    values = dict(conditions or {})
    own_names = {f.name for f in model.info.conditions}
    for name in ("label", "class"):
        if name in values and name not in model.info.numeric:
            if labels is not None:
                raise ValueError(
                    f"got the label twice ({labels!r} and {name}={values[name]!r}), expected it once; "
                    "leave one out"
                )
            labels = values.pop(name)
    settings: dict[str, int | tuple[int, ...]] = {
        name: setting.of_each(name, values.pop(name), len(chosen))
        for name, setting in model.codec.settings.items()
        if name in values and name not in own_names
    }
    if held is not None and held.rows is not None:
        settings.setdefault(next(iter(model.codec.settings)), held.rows)
    if model.codec.parts:
        init, mask = model.task.part(init, mask)
    told = asked(model.info, values, len(chosen), files=files)
    guidance = defaults.guidance if isinstance(guidance, str) and guidance == "default" else guidance
    line = describe(guidance)
    if model.task.unguided and guidance_floor.parse(guidance):
        raise ValueError(f"got guidance {line!r} for {model.name}, but {model.task.unguided}; leave it out")
    rules = guidance_floor.parse(guidance) if line == CUSTOM else None
    steps = defaults.num_steps if num_steps is None else whole(num_steps, "num_steps")
    batch, deterministic = whole(batch, "batch"), _flag(deterministic, "deterministic")
    said, fills = sampler_spec.said(sampler), mask is not None or held is not None
    spec = (
        CUSTOM
        if said == CUSTOM
        else sampler_spec.resolved(said, model.fit, inpaint=fills and model.fit.re_noises)
    )
    solver = sampler if said == CUSTOM else sampler_spec.build_sampler(spec)
    solver.check(model.denoiser)
    if solver.resample > 1 and not (fills and model.fit.re_noises):
        raise ValueError(
            f"got resample={solver.resample}, which is for pictures that are filled in (init and mask, or "
            "known and given) by a model that was not trained with known entries; leave it out"
        )
    solver.times(model.denoiser.path, steps)
    sampling.check_guided(model.denoiser, rules_of(line if rules is None else rules), solver)
    if model.denoiser.starts == "source":
        facing(model.denoiser, solver.needs, direction)
    if not model.codec.parts:
        init, mask = model.picture(init), model.mask(mask)
    usual = starts.usual_strength(mask is not None)
    share = usual if strength is None else real(strength, "strength")
    if init is not None:
        sampling.start_index(steps, share)
    request = sampling.Request(
        chosen,
        parse_labels(labels, model.classes, chosen),
        None if told.numeric is None else (told.numeric,) * len(chosen),
        steps,
        spec,
        line,
        init,
        share,
        mask,
        batch,
        deterministic,
        sources,
        direction,
        settings,
        told.values,
        solver if spec == CUSTOM else None,
        own.noise,
        told.columns,
        told.texts,
        attention=model.attention,
        kept=held,
    )
    _warn_of_range(model, told)
    _warn_of_open(model, told)
    return _planned(model, request), rules


def _planned(model: Loaded, request: sampling.Request) -> sampling.Request:
    """With the plan that the model's runs follow. Raises ``ValueError`` for one that is not for this run."""
    if not model.plan:
        return request
    if CUSTOM in (request.sampler, request.guidance) or model.path == CUSTOM:
        raise ValueError(
            "got a plan for a run by objects that no line describes, so none can belong to it; give the "
            "sampler and the guidance as lines, or leave the plan out"
        )
    found, instead = plans.chosen(model.plan, run_of(model, request), model.folder, model.name)
    if instead:
        warnings.warn(instead, stacklevel=5)
    if found is None:
        return request
    request = replace(request, plan=found.plan, plan_name=found.name)
    if model.cache_limit is None:
        return request
    fixed = sampling.fixed_size(model.denoiser, model.info.shape, request, device=model.device)
    return replace(request, batch=batch_within(model.cache_limit, found, request.batch, fixed))


def run_of(model: Loaded, request: sampling.Request) -> plans.Key:
    """The runs that a plan for this request is for."""
    sampler = request.sampler if not model.path else f"{request.sampler} on {model.path}"
    return plans.Key(
        model.hash, request.num_steps, sampler, request.guidance, tuple(model.info.shape), request.direction
    )


def _warn_of_range(model: Loaded, given: Asked) -> None:
    """Once for each condition: a value beyond what the model has seen."""
    for name, (value, seen) in given.beyond.items():
        if name not in model.loans.beyond:
            model.loans.beyond.add(name)
            warnings.warn(
                f"{name}={value} is outside what {model.name} was trained on, {seen}: it has to guess",
                stacklevel=5,
            )


def _warn_of_open(model: Loaded, given: Asked) -> None:
    """Once for each further condition that is left open, of a model that was trained with all of them."""
    if any(model.config.objective.get(key) for key in ("cond_drop", "drop_each")):
        return
    for name, value in given.columns.items():
        if name not in model.loans.beyond and any(map(missing, value)):
            model.loans.beyond.add(name)
            warnings.warn(
                f"{name} is left open, and {model.name} was trained with it always given: it has to guess",
                stacklevel=4,
            )


def _check_start(model: Loaded, sources: Tensor | None, direction: str, init: Any, count: int) -> None:
    """A bridge starts from its source and from nothing else; other models have no source."""
    if not model.info.starts_from:
        if sources is not None or direction != "forward":
            raise ValueError(
                f"{model.name} starts from noise and translates nothing; use sample (with init= for a "
                "picture to start from)"
            )
        return
    if init is not None:
        raise ValueError(f"{model.name} starts from a source, not from a picture with noise; leave init out")
    if sources is None:
        raise ValueError(
            f"{model.name} starts from {model.info.starts_from}, not from noise; use `studio translate "
            f"{model.name} PICTURES --out DIR` or model.translate(pictures)"
        )
    if tuple(sources.shape) != (count, *model.sample_shape):
        raise ValueError(
            f"got sources of shape {tuple(sources.shape)} for {count} seeds, expected "
            f"{(count, *model.sample_shape)}"
        )


def _check_alone(held: Kept | None, model: Loaded, init: Any, sources: Any) -> None:
    """Known entries are those of samples that start from noise, and of nothing else."""
    if held is None:
        return
    if init is not None:
        raise ValueError(
            "got init and known entries, expected one of them: a sample to begin with, or entries that stay"
        )
    if sources is not None or model.info.starts_from:
        raise ValueError(
            f"got known entries for {model.name}, which starts from a source; give mask, what of it may "
            "change"
        )


def _seeds(seeds: Any, own: starts.Asked, most: int) -> tuple[int, ...]:
    """Those that were asked for, or as many as there is noise. Raises ``ValueError`` where seeds and noise do
    not go together."""
    if seeds is None:
        return own.seeds or tuple(range(8 if own.count is None else own.count))
    chosen = parse_seeds(seeds, most=most)
    if own.count not in (None, len(chosen)):
        raise ValueError(
            f"got noise for {own.count} samples and {len(chosen)} seeds, expected as many; leave seeds out"
        )
    if own.seeds not in (None, chosen):
        raise ValueError("got seeds and a NoiseSource of others, expected one of them; leave seeds out")
    return chosen


def _flag(value: Any, name: str) -> bool:
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(f"got {name}={value!r}, expected True or False")
    return value
