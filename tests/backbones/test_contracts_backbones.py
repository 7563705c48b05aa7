"""What every registered backbone keeps, whatever it is made of. A new entry is picked up by itself; give it
small options here if its defaults are big."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backbones
from backbones import Cond, RunContext
from backbones.caching.plan import Plan

SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {  # options, and the shape of one sample
    "dit": (
        {
            "input_size": 8,
            "in_channels": 3,
            "hidden_size": 32,
            "depth": 2,
            "num_heads": 4,
            "num_classes": 5,
            "num_numeric": 2,
        },
        (3, 8, 8),
    ),
    "dis": (
        {
            "input_size": 8,
            "in_channels": 3,
            "hidden_size": 32,
            "depth": 2,
            "num_classes": 5,
            "num_numeric": 2,
        },
        (3, 8, 8),
    ),
    "rwkv": (
        {
            "input_size": 8,
            "in_channels": 3,
            "hidden_size": 32,
            "depth": 3,
            "num_classes": 5,
            "num_numeric": 2,
        },
        (3, 8, 8),
    ),
    "graph_dit": (
        {
            "max_atoms": 3,
            "atom_types": 4,
            "hidden_size": 32,
            "depth": 2,
            "num_heads": 4,
            "num_classes": 5,
            "num_numeric": 2,
            "bond_bias": True,
        },
        (3, 19),
    ),
    "mlp": ({"dim": 3, "width": 32, "depth": 2, "num_classes": 5, "num_numeric": 2}, (3,)),
}
every_backbone = pytest.mark.parametrize("name", list(backbones.REGISTRY))
B = 4


def made(name: str, *, awake: bool = True, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    net = backbones.build(name, **SMALL.get(name, ({}, ()))[0] | options)
    if awake:
        for p in net.parameters():
            nn.init.normal_(p, std=0.2)
    return net.eval()


def inputs(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Cond]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(B, *SMALL.get(name, ({}, (3,)))[1], generator=g, dtype=torch.float64).to(dtype)
    numeric = torch.randn(B, 2, generator=g, dtype=torch.float64).to(dtype)
    numeric[1, 0] = torch.nan
    return (
        x,
        torch.tensor([0.0, 10.0, 500.0, 999.0]),
        Cond(label=torch.tensor([0, -1, 3, 4]), numeric=numeric),
    )


@every_backbone
def test_starts_at_zero(name: str) -> None:
    """Graph DiT, whose logits start from its input, starts at that: bonds made symmetric, none from an atom
    to itself."""
    x, t, cond = inputs(name, torch.float32)
    want = torch.zeros_like(x)
    if name == "graph_dit":
        bonds = x[..., 4:].unflatten(2, (3, 5)) * (1 - torch.eye(3))[..., None]
        want = torch.cat([x[..., :4], (bonds + bonds.transpose(1, 2)).flatten(2) / 2], dim=-1)
    assert torch.equal(made(name, awake=False)(x, t, cond), want)


@every_backbone
def test_samples_do_not_see_each_other(name: str) -> None:
    net = made(name).double()
    x, t, cond = inputs(name)
    out = net(x, t, cond)
    for i in range(B):
        rows = slice(i, i + 1)
        torch.testing.assert_close(net(x[rows], t[rows], cond.index(rows)), out[rows], rtol=1e-10, atol=1e-10)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(x[order], t[order], cond.index(order)), out[order], rtol=1e-10, atol=1e-10)


@every_backbone
def test_sees_its_input_time_and_conditions(name: str) -> None:
    net = made(name).double()
    x, t, cond = inputs(name)
    out = net(x, t, cond)
    others = {
        "x": net(x + 0.5, t, cond),
        "t": net(x, t + 7, cond),
        "label": net(x, t, Cond(label=torch.tensor([1, 0, 2, 0]), numeric=cond.numeric)),
        "numeric": net(x, t, Cond(label=cond.label, numeric=cond.numeric + 1)),
    }
    for what, other in others.items():
        assert float((other - out).detach().abs().amax(tuple(range(1, x.ndim))).min()) > 1e-6, what


@every_backbone
def test_missing_is_missing_however_it_is_said(name: str) -> None:
    net = made(name).double()
    x, t, cond = inputs(name)
    forms = [
        net(x, t, c)
        for c in (
            cond.null(),
            Cond(),
            None,
            Cond(label=torch.full((B,), 5), numeric=torch.full((B, 2), torch.nan, dtype=x.dtype)),
        )
    ]
    for other in forms[1:]:
        assert torch.equal(forms[0], other)
    assert torch.equal(net(x, t[2].reshape(()), cond), net(x, t[2].expand(B), cond))  # one time for all


@every_backbone
def test_inputs_and_weights_are_left_alone(name: str) -> None:
    net = made(name).double()
    x, t, cond = inputs(name)
    before = copy.deepcopy((x, t, cond.label, cond.numeric, net.state_dict()))
    versions = [v._version for v in (x, t, cond.label, cond.numeric)]
    first = net(x, t, cond, RunContext())
    assert [v._version for v in (x, t, cond.label, cond.numeric)] == versions
    for a, b in zip(before, (x, t, cond.label, cond.numeric)):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[4][key]), key
    assert torch.equal(net(x, t, cond), first)


@every_backbone
def test_no_value_of_the_batch_is_read(name: str) -> None:
    """On the meta device there are no values: whoever reads or branches on one fails."""
    with torch.device("meta"):
        net = backbones.build(name, **SMALL.get(name, ({}, ()))[0])
    x, t, cond = inputs(name, torch.float32)
    assert net(x.to("meta"), t.to("meta"), cond.to("meta")).shape == x.shape


@every_backbone
@pytest.mark.parametrize("twice", [False, True])
def test_gradient_of_the_input(name: str, twice: bool) -> None:
    net = made(name).double().requires_grad_(False)
    x, t, cond = inputs(name)
    x, t, cond = x[:1] * 0.5, t[2:3], cond.index(slice(2, 3))
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)

    def value(x: Tensor) -> Tensor:
        out = net(x, t, cond, RunContext(double_backward=twice))
        return out.square().sum()

    def slope(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(value(x), x)[0]

    h = 1e-5
    if twice:
        y = x.clone().requires_grad_()
        first = torch.autograd.grad(value(y), y, create_graph=True)[0]
        got, expected = (
            torch.autograd.grad((first * direction).sum(), y)[0],
            (slope(x + h * direction) - slope(x - h * direction)) / (2 * h),
        )
    else:
        got, expected = (
            (slope(x) * direction).sum(),
            (value(x + h * direction) - value(x - h * direction)) / (2 * h),
        )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


@every_backbone
def test_every_weight_is_trained(name: str) -> None:
    net = made(name)
    x, t, cond = inputs(name, torch.float32)
    numeric = torch.tensor([[1.0, torch.nan], [torch.nan, 2.0], [0.5, 0.5], [1.0, 1.0]])
    net(x, t, Cond(label=cond.label, numeric=numeric)).square().sum().backward()
    for key, p in net.named_parameters():
        assert p.grad is not None and bool(torch.isfinite(p.grad).all()) and float(p.grad.abs().max()) > 0, (
            key
        )


# categories have no variance
@pytest.mark.parametrize("name", [n for n in backbones.REGISTRY if n != "graph_dit"])
def test_learned_variance_doubles_the_output(name: str) -> None:
    net = made(name, learn_sigma=True).double()
    x, t, cond = inputs(name)
    mean, head = net(x, t, cond).chunk(2, dim=1)
    assert mean.shape == head.shape == x.shape and float((mean - head).detach().abs().max()) > 1e-6


@every_backbone
def test_computes_in_the_dtype_of_its_weights(name: str) -> None:
    """float64 weights give float64 digits (float32 ones miss them), and conditions may come in float32."""
    x, t, cond = inputs(name)
    numeric = torch.tensor([[1.0, torch.nan], [0.5, 2.0], [0.25, 0.5], [-1.0, 1.0]])  # exact in both
    exact = made(name).double().requires_grad_(False)(x, t, Cond(label=cond.label, numeric=numeric.double()))
    assert exact.dtype == torch.float64
    assert torch.equal(
        made(name).double().requires_grad_(False)(x, t, Cond(label=cond.label, numeric=numeric)), exact
    )
    single = made(name).requires_grad_(False)(x.float(), t, Cond(label=cond.label, numeric=numeric.double()))
    error = float((single.double() - exact).norm() / exact.norm())
    assert single.dtype == torch.float32 and 0 < error < 1e-5


@every_backbone
def test_weights_are_the_whole_state(name: str) -> None:
    first, second = made(name).double(), made(name, awake=False).double()
    second.load_state_dict(first.state_dict())
    x, t, cond = inputs(name)
    assert torch.equal(first(x, t, cond), second(x, t, cond))


@every_backbone
def test_blocks_that_see_the_same_again_need_not_run(name: str) -> None:
    """One seam around the blocks of every backbone: a plan of one full evaluation and two that use its
    change gives the same where nothing moved, and leaves the blocks out."""
    net = made(name).double()
    x, t, cond = inputs(name)
    there = net(x, t, cond)
    ctx = RunContext(plan=Plan((1, 1, 1), trunk="FRL"), time=0.0)
    ran: list[int] = []
    handle = next(iter(blocks_of(net))).register_forward_hook(lambda *_: ran.append(ctx.step))
    for ctx.step in range(3):
        torch.testing.assert_close(net(x, t, cond, ctx), there, rtol=1e-10, atol=1e-10)
    handle.remove()
    assert ran == [0]


def blocks_of(net: nn.Module) -> nn.ModuleList:
    """The first list of blocks of a backbone."""
    return next(m for m in net.children() if isinstance(m, nn.ModuleList) and len(list(m.parameters())) > 2)
