"""Rotary positions: scores see how far apart tokens lie and nothing else, and the DiT learns of it."""

import math
from typing import Any

import pytest
import torch

from backbones import DiT
from backbones.attention.specs import Full
from backbones.rotary import turned
from backbones.transformer import Attention


def rows(rotary: bool = True, **options: Any) -> DiT:
    form: dict[str, Any] = {"input_size": (6,), "in_channels": 2, "patch_size": 1, "rows": True}
    torch.manual_seed(0)
    net = DiT(
        **form | {"hidden_size": 16, "depth": 1, "num_heads": 2, "num_classes": 0, "rotary": rotary} | options
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return net.double().eval().requires_grad_(False)


def test_a_pair_is_turned_by_its_place() -> None:
    """As the complex number x_i + i x_{i + d/2} by e^{i n 10000^(-2i/d)}."""
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for n in range(7):
        for i in range(4):
            place = complex(math.cos(n * 10**-i), math.sin(n * 10**-i))
            expected = torch.complex(x[..., n, i], x[..., n, i + 4]) * place
            got = torch.complex(*(turned(x)[..., n, k] for k in (i, i + 4)))
            torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_scores_depend_on_how_far_apart_tokens_lie() -> None:
    """The same query and key everywhere: every diagonal of scores is constant, and no two are alike."""
    g = torch.Generator().manual_seed(1)
    q, k = (turned(torch.randn(8, dtype=torch.float64, generator=g).expand(9, 8)) for _ in range(2))
    scores = q @ k.T
    diagonals = [scores.diagonal(n) for n in range(-8, 9)]
    assert all(float(d.max() - d.min()) < 1e-5 for d in diagonals)
    means = torch.stack([d.mean() for d in diagonals]).sort().values
    assert float(means.diff().min()) > 1e-4


def test_attention_sees_an_order() -> None:
    """Tokens in mirrored order come out otherwise; without rotary positions attention knows no order."""
    torch.manual_seed(2)
    x = torch.randn(1, 4, 16, dtype=torch.float64)
    back = x.flip(1)
    for rotary in (True, False):
        layer = Attention(16, 2, rotary).double().requires_grad_(False)
        out, mirrored = (layer.project(layer.mix(v, [Full()], None)[0]) for v in (x, back))
        assert torch.allclose(mirrored.flip(1), out) is not rotary


def test_the_network_is_told() -> None:
    x, t = torch.randn(2, 6, 2, dtype=torch.float64), torch.tensor([100.0, 900.0]).double()
    net, plain = rows(), rows(rotary=False)
    assert net.state_dict().keys() == plain.state_dict().keys()  # it has no weights of its own
    plain.load_state_dict(net.state_dict())
    assert not torch.allclose(net(x, t), plain(x, t))


@pytest.mark.parametrize(
    "options", [{"input_size": (6, 6), "rows": False}, {"hidden_size": 18, "num_heads": 2}]
)
def test_refusals(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rotary=true .* expected samples of one side and an even width"):
        rows(**options)
