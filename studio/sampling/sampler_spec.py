"""One line of text for a sampler, ``name`` or ``name(key=value,...)``, and what a model adds to it.

Where there is nothing but noise a prediction of noise says nothing of the data, so a model of noise starts
its grids at log-SNR/2 = `LAMBDA_MIN` (as DPM-Solver's authors do on the cosine table) and bounds its data
predictions by the range of its codec's data, unless told otherwise. A picture that is filled in by a model
that was not trained with known entries takes every step `RESAMPLE` times (RePaint). What was chosen is
written into the spec that is recorded; what was recorded without these options was made without them
(`as_recorded`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import samplers
from backbones.registry import parameters, plain, resolve
from guidance.grammar import CUSTOM, text_of, value_of
from samplers.solvers.base import Sampler
from studio.checkpoints import checkpoint
from studio.checkpoints.build import Info, known_trained, objective_of, starts_of
from studio.codecs.codec import range_of
from studio.config import AUTO, Config, load_config

LAMBDA_MIN = -5.1
RESAMPLE = 5
# of a canonical line; then the sampler's own order
FIRST = ("scheduler", "lambda_min", "clip", "threshold", "resample")
Options = dict[str, Any]

_PART = re.compile(r'\s*([\w.-]+)\s*=\s*(?:"([^"]*)"|([^,"]*))\s*(?:,|$)')


@dataclass(frozen=True)
class Fit:
    """What the defaults depend on: what a model ``starts`` from, the ``usual`` sampler of its path where
    there is but one, what its network ``predicts`` (a space), the ``bound`` of its codec's data (None for
    data without one), whether its network was trained with known entries and its path has ``levels`` of
    noise, and its ``own`` sampler's line, `AUTO` for none in particular."""

    predicts: str = "velocity"
    bound: float | None = None
    known_trained: bool = False
    own: str = AUTO
    starts: str = "noise"
    usual: str = ""
    levels: bool = True

    @property
    def of_noise(self) -> bool:
        return self.starts == "noise" and self.predicts == "noise"

    @property
    def re_noises(self) -> bool:
        """Whether known entries are put back as noisy as the rest, by levels of noise."""
        return self.starts == "noise" and not self.known_trained and self.levels

    @property
    def default(self) -> str:
        """The sampler that fits what the network predicts: multistep solvers of one query a step, of the data
        where that is near what is predicted."""
        if self.starts == "source":
            return "ab2" if self.predicts == "velocity" else "bridge"
        if self.usual:
            return self.usual
        return "ab2" if self.predicts == "velocity" else "dpmpp_2m"


ELSEWHERE = Fit(predicts="noise", bound=1.0)  # of a model that is not here: one that has defaults


def fit_of(config: Config, info: Info) -> Fit:
    """Of a model or a run by its config and what is known of its data."""
    objective = objective_of(config)
    starts = starts_of(objective, source=bool(info.starts_from))
    predicts = getattr(objective.parameterization, "space", "data")
    return Fit(
        predicts,
        range_of(info.codec),
        known_trained=known_trained(config, starts),
        own=config.sample.sampler,
        starts=starts,
        usual=objective.path.sampler,
        levels=objective.path.levels,
    )


def parse(spec: str, kind: str = "sampler") -> tuple[str, Options]:
    """``"ddim(eta=0.5,spacing=leading)"`` to a name and options. A text that looks like a number, or holds a
    comma, stands in double quotes. Raises ``ValueError`` for what is not of this form; ``kind`` is what the
    words call it."""
    name, bracket, inside = spec.strip().partition("(")
    if bracket and not inside.endswith(")"):
        raise ValueError(f"got {kind} {spec!r}, expected name or name(key=value,...)")
    inside, at = inside.removesuffix(")"), 0
    options: Options = {}
    while inside[at:].strip(" ,"):
        found = _PART.match(inside, at)
        if found is None:
            part = inside[at:].partition(",")[0].strip()
            raise ValueError(f"got {part!r} in {kind} {spec!r}, expected key=value")
        key = found[1].replace("-", "_")
        if key in options:
            raise ValueError(f"got {key} twice in {kind} {spec!r}, expected it once")
        options[key] = found[2] if found[2] is not None else value_of(found[3])
        at = found.end()
    return name.strip().replace("-", "_"), options


def text(name: str, options: Mapping[str, Any]) -> str:
    """The line that `parse` reads as the same, in an order of its own."""
    own = list(parameters(resolve(samplers.REGISTRY, name, "sampler")))
    order = {key: i for i, key in enumerate([*FIRST, *(k for k in own if k not in FIRST)])}
    return line(name, {k: options[k] for k in sorted(options, key=lambda k: (order.get(k, len(order)), k))})


def line(name: str, options: Mapping[str, Any]) -> str:
    """The same in the order that is given."""
    said = ",".join(f"{k}={'none' if v is None else text_of(v)}" for k, v in options.items())
    return f"{name}({said})" if said else name


def said(sampler: Any) -> str | None:
    """The line of a sampler however it is given: as a line, as a tree ``{"name": ..., options}``, or as an
    object; None for the model's own. An object is what its line says, and `CUSTOM` where none gives it back:
    it is of a class of your own, or holds what has no text. Raises ``ValueError`` for anything else."""
    if isinstance(sampler, Mapping):
        options = {k: plain(v) for k, v in sampler.items()}
        name = str(options.pop("name", ""))
        samplers.build(name, **options)
        return text(name, options)
    if isinstance(sampler, Sampler):
        return _of_object(sampler)
    if sampler is None or isinstance(sampler, str) and sampler.strip() != CUSTOM:
        return sampler
    hint = f"; try {sampler.__name__}()" if isinstance(sampler, type) and issubclass(sampler, Sampler) else ""
    if isinstance(sampler, str):
        raise ValueError(
            "got the sampler 'custom', which stands for one that was an object in Python; pass that "
            "object again"
        )
    got = sampler.__name__ if isinstance(sampler, type) else type(sampler).__name__
    raise ValueError(
        f"got {got} as the sampler, expected a line such as 'heun' or 'ddim(eta=0.5)', or a sampler of "
        f"the studio{hint}"
    )


def _of_object(sampler: Sampler) -> str:
    kind = type(sampler)
    name = next(
        (n for n, target in samplers.REGISTRY.items() if target == f"{kind.__module__}:{kind.__qualname__}"),
        None,
    )
    if name is None:
        return CUSTOM
    options: Options = {}
    for key, parameter in parameters(kind).items():
        if key == "options":  # of a scheduler that it wraps
            options |= getattr(sampler, "asked", {})
            continue
        value = plain(getattr(sampler, key))
        if not isinstance(value, str | int | float | None):
            return CUSTOM
        if value != parameter.default:
            options[key] = value
    made = text(name, options)
    try:
        return made if vars(build_sampler(made)) == vars(sampler) else CUSTOM
    except (ValueError, RuntimeError):  # it was changed to what cannot be asked for, or holds arrays
        return CUSTOM


def build_sampler(spec: str) -> Sampler:
    """The sampler of a line, with nothing added. Raises ``ValueError`` for unknown names and options."""
    name, options = parse(spec)
    return samplers.build(name, **options)


def resolved(typed: str | None, fit: Fit, *, inpaint: bool = False) -> str:
    """The line to record and to sample with: what was ``typed``, completed by the model's own options where
    it names the model's own sampler, and by the defaults of the module otherwise. ``inpaint``: known entries
    are put back into a model that was not trained with them.

    Raises ``ValueError`` for unknown names and options.
    """
    ours, kept = _own(fit)
    name, options = parse(typed) if typed else (ours, kept)
    if name == AUTO:
        name, options = fit.default, {**_defaults(fit.default, fit), **options}
    samplers.build(name, **options)
    if typed:
        base = kept if _same(name, options, ours, kept) else _defaults(name, fit)
        if options.get("threshold") is not None and fit.bound is not None:
            base = {"clip": fit.bound, **base}
        options = {**base, **options}
    if "resample" not in (parse(typed)[1] if typed else ()):
        options = {k: v for k, v in options.items() if k != "resample" or inpaint}
        if inpaint and _resamples(name):
            options.setdefault("resample", RESAMPLE)
    return text(name, options)


def unbounded(sampler: Any) -> Any:
    """A line, or a tree, that asks for no bound where it does not say one; an object that no line describes
    as it is."""
    spec = said(sampler)
    if spec is None or spec == CUSTOM:
        return sampler
    name, options = parse(spec)
    return text(name, {"clip": None, **options} if "clip" in _takes(name) else options)


def of_new(config: Config, info: Info) -> str:
    """The line that a new run records: what its config asks for, completed."""
    return resolved(config.sample.sampler, replace(fit_of(config, info), own=AUTO))


def as_recorded(spec: str, fit: Fit, *, inpaint: bool = False) -> str:
    """A line that was recorded before there were defaults, with what it was made without; a line of now as it
    is."""
    name, options = parse(spec)
    missing = _before(name, options, fit)
    if inpaint and fit.re_noises and _resamples(name) and "resample" not in options:
        missing["resample"] = 1
    ours, kept = _own(fit)
    if _same(name, options, ours, kept):  # the model's own options were not kept where its sampler was named
        plain = _plain_values(name, options)
        missing |= {k: plain[k] for k in kept if k in plain and k not in options and k not in missing}
    return text(name, {**missing, **options}) if missing else spec


def _before(name: str, options: Options, fit: Fit) -> Options:
    """What a line that names no start was sampled with, where there are defaults now."""
    if not fit.of_noise or "lambda_min" in options or "lambda_min" not in _takes(name):
        return {}
    return {k: None for k in ("lambda_min", "clip") if k not in options}


def _own(fit: Fit) -> tuple[str, Options]:
    """Name and options of the model's own sampler; a line that names no start is older than the defaults."""
    if fit.own == AUTO:
        return fit.default, _defaults(fit.default, fit)
    name, options = parse(fit.own)
    return name, {**_before(name, options, fit), **options}


def _same(name: str, options: Options, ours: str, kept: Options) -> bool:
    return name == ours and options.get("scheduler", kept.get("scheduler")) == kept.get("scheduler")


def _plain_values(name: str, options: Options) -> Options:
    """What the options of a sampler are where they are not given; with those of a scheduler that it wraps."""
    targets = [resolve(samplers.REGISTRY, name, "sampler")]
    if options.get("scheduler"):
        wrapped: Any = samplers.build(name, scheduler=options["scheduler"])
        targets.append(wrapped.kind)
    return {
        k: p.default
        for target in reversed(targets)
        for k, p in parameters(target).items()
        if p.default is not p.empty
    }


def _defaults(name: str, fit: Fit) -> Options:
    if not fit.of_noise or "lambda_min" not in _takes(name):
        return {}
    return {"lambda_min": LAMBDA_MIN} | ({} if fit.bound is None else {"clip": fit.bound})


def _takes(name: str) -> frozenset[str]:
    """Options of a sampler; none of a name that is not known."""
    if name not in samplers.REGISTRY:
        return frozenset()
    return frozenset(parameters(resolve(samplers.REGISTRY, name, "sampler")))


def _resamples(name: str) -> bool:
    return name in samplers.REGISTRY and bool(resolve(samplers.REGISTRY, name, "sampler").resamples)


def fit_here(name: str) -> Fit:
    """The `Fit` of a model by name, without its weights and without asking the network; of one that is not
    here, that of a model with defaults."""
    from studio.checkpoints.find import locate

    try:
        if name.startswith("hf:"):
            raise ValueError
        folder = locate(name)[0]
        return fit_of(load_config(folder / "config.yaml"), Info.from_meta(checkpoint.read_meta(folder)))
    except (ValueError, OSError):
        return ELSEWHERE
