"""A model is a dict of named networks. Its procedure names them, says what each is and how they are asked
together; nothing else knows the names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

import backbones
from backbones.plugins import Registry
from backbones.registry import build
from samplers.denoiser import Denoiser
from samplers.objective import Objective
from studio.config import Config

PROCEDURES = Registry(
    "procedures", {"plain": "studio.training.procedure:Plain", "dsbm": "studio.training.dsbm:DSBM"}
)
CUSTOM = "custom"  # in a config: an object of Python that is passed again wherever it is needed


@dataclass(frozen=True)
class NetworkSpec:
    """What a named network is. ``backbone``: a config's section, or a function that makes the module.
    ``frozen``: nothing trains it, it is always in eval mode (a phase's ``begin`` may change its weights).
    ``average``: whether averages of its weights are kept."""

    backbone: Mapping[str, Any] | Callable[[], nn.Module]
    frozen: bool = False
    average: bool = True


class Named(Protocol):
    """What building and loading ask of a procedure. ``denoiser``: how its networks are asked, of which
    network, path and parameterisation count; precision and start are the model's."""

    def networks(self, config: Config) -> Mapping[str, NetworkSpec]: ...
    def denoiser(self, nets: Mapping[str, nn.Module], objective: Objective) -> Denoiser: ...


def procedure_of(config: Config, own: Any = None) -> Any:
    """The procedure of a config, plain by default; ``own``: the object where the config says ``custom``.
    Raises ``ValueError`` without one."""
    options = dict(config.procedure)
    name = options.pop("name", "plain")
    if name != CUSTOM:
        return build(PROCEDURES, name, "procedure", options)
    if own is None:
        raise ValueError(
            "this model was trained by a procedure of your own; pass it again in Python: procedure=OBJECT"
        )
    return own


def build_networks(config: Config, procedure: Named, own: nn.Module | None = None) -> dict[str, nn.Module]:
    """Freshly initialised networks; the same seed gives the same weights and the global generator is left
    alone. ``own``: the module in place of the config's backbone, or a module dict of several."""
    specs = procedure.networks(config)
    custom = [name for name, spec in specs.items() if spec.backbone == config.backbone]
    given: Mapping[str, nn.Module] = {}
    if own is not None and len(custom) == 1:
        given = {custom[0]: own}
    elif own is not None:
        given = dict(own.items()) if isinstance(own, nn.ModuleDict) else {}
        if given.keys() != set(custom):
            raise ValueError(
                f"got a network of your own for a procedure that trains {', '.join(custom) or 'others'}, "
                "expected a torch.nn.ModuleDict of them by name"
            )
    missing = next((n for n, spec in specs.items() if is_custom(spec) and n not in given), None)
    if missing is not None:
        raise ValueError(f"{missing} is a network of your own; pass it in Python: backbone=NET")
    built = build_specs({name: spec for name, spec in specs.items() if name not in given}, config.seed)
    return {name: given[name] if name in given else built[name] for name in specs}


def build_specs(specs: Mapping[str, NetworkSpec], seed: int) -> dict[str, nn.Module]:
    """One module after the other, from one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: _built(spec) for name, spec in specs.items()}


def is_custom(spec: NetworkSpec) -> bool:
    return isinstance(spec.backbone, Mapping) and spec.backbone.get("name") == CUSTOM


def _built(spec: NetworkSpec) -> nn.Module:
    if not isinstance(spec.backbone, Mapping):
        return spec.backbone()
    options = dict(spec.backbone)
    return backbones.build(options.pop("name"), **options)


def together(networks: Mapping[str, nn.Module]) -> nn.Module:
    """All networks of a model as one module: the only one itself where it is called ``net``, else a module
    dict."""
    return networks["net"] if list(networks) == ["net"] else nn.ModuleDict(dict(networks))


def apart(net: nn.Module, procedure: Named, config: Config) -> dict[str, nn.Module]:
    """The networks that `together` put together."""
    names = list(procedure.networks(config))
    return {"net": net} if names == ["net"] else {name: net.get_submodule(name) for name in names}
