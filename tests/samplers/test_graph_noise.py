"""Noise on graphs: rows that sum to one, Chapman–Kolmogorov, Bayes by brute force on three atoms, and the
published form by its dense matrices."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones import NoiseSource
from samplers.paths.graph import GraphPath
from samplers.paths.graph_tables import Statistics, cosine_table
from samplers.spaces.packing import BONDS, draw, mask, pack, unpack

TYPES, ATOMS = 3, 3


def statistics() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    joint = torch.rand(TYPES, TYPES, BONDS, generator=g, dtype=torch.float64)
    joint = joint + joint.transpose(0, 1)
    joint[..., 0] *= 6
    joint[2, 2] = 0.0  # a pair that no molecule has
    atoms = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    return atoms, joint / joint.sum()


def path_of(mode: str, num: int = 20) -> GraphPath:
    atoms, joint = statistics()
    return GraphPath(
        mode=mode,
        num=num,
        atoms=tuple(atoms.tolist()),
        joint=tuple(tuple(map(tuple, rows)) for rows in joint.tolist()),
    )


def graphs(count: int, atoms: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random one-hot graphs (B, n, F), the last atom of every second one padding."""
    path = path_of("marginal")
    valid = torch.ones(count, atoms, dtype=torch.bool)
    valid[1::2, -1] = False
    return draw(path.prior(valid), NoiseSource(range(seed, seed + count)), valid, TYPES, stream="data"), valid


def test_the_published_schedule() -> None:
    table = cosine_table(500, exact=False)
    assert len(table) == 501
    for step, value in ((0, 0.9999), (50, 0.9712), (100, 0.8972), (250, 0.4923), (400, 0.0937), (500, 0.0)):
        assert float(table[step]) == pytest.approx(value, abs=6e-5)
    assert float(cosine_table(500)[0]) == 1


def test_statistics_of_a_small_table() -> None:
    joint = torch.zeros(2, 2, BONDS, dtype=torch.float64)
    joint[0, 0, :2], joint[0, 1, 0], joint[0, 1, 2] = torch.tensor([6.0, 2.0], dtype=torch.float64), 3.0, 1.0
    joint[1, 0] = joint[0, 1]
    s = Statistics.of([3.0, 1.0], joint)
    # never seen: no bond
    assert s.atoms.tolist() == [0.75, 0.25] and s.between[1, 1].tolist() == [1, 0, 0, 0, 0]
    assert s.bonds.tolist() == pytest.approx([12 / 16, 2 / 16, 2 / 16, 0, 0])
    # the mean over partners, not weighed by how often they occur
    assert s.of_atom[0].tolist() == pytest.approx([0.75, 0.125, 0.125, 0, 0])


@pytest.mark.parametrize("mode", ["marginal", "corrected", "reference"])
@pytest.mark.parametrize("t", [0.0, 0.35, 0.95, 1.0])
def test_noised_graphs_are_probabilities(mode: str, t: float) -> None:
    x, valid = graphs(4, 4)
    path = path_of(mode)
    atoms, bonds = unpack(path.noised(x, t, valid), TYPES)
    both = valid[:, :, None] & valid[:, None] & ~torch.eye(4, dtype=torch.bool)
    torch.testing.assert_close(atoms.sum(-1), valid.double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(bonds.sum(-1), both.double(), rtol=0, atol=1e-12)
    if mode != "reference":
        torch.testing.assert_close(bonds, bonds.transpose(1, 2), rtol=0, atol=1e-12)
    if t == 1.0 and mode != "reference":
        torch.testing.assert_close(path.noised(x, t, valid), x.double(), rtol=0, atol=1e-12)
    if t == 0.0 and mode != "reference":
        torch.testing.assert_close(path.noised(x, t, valid), path.prior(valid), rtol=0, atol=1e-3)


def step_matrix(path: GraphPath, k: int, between: Tensor) -> Tensor:
    """(5, 5) of one bond in one step of the corrected chain, from its definition."""
    keep = float(path.table[k] / path.table[k - 1])
    target = path.table[k] * between + (1 - path.table[k]) * path.statistics.bonds
    return keep * torch.eye(BONDS, dtype=torch.float64) + (1 - keep) * target.expand(BONDS, -1)


def test_the_product_of_steps_is_the_closed_form() -> None:
    """Chapman–Kolmogorov for a bond between each pair of types, at every step."""
    path = path_of("corrected")
    for a, b in itertools.product(range(TYPES), repeat=2):
        between = path.statistics.between[a, b]
        product = torch.eye(BONDS, dtype=torch.float64)
        for k in range(1, path.num + 1):
            matrix = step_matrix(path, k, between)
            torch.testing.assert_close(
                matrix.sum(1), torch.ones(BONDS, dtype=torch.float64), rtol=0, atol=1e-12
            )
            product = product @ matrix
            fallen = path.fallen(between[None, None, None], torch.tensor(k))[0, 0, 0]
            closed = path.table[k] * torch.eye(BONDS, dtype=torch.float64) + (1 - path.table[k]) * fallen
            torch.testing.assert_close(product, closed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["marginal", "corrected"])
@pytest.mark.parametrize("steps", [(12, 11), (12, 5), (1, 0), (20, 13)])
def test_the_posterior_is_bayes_by_brute_force(mode: str, steps: tuple[int, int]) -> None:
    """Three atoms: q(z_s | z_t, z_0) ∝ q(z_t | z_s, z_0) q(z_s | z_0), by multiplying out the chain's
    matrices, for atoms and for bonds."""
    path = path_of(mode)
    k, j = steps
    clean, valid = graphs(2, ATOMS, seed=3)
    valid[:] = True
    clean = draw(path.prior(valid), NoiseSource([7, 8]), valid, TYPES, stream="data")
    z = draw(path.noised(clean, 1 - k / path.num, valid), NoiseSource([1, 2]), valid, TYPES, stream="z")
    got, got_bonds = unpack(path.posterior(z, clean, 1 - k / path.num, 1 - j / path.num, valid), TYPES)
    (x0, e0), (xt, et) = unpack(clean, TYPES), unpack(z, TYPES)
    eye, marginal = torch.eye(TYPES, dtype=torch.float64), path.statistics.atoms
    for b in range(2):
        for i in range(ATOMS):
            early, late = eye.clone(), eye.clone()
            for step in range(1, k + 1):
                keep = float(path.table[step] / path.table[step - 1])
                matrix = keep * eye + (1 - keep) * marginal.expand(TYPES, -1)
                early, late = (early @ matrix, late) if step <= j else (early, late @ matrix)
            want = early[int(x0[b, i].argmax())] * late[:, int(xt[b, i].argmax())]
            torch.testing.assert_close(got[b, i], want / want.sum(), rtol=1e-9, atol=1e-12)
            for other in range(ATOMS):
                if other == i:
                    assert not bool(got_bonds[b, i, i].any())
                    continue
                between = path.statistics.between[int(x0[b, i].argmax()), int(x0[b, other].argmax())]
                between = path.statistics.bonds if mode == "marginal" else between
                early, late = (torch.eye(BONDS, dtype=torch.float64) for _ in range(2))
                for step in range(1, k + 1):
                    matrix = step_matrix(path, step, between)
                    early, late = (early @ matrix, late) if step <= j else (early, late @ matrix)
                want = early[int(e0[b, i, other].argmax())] * late[:, int(et[b, i, other].argmax())]
                torch.testing.assert_close(got_bonds[b, i, other], want / want.sum(), rtol=1e-9, atol=1e-12)


def test_the_posterior_of_uncertain_data_is_the_mean_of_posteriors() -> None:
    """Σ_c p(c) q(z_s | z_t, c), here of the atoms, by the sum itself."""
    path = path_of("corrected")
    clean, valid = graphs(1, ATOMS)
    hat = torch.rand(1, ATOMS, TYPES, dtype=torch.float64).softmax(-1)
    z = draw(path.noised(clean, 0.4, valid), NoiseSource([5]), valid, TYPES, stream="z")
    bonds = unpack(clean, TYPES)[1].double()
    got = unpack(path.posterior(z, pack(hat, bonds), 0.4, 0.55, valid), TYPES)[0]
    want = torch.zeros_like(got)
    for c in range(TYPES):
        known = F.one_hot(torch.full((1, ATOMS), c), TYPES).double()
        want = (
            want
            + hat[..., c : c + 1] * unpack(path.posterior(z, pack(known, bonds), 0.4, 0.55, valid), TYPES)[0]
        )
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def dense(path: GraphPath, n: int) -> Tensor:
    """The published U (F, F) for n atoms."""
    s = path.statistics
    top = torch.cat([s.atoms.expand(TYPES, -1), s.of_atom.repeat(1, n)], dim=1)
    return torch.cat([top, torch.cat([s.of_bond.repeat(n, 1), s.bonds.repeat(BONDS * n, n)], dim=1)], dim=0)


@pytest.mark.parametrize("steps", [(12, 11), (1, 0), (20, 19)])
def test_the_published_form_by_its_matrices(steps: tuple[int, int]) -> None:
    """Forward and reverse of `reference` against (F, F) matrices, on graphs whose rows are all real."""
    path, n, (k, j) = path_of("reference"), 4, steps
    u, eye = dense(path, n), torch.eye(TYPES + BONDS * n, dtype=torch.float64)
    assert float(u.sum(1).max()) > 1  # as published: rows do not sum to one
    valid = torch.ones(2, n, dtype=torch.bool)
    clean = draw(path.prior(valid), NoiseSource([1, 2]), valid, TYPES, stream="data")

    def bar(step: int) -> Tensor:
        return path.table[step] * eye + (1 - path.table[step]) * u

    def normal(p: Tensor) -> Tensor:
        atoms, bonds = unpack(p, TYPES)
        return mask(
            pack(atoms / atoms.sum(-1, keepdim=True), bonds / bonds.sum(-1, keepdim=True)), valid, TYPES
        )

    torch.testing.assert_close(
        path.noised(clean, 1 - k / path.num, valid), normal(clean.double() @ bar(k)), rtol=1e-9, atol=1e-12
    )
    z = draw(
        path.noised(clean, 1 - k / path.num, valid), NoiseSource([3, 4]), valid, TYPES, stream="z"
    ).double()
    hat = torch.rand(2, n, TYPES + BONDS * n, dtype=torch.float64)
    keep = path.table[k] / path.table[j]
    one = keep * eye + (1 - keep) * u
    raised = (z @ one.T)[:, :, None] * bar(j) / (z @ bar(k).T)[..., None]  # (B, n, F of the data, F)
    want = normal(torch.einsum("bnc,bncd->bnd", hat, raised))
    torch.testing.assert_close(
        path.posterior(z, hat, 1 - k / path.num, 1 - j / path.num, valid), want, rtol=1e-9, atol=1e-12
    )


def test_draws_follow_their_probabilities_and_are_symmetric() -> None:
    path, count = path_of("marginal"), 4000
    valid = torch.ones(count, 3, dtype=torch.bool)
    atoms, bonds = unpack(draw(path.prior(valid), NoiseSource(range(count)), valid, TYPES, stream="x"), TYPES)
    assert torch.equal(bonds, bonds.transpose(1, 2)) and not bool(bonds.diagonal(dim1=1, dim2=2).any())
    torch.testing.assert_close(atoms.double().mean((0, 1)), path.statistics.atoms, rtol=0, atol=0.02)
    torch.testing.assert_close(bonds[:, 0, 1].double().mean(0), path.statistics.bonds, rtol=0, atol=0.03)
    alone = draw(path.prior(valid[:1]), NoiseSource([17]), valid[:1], TYPES, stream="x")
    assert torch.equal(alone[0], pack(atoms, bonds)[17])


def test_forward_steps_reach_the_closed_form() -> None:
    """10,000 bonds drawn step by step through the chain, against q(z_k | z_0)."""
    path, count = path_of("corrected"), 10000
    valid = torch.ones(count, 2, dtype=torch.bool)
    clean = draw(path.prior(valid[:1]), NoiseSource([4]), valid[:1], TYPES, stream="data").expand(
        count, -1, -1
    )
    between = path.between(unpack(clean.double(), TYPES)[0])[0, 0, 1]
    state, g = (
        torch.full((count,), int(unpack(clean, TYPES)[1][0, 0, 1].argmax())),
        torch.Generator().manual_seed(0),
    )
    for k in range(1, 9):
        state = torch.multinomial(step_matrix(path, k, between)[state], 1, generator=g)[:, 0]
    want = unpack(path.noised(clean[:1], 1 - 8 / path.num, valid[:1]), TYPES)[1][0, 0, 1]
    torch.testing.assert_close(F.one_hot(state, BONDS).double().mean(0), want, rtol=0, atol=0.02)


def test_bad_input() -> None:
    atoms, joint = statistics()
    nested = tuple(tuple(map(tuple, rows)) for rows in joint.tolist())
    with pytest.raises(ValueError, match="noise mode 'exact'"):
        GraphPath(mode="exact", atoms=tuple(atoms.tolist()), joint=nested)
    with pytest.raises(ValueError, match="without statistics"):
        GraphPath()
    with pytest.raises(ValueError, match="shapes"):
        GraphPath(atoms=(0.5, 0.5), joint=nested)
    path = path_of("corrected")
    with pytest.raises(ValueError, match="1 to 20"):
        path.grid(21)
    assert path.grid(20) == pytest.approx([i / 20 for i in range(21)]) and path.grid(7)[-1] == 1.0
