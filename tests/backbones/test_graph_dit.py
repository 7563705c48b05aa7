"""Graph DiT: the original's outputs, permutations, padding, missing conditions one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backbones
from backbones import Cond
from backbones.graph_dit import GraphDiT

DX, N = 6, 9


def packed(g: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([g["input.X_t"], g["input.E_t"].flatten(2)], dim=-1).to(dtype)


def loaded(golden: Callable[[str], Any], **changes: Any) -> tuple[Any, dict[str, Tensor]]:
    g, notes = golden("graphdit_a_regression")
    weights = {k.removeprefix("weights."): v for k, v in g.items() if k.startswith("weights.")}
    return backbones.from_original(
        "graph_dit", weights, notes["config"] | changes.pop("config", {}), **changes
    ), g


@pytest.mark.parametrize(
    "case, dtype, tolerance",
    [
        ("cond", torch.float32, 1e-5),
        ("uncond", torch.float32, 1e-5),
        ("nan", torch.float32, 1e-5),
        ("cond", torch.float64, 1e-12),
    ],
)
def test_recorded_network(
    golden: Callable[[str], Any],
    strict: Callable[[float], float],
    case: str,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    net, g = loaded(golden)
    numeric = {
        "cond": g["input.y"],
        "uncond": torch.full_like(g["input.y"], torch.nan),
        "nan": g["input.y_nan"],
    }[case]
    out = net.to(dtype)(
        packed(g, dtype),
        g["input.t"][:, 0].to(dtype),
        Cond(numeric=numeric.to(dtype), valid=g["input.node_mask"]),
    ).detach()
    suffix = "_f64" if dtype == torch.float64 else ""
    for got, want in (
        (out[..., :DX], g[f"output.{case}{suffix}.X"]),
        (out[..., DX:].unflatten(2, (N, 5)), g[f"output.{case}{suffix}.E"]),
    ):
        torch.testing.assert_close(got, want, rtol=strict(tolerance), atol=strict(tolerance))


def test_weights_that_do_not_fit_are_refused(golden: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        loaded(golden, config={"hidden_size": 32})
    with pytest.raises(ValueError, match="expected max_n_nodes"):
        loaded(golden, config={"heads": 4})
    prefixed = {
        f"model.{k.removeprefix('weights.')}": v
        for k, v in golden("graphdit_a_regression")[0].items()
        if k.startswith("weights.")
    }
    prefixed["noise_schedule.betas"] = torch.zeros(501)
    net = backbones.from_original("graph_dit", prefixed, golden("graphdit_a_regression")[1]["config"])
    assert isinstance(net, GraphDiT) and not net.training


def awake(**options: Any) -> GraphDiT:
    torch.manual_seed(0)
    net = GraphDiT(
        **{"max_atoms": 6, "atom_types": 4, "hidden_size": 32, "depth": 2, "num_heads": 4, "num_numeric": 3}
        | options
    )
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    return net.double().eval()


def graphs(count: int = 4, atoms: int = 6, types: int = 4) -> tuple[Tensor, Tensor, Cond]:
    g = torch.Generator().manual_seed(1)
    valid = torch.ones(count, atoms, dtype=torch.bool)
    valid[1, 4:] = False
    valid[2, 1:] = False
    nodes = torch.randn(count, atoms, types, generator=g, dtype=torch.float64) * valid[..., None]
    bonds = torch.randn(count, atoms, atoms, 5, generator=g, dtype=torch.float64)
    bonds = (bonds + bonds.transpose(1, 2)) * (valid[:, :, None] & valid[:, None])[..., None]
    numeric = torch.randn(count, 3, generator=g, dtype=torch.float64)
    return (
        torch.cat([nodes, bonds.flatten(2)], -1),
        torch.rand(count, generator=g, dtype=torch.float64) * 1000,
        Cond(numeric=numeric, valid=valid),
    )


def test_the_equivariant_form_under_permutations() -> None:
    """Twenty permutations of the atoms permute the output; the form that reads bonds by place is not
    equivariant."""
    x, t, cond = graphs()
    for absolute in (False, True):
        net, worst = awake(absolute=absolute), 0.0
        out = net(x, t, cond).detach()
        for seed in range(20):
            order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))

            def turned(v: Tensor, order: Tensor = order) -> Tensor:
                bonds = v[..., 4:].unflatten(2, (6, 5))[:, order][:, :, order]
                return torch.cat([v[:, order, :4], bonds.flatten(2)], -1)

            other = net(turned(x), t, Cond(numeric=cond.numeric, valid=cond.valid[:, order])).detach()
            worst = max(worst, float((other - turned(out)).abs().max()))
        assert worst > 1e-3 if absolute else worst < 1e-12


def test_the_pair_head_adds_to_the_rows() -> None:
    """It starts at nothing, and then moves bonds alone."""
    net, plain = awake(pair_head=True), awake()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("pairs.")})
    x, t, cond = graphs()
    assert net.pairs is not None
    nn.init.zeros_(net.pairs.out.weight)
    nn.init.zeros_(net.pairs.out.bias)
    torch.testing.assert_close(net(x, t, cond), plain(x, t, cond), rtol=0, atol=0)
    nn.init.ones_(net.pairs.out.bias)
    moved = net(x, t, cond) - plain(x, t, cond)
    assert not moved[..., : net.atom_types].any() and moved[..., net.atom_types :].any()
    with pytest.raises(ValueError, match="original=true with pair_head=true"):
        awake(original=True, pair_head=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bond_bias": True},
        {"pair_head": True},
        {"absolute": False},
        {"original": True, "conditions": "clusters"},
    ],
)
def test_padding_changes_nothing(options: dict[str, Any]) -> None:
    """What stands on padded rows is never seen, padded outputs are 0, bonds are symmetric and none leads from
    an atom to itself."""
    net = awake(**options)
    x, t, cond = graphs()
    out = net(x, t, cond).detach()
    assert bool(torch.isfinite(out).all())
    other = x.clone()
    other[1, 4:] = 7.0
    torch.testing.assert_close(net(other, t, cond).detach()[1, :4], out[1, :4], rtol=1e-12, atol=1e-12)
    assert not bool(out[1, 4:].any()) and not bool(out[2, 1:].any())
    bonds = out[..., 4:].unflatten(2, (6, 5))
    assert torch.equal(bonds, bonds.transpose(1, 2)) and not bool(bonds.diagonal(dim1=1, dim2=2).any())


def test_conditions_are_missing_one_by_one() -> None:
    """Each number has its own null; as in the original (together) one that is missing takes the others with
    it."""
    x, t, cond = graphs()
    groups = [{"kind": "clusters", "columns": (0, 1)}, {"kind": "classes", "columns": (2,), "count": 3}]
    numeric = torch.tensor([[0.5, torch.nan, 1.0]], dtype=torch.float64).expand(4, -1)
    for together in (False, True):
        net = awake(groups=groups, together=together)
        out = net(x, t, Cond(numeric=numeric, valid=cond.valid)).detach()
        other = net(
            x, t, Cond(numeric=numeric.clone().index_fill(1, torch.tensor([2]), 2.0), valid=cond.valid)
        ).detach()
        none = net(x, t, Cond(valid=cond.valid)).detach()
        assert torch.equal(out, other) == together and torch.equal(out, none) == together
    with pytest.raises(ValueError, match="expected 3"):
        net(x, t, Cond(numeric=numeric[:, :2], valid=cond.valid))
    with pytest.raises(ValueError, match="expected kind"):
        awake(groups=[{"kind": "cluster", "columns": (0,)}])


def test_other_sizes_are_refused() -> None:
    x, t, cond = graphs()
    with pytest.raises(ValueError, match="expected \\(6, 34\\)"):
        awake()(x[:, :5], t, cond)
    with pytest.raises(ValueError, match="absolute=false"):
        awake(original=True, absolute=False)
