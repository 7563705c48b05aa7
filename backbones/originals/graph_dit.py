"""Weights of the original Graph DiT."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from backbones.graph_dit import BONDS, GraphDiT
from backbones.originals.dit import load

RENAMED = (
    ("encoders.", "blocks."),
    ("out_layer.xedecoder.", "xedecoder."),
    ("out_layer.adaLN_modulation.", "last_modulation."),
    ("y_embedding_list.", "y_embedding_list.encoders."),
)
_ARGUMENTS = {
    "max_n_nodes",
    "hidden_size",
    "depth",
    "num_heads",
    "mlp_ratio",
    "drop_condition",
    "Xdim",
    "Edim",
    "ydim",
    "task_type",
}


def graph_dit_from_original(
    state_dict: Mapping[str, Tensor], config: Mapping[str, Any], compat: bool = True
) -> GraphDiT:
    """Original constructor arguments and state-dict (a Lightning checkpoint's prefix ``model.`` and its noise
    table are fine) to our module in eval mode.

    Called as ``net(x, t, Cond(numeric=y, valid=mask))`` with t = step/T in [0, 1]. ``compat``: one missing
    number drops all conditions of a sample, as there; otherwise only its own group. Raises ``ValueError`` for
    arguments that are unknown and weights that do not fit.
    """
    unknown, needed = set(config) - _ARGUMENTS, {"max_n_nodes", "Xdim", "ydim"} - set(config)
    if unknown or needed:
        raise ValueError(
            f"got the Graph DiT arguments {sorted(config)}, expected max_n_nodes, Xdim, ydim and some of "
            f"{sorted(_ARGUMENTS)}"
        )
    if config.get("Edim", BONDS) != BONDS:
        raise ValueError(f"got Edim={config['Edim']}, expected {BONDS} bond classes")
    kind, count = config.get("task_type", "regression"), int(config["ydim"])
    groups: list[dict[str, Any]] = [{"kind": "clusters", "columns": (0, 1)}]
    groups += [
        {"kind": "clusters" if kind == "regression" else "classes", "columns": (i,)} for i in range(2, count)
    ]
    net = GraphDiT(
        max_atoms=config["max_n_nodes"],
        atom_types=config["Xdim"],
        hidden_size=config.get("hidden_size", 384),
        depth=config.get("depth", 12),
        num_heads=config.get("num_heads", 16),
        mlp_ratio=config.get("mlp_ratio", 4.0),
        groups=groups,
        together=compat,
        original=True,
    )
    return load(net, graph_state(state_dict), f"Graph DiT {dict(config)}")


def graph_state(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The original's weights under our names, without its noise table."""
    state = {}
    for key, value in state_dict.items():
        name = key.removeprefix("model.")
        if name.startswith("noise_schedule."):
            continue
        for theirs, ours in RENAMED:
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
        state[name] = value
    return state
