"""Sets that are seen along places: waves and their products, and conditions that a run encodes once."""

import torch

from backbones.encoders import conditioned
from backbones.mlp import MLPBackbone
from backbones.row_encoders import SetEncoder
from backbones.types import Cond, RunContext

G = torch.Generator().manual_seed(0)
FIELD = {"name": "s", "encoder": "set", "features": 2, "width": 8, "waves": 3, "along": [0]}


def test_waves_are_of_the_places_and_their_products_linear_in_what_was_seen() -> None:
    net = SetEncoder(3, 16, width=8, waves=4, along=(1,))
    rows = torch.randn(5, 6, 3, generator=G)
    seen = net.waved(rows)
    assert seen.shape[-1] == net.first.in_features == 3 + 8 + 2 * 9
    assert torch.equal(seen[..., :3], rows)
    turn = rows.clone()
    turn[..., 1] += 2 * torch.pi / net.frequencies[0]
    assert torch.allclose(net.waved(turn)[..., 3], seen[..., 3], atol=1e-5)
    twice = rows * torch.tensor([2.0, 1.0, 2.0])
    assert torch.allclose(net.waved(twice)[..., 11:], 2 * seen[..., 11:], atol=1e-5)
    plain = SetEncoder(3, 16)
    assert plain.waved(rows) is rows and plain.row[1].in_features == 16


def test_order_and_absent_rows_change_nothing() -> None:
    net = SetEncoder(2, 16, width=8, waves=3, along=(0,), sums=True).eval()
    rows = torch.randn(4, 5, 2, generator=G)
    more = torch.cat([rows, torch.full((4, 3, 2), torch.nan)], 1)[:, torch.randperm(8, generator=G)]
    assert torch.allclose(net(rows), net(more), atol=1e-6)
    assert torch.equal(net(net.absent(4, rows.device)), net.null.expand(4, 16))


def test_a_modulated_network_begins_as_one_that_is_not() -> None:
    torch.manual_seed(0)
    plain = MLPBackbone(dim=2, width=16, depth=2)
    torch.manual_seed(0)
    net = MLPBackbone(dim=2, width=16, depth=2, modulated=True)
    x, t = torch.randn(5, 2, generator=G), torch.rand(5, generator=G)
    for one in (plain, net):
        torch.nn.init.normal_(one.out.weight, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net(x, t), plain(x, t))
    torch.nn.init.normal_(net.modulation.weight, generator=G)
    assert not torch.allclose(net(x, t), plain(x, t))


def test_a_run_encodes_a_condition_once_and_training_every_time() -> None:
    net = MLPBackbone(dim=2, width=16, depth=1, fields=[FIELD])
    calls: list[int] = []
    net.f_embedders[0].register_forward_hook(lambda *_: calls.append(1))
    cond, x, ctx = Cond(named={"s": torch.randn(3, 4, 2, generator=G)}), torch.randn(3, 2), RunContext()
    with torch.no_grad():
        first = [net(x, torch.full((3,), t), cond, ctx) for t in (0.1, 0.2)]
        assert len(calls) == 1
        plain = [net(x, torch.full((3,), t), cond) for t in (0.1, 0.2)]
        assert all(map(torch.equal, first, plain)) and len(calls) == 3
        other = Cond(named={"s": cond.named["s"] + 1})
        c = torch.zeros(3, 16)
        moved = conditioned(c, other, x, ctx, named=net.f_embedders)
        assert not torch.equal(moved, conditioned(c, cond, x, ctx, named=net.f_embedders))
        assert len(calls) == 5
    net(x, torch.zeros(3), cond, ctx)
    net(x, torch.zeros(3), cond, ctx)
    assert len(calls) == 7
