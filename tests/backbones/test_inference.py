"""The twin of a network for runs without training: the same function, the original left alone, gradients
still there."""

import pytest
import torch
from torch import nn

from backbones import Cond, DiT, inference
from backbones.inference import PackedLinear, activated, can_pack, lowered

packs = pytest.mark.skipif(not can_pack(), reason="this CPU or torch has no packed bf16 product")


def network(**options: object) -> DiT:
    torch.manual_seed(0)
    net = DiT(
        input_size=(8, 12),
        in_channels=2,
        patch_size=4,
        hidden_size=64,
        depth=2,
        num_heads=2,
        num_classes=5,
        **options,
    )  # type: ignore[arg-type]
    for p in net.parameters():
        if not bool(p.any()):
            nn.init.normal_(p, std=0.05)
    return net.eval()


def run(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net(x, torch.linspace(0, 900, len(x)), Cond(label=torch.arange(len(x)) % 6))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 2, 8, 12, generator=torch.Generator().manual_seed(1))


@packs
@pytest.mark.parametrize("activation", ["none", "gelu", "relu", "sigmoid"])
def test_a_packed_layer_is_the_layer_rounded_once(activation: str) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(48, 80).requires_grad_(False), torch.randn(3, 7, 48).bfloat16()
    rounded = nn.functional.linear(
        x.double(), layer.weight.bfloat16().double(), layer.bias.bfloat16().double()
    )
    exact = {
        "none": rounded,
        "gelu": nn.functional.gelu(rounded, approximate="tanh"),
        "relu": rounded.relu(),
        "sigmoid": rounded.sigmoid(),
    }[activation]
    out = PackedLinear(layer)(x, activation, "tanh" if activation == "gelu" else "")
    assert out.dtype == torch.bfloat16 and out.shape == (3, 7, 80)
    # half a unit of bf16's last place, and little else
    assert bool(((out.double() - exact).abs() <= 2**-8 * exact.abs() + 1e-4).all())


@packs
@pytest.mark.parametrize("stem", [(), (16, 24)])
def test_the_twin_is_the_same_function(stem: tuple[int, ...], x: torch.Tensor) -> None:
    net = network(stem_channels=stem)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        exact = net(x, torch.linspace(0, 900, len(x)), Cond(label=torch.arange(len(x)) % 6))
        autocast, twin = run(net, x).float(), run(lowered(net, torch.bfloat16), x).float()
    assert (
        float((twin - exact).norm() / exact.norm())
        < 1.3 * float((autocast - exact).norm() / exact.norm())
        < 0.05
    )
    assert all(torch.equal(v, before[k]) and v.dtype == torch.float32 for k, v in net.state_dict().items())
    assert not any(isinstance(m, PackedLinear) for m in net.modules())
    twin_net = lowered(net, torch.bfloat16)
    assert lowered(twin_net, torch.bfloat16) is twin_net


def test_without_packing_the_twin_gives_the_same_bits(
    x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "can_pack", lambda: False)
    net = network(stem_channels=(16, 24))
    net.low_precision = tuple(
        name for name in net.low_precision if name != "modulation"
    )  # autocast keeps it in fp32
    twin = lowered(net, torch.bfloat16)
    assert twin.blocks[0].attn.qkv.weight.dtype == torch.bfloat16  # type: ignore[union-attr, index]
    assert twin.t_embedder.mlp[0].weight is net.t_embedder.mlp[0].weight  # type: ignore[union-attr, index]
    with torch.no_grad():
        assert torch.equal(run(twin, x), run(net, x))


@pytest.mark.parametrize("pack", [True, False])
def test_gradients_in_x_pass_through_the_twin(
    pack: bool, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pack:
        monkeypatch.setattr(inference, "can_pack", lambda: False)
    net = network().requires_grad_(False)

    def gradient(module: nn.Module) -> torch.Tensor:
        y = x.clone().requires_grad_()
        return torch.autograd.grad(run(module, y).float().square().sum(), y)[0]

    expected, got = gradient(net), gradient(lowered(net, torch.bfloat16))
    assert float((got - expected).norm() / expected.norm()) < 0.02


@packs
@pytest.mark.parametrize(
    "activation, form", [("gelu", "tanh"), ("gelu", "none"), ("relu", ""), ("sigmoid", "")]
)
def test_function_transforms_take_the_plain_layer(activation: str, form: str) -> None:
    layer = nn.Linear(8, 8).requires_grad_(False)
    packed = PackedLinear(layer)
    x, tangent = torch.randn(4, 8), torch.randn(4, 8)
    with torch.no_grad():
        _, slope = torch.func.jvp(lambda v: activated(v, packed, activation, form), (x,), (tangent,))
        _, expected = torch.func.jvp(lambda v: activated(v, layer, activation, form), (x,), (tangent,))
    assert torch.equal(slope, expected) and bool(slope.any())


def test_a_network_that_names_nothing_is_left_as_it_is() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    assert lowered(net, torch.bfloat16) is net


def test_tokens_lie_contiguously(x: torch.Tensor) -> None:
    """A transposed layout would follow the residual stream through every block and make each norm copy it."""
    seen: list[bool] = []
    for stem in ((), (16, 24)):
        net = network(stem_channels=stem)
        for block in net.blocks:
            block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
        run(net, x)
    assert len(seen) == 4 and all(seen)
