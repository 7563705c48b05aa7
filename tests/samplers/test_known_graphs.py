"""Known atoms of graphs, with the bonds between them: drawn among the real ones, left out of the loss, given
back by the network, and a run that is given some follows the exact conditional law."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import samplers
import studio
from backbones import Cond, NoiseSource
from backbones.graph_dit import GraphDiT
from samplers import Batch, build_objective
from samplers.heads.graph import GraphPrediction
from samplers.known import REGISTRY, Known
from samplers.paths.graph import GraphPath
from samplers.spaces import build
from samplers.spaces.packing import BONDS, draw, mask, pack, unpack
from studio.data.arrays import Arrays, Data

TYPES, N = 2, 6
WIDTH = TYPES + BONDS * N
SIZES = torch.tensor([6, 4, 2, 1] * 10)
VALID = torch.arange(N)[None] < SIZES[:, None]


def graphs() -> Tensor:
    """(40, 6, F) random one-hot graphs of 6, 4, 2 and 1 atoms."""
    p = mask(pack(torch.ones(40, N, TYPES), torch.ones(40, N, N, BONDS)), VALID, TYPES)
    return draw(p, NoiseSource(range(40)), VALID, TYPES, stream="data")


@pytest.mark.parametrize("name", REGISTRY)
def test_padding_is_neither_counted_nor_known(name: str) -> None:
    """A molecule's mask is that of its own size; the padding may be anywhere."""
    noise, known = NoiseSource(range(40)), Known(name, (0,), free=0.0)
    drawn = known((N, WIDTH), noise, VALID)
    assert drawn.shape == (40, N, 1) and not (drawn[..., 0] & ~VALID).any()
    assert bool(drawn.any()) == (name != "nothing")
    assert (VALID & ~drawn[..., 0]).any(1).all() and not drawn[SIZES == 1].any()
    for row in range(3):
        n = int(SIZES[row])
        torch.testing.assert_close(
            known((n, WIDTH), noise.select(slice(row, row + 1)))[0], drawn[row, :n], rtol=0, atol=0
        )
    turned = known((N, WIDTH), noise, VALID.flip(1))
    assert torch.equal(turned[VALID.flip(1)], drawn[VALID])


def test_bonds_are_known_between_known_atoms() -> None:
    places = torch.tensor([[True, False, True, True, False, False]])[..., None]
    found = build("graph").known(places, torch.zeros(1, N, WIDTH))
    atoms, bonds = unpack(found, TYPES)
    assert torch.equal(atoms, places.expand(1, N, TYPES))
    assert torch.equal(bonds, (places & places.transpose(1, 2))[..., None].expand(1, N, N, BONDS))


def path_of(mode: str, **options: Any) -> GraphPath:
    even = [[[0.4, 0.3, 0.1, 0.1, 0.1]] * 2] * 2
    return GraphPath(mode=mode, num=20, atoms=(0.5, 0.5), joint=even, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["corrected", "marginal", "reference"])
def test_the_loss_is_over_the_rest(mode: str) -> None:
    """Known entries are seen clean and cost nothing; atoms and bonds are each divided by how many are left of
    them."""
    objective = build_objective(path=path_of(mode), known=Known("random", (0,), free=0.2))
    data, seen = graphs(), []
    logits = torch.randn(40, N, WIDTH, generator=torch.Generator().manual_seed(0))

    def net(x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        seen.append((x, cond.known))
        return torch.where(cond.known, 1e6 * torch.randn_like(x), logits)

    found = objective.loss(net, Batch(data), NoiseSource(range(40)))  # type: ignore[arg-type]
    x, known = seen[0]
    assert known.shape == data.shape and torch.equal(x[known], data[known]) and known.any(2).any(1).sum() > 9
    atoms, bonds = (v.log_softmax(-1) for v in unpack(logits, TYPES))
    want, want_bonds = unpack(data, TYPES)
    for i in range(8):
        n, there = int(SIZES[i]), unpack(known, TYPES)[0][i, :, 0]
        free = [a for a in range(n) if not there[a]]
        pairs = [(a, b) for a in range(n) for b in range(n) if a != b and (a in free or b in free)]
        of_atoms = sum(-(atoms[i, a] * want[i, a]).sum() for a in free) / len(free)
        of_bonds = sum(-(bonds[i, a, b] * want_bonds[i, a, b]).sum() for a, b in pairs) / max(len(pairs), 1)
        torch.testing.assert_close(found.per_sample[i], torch.as_tensor(of_atoms + 10 * of_bonds))


def network(**options: Any) -> GraphDiT:
    torch.manual_seed(0)
    net = GraphDiT(max_atoms=N, atom_types=TYPES, hidden_size=16, depth=1, num_heads=2, **options)
    for module in net.modules():
        if isinstance(module, nn.Linear) and module is not getattr(net, "known_embedder", None):
            nn.init.normal_(module.weight, std=0.3)
    return net


@pytest.mark.parametrize("options", [{}, {"absolute": False}, {"original": True}])
def test_the_network_is_told_and_says_what_it_was_given(options: dict[str, Any]) -> None:
    net, plain, x = network(known=True, **options), network(**options), graphs()
    assert net.state_dict().keys() - plain.state_dict().keys() == {"known_embedder.weight"}
    plain.load_state_dict(net.state_dict(), strict=False)
    t, cond = torch.full((40,), 5.0), Cond(valid=VALID)
    assert torch.equal(net(x, t, cond), plain(x, t, cond))
    places = torch.arange(N)[None, :, None].expand(40, N, 1) < 2
    known = build("graph").known(places & VALID[..., None], x)
    begun = net(x, t, Cond(valid=VALID, known=known))
    assert torch.equal(begun[~known], plain(x, t, cond)[~known])  # it begins as nothing
    nn.init.ones_(net.known_embedder.weight)  # type: ignore[union-attr]
    told = net(x, t, Cond(valid=VALID, known=known))
    assert not torch.equal(told[~known & (begun != 0)], begun[~known & (begun != 0)])
    p = samplers.spaces.packing.softmax(told, TYPES)
    real = mask(torch.ones_like(x), VALID, TYPES).bool() & known
    torch.testing.assert_close(p[real], x[real], rtol=0, atol=1e-12)


class Exact:
    """Two atoms of two types and a bond of two classes, p(a, b, bond) given: the marginals of p(graph | z_t,
    the known atom)."""

    space, starts, known_trained = "graph", "noise", True

    def __init__(self, path: GraphPath, law: Tensor):
        self.path, self.law = path, law
        places = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2))
        self.graphs = torch.zeros(8, 2, TYPES + 2 * BONDS)
        atoms, bonds = unpack(self.graphs, TYPES)
        for i, (a, b, k) in enumerate(places.tolist()):
            atoms[i, 0, a] = atoms[i, 1, b] = bonds[i, 0, 1, k] = bonds[i, 1, 0, k] = 1.0

    def predict(self, x: Tensor, t: Any, cond: Cond, ctx: Any = None) -> GraphPrediction:
        valid = torch.ones(8, 2, dtype=torch.bool)
        atoms, bonds = unpack(self.path.noised(self.graphs, t, valid), TYPES)
        clean, _ = unpack(self.graphs.double(), TYPES)
        z, e = unpack(x.double(), TYPES)
        assert cond.known is not None and cond.given is not None
        assert torch.equal(x[cond.known], cond.given[cond.known])
        first = torch.einsum("ga,ba->bg", clean[:, 0], z[:, 0])  # known: no noise on it
        rest = torch.einsum("ga,ba->bg", atoms[:, 1], z[:, 1]) * torch.einsum(
            "gk,bk->bg", bonds[:, 0, 1], e[:, 0, 1]
        )
        post = first * rest * self.law.flatten()
        mean = torch.einsum("bg,gif->bif", post / post.sum(1, keepdim=True), self.graphs.double())
        logits = mean.clamp_min(1e-30).log()
        real = torch.ones(len(x), 2, dtype=torch.bool)
        assert ctx is not None
        return GraphPrediction(
            space="logits", value=logits, x=x, t=t, path=self.path, valid=real, s=ctx.t_next
        )


@pytest.mark.parametrize("mode", ["corrected", "marginal"])
def test_a_run_follows_the_law_given_what_is_known(mode: str) -> None:
    """The first atom is given: it comes back, and the other atom and the bond have p(b, bond | a) within
    three standard errors of a thousand draws."""
    law = torch.tensor([[[0.30, 0.02], [0.03, 0.15]], [[0.05, 0.25], [0.10, 0.10]]], dtype=torch.float64)
    exact, count = Exact(path_of(mode), law), 1000
    valid, noise = torch.ones(count, 2, dtype=torch.bool), NoiseSource(range(count))
    given = exact.graphs[7].expand(count, -1, -1)  # the second type; its bond is not known
    known = build("graph").known(torch.tensor([True, False]).expand(count, 2)[..., None], given)
    x = draw(exact.path.prior(valid), noise, valid, TYPES, stream="prior")
    made = samplers.build("graph").sample(
        exact, x, Cond(valid=valid, known=known, given=given), noise, num_steps=20
    )
    assert torch.equal(made[known], given[known])
    wanted = (law[1] / law[1].sum()).flatten()
    found = torch.stack([(made == g).flatten(1).all(1).double().mean() for g in exact.graphs[4:]])
    assert ((found - wanted).abs() < 3 * (wanted * (1 - wanted) / count).sqrt() + 0.01).all()


def test_trained_and_asked(tmp_path: Any) -> None:
    """``train.known`` on molecules, from a config to samples around a piece."""
    values = np.zeros((40, 4, 5), np.uint8)
    for i, row in enumerate(values):
        n = 2 + i % 3
        row[:n, 0] = 1 + (np.arange(n) + i) % 2
        for k in range(n - 1):
            row[k, k + 2] = row[k + 1, k + 1] = 1
    codec = {"name": "graph", "atoms": ("C", "N"), "size": 4}
    data = Data("chains", "molecule", (4, 5), Arrays(values), None, (), codec, "chains")
    config = {
        "backbone": {"name": "graph_dit", "hidden_size": 16, "depth": 1, "num_heads": 2},
        "objective": {"path": {"name": "graph", "num": 10}},
        "train": {"known": ["prefix", "random"], "steps": 3, "batch_size": 8, "dtype": "fp32"}
        | {"eval_every": 0, "preview": False, "weak_snapshot": False},
        "sample": {"sampler": "graph", "num_steps": 3, "guidance": ""},
    }
    model = studio.train(config, data=data, out=tmp_path / "run", quiet=True).load()
    assert model.denoiser.known_trained and model.denoiser.net.known_embedder.weight.abs().max() > 0
    piece = torch.zeros(4, 5, dtype=torch.uint8)
    piece[0, 0], piece[1, 0], piece[0, 2], piece[1, 1] = 2, 2, 3, 3
    made = model.sample(seeds=range(6), init=piece, conditions={"atoms": 4}).values
    assert (made[:, :2, :3] == piece[:2, :3]).all() and (made[:, :, 0] > 0).all()
    assert len(model.sample(seeds=[0]).values) == 1
