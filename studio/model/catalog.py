"""What a picker needs to know without loading weights: names of samplers, whether a line of text is
understood, where a model's weights lie.

Everything here reads YAML, JSON and file names; only `weights_hash` reads a weight file, and `digests` one
whose digest was not recorded.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import guidance
import samplers
from backbones.registry import resolve
from guidance.grammar import CUSTOM
from samplers.names import canonical
from samplers.paths import EVERY
from samplers.solvers.bridge import SIDES
from studio.checkpoints import checkpoint, plans
from studio.checkpoints.build import Info, objective_of
from studio.checkpoints.find import Card, bundled, choose_weights, locate, spot_of, weights_in
from studio.checkpoints.networks import procedure_of
from studio.codecs.codec import Codec, Setting, build_codec, decoded_shape
from studio.config import SampleConfig, load_config
from studio.data.conditions import hint_of, numbers_of
from studio.data.depth import Reading
from studio.runtime import files
from studio.sampling import inputs, sampler_spec
from studio.sampling.sampler_spec import build_sampler
from studio.tasks import build_task
from studio.tasks.base import Task

EXAMPLES = "examples"  # the folder of a bridge with pictures to try it on


def sampler_names(card: Card | None = None) -> list[str]:
    """Those that start from noise, in the registry's order; of a model those that start where it does and
    step what it is made of."""
    path = (
        "linear" if card is None else load_config(card.folder / "config.yaml").objective.get("path", "linear")
    )
    name = canonical("path", path if isinstance(path, str) else path.get("name"))
    way = resolve(EVERY, name, "path")
    kinds = {name: resolve(samplers.REGISTRY, name, "sampler") for name in samplers.REGISTRY}
    start = "source" if card is not None and card.starts_from else "noise"
    return [name for name, kind in kinds.items() if start in kind.starts and kind.steps_on(way)]


def directions(card: Card) -> tuple[str, ...]:
    """The ways that a bridge goes: ``forward``, and ``backward`` where its network knows the way back or
    there is one network for each."""
    config = load_config(card.folder / "config.yaml")
    objective = objective_of(config)
    both_ways = getattr(objective.parameterization, "both_ways", None)
    own = config.procedure.get("name") != CUSTOM
    nets = procedure_of(config).networks(config) if own else {}
    both = set(SIDES.values()) <= set(nets) or both_ways is not None and both_ways(objective.path)
    return tuple(SIDES) if both else tuple(SIDES)[:1]


def codec_of(card: Card) -> Codec:
    """How its samples become what its network sees."""
    return build_codec(checkpoint.read_meta(card.folder)["codec"], card.folder)


def check_sampler(spec: str) -> str:
    """The text itself; raises ``ValueError`` for a sampler or option that does not exist."""
    build_sampler(spec)
    return spec.strip()


def check_guidance(line: str) -> str:
    """The canonical form of a guidance line; raises ``ValueError`` with the grammar's own words."""
    guidance.parse(line)
    return guidance.describe(line)


def name_of(card: Card) -> str:
    """The MODEL text that finds this card's model again: a bundled name, otherwise its folder."""
    name = card.folder.name
    return name if name in bundled() and locate(name)[0] == card.folder else str(card.folder)


def defaults_of(card: Card) -> SampleConfig:
    """What the model samples with unless told otherwise, its sampler completed."""
    config = load_config(card.folder / "config.yaml")
    return replace(config.sample, sampler=sampler_spec.resolved(None, fit_of(card)))


def fit_of(card: Card) -> sampler_spec.Fit:
    """What the defaults of the model's samplers depend on."""
    return sampler_spec.fit_of(
        load_config(card.folder / "config.yaml"), Info.from_meta(checkpoint.read_meta(card.folder))
    )


def settable(card: Card) -> tuple[str, ...]:
    """What ``--set`` takes beside a class: the other conditions, and what its codec's start can be told."""
    return tuple(conditions_of(card))


def conditions_of(card: Card) -> dict[str, list[float] | str | None]:
    """By name what `settable` lists: of numbers the smallest and the largest that the model has seen, None
    where that was not recorded; of other kinds what may be given, in words."""
    meta = checkpoint.read_meta(card.folder)
    info = Info.from_meta(meta)
    found: dict[str, list[float] | str | None] = {
        f.name: None if f.range is None else [float(v) for v in f.range] for f in numbers_of(info)
    }
    found |= {f.name: hint_of(f) for f in info.fields}
    own = {name: [float(s.low), float(s.high)] for name, s in settings_of(card).items()}
    return {**found, **{name: limits for name, limits in own.items() if name not in found}}


def settings_of(card: Card) -> dict[str, Setting]:
    """Whole numbers that a start of the model can be told."""
    return dict(codec_of(card).settings)


def sample_shape(card: Card) -> tuple[int, ...]:
    """(C, H, W) or (d,) of a decoded sample."""
    return decoded_shape(codec_of(card), card.shape)


def reading_of(card: Card) -> Reading:
    """How the picture files that the model learned from became numbers."""
    return Info.from_meta(checkpoint.read_meta(card.folder)).reading


def takes_picture(card: Card) -> bool:
    """Whether a run can start from a picture file: the model makes pictures, and from noise."""
    return not card.starts_from and codec_of(card).pictures and inputs.has_sides(sample_shape(card))


def takes_numbers(card: Card) -> bool:
    """Whether a run can start from a file of numbers, or be told which of them stay."""
    return not card.starts_from and not codec_of(card).parts


def shown_together(card: Card) -> bool:
    """Whether one drawing shows all samples, so that many are worth making."""
    return task_of(card).together


def one_file_each(card: Card) -> bool:
    """Whether every sample is a picture of its own (False: one plot shows them all)."""
    return task_of(card).one_each


def examples_of(card: Card) -> list[Path]:
    """Pictures that lie with a bridge, in ``examples``, of what it starts from."""
    return sorted((card.folder / EXAMPLES).glob("*.png"))


def takes(bridge: Card, card: Card) -> bool:
    """Whether a bridge starts from pictures such as a model's samples: of the same channels and sides."""
    both = one_file_each(bridge) and one_file_each(card)
    return both and sample_shape(bridge) == sample_shape(card)


def task_of(card: Card) -> Task:
    return build_task(card.task, checkpoint.read_meta(card.folder).get("codec"))


def weights_file(card: Card, weights: str = "auto") -> tuple[str, Path]:
    """The resolved name of the weights and their file. Raises ``ValueError`` for weights that are not
    there."""
    return choose_weights(spot_of(card.folder, card.step), weights)


def weights_hash(card: Card, weights: str = "auto") -> str:
    """The 16 hex digits that recipes record as ``model_hash``."""
    return files.sha256(weights_file(card, weights)[1])[:16]


def digests(card: Card) -> dict[str, str]:
    """The same of all weights by name, as they were recorded where that was done."""
    spot = spot_of(card.folder, card.step)
    listed = checkpoint.read_meta(spot).get("files", {})
    return {
        name: str(listed.get(path.name, {}).get("sha256") or files.sha256(path))[:16]
        for name, path in weights_in(spot).items()
    }


def plan_files(card: Card) -> dict[str, Path]:
    """All plans that lie with a model, whatever they are for, by name."""
    return {name: path for d in digests(card).values() for name, path in plans.listed(card.folder, d).items()}


def plans_of(card: Card) -> dict[str, plans.Saved]:
    """The plans that runs of a model on its own path can follow, by name."""
    known, found = set(digests(card).values()), {}
    for name, path in plan_files(card).items():
        try:
            saved = plans.read(path)
            check_sampler(saved.key.sampler)  # of another path it says more than that
        except (ValueError, OSError):
            continue
        if saved.key.model in known:
            found[name] = saved
    return found


def find_by_hash(digest: str, cards: Iterable[Card]) -> Card | None:
    """The first model with such weights, by the digests that its meta.json lists."""
    for card in cards:
        try:
            spot = weights_file(card)[1].parent
            listed = checkpoint.read_meta(spot).get("files", {}).values()
        except (ValueError, OSError):
            continue
        if any(str(entry.get("sha256", "")).startswith(digest) for entry in listed if digest):
            return card
    return None
