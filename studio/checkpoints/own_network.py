"""Models whose network is a module of a user's own: no command can load them, so what is told of them is a
line of Python."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import backbones
from backbones.registry import described
from studio.checkpoints import checkpoint
from studio.checkpoints.find import locate
from studio.config import load_config

UNKNOWN = "MyNet"  # of runs that did not record what its class is called


def checked(backbone: Any) -> nn.Module:
    """A module, as it was given. Raises ``ValueError`` for a class of one, and for anything else."""
    if isinstance(backbone, nn.Module):
        return backbone
    if isinstance(backbone, type):
        raise ValueError(
            f"got the class {backbone.__name__} as the backbone, expected a module; try "
            f"backbone={backbone.__name__}()"
        )
    raise ValueError(
        f"got {type(backbone).__name__} as the backbone, expected a torch module net(x, t, cond, ctx)"
    )


def twin(backbone: Any) -> nn.Module:
    """A module of its own to load weights into: the caller's stays as it is, and two models never share
    one."""
    return copy.deepcopy(checked(backbone))


def section(backbone: nn.Module) -> tuple[dict[str, Any], str]:
    """The ``backbone`` section of a run that trains this module: that of a registry's class whose options are
    attributes of the module, so that any command can build it again; otherwise ``custom``, and of such a
    class the reason."""
    spec, why = described(backbones.REGISTRY, backbone)
    if spec is not None:
        name = spec["name"]
        with torch.random.fork_rng(devices=[]):
            again = backbones.build(**spec)
        if _shapes(again) == _shapes(backbone):
            return spec, ""
        why = f"{type(backbone).__name__} was changed after it was made, so that {name} is another network"
    return {"name": "custom"}, why


def _shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in net.state_dict().items()}


def called(folder: Path) -> str:
    """What the class of a model's own network is called; empty where its config says how it is built."""
    if load_config(folder / "config.yaml").backbone.get("name") != "custom":
        return ""
    return str(checkpoint.read_meta(folder).get("network") or UNKNOWN)


def called_here(model: str) -> str:
    """The same of a model by name; empty where it is not here. Nothing is fetched."""
    try:
        return "" if model.startswith("hf:") else called(locate(model)[0])
    except (ValueError, OSError):
        return ""


def loaded(model: str, network: str = "", *, procedure: str = "", task: str = "", **options: Any) -> str:
    """``studio.load('RUN', backbone=Net())``."""
    own = {"backbone": network, "procedure": procedure, "task": task}
    given = "".join(f", {name}={called}()" for name, called in own.items() if called)
    return f"studio.load({model!r}{given}{options_text(options)})"


def card_line(model: str, network: str, *, translates: bool) -> str:
    """What uses a model, in Python."""
    made = "translate(['picture.png'])" if translates else "sample(seeds=range(8))"
    return f"{loaded(model, network)}.{made}.save('pictures')"


def options_text(options: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
