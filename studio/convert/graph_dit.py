"""The family ``graph_dit``: checkpoints in the layout of the original Graph DiT (Liu et al. 2401.13858)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.originals.graph_dit import graph_state
from samplers.spaces.packing import BONDS
from studio.checkpoints.build import Info
from studio.convert.checkpoint import Weights, read_state
from studio.convert.convert import Imported


def read(
    path: str,
    vae: Any,
    /,
    *,
    data: str,
    smiles: str | None = None,
    conditions: str = "SA,SC",
    aromatic: bool = True,
    atoms: str | None = None,
    weights: Weights = "auto",
) -> Imported:
    """A Lightning checkpoint or a bare state-dict. The weights tell sizes and kinds of conditions, but
    neither atom types nor the noise's statistics: ``data`` is the file of molecules that the model was
    trained on, ``conditions`` its columns in the model's order, ``atoms`` the types where they are not all of
    the file's.

    The noise is the published one, conditions are as they stand in the file. The original took its statistics
    from sanitised molecules and its graphs from others; here both are the file's, with aromatic bonds or
    (aromatic=false) without. Raises ``ValueError`` for weights that do not go with the file.
    """
    from studio.chem.statistics import count, published
    from studio.data.molecules import molecules

    if vae is not None:
        raise ValueError("got a VAE for a model of graphs, which has none; leave --vae out")
    names, kinds = (
        tuple(c.strip() for c in conditions.split(",")),
        None if atoms is None else tuple(a.strip() for a in atoms.split(",")),
    )
    held = read_state(path, weights, "graph_dit")
    state = graph_state({k: v for k, v in held.tensors.items() if not k.startswith("noise_schedule.")})
    backbone, groups = _shapes(state), _groups(state)
    needed = 1 + max(max(g["columns"]) for g in groups)
    if len(names) != needed:
        raise ValueError(
            f"got {len(names)} conditions ({', '.join(names)}), the weights take {needed}; set "
            "conditions=A,B,... in the model's order"
        )
    row = state["x_embedder.weight"].shape[1]
    probe = molecules(
        path=data, smiles=smiles, conditions=names, aromatic=aromatic, atoms=kinds, max_atoms=row // BONDS
    )
    types = len(probe.codec["atoms"])
    if (row - types) % BONDS or (row - types) // BONDS < probe.shape[0]:
        raise ValueError(
            f"a token of the weights has {row} numbers, which is not {types} atom types "
            f"({', '.join(probe.codec['atoms'])}) and {BONDS} bond classes for each of at "
            f"least {probe.shape[0]} atoms; give the model's own file, or its atoms=C,N,..."
        )
    size = (row - types) // BONDS
    found = molecules(
        path=data,
        smiles=smiles,
        conditions=names,
        aromatic=aromatic,
        atoms=tuple(probe.codec["atoms"]),
        max_atoms=size,
        size=size,
    )
    statistics, (bonds, sizes) = (
        count(found.train.values, types),
        published(found.train.values, probe.codec["atoms"]),
    )
    path_spec = {
        "name": "graph",
        "mode": "reference",
        "num": 500,
        "time_scale": 1.0,
        "atoms": statistics.atoms.tolist(),
        "joint": statistics.pairs.tolist(),
        "bonds": bonds.tolist(),
    }
    # the original draws numbers of atoms without regard to the conditions
    codec = {**found.codec, "counts": sizes.tolist(), "joint": None}
    zeros, ones = (0.0,) * len(names), (1.0,) * len(names)
    return Imported(
        name=Path(path).stem,
        tensors=state,
        backbone={
            "name": "graph_dit",
            "original": True,
            "together": True,
            "max_atoms": size,
            "atom_types": types,
            "groups": groups,
            **backbone,
        },
        objective={"path": path_spec, "cond_drop": 0.01},
        sample={"sampler": "graph", "num_steps": 500, "guidance": "cfg=2.0"},
        info=Info("molecule", (size, size + 1), (), codec, found.name, found.hash, names, zeros, ones),
        meta={"weights": held.part},
        read_as="; ".join(
            [f"the published noise of graphs in 500 steps, its statistics counted in {data}", *held.notes]
        ),
    )


def _shapes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Width, depth, heads and ratio. Raises ``ValueError`` naming what is missing."""
    for key in (
        "x_embedder.weight",
        "blocks.0.attn.q_norm.weight",
        "blocks.0.mlp.fc1.weight",
        "xedecoder.fc2.weight",
        "y_embedding_list.encoders.0.mlp.0.weight",
    ):
        if key not in state:
            raise ValueError(
                f"the weights lack {key.replace('blocks.', 'encoders.')}, expected a Graph DiT in its "
                "original layout"
            )
    width = state["x_embedder.weight"].shape[0]
    return {
        "hidden_size": width,
        "depth": len({k.split(".")[1] for k in state if k.startswith("blocks.")}),
        "num_heads": width // len(state["blocks.0.attn.q_norm.weight"]),
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
    }


def _groups(state: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """The condition encoders in their order: clusters of one or several numbers, or a table of classes."""
    groups: list[dict[str, Any]] = []
    column = 0
    for k in range(
        len({name.split(".")[2] for name in state if name.startswith("y_embedding_list.encoders.")})
    ):
        table = state.get(f"y_embedding_list.encoders.{k}.embedding_table.weight")
        wide = 1 if table is not None else state[f"y_embedding_list.encoders.{k}.mlp.0.weight"].shape[1]
        columns = list(range(column, column + wide))
        groups.append(
            {"kind": "clusters", "columns": columns}
            if table is None
            else {"kind": "classes", "columns": columns, "count": len(table) - 1}
        )
        column += wide
    return groups
