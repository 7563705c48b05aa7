"""What `studio list` tells: names, one line about each, and the package of what a plug-in brings."""

from collections.abc import Callable, Mapping, Sequence

from backbones.plugins import PREFIX, Registry, imported, installed
from backbones.registry import suggest
from samplers.names import PARTS
from studio.checkpoints.find import list_models
from studio.config import load_config, shipped
from studio.model.catalog import name_of

CONDITIONS = {
    "label": "a class, by name or number: --labels, or --set label=NAME; −1 or none leaves it open",
    "NAME": "a number the model was trained with, in its own units: --set NAME=VALUE (studio info MODEL "
    "names them); none leaves it open. Of other kinds the value is a name, a text, a list [1, 2], or @FILE",
    "init": "a picture to start from (--init with --strength), or the piece of a molecule that stays",
    "mask": "what of that picture may change: white (--mask)",
    "source": "the picture that a bridge starts from: studio translate",
    "atoms": "of molecules: how many atoms (--set atoms=N)",
}
SPELLINGS = {
    "parameterizations": "parameterisations",
    "datasets": "data",
    "rules": "guidance",
    "plug-ins": "plugins",
}
OPEN = {  # to plug-ins, by the names of their entry points
    "backbones": "backbones:REGISTRY",
    "samplers": "samplers:REGISTRY",
    "rules": "guidance:REGISTRY",
    "data": "studio.data:REGISTRY",
    "paths": "samplers.paths:EVERY",
    "couplings": "samplers.couplings.coupling:REGISTRY",
    "times": "samplers.times:REGISTRY",
    "spaces": "samplers.spaces:REGISTRY",
    "tasks": "studio.tasks:REGISTRY",
    "codecs": "studio.codecs.codec:REGISTRY",
    "procedures": "studio.training.procedure:REGISTRY",
    "kinds": "studio.data.conditions:KINDS",
    "encoders": "backbones.encoders:REGISTRY",
    "measures": "studio.evaluation.measures:MEASURES",
}


def registry(group: str) -> Registry:
    """One that is open, by the name of its entry points."""
    found: Registry = imported(OPEN[group])
    return found


def _parts(kind: str) -> dict[str, str]:
    told = {}
    for name, (text, known) in PARTS[kind].items():
        told[name] = text + (f"; also {', '.join(known)}" if known else "")
    return told


def _brought(known: Registry) -> dict[str, str]:
    """What plug-ins add to a registry, and what of them is left out."""
    told: dict[str, str] = {}
    for offer in known.offers():
        key = f"{offer.name} ({offer.package})" if offer.fault else offer.name
        told[key] = f"left out: {offer.fault}" if offer.fault else f"{offer.target}, of {offer.package}"
    return told


def _plugins() -> dict[str, str]:
    """Every line of every plug-in that is installed."""
    told = {}
    for offer in installed():
        said = f"of {offer.package}"
        if offer.group not in OPEN:
            close = suggest(offer.group, OPEN)
            said = f"left out: there is no {PREFIX}{offer.group}, {said}{close}"
        elif next(o for o in registry(offer.group).offers() if o is offer).fault:
            said = f"left out: {offer.fault}, {said}"
        told[f"{offer.group}: {offer.name}"] = said
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
    "backbones": lambda: registry("backbones").own,
    "samplers": lambda: registry("samplers").own,
    "guidance": lambda: registry("rules").own,
    "data": lambda: registry("data").own,
    "paths": lambda: _parts("path"),
    "couplings": lambda: _parts("coupling"),
    "parameterisations": lambda: _parts("parameterization"),
    "times": lambda: registry("times").own,
    "spaces": lambda: registry("spaces").own,
    "tasks": lambda: registry("tasks").own,
    "codecs": lambda: registry("codecs").own,
    "procedures": lambda: registry("procedures").own,
    "conditions": _conditions,
    "kinds": lambda: registry("kinds").own,
    "encoders": lambda: registry("encoders").own,
    "measures": lambda: registry("measures").own,
    "plugins": _plugins,
}


def catalogue(kind: str, roots: Sequence[str]) -> dict[str, str]:
    """Names and one line about each. Raises ``ValueError`` for another kind."""
    kind = SPELLINGS.get(kind, kind)
    if kind == "models":
        return _models(roots)
    if kind not in KINDS:
        known = ["models", *KINDS]
        raise ValueError(f"got {kind!r}, expected one of {', '.join(known)}{suggest(kind, known)}")
    group = "rules" if kind == "guidance" else kind
    return {**KINDS[kind](), **(_brought(registry(group)) if group in OPEN else {})}
