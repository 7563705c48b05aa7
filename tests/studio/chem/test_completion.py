"""Known entries of a graph that is to be completed."""

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.chem import decode
from studio.chem.completion import part
from studio.chem.toolkit import canonical

ATOMS = ("C", "N", "O")


def test_a_scaffold_without_marks_may_grow_anywhere() -> None:
    graph, known = part("c1ccncc1", ATOMS, 9)
    assert canonical(decode.plain(graph, ATOMS)) == "c1ccncc1"
    assert known[:6, :7].all() and not known[6:].any() and not known[:, 7:].any()


def test_marks_close_all_other_atoms() -> None:
    graph, known = part("*c1ccncc1", ATOMS, 9)
    assert canonical(decode.plain(graph, ATOMS)) == "c1ccncc1"
    bonds = known[:, 1:]
    assert np.array_equal(bonds, bonds.T)
    growing = [i for i in range(6) if not bonds[i, 6:].any()]
    assert len(growing) == 1 and known[:6, 0].all() and not known[6:, 0].any()
    assert all(bonds[i].all() for i in range(6) if i not in growing) and not bonds[6:, 6:].any()
    # a ring carbon, not the nitrogen's neighbour's place
    assert int((graph[growing[0], 1:] > 0).sum()) == 2 and graph[growing[0], 0] == 1


@pytest.mark.parametrize("aromatic", [False, True])
def test_a_nitrogen_that_grows_has_no_hydrogen(aromatic: bool) -> None:
    names = (*ATOMS, "[nH]")
    free, _ = part("c1cc[nH]c1", names, 9, aromatic=aromatic)
    bound, known = part("c1ccn(*)c1", names, 9, aromatic=aromatic)
    place = int(np.flatnonzero(bound[:, 0] == 2)[0])
    assert not known[place, 6:].any() and known[:5, 0].all()
    assert ((free[:, 0] == 4).any(), (bound[:, 0] == 4).any()) == (aromatic, False)


def test_open_ends_are_atoms_where_the_model_has_them() -> None:
    graph, known = part("*CC*", (*ATOMS, "*"), 6)
    assert int((graph[:, 0] == 4).sum()) == 2 and known[:4, :5].all() and not known[:, 5:].any()


def test_refusals() -> None:
    for text, message in (
        ("CC.O", "in 2 pieces, expected one scaffold"),
        ("CCCCC", "5 atoms, expected at most 4"),
        ("CBr", "atom type Br"),
        ("**", "holds no atom"),
    ):
        with pytest.raises(ValueError, match=message):
            part(text, ATOMS, 4)
