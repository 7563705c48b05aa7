"""Counts by brute force, and the published tables against the published code."""

import numpy as np
import pytest
import torch

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from samplers.paths.graph_tables import Statistics
from studio.chem import graphs
from studio.chem.statistics import count, published
from studio.chem.toolkit import read_smiles


def test_three_molecules_by_hand() -> None:
    names = ("C", "N", "O")
    smiles = ("CCO", "C#N", "c1ccncc1")
    values = np.stack([graphs.encode(read_smiles(s), names, 7) for s in smiles])
    found = count(values, 3)
    pairs, atoms, sizes = (
        torch.zeros(3, 3, 5, dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
        torch.zeros(8, dtype=torch.float64),
    )
    for graph in values:
        n = int((graph[:, 0] > 0).sum())
        sizes[n] += 1
        for i in range(n):
            atoms[graph[i, 0] - 1] += 1
            for j in range(n):
                if i != j:
                    pairs[graph[i, 0] - 1, graph[j, 0] - 1, graph[i, j + 1]] += 1
    assert float(pairs.sum()) == 3 * 2 + 2 * 1 + 6 * 5
    torch.testing.assert_close(found.pairs, pairs / pairs.sum(), rtol=0, atol=1e-15)
    torch.testing.assert_close(found.atoms, atoms / atoms.sum(), rtol=0, atol=1e-15)
    torch.testing.assert_close(found.sizes, sizes / 3, rtol=0, atol=1e-15)
    torch.testing.assert_close(found.bonds, pairs.sum((0, 1)) / pairs.sum(), rtol=0, atol=1e-15)
    assert torch.equal(found.pairs, found.pairs.transpose(0, 1))
    assert found.atoms.tolist() == pytest.approx([8 / 11, 2 / 11, 1 / 11])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("C", "O")
    values = np.stack([graphs.encode(read_smiles("C" * k + "O"), names, 8) for k in range(1, 7)])
    whole = count(values, 2)
    monkeypatch.setattr("studio.chem.statistics.BLOCK", 2)
    assert torch.equal(count(values, 2).pairs, whole.pairs)


def test_the_published_tables(golden: object) -> None:
    tensors, notes = golden("graphdit_dataset_stats")  # type: ignore[operator]
    names = notes["active_atoms"]
    values = []
    for i, entry in enumerate(notes["encoding"]):
        graph = graphs.encode(read_smiles(entry["smiles"]), names, notes["max_node"], aromatic=True)
        if entry["smiles"] == "C1=CC=CC=C1":  # their graphs keep it as it is written, their statistics do not
            assert {b for _, _, b in entry["bonds"]} == {1, 2} and set(np.unique(graph[:, 1:])) == {0, 4}
        else:
            upper = np.triu(graph[:, 1:])
            assert sorted(b for _, _, b in entry["bonds"]) == sorted(upper[upper > 0].tolist())
        if i not in notes["test_index"]:
            values.append(graph)
    graphs_, true = np.stack(values), count(np.stack(values), len(names))
    bonds, sizes = published(graphs_, names)
    found = Statistics.of(true.atoms, true.pairs, bonds.tolist())
    same = {
        "atom_type_dist": found.atoms,
        "bond_type_dist": found.bonds,
        "n_atoms_per_mol_dist": torch.cat([sizes, torch.zeros(40, dtype=torch.float64)]),
        "transition_E_active": found.between,
        "xe_conditions": found.of_atom,
        "ex_conditions": found.of_bond,
    }
    for key, value in same.items():
        wanted = tensors[f"output.{key}"]
        torch.testing.assert_close(value.to(wanted.dtype), wanted, rtol=1e-6, atol=1e-7)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="got no molecules"):
        count(np.zeros((0, 3, 4), np.uint8), 2)
    with pytest.raises(ValueError, match="got atom type 2, expected 0 to 1"):
        count(np.full((1, 3, 4), 3, np.uint8), 2)
    alone = np.zeros((1, 3, 4), np.uint8)
    alone[0, 0, 0] = 1
    # atoms alone: nothing is bonded
    assert count(alone, 2).bonds.tolist() == [1, 0, 0, 0, 0] and count(alone, 2).pairs[0, 0, 0] == 1
