"""What `studio list` tells: names, and one line about each."""

from collections.abc import Callable, Mapping, Sequence

import backbones
import guidance
import samplers
from backbones.registry import suggest
from samplers.names import PARTS
from studio.checkpoints.find import list_models
from studio.config import load_config, shipped
from studio.data import REGISTRY
from studio.model.catalog import name_of

CONDITIONS = {
    "label": "a class, by name or number: --labels, or --set label=NAME; −1 or none leaves it open",
    "NAME": "a number the model was trained with, in its own units: --set NAME=VALUE (studio info MODEL "
    "names them); none leaves it open",
    "init": "a picture to start from (--init with --strength), or the piece of a molecule that stays",
    "mask": "what of that picture may change: white (--mask)",
    "source": "the picture that a bridge starts from: studio translate",
    "atoms": "of molecules: how many atoms (--set atoms=N)",
}
SPELLINGS = {"parameterizations": "parameterisations", "datasets": "data", "rules": "guidance"}


def _parts(kind: str) -> dict[str, str]:
    told = {}
    for name, (text, known) in PARTS[kind].items():
        told[name] = text + (f"; also {', '.join(known)}" if known else "")
    return told


def _models(roots: Sequence[str]) -> dict[str, str]:
    broken: dict[str, str] = {}
    cards = list_models(roots, on_broken=lambda name, why: broken.update({name: f"cannot be read: {why}"}))
    return {
        name_of(
            c
        ): f"{c.task} {'×'.join(map(str, c.shape))}, {c.backbone}, step {c.step}, {len(c.classes)} classes"
        for c in cards
    } | broken


def _configs() -> dict[str, str]:
    return {
        name: f"{c.data.get('name')}, {c.backbone.get('name')}"
        for name in shipped()
        for c in [load_config(name)]
    }


def _conditions() -> dict[str, str]:
    """With the properties that RDKit computes of molecules, where it is installed."""
    try:
        from studio.chem.properties import PROPERTIES
    except ImportError:
        return CONDITIONS
    return CONDITIONS | {
        name: f"of molecules: data.conditions=[{name}], then --set {name}=VALUE"
        for name in PROPERTIES
        if name != "atoms"
    }


KINDS: dict[str, Callable[[], Mapping[str, str]]] = {
    "configs": _configs,
    "backbones": lambda: backbones.REGISTRY,
    "samplers": lambda: samplers.REGISTRY,
    "guidance": lambda: guidance.REGISTRY,
    "data": lambda: REGISTRY,
    "paths": lambda: _parts("path"),
    "couplings": lambda: _parts("coupling"),
    "parameterisations": lambda: _parts("parameterization"),
    "conditions": _conditions,
}


def catalogue(kind: str, roots: Sequence[str]) -> dict[str, str]:
    """Names and one line about each. Raises ``ValueError`` for another kind."""
    kind = SPELLINGS.get(kind, kind)
    if kind == "models":
        return _models(roots)
    if kind not in KINDS:
        known = ["models", *KINDS]
        raise ValueError(f"got {kind!r}, expected one of {', '.join(known)}{suggest(kind, known)}")
    return dict(KINDS[kind]())
