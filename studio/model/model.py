"""A trained model that samples. `studio.load` makes one."""

import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import guidance as guidance_floor
from backbones.registry import plain
from guidance.rules import Rule
from samplers.denoiser import Denoiser, Queryable
from samplers.reparameterised import Reparameterised
from studio import sampling
from studio.data.labels import NO_LABEL, no_label
from studio.model import display, guiding_models
from studio.model.checked_request import checked_request
from studio.model.loaded import Loaded
from studio.runtime.devices import DTYPE_NAMES
from studio.runtime.progress import notebook_bar
from studio.runtime.version import __version__
from studio.sampling import inputs
from studio.sampling.forms import Conditions, Guidance, Labels, Picture, Seeds, Solver
from studio.sampling.samples import Samples, places


@dataclass(frozen=True, repr=False)
class Model(Loaded):
    """See `studio.load` and `Loaded`. ``loader`` finds by name what guidance borrows."""

    loader: Callable[..., Loaded] = field(kw_only=True, compare=False)

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.rich(self)

    def request(
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
        noise: Any = None,
        batch: int = 64,
        deterministic: bool = False,
        sources: Tensor | None = None,
        direction: str = "forward",
        files: bool = True,
    ) -> tuple[sampling.Request, list[Rule] | None]:
        """A checked request for the options of `sample`, and the guidance as rules where no line describes
        them (`guidance.grammar.CUSTOM`). ``files``: whether conditions may name files, which a stranger may
        not. Raises ``ValueError`` for anything that does not fit."""
        return checked_request(
            self,
            labels=labels,
            seeds=seeds,
            num_steps=num_steps,
            guidance=guidance,
            sampler=sampler,
            conditions=conditions,
            init=init,
            strength=strength,
            mask=mask,
            noise=noise,
            batch=batch,
            deterministic=deterministic,
            sources=sources,
            direction=direction,
            files=files,
            rules_of=self.rules,
        )

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
        asked = "label" in (conditions or {}) or "class" in (conditions or {})
        return self.sample(
            sources=values,
            direction=direction,
            labels=None if asked and isinstance(labels, int) and labels == NO_LABEL else labels,
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

    def rules(self, spec: Any) -> list[Rule]:
        """The rules of a guidance line, number or list, with the models they name loaded (once for this
        model)."""
        return guiding_models.resolve(self, guidance_floor.parse(spec), self.loader)

    def lent(self, spec: Any) -> dict[str, str]:
        """Names and hashes of the models that a guidance line, or rules, borrow by name."""
        names = {
            m
            for m in (getattr(rule, "model", None) for rule in guidance_floor.parse(spec))
            if isinstance(m, str)
        }
        return {name: model.hash for name, model in self.loans.models.items() if name in names}

    def stream(
        self,
        request: sampling.Request,
        rules: Sequence[Rule] | None = None,
        *,
        denoiser: Denoiser | Reparameterised | None = None,
        taps: dict[str, Any] | None = None,
        around: Callable[[Queryable], Queryable] | None = None,
    ) -> Generator[sampling.Progress, None, None]:
        """Iterate the solver's steps; see `studio.sampling.stream`. ``rules`` replaces the request's
        guidance, ``denoiser`` the model's own."""
        chosen = self.rules(request.guidance if rules is None else rules)
        return sampling.stream(
            denoiser or self.denoiser,
            self.info.shape,
            self.codec,
            request,
            device=self.device,
            rules=chosen,
            taps=taps,
            around=around,
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
            noise=noise,
            batch=batch,
            deterministic=deterministic,
            sources=sources,
            direction=direction,
        )
        given_here = {k: v for k, v in (("init", init), ("mask", mask)) if v is not None} | (
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
        if request.mask is not None and request.init is not None and self.codec.rescales:
            values = torch.where(request.mask, values, request.init.to(values))  # to the last bit
        return Samples(values, self.recipes(request, origin, rules), self.task, time.perf_counter() - started)

    def gathered(
        self,
        request: sampling.Request,
        values: Sequence[Tensor],
        seconds: float,
        origin: Mapping[str, Any] | None = None,
    ) -> Samples:
        """`Samples` of a request whose decoded samples a caller of `stream` has put together itself."""
        return Samples(torch.stack(list(values)), self.recipes(request, origin), self.task, seconds)

    def recipes(
        self,
        request: sampling.Request,
        origin: Mapping[str, Any] | None = None,
        rules: Sequence[Rule] | None = None,
    ) -> tuple[dict[str, Any], ...]:
        """One dict per sample: everything that made it. ``rules``: those of a request that no line
        describes."""
        kind = self.denoiser.dtype or torch.float32
        common: dict[str, Any] = {
            "model": self.name,
            "model_hash": self.hash,
            "weights": self.weights,
            "num_steps": request.num_steps,
            "sampler": request.sampler,
            "guidance": request.guidance,
            "dtype": DTYPE_NAMES[kind],
            "studio": __version__,
            "torch": torch.__version__.split("+")[0],
        }
        if lent := self.lent(request.guidance if rules is None else rules):
            common["borrowed"] = lent
        if request.init is not None:
            common["strength"] = request.strength
        if request.deterministic:
            common["deterministic"] = True
        if self.path:
            common["path"] = self.path
        if request.attention != "auto":
            common["attention"] = request.attention
        if request.plan is not None:
            common["plan"] = request.plan_name
            common["plan_hash"] = request.plan.hash
        if request.sources is not None:
            common["direction"] = request.direction
        out = []
        for i, seed in enumerate(request.seeds):
            recipe = {**common, **dict(origin or {}), "seed": seed}
            if request.labels is not None:
                label = request.labels[i]
                recipe |= {
                    "label": label,
                    "class": self.classes[label] if label >= 0 else no_label(self.classes),
                }
            if request.numeric is not None:
                raw = zip(
                    self.info.numeric, request.numeric[i], self.info.numeric_mean, self.info.numeric_std
                )
                recipe["conditions"] = dict(request.values) or {
                    n: float(f"{v * s + m:.12g}") for n, v, m, s in raw if v == v
                }
            if texts := {k: v[i] for k, v in request.texts.items() if v[i]}:
                recipe["fields"] = texts
            if request.settings:
                recipe["conditions"] = {**recipe.get("conditions", {}), **request.settings}
            out.append(recipe)
        return tuple(out)
