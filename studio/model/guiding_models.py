"""Models that guidance borrows, an unconditional prior or a weaker model: loaded by name once, and refused
where they cannot guide this one.

``base`` is the model that this one was fine-tuned from.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from backbones.types import Cond, RunContext
from guidance import Autoguidance, PriorSwap, Rule
from guidance.borrowed import Borrowed
from samplers.prediction import Prediction
from studio.checkpoints import checkpoint
from studio.codecs.codec import has_channels
from studio.model.loaded import Loaded
from studio.runtime.devices import DTYPE_NAMES

BASE = "base"


def resolve(model: Loaded, rules: Sequence[Rule], load: Callable[..., Loaded]) -> list[Rule]:
    """The rules with their models in place. Raises ``ValueError`` for a model that cannot be found or does
    not fit; warns once of a model that never learned to be without its conditions."""
    made = [_with_model(model, rule, load) if isinstance(rule, Borrowed) else rule for rule in rules]
    # of a converted model nobody knows
    trained = model.config.train.steps is not None or model.config.train.minutes is not None
    own_null = any("uncond" in r.needs for r in made) and not any(r.provides == "uncond" for r in made)
    if own_null and trained and not model.config.objective.get("cond_drop", 0) and not model.loans.warned:
        model.loans.warned = True
        warnings.warn(
            f"{model.name} was trained without dropping its conditions (objective.cond_drop is 0), so its "
            "unconditional prediction means little; "
            "take it from another model with prior=NAME, or train with objective.cond_drop=0.1",
            stacklevel=3,
        )
    return made


def _with_model(model: Loaded, rule: Any, load: Callable[..., Loaded]) -> Rule:
    if rule.model is None:
        raise ValueError(f"{type(rule).__name__.lower()} needs a weaker model; {_snapshot(model)}")
    if not isinstance(rule.model, str):
        return rule
    name = rule.model
    key = f"{name} freed" if rule.free else name
    if key not in model.loans.fast:
        find = partial(_base, model, load) if name == BASE else partial(_load, model, name, load)
        other = find()
        model.loans.fast[key] = (
            Lent(lambda: find().denoiser.lowered(), other.denoiser) if rule.free else other.denoiser.lowered()
        )
        model.loans.models[name] = _hollow(other) if rule.free else other
    other, made = model.loans.models[name], rule.with_model(model.loans.fast[key])
    checked = (name, isinstance(rule, Autoguidance))
    if checked not in model.loans.channels:  # once: the hash of a VAE reads all of it
        model.loans.channels[checked] = check(model, other, conditions=checked[1])
    channels = model.loans.channels[checked]
    if made.clip is None and other.codec.bound is not None and other.denoiser.path.native == "noise":
        # where there is only noise, a noise prediction would put such data anywhere
        made.clip = other.codec.bound
    if isinstance(made, PriorSwap) and channels is not None:
        if made.channels not in (None, channels):
            raise ValueError(
                f"got channels={made.channels} for the prior {other.name}, which has {channels}; leave "
                "channels out"
            )
        made.channels = channels
    return made


class Lent:
    """A borrowed denoiser whose weights are read when it is asked and let go by ``release``."""

    def __init__(self, load: Callable[[], Any], like: Any):
        self.load, self.path, self.space, self.starts, self.known_trained = (
            load,
            like.path,
            like.space,
            like.starts,
            like.known_trained,
        )
        self.held: Any = None

    def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        if self.held is None:
            self.held = self.load()
        return self.held.predict(x, t, cond, ctx)

    def release(self) -> None:
        self.held = None


def _hollow(model: Loaded) -> Loaded:
    """All that is known of a model, without its weights."""
    return replace(model, denoiser=model.denoiser.with_net(nn.Identity()))


def _load(model: Loaded, name: str, load: Callable[..., Loaded], **options: Any) -> Loaded:
    """Where and in the precision in which this model runs."""
    return load(
        name, device=str(model.device), dtype=DTYPE_NAMES[model.denoiser.dtype or torch.float32], **options
    )


def _base(model: Loaded, load: Callable[..., Loaded]) -> Loaded:
    if not model.info.base:
        raise ValueError(
            f"got the prior base, but {model.name} was not fine-tuned from another model; name one: "
            "prior=NAME"
        )
    dtype = DTYPE_NAMES[model.denoiser.dtype or torch.float32]
    return base_of(model.name, model.info.base, load, device=str(model.device), dtype=dtype)


def base_of(name: str, entry: dict[str, str], load: Callable[..., Loaded], **options: Any) -> Loaded:
    """The base that the ``meta.json`` of a model names. Raises ``ValueError`` where it is gone or its weights
    are no longer those."""
    # an export was once called ema whatever was taken; the hash tells
    weights = "auto" if entry["weights"] == "ema" else entry["weights"]
    try:
        found = load(entry["model"], weights=weights, **options)
    except ValueError as error:
        raise ValueError(
            f"the base of {name}, {entry['model']}, is not there ({error}); put it back, or name it where "
            "it is: prior=NAME"
        ) from None
    if found.hash != entry["hash"]:
        raise ValueError(
            f"{entry['model']} has changed since {name} was fine-tuned from it (hash {found.hash}, it was "
            f"{entry['hash']}); name the base: prior=NAME"
        )
    return found


def _snapshot(model: Loaded) -> str:
    """How to name the weak snapshot of a run, if there is one."""
    kept = [p for p in checkpoint.listing(model.folder) if checkpoint.read_meta(p).get("keep")]
    if kept:
        return (
            f"this run kept an early snapshot: autoguidance(scale=2,model={model.folder}@{int(kept[0].name)})"
        )
    return (
        "this model kept no early snapshot; name one of the same classes: "
        "autoguidance(scale=2,model=RUN@STEP)"
    )


def check(model: Loaded, other: Loaded, *, conditions: bool) -> int | None:
    """Raises ``ValueError`` with the reason where ``other`` cannot guide ``model``; the number of channels
    they share where that is not all of them. ``conditions``: it is asked the same condition."""
    ours, theirs = model.info, other.info
    if ours.task != theirs.task or len(ours.shape) != len(theirs.shape):
        raise ValueError(
            f"{other.name} makes {theirs.task} of shape {theirs.shape}, {model.name} {ours.task} of "
            f"{ours.shape}; they have nothing in common"
        )
    if (
        ours.shape[1:] != theirs.shape[1:]
        or theirs.shape[0] > ours.shape[0]
        or (ours.shape != theirs.shape and not has_channels(model.codec, ours.shape))
    ):
        raise ValueError(
            f"{other.name} works on shape {theirs.shape}, {model.name} on {ours.shape}; choose a model of "
            "the same size"
        )
    _same_codec(model, other)
    if conditions:
        if ours.shape != theirs.shape:
            raise ValueError(
                f"{other.name} works on shape {theirs.shape}, {model.name} on {ours.shape}; choose a "
                "model of the same size"
            )
        if [f.form for f in ours.conditions] != [f.form for f in theirs.conditions]:
            raise ValueError(
                f"{other.name} knows other conditions than {model.name}, expected the same classes and "
                "numbers; choose an earlier snapshot"
            )
    return theirs.shape[0] if theirs.shape[0] < ours.shape[0] else None


def _same_codec(model: Loaded, other: Loaded) -> None:
    ours, theirs = model.codec, other.codec
    if ours.name != theirs.name:
        raise ValueError(
            f"{other.name} works on {theirs.name}, {model.name} on {ours.name}; their states are "
            "different things, choose a model of the same codec"
        )
    if why := ours.apart(theirs, model.name, other.name):
        raise ValueError(why)
