"""Networks with recurrences under torch.compile in one graph, and what the fused forms say where they are
differentiated twice."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from thinned import thinned
from torch import Tensor

from backbones import Cond, build
from backbones.recurrences.conv import two_way_conv
from backbones.recurrences.scan import selective_scan
from backbones.recurrences.wkv import bi_wkv
from backbones.types import RunContext

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def inputs(channels: int = 20, length: int = 9, states: int = 4, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    made = {k: torch.randn(2, channels, length, generator=g) for k in ("u", "delta", "z")}
    made |= {k: torch.randn(2, states, length, generator=g) for k in ("B", "C")}
    made |= {
        "A": -torch.rand(channels, states, generator=g),
        "D": torch.randn(channels, generator=g),
        "delta_bias": torch.randn(channels, generator=g),
    }
    return {k: v.requires_grad_() for k, v in made.items()}


def same(run: Callable[..., Tensor], given: dict[str, Tensor], **close: float) -> None:
    """Values and gradients of a compiled function are those of the function."""
    plain = run(**given)
    wanted = torch.autograd.grad(plain.sin().sum(), list(given.values()))
    out = torch.compile(run, fullgraph=True, backend="aot_eager")(**given)
    found = torch.autograd.grad(out.sin().sum(), list(given.values()))
    torch.testing.assert_close(out, plain, **close)
    for name, a, b in zip(given, found, wanted):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}", **close)


@pytest.mark.parametrize(
    "leave, reverse", thinned(2, [(), ("z", "D"), ("delta_bias",)], [False, True]), ids=str
)
def test_a_compiled_scan(leave: tuple[str, ...], reverse: bool) -> None:
    given = {k: v for k, v in inputs().items() if k not in leave}
    same(lambda **x: selective_scan(**x, reverse=reverse), given, rtol=1e-5, atol=1e-5)


def test_a_compiled_scan_that_grows() -> None:
    """The fused loops know decays only; that it is none shows when the graph runs."""
    given = inputs()
    with torch.no_grad():
        given["A"][0, 0] = 0.2
    want, run = (
        selective_scan(**given),
        torch.compile(lambda **x: selective_scan(**x), fullgraph=True, backend="aot_eager"),
    )
    with torch.no_grad():
        torch.testing.assert_close(run(**given), want, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="positive A .* form='reference'"):
        run(**given).sum().backward()


def test_a_compiled_scan_of_parts() -> None:
    whole = {k: v.detach() for k, v in inputs(length=12).items()}

    def run(**x: Tensor) -> Tensor:
        first = {k: v[..., :5] if v.ndim == 3 else v for k, v in x.items()}
        rest = {k: v[..., 5:] if v.ndim == 3 else v for k, v in x.items()}
        a, state = selective_scan(**first, return_state=True)
        return torch.cat([a, selective_scan(**rest, state=state)], 2)  # type: ignore[list-item]

    torch.testing.assert_close(
        torch.compile(run, fullgraph=True, backend="aot_eager")(**whole),
        selective_scan(**whole),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("channels, form", thinned(3, [20, 16], ["auto", "reference"]))
def test_a_compiled_wkv(channels: int, form: str) -> None:
    g = torch.Generator().manual_seed(1)
    given = {k: torch.rand(channels, generator=g).requires_grad_() for k in ("w", "u")}
    given |= {k: torch.randn(2, 9, channels, generator=g).requires_grad_() for k in ("k", "v")}
    same(lambda **x: bi_wkv(**x, form=form), given, rtol=1e-5, atol=1e-5)


NETS = [
    ("dis", {"hidden_size": 32, "depth": 2}),
    pytest.param("rwkv", {"hidden_size": 64, "depth": 3}, marks=pytest.mark.slow),
    pytest.param("rwkv", {"hidden_size": 64, "depth": 3, "wkv": "kernel"}, marks=pytest.mark.slow),
    pytest.param("dis", {"hidden_size": 24, "depth": 2, "rms_norm": False}, marks=pytest.mark.slow),
]


def network(name: str, options: dict[str, Any]) -> tuple[torch.nn.Module, Any, tuple[Any, ...]]:
    """A network of random weights, compiled too, and what it is asked."""
    torch.manual_seed(0)
    net = build(name, input_size=4, in_channels=2, num_classes=3, **options)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    x = torch.randn(2, 2, 4, 4, requires_grad=True)
    asked = (x, torch.tensor([10.0, 900.0]), Cond(label=torch.tensor([0, -1])))
    return net, torch.compile(net, fullgraph=True, backend="aot_eager"), asked


@pytest.mark.parametrize("name, options", NETS, ids=str)
def test_a_compiled_network(name: str, options: dict[str, Any]) -> None:
    net, compiled, asked = network(name, options)
    want, out = net(*asked), compiled(*asked)
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)
    places = [asked[0], *net.parameters()]
    a, b = (torch.autograd.grad(v.sin().sum(), places, allow_unused=True) for v in (out, want))
    for one, two in zip(a, b):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name, options", NETS, ids=str)
def test_a_network_compiled_without_gradients(name: str, options: dict[str, Any]) -> None:
    net, compiled, asked = network(name, options)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*asked), net(*asked), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["square", "sum"])
@pytest.mark.parametrize("kind", ["scan", "wkv", "conv"])
def test_the_second_derivative_of_a_fused_form_names_the_plain_one(kind: str, loss: str) -> None:
    """Also where the first gradient would pass for a constant, and a penalty on it would be none without a
    word."""
    g = torch.Generator().manual_seed(2)
    if kind == "scan":
        given = inputs()
        run: Callable[..., Any] = selective_scan
    elif kind == "wkv":
        given = {k: torch.rand(16, generator=g).requires_grad_() for k in ("w", "u")} | {
            k: torch.randn(2, 5, 16, generator=g).requires_grad_() for k in ("k", "v")
        }
        run = bi_wkv
    else:
        given = {
            "x": torch.randn(2, 5, 16, generator=g),
            "w": torch.randn(2, 16, 4, generator=g),
            "bias": torch.randn(2, 16, generator=g),
        }
        given = {k: v.requires_grad_() for k, v in given.items()}
        run = lambda **x: two_way_conv(**x)[0]  # noqa: E731
    first = next(iter(given.values()))
    for form in ("auto", "fused"):
        y = run(**given, form=form)
        (slope,) = torch.autograd.grad(
            y.square().sum() if loss == "square" else y.sum(), first, create_graph=True
        )
        with pytest.raises(
            RuntimeError, match="cannot be differentiated twice.*form='reference'.*double_backward=True"
        ):
            slope.square().sum().backward()
    y = run(**given, form="reference")
    (slope,) = torch.autograd.grad(y.square().sum(), first, create_graph=True)
    slope.square().sum().backward()
    assert first.grad is not None and float(first.grad.abs().sum()) > 0


@pytest.mark.parametrize("name, options", NETS[:2], ids=str)
def test_a_network_is_differentiated_twice_where_the_run_says_so(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = build(name, input_size=8, in_channels=2, num_classes=3, **options)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    given = (x, torch.tensor([10.0]), Cond(label=torch.tensor([0])))
    (slope,) = torch.autograd.grad(net(*given).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double_backward=True"):
        slope.square().sum().backward()
    (slope,) = torch.autograd.grad(net(*given, RunContext(double_backward=True)).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0
