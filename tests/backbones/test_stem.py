"""The convolutional stem and head: the modulated block by its formula, its start, and what the skips
carry."""

import torch
import torch.nn.functional as F

from backbones import DiT
from backbones.stem import ConvHead, ConvStem, ModulatedBlock


def test_modulated_block_by_its_formula() -> None:
    """h + conv2(SiLU(norm2(conv1(SiLU(norm1(h))))·(1 + scale) + shift)), shift first among the modulation's
    columns."""
    torch.manual_seed(0)
    block = ModulatedBlock(8)
    h, shift, scale = torch.randn(2, 8, 4, 6), torch.randn(2, 8), torch.randn(2, 8)
    modulation = torch.cat([shift, scale], dim=1)
    assert torch.equal(block(h, modulation), h)  # the second convolution starts at zero
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.3)
    w1, w2 = block.conv1, block.conv2
    y = F.conv2d(
        F.silu(F.group_norm(h, 8, block.norm1.weight, block.norm1.bias)), w1.weight, w1.bias, padding=1
    )
    y = (
        F.group_norm(y, 8, block.norm2.weight, block.norm2.bias) * (1 + scale[:, :, None, None])
        + shift[:, :, None, None]
    )
    torch.testing.assert_close(
        block(h, modulation), h + F.conv2d(F.silu(y), w2.weight, w2.bias, padding=1), rtol=1e-5, atol=1e-5
    )


def test_each_level_halves_and_the_head_undoes_it() -> None:
    torch.manual_seed(0)
    stem, head = ConvStem(3, (4, 8), 1, 16), ConvHead(5, (4, 8), 1, 16)
    x, m = torch.randn(2, 3, 8, 12), [torch.zeros(2, 16)]
    tokens, skips = stem(x, m)
    assert tokens.shape == (2, 2 * 3, 16) and [tuple(s.shape[1:]) for s in skips] == [(4, 8, 12), (8, 4, 6)]
    assert torch.equal(head(tokens, (2, 3), skips, m), torch.zeros(2, 5, 8, 12))  # and starts at zero
    torch.nn.init.normal_(head.last.weight)
    moved = [skips[0] + 1, skips[1]]
    assert float((head(tokens, (2, 3), moved, m) - head(tokens, (2, 3), skips, m)).detach().abs().min()) > 0


def test_tokens_are_in_the_order_of_the_positions() -> None:
    """A change in one corner of the picture reaches only the tokens near it: row-major, as the grid of
    positions."""
    torch.manual_seed(0)
    net = DiT(
        input_size=(16, 32),
        in_channels=1,
        hidden_size=16,
        depth=1,
        num_heads=2,
        num_classes=0,
        stem_channels=(4, 4),
        stem_blocks=0,
    )
    x = torch.zeros(1, 1, 16, 32)
    moved = x.clone()
    moved[..., 0, 31] = 1
    changed = (net.stem(moved, [])[0] - net.stem(x, [])[0]).detach().abs().amax(-1).view(net.grid) > 0
    assert bool(changed[0, -1]) and not bool(changed[2:].any()) and not bool(changed[:, :-2].any())


def test_the_blocks_of_stem_and_head_have_modulations_of_their_own() -> None:
    torch.manual_seed(0)
    net = DiT(
        input_size=8,
        in_channels=3,
        hidden_size=32,
        depth=2,
        num_heads=4,
        num_classes=3,
        stem_channels=(8,),
        stem_blocks=2,
    )
    assert net.splits == [6 * 32] * 2 + [2 * 32] + [2 * 8] * 4
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([10.0, 500.0])
    out, start = net(x, t), sum(net.splits[:3])
    for i in range(4):  # each of the four shifts the output when its own rows change
        rows = slice(start + 16 * i, start + 16 * (i + 1))
        with torch.no_grad():
            kept = net.modulation.bias[rows].clone()
            net.modulation.bias[rows] += 1
            assert float((net(x, t) - out).abs().max()) > 1e-4, i
            net.modulation.bias[rows] = kept
