"""A trained model: found by name, loaded from a folder, sampled.

MODEL is what `studio.shelf.locate` finds.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import guidance as guidance_floor
from backbones.registry import plain, real, whole
from guidance import describe
from guidance.grammar import CUSTOM
from guidance.rules import Rule
from samplers.bridge_steps import facing
from samplers.denoiser import Denoiser
from samplers.names import canonical
from samplers.paths import Path as NoisePath
from samplers.reparameterised import Reparameterised, on_path
from studio import __version__, borrowed, checkpoint, fields, files, finetune, given, mend, own_network, sampler_spec, sampling, shown, starts
from studio.bars import notebook_bar
from studio.build import Info, build_network, denoiser_of
from studio.codec import Codec, build_codec
from studio.config import Config, load_config
from studio.data.depth import Reading
from studio.devices import DTYPE_NAMES, pick_device, pick_dtype
from studio.graph_codec import GraphCodec
from studio.labels import NO_LABEL, no_label, parse_labels
from studio.recipes import path_text
from studio.samples import Samples, places
from studio.seeds import AT_ONCE, MOST, parse_seeds
from studio.shelf import choose_weights, live_buffers, locate, parted, read_weights, spot_of
from studio.tasks import build_task
from studio.tasks.base import Task


def load(name: str | Path, *, weights: str = "auto", device: str = "auto", dtype: str = "auto", backbone: nn.Module | None = None) -> "Model":
    """A `Model` by name. ``weights``: ema (the first average), raw, a profile such as ``ema-0.999``, or auto: ema, raw where there is none. ``backbone``: the module of a model that was
    trained with a network of your own, which stays as it is: the weights go into a copy. Raises ``ValueError`` for a model that cannot be read, with the way out."""
    folder, step = locate(name)
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    mend.check(folder)
    config = load_config(folder / "config.yaml")
    meta = checkpoint.read_meta(folder)
    info = Info.from_meta(meta)
    spot = spot_of(folder, step)
    if spot != folder:
        checkpoint.verify(spot)
        step = int(spot.name)
    key, path = choose_weights(spot, weights)
    if spot != folder:
        checkpoint.verify(spot, path.name)
    if config.backbone.get("name") == "custom" and backbone is None:
        way = own_network.loaded(str(name), own_network.called(folder))
        raise ValueError(f"{name} was trained with a network of its own; pass it in Python: {way}")
    net = own_network.twin(backbone) if backbone is not None else build_network(config)
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in read_weights(key, path).items()}
    if config.lora:
        tensors = _adapted(net, config, tensors, info, path)
    buffers = {k: v for k, v in net.state_dict().items() if k not in tensors and k in dict(net.named_buffers())}
    if buffers and config.backbone.get("name") == "custom":  # nobody knows how such a network builds them
        buffers |= live_buffers(key, path, tensors)
    checkpoint.load_into(net, {**tensors, **buffers}, path)
    if config.lora:
        net = finetune.merged(net)
    net = net.to(where).eval().requires_grad_(False)
    label = str(name) if spot == folder else f"{parted(name)[0]}@{step}"
    return Model(
        name=label, config=config, info=info, denoiser=denoiser_of(config, net, dtype=kind, source=bool(info.starts_from)).eval(), codec=build_codec(info.codec, folder), task=build_task(info.task, info.codec),
        device=where, weights=key, hash=files.sha256(path)[:16], folder=folder,
    )  # fmt: skip


def _adapted(net: nn.Module, config: Config, tensors: dict[str, Tensor], info: Info, path: Path) -> dict[str, Tensor]:
    """Put the adapters of a run into its network; all of its tensors. Where the file holds adapters only, the rest is its base's."""
    alone = not any(".base_layer." in k for k in tensors)
    if alone:
        finetune.begin(net, borrowed.base_of(str(path.parent), info.base, load, device="cpu", dtype="fp32"), tuple(config.lora.get("tables", ())))
    finetune.adapt(net, config.lora)
    if not alone:
        return tensors
    known = net.state_dict()
    wrong = next((k for k in tensors if k not in known), None)
    if wrong:
        raise ValueError(f"{path} does not fit the model: unexpected {wrong}; check the config's lora section")
    return {**known, **tensors}


@dataclass(frozen=True, repr=False)
class Model:
    """See `load`. ``denoiser`` can be queried directly: ``model.denoiser.predict(x, t, Cond(label=...))``."""

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
    loans: borrowed.Loans = field(default_factory=borrowed.Loans, compare=False, repr=False)

    def __repr__(self) -> str:
        return shown.text(self)

    def _repr_html_(self) -> str:
        return shown.rich(self)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W) or (d,) of a decoded sample."""
        decoded = getattr(self.codec, "decoded_shape", None)
        return tuple(decoded(self.info.shape) if decoded is not None else self.info.shape)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.info.classes

    @property
    def fit(self) -> sampler_spec.Fit:
        """What the defaults of its samplers depend on."""
        return sampler_spec.fit_of(self.config, self.info)

    def request(
        self, *, labels: Any = None, seeds: Any = None, num_steps: int | None = None, guidance: Any = "default", sampler: Any = None,
        conditions: Mapping[str, Any] | None = None, init: Any = None, strength: float | None = None, mask: Any = None, batch: int = 64,
        deterministic: bool = False, sources: Tensor | None = None, direction: str = "forward", noise: Any = None,
    ) -> tuple[sampling.Request, list[Rule] | None]:  # fmt: skip
        """A checked request, and the guidance as rules where no line describes them (`guidance.grammar.CUSTOM`). Raises ``ValueError`` for anything that
        does not fit."""
        defaults = self.config.sample
        own = starts.asked(noise, self.info.shape, self.denoiser.family)
        chosen = _seeds(seeds, own, MOST if sources is not None else AT_ONCE)
        if not chosen:
            raise ValueError("got no seeds, expected at least one")
        sources = None if sources is None else self.numbers(sources)
        self._check_start(sources, direction, init, len(chosen))
        if init is None and strength is not None:
            raise ValueError(f"got strength={strength} without a picture to start from; give it with --init, or leave --strength out")
        if init is None and mask is not None and sources is None:
            raise ValueError("got a mask without a picture; give the picture to keep with --init")
        values = {k: v for k, v in (conditions or {}).items() if k not in self.info.numeric or not sampling.left_open(v)}
        for name in ("label", "class"):
            if name in values and name not in self.info.numeric:
                if labels is not None:
                    raise ValueError(f"got the label twice ({labels!r} and {name}={values[name]!r}), expected it once; leave one out")
                labels = values.pop(name)
        atoms: int | None = None
        if isinstance(self.codec, GraphCodec):
            if "atoms" in values and "atoms" not in self.info.numeric:
                atoms = self.codec.check_number(values.pop("atoms"))
            init, mask = self._piece(init, mask)
        further = {k: values.pop(k) for k in self.info.fields if k in values}
        guidance = defaults.guidance if isinstance(guidance, str) and guidance == "default" else guidance
        line = describe(guidance)
        rules = guidance_floor.parse(guidance) if line == CUSTOM else None
        steps = defaults.num_steps if num_steps is None else whole(num_steps, "num_steps")
        batch, deterministic = whole(batch, "batch"), _flag(deterministic, "deterministic")
        said = sampler_spec.said(sampler)
        spec = CUSTOM if said == CUSTOM else sampler_spec.resolved(said, self.fit, inpaint=mask is not None and self.fit.re_noises)
        solver = sampler if said == CUSTOM else sampling.build_sampler(spec)
        solver.check(self.denoiser)
        if solver.resample > 1 and (mask is None or not self.fit.re_noises):
            raise ValueError(
                f"got resample={solver.resample}, which is for pictures that are filled in (init and mask) by a model that was not trained with known "
                "entries; leave it out"
            )
        solver.times(self.denoiser.path, steps)
        sampling.check_guided(self.denoiser, self.rules(line) if rules is None else self.rules(rules), solver)
        if self.denoiser.family == "bridge":
            facing(self.denoiser, solver.needs, direction)
        if not isinstance(self.codec, GraphCodec):
            init, mask = self._picture(init), self._mask(mask)
        share = real(strength, "strength") if strength is not None else (1.0 if mask is not None else 0.6)
        if init is not None:
            sampling.start_index(steps, share)
        request = sampling.Request(
            chosen, parse_labels(labels, self.classes, chosen),
            sampling.numeric_rows(values, self.info.numeric, self.info.numeric_mean, self.info.numeric_std, len(chosen)),
            steps, spec, line, init, share, mask, batch, deterministic, sources, direction, atoms,
            tuple((name, float(values[name])) for name in self.info.numeric if name in values), solver if spec == CUSTOM else None, own.noise,
            fields.columns(further, self.info.fields, len(chosen)),
        )  # fmt: skip
        self._warn_of_range(values)
        return request, rules

    def refuse(self, out: str | Path, *, overwrite: bool = False, **options: Any) -> None:
        """Raises whatever `sample` with these options, or `Samples.save` of them to the folder ``out``, would refuse; nothing is computed or written."""
        request, rules = self.request(**options)
        places(
            Path(out), self.recipes(request, None, rules), self.task, need=2 * len(request.seeds) * math.prod(self.sample_shape), overwrite=overwrite
        )

    def _warn_of_range(self, values: Mapping[str, Any]) -> None:
        """Once for each condition: a number beyond what the model has seen."""
        for name, (low, high) in zip(self.info.numeric, self.info.numeric_range):
            if name in values and (float(values[name]) < low or float(values[name]) > high) and name not in self.loans.beyond:
                self.loans.beyond.add(name)
                warnings.warn(
                    f"{name}={float(values[name]):g} is outside what {self.name} was trained on, {low:.4g} to {high:.4g}: it has to guess",
                    stacklevel=4,
                )

    def _piece(self, init: Any, mask: Any) -> tuple[Tensor | None, Tensor | None]:
        """A piece of a molecule that stays (SMILES, or a graph) and the mask of what may change."""
        if init is None or isinstance(init, Tensor):
            return init, mask
        from studio.chem.completion import part

        graph, known = part(str(init), self.codec.atoms, self.codec.size, aromatic=self.codec.aromatic)  # type: ignore[attr-defined]
        return torch.from_numpy(graph), torch.from_numpy(~known)

    def _check_start(self, sources: Tensor | None, direction: str, init: Any, count: int) -> None:
        """A bridge starts from its source and from nothing else; other models have no source."""
        if not self.info.starts_from:
            if sources is not None or direction != "forward":
                raise ValueError(f"{self.name} starts from noise and translates nothing; use sample (with init= for a picture to start from)")
            return
        if init is not None:
            raise ValueError(f"{self.name} starts from a source, not from a picture with noise; leave init out")
        if sources is None:
            raise ValueError(
                f"{self.name} starts from {self.info.starts_from}, not from noise; use `studio translate {self.name} PICTURES --out DIR` or model.translate(pictures)"
            )
        if tuple(sources.shape) != (count, *self.sample_shape):
            raise ValueError(f"got sources of shape {tuple(sources.shape)} for {count} seeds, expected {(count, *self.sample_shape)}")

    def translate(self, sources: Any, *, on_step: Callable[[sampling.Progress], Any] | None = None, **options: Any) -> Samples:
        """`Samples` made from ``sources``: (N, C, H, W) uint8 (or floats in 0..1) or (N, d) float, as files hold them, or a list of files or
        PIL pictures. Options as in `sample`, but seeds are 0, 1, … and labels −1 unless given, and ``direction="backward"`` for models that know the way back. Raises ``ValueError`` for a model that starts from noise."""
        one_by_one = isinstance(sources, list | tuple) and any(given.is_picture(s) or hasattr(s, "shape") for s in sources)
        pick = self._picture if len(self.sample_shape) == 3 else torch.as_tensor
        values = torch.stack([pick(s) for s in sources]) if one_by_one else torch.as_tensor(sources)  # type: ignore[misc]
        asked = "label" in (options.get("conditions") or {}) or "class" in (options.get("conditions") or {})
        seeds = range(len(values)) if options.get("noise") is None else None
        defaults: dict[str, Any] = {"seeds": seeds, "labels": None if asked else NO_LABEL}
        return self.sample(sources=values, on_step=on_step, **{**defaults, **options})

    @property
    def reading(self) -> Reading:
        """How the picture files that it learned from became numbers."""
        return self.info.reading

    def numbers(self, values: Tensor) -> Tensor:
        """Decoded samples (..., *sample_shape) as files hold them, of tensors that hold them otherwise: see `studio.given.numbers`."""
        if len(self.sample_shape) != 3:
            return values
        return given.numbers(given.laid_out(values, self.sample_shape), pictures=self.codec.pictures)

    def _picture(self, init: Any) -> Tensor | None:
        return None if init is None else given.picture(init, self.sample_shape, pictures=self.codec.pictures, reading=self.reading)

    def _mask(self, mask: Any) -> Tensor | None:
        return None if mask is None else given.mask(mask, self.info.shape[1:], self.sample_shape[1:])

    def rules(self, spec: Any) -> list[Rule]:
        """The rules of a guidance line, number or list, with the models they name loaded (once for this model)."""
        return borrowed.resolve(self, guidance_floor.parse(spec), load)

    def lent(self, spec: Any) -> dict[str, str]:
        """Names and hashes of the models that a guidance line, or rules, borrow by name."""
        names = {m for m in (getattr(rule, "model", None) for rule in guidance_floor.parse(spec)) if isinstance(m, str)}
        return {name: model.hash for name, model in self.loans.models.items() if name in names}

    def stream(
        self, request: sampling.Request, rules: Sequence[Rule] | None = None, *, denoiser: Denoiser | Reparameterised | None = None,
        taps: dict[str, Any] | None = None,
    ) -> Iterator[sampling.Progress]:  # fmt: skip
        """Iterate the solver's steps; see `studio.sampling.stream`. ``rules`` replaces the request's guidance, ``denoiser`` the model's own."""
        chosen = self.rules(request.guidance if rules is None else rules)
        return sampling.stream(denoiser or self.denoiser, self.info.shape, self.codec, request, device=self.device, rules=chosen, taps=taps)

    def sample(
        self, *, on_step: Callable[[sampling.Progress], Any] | None = None, origin: Mapping[str, Any] | None = None, probe: list[dict[str, Any]] | None = None,
        **options: Any,
    ) -> Samples:  # fmt: skip
        """Samples for ``labels=`` and ``seeds=`` (0 to 7 unless given), with ``num_steps=, guidance=, sampler=, conditions=, init=, strength=, mask=, noise=, batch=,
        deterministic=``.

        ``guidance``: a line ("cfg=2.0,interval=0.1:0.9"), a number (the cfg scale), a rule, a list of these, "default", "none" or None. ``sampler``: a line, a tree
        ``{"name": ..., options}`` or a `samplers.Sampler`, which counts as the line that makes it; of rules and samplers that no line describes the recipes say
        ``custom``, and no command makes them again. ``init``, ``mask``: files, PIL pictures, arrays or tensors (`studio.given`). ``noise``: where to start from, or
        a source of all draws (`studio.starts`). Numbers may be numpy's or torch's. ``on_step(progress)`` stops the run by
        returning False. ``origin`` adds entries (such as file names) to the recipes. ``probe``: a list that gets what guidance did in each step
        (`guidance.probe`).
        """
        started = time.perf_counter()
        request, rules = self.request(**options)
        given_here = {k: options[k] for k in ("init", "mask") if options.get(k) is not None} | ({} if request.noise is None else {"noise": None})
        given_here |= {k: None for k in self.info.fields if (options.get("conditions") or {}).get(k) is not None}
        origin = {**{k: str(v) for k, v in given_here.items() if isinstance(v, str | Path)}, **{k: plain(v) for k, v in dict(origin or {}).items()}}
        if nameless := [k for k in given_here if k not in origin]:
            origin["as_values"] = nameless
        json.dumps(origin)  # what no recipe can hold is refused now, not after sampling
        steps = self.stream(request, rules, taps=None if probe is None else {"probe": probe})
        with notebook_bar("sampling", shown=None if on_step is None else False) as bar:
            told = on_step or (lambda p: bar(p.done, p.total))
            values = sampling.run(steps, self.codec, len(request.seeds), on_step=told)
        return Samples(values, self.recipes(request, origin, rules), self.task, time.perf_counter() - started)

    def gathered(self, request: sampling.Request, values: Sequence[Tensor], seconds: float, origin: Mapping[str, Any] | None = None) -> Samples:
        """`Samples` of a request whose decoded samples a caller of `stream` has put together itself."""
        return Samples(torch.stack(list(values)), self.recipes(request, origin), self.task, seconds)

    def recipes(
        self, request: sampling.Request, origin: Mapping[str, Any] | None = None, rules: Sequence[Rule] | None = None
    ) -> tuple[dict[str, Any], ...]:  # fmt: skip
        """One dict per sample: everything that made it. ``rules``: those of a request that no line describes."""
        kind = self.denoiser.dtype or torch.float32
        common: dict[str, Any] = {
            "model": self.name, "model_hash": self.hash, "weights": self.weights, "num_steps": request.num_steps, "sampler": request.sampler,
            "guidance": request.guidance, "dtype": DTYPE_NAMES[kind], "studio": __version__, "torch": torch.__version__.split("+")[0],
        }  # fmt: skip
        if lent := self.lent(request.guidance if rules is None else rules):
            common["borrowed"] = lent
        if request.init is not None:
            common["strength"] = request.strength
        if request.deterministic:
            common["deterministic"] = True
        if self.path:
            common["path"] = self.path
        if request.sources is not None:
            common["direction"] = request.direction
        out = []
        for i, seed in enumerate(request.seeds):
            recipe = {**common, **dict(origin or {}), "seed": seed}
            if request.labels is not None:
                label = request.labels[i]
                recipe |= {"label": label, "class": self.classes[label] if label >= 0 else no_label(self.classes)}
            if request.numeric is not None:
                raw = zip(self.info.numeric, request.numeric[i], self.info.numeric_mean, self.info.numeric_std)
                recipe["conditions"] = dict(request.values) or {n: float(f"{v * s + m:.12g}") for n, v, m, s in raw if v == v}
            if request.atoms is not None:
                recipe["conditions"] = {**recipe.get("conditions", {}), "atoms": request.atoms}
            out.append(recipe)
        return tuple(out)

    def on_path(self, path: str | Mapping[str, Any] | NoisePath) -> "Model":
        """The same model sampled on another path (`samplers.reparameterised`): ``"trig"``, ``"vp(schedule=cosine)"``, ``{"name": ..., options}`` or a path.
        Recipes name it, and say ``custom`` of one that no text describes.

        Raises ``ValueError`` for an unknown path or option, and for a model that starts from data.
        """
        if self.denoiser.family != "gaussian":
            why = "starts from data" if self.denoiser.family == "bridge" else "makes graphs"
            raise ValueError(f"{self.name} {why}, so it has no other path; sample it on its own")
        tree: Any = path
        if isinstance(path, str):
            name, options = sampler_spec.parse(path, "path")
            tree = {"name": name, **options}
        tree = canonical("path", tree)
        denoiser = on_path(self.denoiser, dict(tree) if isinstance(tree, Mapping) else tree)
        return replace(self, denoiser=denoiser, path=_path_line(tree))

    def with_dtype(self, dtype: str) -> "Model":
        """The same weights run in another precision."""
        if self.path:
            raise ValueError("got a precision for a model on another path; choose it first: model.with_dtype(...).on_path(...)")
        return replace(self, denoiser=self.denoiser.with_net(self.denoiser.net, pick_dtype(dtype, self.device)))


def _seeds(seeds: Any, own: starts.Asked, most: int) -> tuple[int, ...]:
    """Those that were asked for, or as many as there is noise. Raises ``ValueError`` where seeds and noise do not go together."""
    if seeds is None:
        return own.seeds or tuple(range(8 if own.count is None else own.count))
    chosen = parse_seeds(seeds, most=most)
    if own.count not in (None, len(chosen)):
        raise ValueError(f"got noise for {own.count} samples and {len(chosen)} seeds, expected as many; leave seeds out")
    if own.seeds not in (None, chosen):
        raise ValueError("got seeds and a NoiseSource of others, expected one of them; leave seeds out")
    return chosen


def _flag(value: Any, name: str) -> bool:
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(f"got {name}={value!r}, expected True or False")
    return value


def _path_line(tree: Any) -> str:
    """The text of a path that gives it back, or `CUSTOM`."""
    if isinstance(tree, Mapping) and all(isinstance(v, str | int | float | None) for v in tree.values()):
        line = str(path_text(tree))
        name, options = sampler_spec.parse(line, "path")
        if {"name": name, **options} == dict(tree):
            return line
    return CUSTOM
