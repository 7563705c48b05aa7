"""What is known of a trained model that was loaded: what it makes, of what, and with which weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from guidance.grammar import CUSTOM
from samplers.denoiser import Denoiser
from samplers.names import canonical
from samplers.paths import Path as NoisePath
from samplers.reparameterised import Reparameterised, on_path
from studio.checkpoints import plans
from studio.checkpoints.build import Info
from studio.codecs.codec import Codec, decoded_shape
from studio.config import Config
from studio.data.depth import Reading
from studio.model.cache_limit import bytes_of
from studio.runtime.devices import pick_dtype
from studio.sampling import inputs, sampler_spec
from studio.sampling.commands import path_text
from studio.tasks.base import Task


@dataclass
class Loans:
    """What a model has borrowed so far, by name, the channels it shares with each (None: all), whether it has
    been warned of, and the conditions that it was asked beyond what it has seen."""

    models: dict[str, "Loaded"] = field(default_factory=dict)
    fast: dict[str, Any] = field(default_factory=dict)
    channels: dict[tuple[str, bool], int | None] = field(default_factory=dict)
    warned: bool = False
    beyond: set[str] = field(default_factory=set)


@dataclass(frozen=True, repr=False)
class Loaded:
    """``denoiser`` can be queried directly: ``model.denoiser.predict(x, t, Cond(label=...))``. ``weights``:
    which of them, and their ``hash``; ``path``: the text of another path than its own that it is sampled
    on; ``plan``: the name or file of the plan that its runs follow, ``attention`` the backend, and
    ``cache_limit`` the bytes that what it keeps may take."""

    name: str
    config: Config
    info: Info
    denoiser: Denoiser | Reparameterised
    codec: Codec
    task: Task
    device: torch.device
    weights: str
    hash: str
    folder: Path
    path: str = ""
    plan: str = ""
    attention: str = "auto"
    cache_limit: int | None = None
    loans: Loans = field(default_factory=Loans, compare=False, repr=False)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W) or (d,) of a decoded sample."""
        return decoded_shape(self.codec, self.info.shape)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.info.classes

    @property
    def fit(self) -> sampler_spec.Fit:
        """What the defaults of its samplers depend on."""
        return sampler_spec.fit_of(self.config, self.info)

    @property
    def reading(self) -> Reading:
        """How the picture files that it learned from became numbers."""
        return self.info.reading

    def numbers(self, values: Tensor) -> Tensor:
        """Decoded samples (..., *sample_shape) as files hold them, of tensors that hold them otherwise: see
        `studio.sampling.inputs.numbers`."""
        if not inputs.has_sides(self.sample_shape):
            return values
        return inputs.numbers(inputs.laid_out(values, self.sample_shape), pictures=self.codec.pictures)

    def picture(self, init: Any) -> Tensor | None:
        """(C, H, W) uint8 of a picture to start from, in any form of `studio.sampling.inputs`."""
        return (
            None
            if init is None
            else inputs.picture(init, self.sample_shape, pictures=self.codec.pictures, reading=self.reading)
        )

    def source(self, given: Any) -> Tensor:
        """(*sample_shape) of one sample to start from, in any form of `studio.sampling.inputs`."""
        return inputs.source(given, self.sample_shape, pictures=self.codec.pictures, reading=self.reading)

    def given(self, values: Any) -> Tensor:
        """(N, *sample_shape) as files hold them, of `Samples`, a tensor or an array of samples, or a list of
        them, of files or of PIL pictures. Raises ``ValueError`` for other shapes, and for values that are not
        finite."""
        made = getattr(values, "values", None)
        values = made if isinstance(made, Tensor) else values
        one_by_one = isinstance(values, list | tuple) and any(
            inputs.is_picture(v) or hasattr(v, "shape") for v in values
        )
        found = torch.stack([*map(self.source, values)]) if one_by_one else torch.as_tensor(values)
        found = self.numbers(found)
        if found.shape[1:] != self.sample_shape or not len(found):
            sides = ", ".join(map(str, self.sample_shape))
            raise ValueError(
                f"got values of shape {tuple(found.shape)}, expected (N, {sides}): one or more of what "
                f"{self.name} makes"
            )
        if not torch.isfinite(found).all():
            raise ValueError("got values that are not finite, expected none; mend them")
        return found

    def mask(self, mask: Any) -> Tensor | None:
        """Bool of what may change, as the network sees it: (H, W) of pictures, otherwise of places or whole
        samples, of a shape that broadcasts to theirs."""
        if mask is None:
            return None
        if not inputs.has_sides(self.info.shape):
            return inputs.places(mask, self.info.shape)
        return inputs.mask(mask, self.info.shape[1:], self.sample_shape[1:])

    def on_path(self, path: str | Mapping[str, Any] | NoisePath) -> Self:
        """The same model sampled on another path (`samplers.reparameterised`): ``"trig"``,
        ``"vp(schedule=cosine)"``, ``{"name": ..., options}`` or a path. Recipes name it, and say ``custom``
        of one that no text describes.

        Raises ``ValueError`` for an unknown path or option, and for a model that starts from data.
        """
        if self.denoiser.starts != "noise" or self.codec.parts:
            why = "starts from data" if self.denoiser.starts != "noise" else f"makes {self.info.task}"
            raise ValueError(f"{self.name} {why}, so it has no other path; sample it on its own")
        tree: Any = path
        if isinstance(path, str):
            name, options = sampler_spec.parse(path, "path")
            tree = {"name": name, **options}
        tree = canonical("path", tree)
        denoiser = on_path(self.denoiser, dict(tree) if isinstance(tree, Mapping) else tree)
        return replace(self, denoiser=denoiser, path=_path_line(tree))

    def planned(self, plan: str | Path, cache_limit: int | str | None = None) -> Self:
        """The same model with runs that follow a plan of its own (`studio compress`): its name, a file, or
        ``auto`` for the one that belongs to a run, where there is one; ``none`` for none. ``cache_limit``:
        bytes (``"500MB"``, ``"2GB"``) that what it keeps may take; batches are made smaller to fit.

        Raises ``ValueError`` for one that is not there; runs that it is not for, or of which too much would
        be kept, are refused when they are asked for.
        """
        asked, limit = str(plan), bytes_of(cache_limit)
        if limit is not None and asked in ("", plans.NONE):
            raise ValueError(
                "got a cache limit without a plan, and without one nothing is kept; give the plan too, or "
                "leave the limit out"
            )
        if asked not in ("", plans.NONE, plans.AUTO) and not asked.endswith(".json"):
            there = plans.listed(self.folder, self.hash)
            if asked not in there:
                raise ValueError(plans.unknown(asked, there, self.name))
        return replace(self, plan="" if asked == plans.NONE else asked, cache_limit=limit)

    def with_dtype(self, dtype: str) -> Self:
        """The same weights run in another precision."""
        if self.path:
            raise ValueError(
                "got a precision for a model on another path; choose it first: "
                "model.with_dtype(...).on_path(...)"
            )
        return replace(
            self, denoiser=self.denoiser.with_net(self.denoiser.net, pick_dtype(dtype, self.device))
        )


def _path_line(tree: Any) -> str:
    """The text of a path that gives it back, or `CUSTOM`."""
    if isinstance(tree, Mapping) and all(isinstance(v, str | int | float | None) for v in tree.values()):
        line = str(path_text(tree))
        name, options = sampler_spec.parse(line, "path")
        if {"name": name, **options} == dict(tree):
            return line
    return CUSTOM
