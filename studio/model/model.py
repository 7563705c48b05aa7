"""A trained model that samples. `studio.load` makes one."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.registry import plain, whole
from backbones.types import NoiseSource
from guidance.rules import Rule
from studio import sampling
from studio.data.labels import NO_LABEL
from studio.model import between, display, probability_flow
from studio.model.flowing import Flowing, none_or
from studio.runtime.progress import notebook_bar
from studio.sampling import inputs
from studio.sampling.forms import Conditions, Entries, Guidance, Labels, Picture, Seeds, Solver
from studio.sampling.samples import Samples, places


@dataclass(frozen=True, repr=False)
class Model(Flowing):
    """See `studio.load`, `studio.model.loaded.Loaded` and `studio.model.requesting.Requesting`."""

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.rich(self)

    def refuse(
        self,
        out: str | Path,
        *,
        overwrite: bool = False,
        labels: Labels = None,
        seeds: Seeds = None,
        num_steps: int | None = None,
        guidance: Guidance = "default",
        sampler: Solver = None,
        conditions: Conditions = None,
        init: Picture = None,
        strength: float | None = None,
        mask: Picture = None,
        known: Entries = None,
        given: Entries = None,
        noise: Any = None,
        batch: int = 64,
        deterministic: bool = False,
        sources: Tensor | None = None,
        direction: str = "forward",
    ) -> None:
        """Raises whatever `sample` with these options, or `Samples.save` of them to the folder ``out``, would
        refuse; nothing is computed or written."""
        request, rules = self.request(
            labels=labels,
            seeds=seeds,
            num_steps=num_steps,
            guidance=guidance,
            sampler=sampler,
            conditions=conditions,
            init=init,
            strength=strength,
            mask=mask,
            known=known,
            given=given,
            noise=noise,
            batch=batch,
            deterministic=deterministic,
            sources=sources,
            direction=direction,
        )
        places(
            Path(out),
            self.recipes(request, None, rules),
            self.task,
            need=2 * len(request.seeds) * math.prod(self.sample_shape),
            overwrite=overwrite,
        )

    def translate(
        self,
        sources: Any,
        *,
        direction: str = "forward",
        labels: Labels = NO_LABEL,
        seeds: Seeds = None,
        num_steps: int | None = None,
        guidance: Guidance = "default",
        sampler: Solver = None,
        conditions: Conditions = None,
        mask: Picture = None,
        noise: Any = None,
        batch: int = 64,
        deterministic: bool = False,
        on_step: Callable[[sampling.Progress], Any] | None = None,
        origin: Mapping[str, Any] | None = None,
        probe: list[dict[str, Any]] | None = None,
    ) -> Samples:
        """`Samples` made from others by a model that starts from data; options as in `sample`, but:

        - ``sources``: (N, C, H, W) uint8 (or floats in 0..1) or (N, d) float, as files hold them, or a list
          of files or PIL pictures.
        - ``direction``: ``backward`` for models that know the way back.
        - ``labels``: −1, none, unless given; ``seeds``: 0, 1, … unless given.

        Raises ``ValueError`` for a model that starts from noise.
        """
        one_by_one = isinstance(sources, list | tuple) and any(
            inputs.is_picture(s) or hasattr(s, "shape") for s in sources
        )
        values = torch.stack([*map(self.source, sources)]) if one_by_one else torch.as_tensor(sources)
        return self.sample(
            sources=values,
            direction=direction,
            labels=none_or(labels, conditions),
            seeds=range(len(values)) if seeds is None and noise is None else seeds,
            num_steps=num_steps,
            guidance=guidance,
            sampler=sampler,
            conditions=conditions,
            mask=mask,
            noise=noise,
            batch=batch,
            deterministic=deterministic,
            on_step=on_step,
            origin=origin,
            probe=probe,
        )

    def sample(
        self,
        *,
        labels: Labels = None,
        seeds: Seeds = None,
        num_steps: int | None = None,
        guidance: Guidance = "default",
        sampler: Solver = None,
        conditions: Conditions = None,
        init: Picture = None,
        strength: float | None = None,
        mask: Picture = None,
        known: Entries = None,
        given: Entries = None,
        noise: Any = None,
        batch: int = 64,
        deterministic: bool = False,
        on_step: Callable[[sampling.Progress], Any] | None = None,
        origin: Mapping[str, Any] | None = None,
        probe: list[dict[str, Any]] | None = None,
        sources: Tensor | None = None,
        direction: str = "forward",
    ) -> Samples:
        """`Samples` of this model. Numbers may be numpy's or torch's.

        - ``labels``: names or numbers of classes, one or as many as seeds; −1 is none.
        - ``seeds``: 0 to 7 unless given; a list, or a text such as "0-7,12".
        - ``num_steps``: of the solver; the model's own unless given.
        - ``guidance``: a line ("cfg=2.0,interval=0.1:0.9"), a number (the cfg scale), a rule, a tree, a list
          of these, "default", "none" or None.
        - ``sampler``: a line ("ddim(eta=0.5)"), a tree ``{"name": ..., options}`` or a `samplers.Sampler`,
          which counts as the line that makes it. Of rules and samplers that no line describes the recipes say
          ``custom``, and no command makes them again.
        - ``conditions``: values by name, in their own units.
        - ``init``: a picture to start from; of molecules the piece that stays. A file, PIL picture, array or
          tensor (`studio.sampling.inputs`).
        - ``strength``: how much of the way is run anew: 0 keeps ``init``, 1 ignores it.
        - ``mask``: what of ``init`` may change: white, or true.
        - ``known``, ``given``: which entries of the samples are known, and their values in the data's own
          unit, which stay to the last bit: a mask and numbers of a sample's shape, or one for each seed
          (`studio.sampling.kept`).
        - ``noise``: where to start from, or a source of all draws (`studio.sampling.starts`).
        - ``batch``: samples computed at once.
        - ``deterministic``: bytes that do not depend on what is sampled beside.
        - ``on_step``: called with every step's `Progress`; stops the run by returning False.
        - ``origin``: entries (such as file names) for the recipes.
        - ``probe``: a list that gets what guidance did in each step (`guidance.probe`).
        - ``sources``, ``direction``: what a bridge starts from; see `translate`.

        Raises ``ValueError`` for anything that does not fit, before anything is computed.
        """
        started = time.perf_counter()
        request, rules = self.request(
            labels=labels,
            seeds=seeds,
            num_steps=num_steps,
            guidance=guidance,
            sampler=sampler,
            conditions=conditions,
            init=init,
            strength=strength,
            mask=mask,
            known=known,
            given=given,
            noise=noise,
            batch=batch,
            deterministic=deterministic,
            sources=sources,
            direction=direction,
        )
        inputs_given = {"init": init, "mask": mask, "known": known, "given": given}
        given_here = {k: v for k, v in inputs_given.items() if v is not None} | (
            {} if request.noise is None else {"noise": None}
        )
        given_here |= dict.fromkeys(request.unkept())
        origin = {
            **{k: str(v) for k, v in given_here.items() if isinstance(v, str | Path)},
            **{k: plain(v) for k, v in dict(origin or {}).items()},
        }
        if nameless := [k for k in given_here if k not in origin]:
            origin["as_values"] = nameless
        json.dumps(origin)  # what no recipe can hold is refused now, not after sampling
        steps = self.stream(request, rules, taps=None if probe is None else {"probe": probe})
        with notebook_bar("sampling", shown=None if on_step is None else False) as bar:
            told = on_step or (lambda p: bar(p.done, p.total))
            values = sampling.run(steps, self.codec, len(request.seeds), on_step=told)
        return self.gathered(request, list(values), time.perf_counter() - started, origin, rules)

    def gathered(
        self,
        request: sampling.Request,
        values: Sequence[Tensor],
        seconds: float,
        origin: Mapping[str, Any] | None = None,
        rules: Sequence[Rule] | None = None,
    ) -> Samples:
        """`Samples` of a request whose decoded samples a caller of `stream` has put together itself."""
        made = torch.stack(list(values))
        if request.mask is not None and request.init is not None and self.codec.rescales:
            made = torch.where(request.mask, made, request.init.to(made))  # to the last bit
        if request.kept is not None:
            made = request.kept.put_back(made)
        return Samples(self.task.trimmed(made), self.recipes(request, origin, rules), self.task, seconds)

    def interpolate(
        self,
        a: Any,
        b: Any,
        count: int = 8,
        *,
        labels: Labels = None,
        num_steps: int | None = None,
        guidance: Guidance = "default",
        sampler: Solver = None,
        conditions: Conditions = None,
        batch: int = 64,
        deterministic: bool = False,
        on_step: Callable[[sampling.Progress], Any] | None = None,
    ) -> Samples:
        """`Samples` on the way from one to another: their noise is turned along a great circle, which keeps
        its length, and sampled. The first and the last are the samples of both ends.

        - ``a``, ``b``: seeds, or data (one sample, file or PIL picture), whose noise is found by `invert`.
        - ``count``: how many, both ends included.
        - ``labels``: one, or one for each of ``count``; unless given half of them those of a, as in `sample`
          for seeds and none for data, and half of them those of b.
        - ``conditions``: by name; of a number also two, (at a, at b), between which it changes evenly.
        - ``num_steps``, ``guidance``, ``sampler``, ``batch``, ``deterministic``, ``on_step``: as in `sample`.
          A sampler that draws noise on its way has the draws of seed a + i.

        Raises ``ValueError`` for anything that does not fit, before anything is computed.
        """
        started = time.perf_counter()
        if whole(count, "count") < 2:
            raise ValueError(f"got count={count}, expected 2 (both ends) or more")
        probability_flow.check_noise(self)
        ends = [end if isinstance(end := plain(given), int) else self.given([given]) for given in (a, b)]
        first, last = (end if isinstance(end, int) else 0 for end in ends)
        options: dict[str, Any] = dict(
            labels=between.labels_of(self, labels, conditions, ends, count),
            seeds=[*range(first, first + count - 1), last],
            num_steps=num_steps,
            guidance=guidance,
            sampler=sampler,
            batch=batch,
            deterministic=deterministic,
        )
        asked = [self.request(conditions=values, **options) for values in between.ends_of(self, conditions)]
        rules = asked[0][1]
        chosen = self.rules(asked[0][0].guidance if rules is None else rules)
        found = [
            NoiseSource([end]).normal(self.info.shape, stream="prior")[0]
            if isinstance(end, int)
            else between.end_noise(self, end, request, chosen, place)
            for end, (request, _), place in zip(ends, asked, (0, count - 1))
        ]
        request = replace(
            between.along(asked[0][0], asked[1][0]), noise=between.path_between(found[0], found[1], count)
        )
        steps = self.stream(request, rules)
        with notebook_bar("sampling", shown=None if on_step is None else False) as bar:
            told = on_step or (lambda p: bar(p.done, p.total))
            made = sampling.run(steps, self.codec, count, on_step=told)
        told_ends = ["data" if isinstance(end, Tensor) else end for end in ends]
        origin = {"as_values": ["noise", *request.unkept()], "between": told_ends}
        recipes = self.recipes(request, origin, rules)
        recipes = tuple({**r, "share": i / (count - 1)} for i, r in enumerate(recipes))
        return Samples(made, recipes, self.task, time.perf_counter() - started)
