"""SMILES → array → SMILES, both ways of writing rings; atom types; what cannot be held."""

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.chem import decode, graphs
from studio.chem.collect import collect
from studio.chem.toolkit import canonical, read_smiles

FILE = "data/molecules_moses_45k.csv.gz"
ODD = [
    "CCO",
    "c1ccc2[nH]ccc2c1",
    "C[N+](C)(C)C",
    "CC(=O)[O-]",
    "[O-][N+](=O)c1ccccc1",
    "*CC(*)C#N",
    "CS(=O)(=O)C",
    "c1cc[nH+]cc1",
    "[C-]#[N+]C",
    "C1=CC=CC=C1",
    "O=c1[nH]cnc2[nH]cnc12",
    "CP(=O)(O)O",
    "C[Si](C)(C)C",
    "FB(F)F",
    "c1ccsc1",
    "N",
    "OC(=O)C(F)(F)F",
    "*c1ccc(*)cc1",
    "C[S+](C)C",
    "[nH]1cccc1",
    "[se]1cccc1",
]


@pytest.mark.parametrize("aromatic", [False, True])
def test_moses_comes_back(aromatic: bool, root: str) -> None:
    """No row is lost, and each array gives the row's molecule."""
    found = collect(f"{root}/{FILE}", limit=200, aromatic=aromatic, cache=False)
    assert len(found) == 200 and not found.rejected
    assert [canonical(decode.plain(g, found.atoms)) for g in found.graphs] == list(found.smiles)
    bonds = found.graphs[:, :, 1:]
    assert (
        np.array_equal(bonds, bonds.transpose(0, 2, 1))
        and not bonds[:, range(bonds.shape[1]), range(bonds.shape[1])].any()
    )
    padding = found.graphs[..., 0] == 0
    assert not bonds[padding].any() and (np.diff(padding.astype(int), axis=1) >= 0).all()
    assert bool((bonds == 4).any()) == aromatic


@pytest.mark.parametrize("aromatic", [False, True])
@pytest.mark.parametrize("text", ODD)
def test_odd_molecules_come_back(text: str, aromatic: bool) -> None:
    mol = read_smiles(text)
    names = graphs.vocabulary(graphs.types_of(graphs.prepared(mol, aromatic=aromatic)[0]))
    graph = graphs.encode(mol, names, 20, aromatic=aromatic)
    assert canonical(decode.plain(graph, names)) == canonical(mol)
    again = graphs.encode(decode.plain(graph, names), names, 20, aromatic=aromatic)
    assert np.array_equal(again, graph)  # the order is the molecule's own


def test_the_order_does_not_depend_on_how_it_is_written() -> None:
    names = ("C", "N", "O")
    a, b = (graphs.encode(read_smiles(s), names, 12) for s in ("OCCc1ccccn1", "n1ccccc1CCO"))
    assert np.array_equal(a, b)


def test_what_a_graph_does_not_hold_is_taken_off() -> None:
    for text, bare in (
        ("[2H]O[13CH3]", "CO"),
        ("[CH3:1][OH:2]", "CO"),
        ("[1*]C[2*]", "*C*"),
        ("C/C=C/[C@H](N)O", "CC=CC(N)O"),
    ):
        mol, smiles = graphs.prepared(read_smiles(text))
        assert smiles == bare and mol.GetNumAtoms() == read_smiles(bare).GetNumAtoms()


def test_atom_types() -> None:
    mol = read_smiles("[O-][N+](=O)c1c[nH]c(*)c1Cl.[Mg+2]")
    types = [graphs.atom_type(a) for a in mol.GetAtoms()]
    assert graphs.vocabulary(types) == ("C", "O", "Cl", "[nH]", "[N+]", "[O-]", "[Mg+2]", "*")
    assert [graphs.parse_type(t) for t in ("Cl", "*", "[N+]", "[O-]", "[Mg+2]", "[nH]")] == [
        (17, 0, 0),
        (0, 0, 0),
        (7, 1, 0),
        (8, -1, 0),
        (12, 2, 0),
        (7, 0, 1),
    ]
    for wrong in ("Xx", "N+", "[N]", "[N+", "", "c"):
        with pytest.raises(ValueError, match="expected a symbol, a charge in brackets or"):
            graphs.parse_type(wrong)


def test_what_does_not_fit_is_named() -> None:
    for text, message in (
        ("CCCCCC", "got a molecule of 6 atoms, expected at most 5"),
        ("CCBr", "got the atom type Br, expected one of C, O"),
        ("C(", "which is no valid SMILES"),
        ("", "got no SMILES"),
        ("C" * 10000, "got a SMILES of 10,000 characters, expected at most 2,000"),
        ("[H][H]", "hydrogen as an atom of its own"),
    ):
        with pytest.raises(ValueError, match=message):
            graphs.encode(read_smiles(text), ("C", "O"), 5)
    assert graphs.encode(read_smiles("CCO"), ("C", "O"), 5)[:, 0].tolist() == [1, 1, 2, 0, 0]
