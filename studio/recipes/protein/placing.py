"""Six angles a residue ↔ the places of its atoms N, Cα and C.

    φ = C₋₁ N Cα C    ψ = N Cα C N₊₁    ω = Cα C N₊₁ Cα₊₁    (dihedrals)
    N Cα C            Cα C N₊₁          C N₊₁ Cα₊₁           (angles between bonds)

One atom after the other is put at its bond's length from the last, at an angle to the two before and a
dihedral to the three before: the natural extension reference frame (NeRF, Parsons et al. 2005, J. Comput.
Chem. 26). Bonds have the mean lengths of Engh and Huber (1991). Lengths in Å, angles in radians; φ of the
first residue and ψ, ω and the two angles towards the next of the last one do not exist, and are NaN.
"""

import numpy as np

NAMES = ("phi", "psi", "omega", "tau_N_CA_C", "CA_C_N", "C_N_CA")
FIRST, LAST = (0,), (1, 2, 4, 5)  # of NAMES: what the first and the last residue do not have
N_CA, CA_C, C_N = 1.458, 1.525, 1.329


def place(angles: np.ndarray) -> np.ndarray:
    """(N, n, 6) angles to (N, n, 3, 3): of each residue the atoms N, Cα, C, and their x, y, z. The first N
    lies at 0, its Cα on the x axis, its C in the plane of x and y. NaN on padding."""
    phi, psi, omega, tau, at_c, at_n = np.moveaxis(angles.astype(np.float64), -1, 0)  # (N, n) each
    made = np.full((*angles.shape[:2], 3, 3), np.nan)
    made[:, 0, 0] = 0
    made[:, 0, 1] = [N_CA, 0, 0]
    made[:, 0, 2] = np.stack(
        [N_CA - CA_C * np.cos(tau[:, 0]), CA_C * np.sin(tau[:, 0]), np.zeros(len(tau))], -1
    )
    n, ca, c = (made[:, 0, k] for k in range(3))
    for i in range(1, angles.shape[1]):
        nitrogen = _next(n, ca, c, C_N, at_c[:, i - 1], psi[:, i - 1])
        alpha = _next(ca, c, nitrogen, N_CA, at_n[:, i - 1], omega[:, i - 1])
        carbon = _next(c, nitrogen, alpha, CA_C, tau[:, i], phi[:, i])
        n, ca, c = nitrogen, alpha, carbon
        made[:, i] = np.stack([n, ca, c], 1)
    return made


def _next(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, length: float, angle: np.ndarray, dihedral: np.ndarray
) -> np.ndarray:
    """(N, 3) the atom after c, at ``angle`` b c · and ``dihedral`` a b c ·."""
    along = _unit(c - b)
    normal = _unit(np.cross(b - a, along))
    across = np.cross(normal, along)
    sine = np.sin(angle)[:, None]
    turned = np.cos(dihedral)[:, None] * across + np.sin(dihedral)[:, None] * normal
    return np.asarray(c + length * (sine * turned - np.cos(angle)[:, None] * along))


def angles_of(atoms: np.ndarray) -> np.ndarray:
    """(..., n, 3, 3) places of N, Cα and C to (..., n, 6) angles, NaN where one does not exist."""
    n, ca, c = (atoms[..., k, :].astype(np.float64) for k in range(3))
    made = np.full((*atoms.shape[:-2], len(NAMES)), np.nan)
    before, after = (..., slice(None, -1), slice(None)), (..., slice(1, None), slice(None))
    made[..., 1:, 0] = _dihedral(c[before], n[after], ca[after], c[after])
    made[..., :-1, 1] = _dihedral(n[before], ca[before], c[before], n[after])
    made[..., :-1, 2] = _dihedral(ca[before], c[before], n[after], ca[after])
    made[..., 3] = _angle(n, ca, c)
    made[..., :-1, 4] = _angle(ca[before], c[before], n[after])
    made[..., :-1, 5] = _angle(c[before], n[after], ca[after])
    return made


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Between the bonds from b to a and to c."""
    first, second = _unit(a - b), _unit(c - b)
    crossed = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.arctan2(crossed, (first * second).sum(-1)))


def _dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """How far the bond from c to d is turned about that from b to c, seen along it: positive clockwise."""
    along = _unit(c - b)
    first, second = np.cross(b - a, along), np.cross(along, d - c)
    return np.asarray(np.arctan2((np.cross(first, second) * along).sum(-1), (first * second).sum(-1)))


def _unit(v: np.ndarray) -> np.ndarray:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


def real(angles: np.ndarray) -> np.ndarray:
    """(N, n) which residues are there: the angle N Cα C is defined in all of them."""
    return ~np.isnan(angles[..., 3])


def radius(atoms: np.ndarray) -> np.ndarray:
    """(N,) radii of gyration of the Cα of (N, n, 3, 3), in Å."""
    ca = atoms[:, :, 1]
    centre = np.nanmean(ca, 1, keepdims=True)
    return np.asarray(np.sqrt(np.nanmean(np.square(ca - centre).sum(-1), 1)))


def distances(atoms: np.ndarray) -> np.ndarray:
    """(n, n) between the Cα of one chain (n, 3, 3), in Å."""
    ca = atoms[:, 1]
    return np.asarray(np.linalg.norm(ca[:, None] - ca[None], axis=-1))
