"""Angles to atoms and back, and through PDB files."""

from pathlib import Path

import numpy as np
import pytest

from studio.recipes.protein import pdb
from studio.recipes.protein.backbones import bundled, filled
from studio.recipes.protein.placing import C_N, CA_C, N_CA, angles_of, place, real


def chains(count: int = 20) -> np.ndarray:
    """(count, 128, 6) real ones."""
    return filled(bundled()[0][:count], 128)


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """The greatest difference on the circle; NaN has to stand at the same places."""
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    return float(np.nanmax(np.abs(np.angle(np.exp(1j * (a.astype(np.float64) - b))))))


def test_placed_atoms_have_the_angles_and_bonds() -> None:
    angles = chains()
    atoms = place(angles)
    assert gap(angles, angles_of(atoms)) < 1e-9
    bonds = np.linalg.norm(np.diff(atoms.reshape(len(atoms), -1, 3), axis=1), axis=-1)
    for k, length in enumerate((N_CA, CA_C, C_N)):
        np.testing.assert_allclose(bonds[:, k::3][~np.isnan(bonds[:, k::3])], length, rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(atoms).any((2, 3)), ~real(angles))


def test_turns_of_the_whole_change_nothing_and_each_chain_stands_alone() -> None:
    angles = chains(3).astype(np.float64)
    turned = angles + 2 * np.pi * np.random.default_rng(0).integers(-2, 3, angles.shape)
    np.testing.assert_allclose(place(turned), place(angles), atol=1e-9)
    np.testing.assert_array_equal(place(angles)[1:2], place(angles[1:2]))


def test_a_dihedral_is_positive_where_the_far_bond_is_clockwise() -> None:
    """IUPAC's sign: seen from b to c, a lies at twelve o'clock, d at three."""
    chain = np.random.default_rng(0).standard_normal((2, 3, 3))
    chain[0] = [[1, 0, 0], [0, 0, 0], [0, 0, 1]]  # N, Cα, C: looking up, N lies along x
    chain[1, 0] = [0, 1, 1]  # the next N along y: counter-clockwise from above, clockwise from below
    assert angles_of(chain)[0, 1] == pytest.approx(np.pi / 2)


def test_a_helix_is_one() -> None:
    """Of Pauling's α-helix 3.6 residues are a turn of 5.4 Å, to the right."""
    angles = np.tile(np.deg2rad([-57.8, -47.0, 180, 111, 117, 122]), (1, 40, 1))
    ca = place(angles)[0, :, 1]
    far = ca[36] - ca[0]  # ten turns
    assert np.linalg.norm(far) == pytest.approx(54, abs=2.5)
    step = np.diff(ca, axis=0)
    assert np.einsum("ij,ij->i", np.cross(step[:-2], step[1:-1]), step[2:]).min() > 0  # right-handed


def test_files_hold_the_chain(tmp_path: Path) -> None:
    """Three digits of Å are 0.01 rad, or less; Cα of trans residues are 3.80 ± 0.06 Å apart."""
    for angles in chains(6):
        there = real(angles[None])[0]
        pdb.write(tmp_path / "x.pdb", place(angles[None])[0][there])
        (found,) = pdb.read(tmp_path / "x.pdb")
        assert gap(angles[there], angles_of(found)) < 0.01
        trans = np.abs(angles[there][:-1, 2]) > np.deg2rad(150)
        apart = np.linalg.norm(np.diff(found[:, 1], axis=0), axis=-1)[trans]
        assert abs(np.median(apart) - 3.80) < 0.06 and np.mean(np.abs(apart - 3.80) < 0.06) > 0.95
    lines = (tmp_path / "x.pdb").read_text().splitlines()
    assert {len(line) for line in lines if line.startswith("ATOM")} == {80}


def test_files_of_others_are_cut_where_residues_are_missing(tmp_path: Path) -> None:
    """Calcium is no Cα, the second place of an atom and the second model do not count."""
    angles = chains(1)[:, :12]
    lines = pdb.text(place(angles)[0]).splitlines()
    atoms = [line for line in lines if line.startswith("ATOM")]
    other = atoms[1][:16] + "B" + atoms[1][17:30] + "   9.000" + atoms[1][38:]
    calcium = "HETATM   99 CA    CA A 900       0.000   0.000   0.000  1.00  0.00          CA  "
    gone = [line for line in atoms if int(line[22:26]) != 5 or line[12:16].strip() != "CA"]
    model = ["MODEL        1", *gone[:2], other, *gone[2:], calcium, "ENDMDL", *atoms, "END"]
    (tmp_path / "x.pdb").write_text("\n".join(model))
    found = pdb.read(tmp_path / "x.pdb")
    assert [len(chain) for chain in found] == [4, 7]
    assert gap(angles_of(place(angles))[0, 5:12][1:-1], angles_of(found[1])[1:-1]) < 0.01
    (tmp_path / "x.pdb").write_text(atoms[0].replace(atoms[0][30:38], "   a.b  "))
    with pytest.raises(ValueError, match="cannot be read as a PDB file"):
        pdb.read(tmp_path / "x.pdb")
