"""The token shift: its fused loop against torch alone, in every layout that a network hands it."""

import copy

import pytest
import torch
from torch import Tensor, nn

from backbones.recurrences.shift import Modulation, q_shift, shifted_mixes

GRIDS = [(1, 1), (1, 5), (4, 1), (3, 7), (8, 8)]


def inputs(
    grid: tuple[int, int], channels: int = 64, batch: int = 2
) -> tuple[Tensor, list[Tensor], Modulation]:
    g = torch.Generator().manual_seed(grid[0] * 10 + grid[1])
    x = torch.randn(batch, grid[0] * grid[1], channels, generator=g) + 2
    norm = nn.LayerNorm(channels).requires_grad_(False)
    for p in norm.parameters():
        p.copy_(torch.randn(channels, generator=g))
    moved = [torch.randn(batch, 1, channels, generator=g) for _ in range(2)]
    return x, [torch.rand(1, 1, channels, generator=g) for _ in range(3)], (norm, moved[0], moved[1])


@pytest.mark.parametrize("grid", GRIDS)
def test_neighbours_by_hand(grid: tuple[int, int]) -> None:
    x, rows, columns = inputs(grid)[0], *grid
    image, near = x.view(2, rows, columns, 4, 16), q_shift(x, grid).view(2, rows, columns, 4, 16)
    for i in range(rows):
        for j in range(columns):
            for side, (di, dj) in enumerate([(0, -1), (0, 1), (-1, 0), (1, 0)]):
                inside = 0 <= i + di < rows and 0 <= j + dj < columns
                want = image[:, i + di, j + dj, side] if inside else torch.zeros(2, 16)
                assert torch.equal(near[:, i, j, side], want)


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("grid", GRIDS)
def test_the_fused_loop_is_the_formula(grid: tuple[int, int], moved: bool) -> None:
    x, mixes, modulation = inputs(grid)
    with torch.no_grad():
        got = shifted_mixes(x, grid, mixes, modulation if moved else None, form="fused")
    norm, shift, scale = copy.deepcopy(modulation[0]).double(), modulation[1].double(), modulation[2].double()
    want = shifted_mixes(
        x.double(), grid, [m.double() for m in mixes], (norm, shift, scale) if moved else None
    )
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-6, atol=4e-6)


def test_under_autocast_it_writes_bfloat16_rounded_once() -> None:
    x, mixes, modulation = inputs((6, 5), 128)
    x = torch.cat([x, x])[::2]  # not contiguous
    modulation = (modulation[0], modulation[1].bfloat16(), modulation[2].bfloat16())
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        got = shifted_mixes(x, (6, 5), mixes, modulation)
        again = shifted_mixes(x, (6, 5), mixes, modulation)
    with torch.no_grad():
        want = shifted_mixes(x, (6, 5), mixes, modulation, form="reference")
    for a, b, c in zip(got, want, again, strict=True):
        assert a.dtype == torch.bfloat16 and torch.equal(a, c)
        assert bool(((a.float() - b).abs() <= 2**-8 * b.abs() + 1e-5).all())


def test_rounding_is_to_the_nearest_even_and_nan_stays() -> None:
    x = (
        torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-30, 30, 16)[None, :, None]
    )
    x[0, 0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.00390625])  # the last halfway between two
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        got = shifted_mixes(x, (4, 4), [torch.ones(1, 1, 64)], None)[0]
    whole = x.isfinite() & q_shift(x, (4, 4)).isfinite()
    near = q_shift(x, (4, 4))
    assert torch.equal(got[whole], (near + (x - near))[whole].bfloat16()) and bool(got[0, 0, 0].isnan())


def test_gradients_take_the_plain_form_and_odd_widths_too() -> None:
    x, mixes, modulation = inputs((3, 3), 64)
    x.requires_grad_()
    sum(m.sum() for m in shifted_mixes(x, (3, 3), mixes, modulation)).backward()  # type: ignore[union-attr]
    assert x.grad is not None and bool(x.grad.any())
    odd = inputs((3, 3), 24)
    with torch.no_grad():
        assert len(shifted_mixes(odd[0], (3, 3), odd[1], odd[2])) == 3
