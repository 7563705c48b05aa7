"""Both scans of a Mamba layer in one loop: the same as two scans, whatever the lengths, widths, layouts,
batches and threads."""

import pytest
import torch
from torch import Tensor

from backbones.recurrences import two_way
from backbones.recurrences.two_way import Way, two_way_scan

RANK, STATES = 3, 16


def given(batch: int, length: int, channels: int, *, states: int = STATES) -> tuple[Way, Way, Tensor]:
    g = torch.Generator().manual_seed(1000 * channels + length)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    def way() -> Way:
        # slices, as a layer has them
        low, b, c = r(batch, length, RANK + 2 * states).split([RANK, states, states], dim=-1)
        return Way(
            r(batch, length, channels),
            low,
            b,
            c,
            -torch.exp(0.5 * r(channels, states)),
            r(channels, RANK),
            r(channels),
            r(channels) - 1,
        )

    return way(), way(), r(batch, length, 2 * channels)[..., channels:]


def double(ways: tuple[Way, Way, Tensor]) -> tuple[Way, Way, Tensor]:
    ahead, back, z = ways
    return Way(*(x.double() for x in ahead)), Way(*(x.double() for x in back)), z.double()


def near(got: Tensor, want: Tensor, tolerance: float) -> bool:
    return float((got.double() - want.double()).abs().max()) <= tolerance * float(want.abs().max())


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 100, 257])
@pytest.mark.parametrize("channels", [16, 37, 80])
def test_the_fused_form_is_two_scans(length: int, channels: int) -> None:
    """In float64 and as two fused scans with gradients; ranks and states of other sizes, too."""
    for states in (16, 5):
        inputs = given(2, length, channels, states=states)
        got = two_way_scan(*inputs, form="fused")
        assert got.is_contiguous() and near(got, two_way_scan(*double(inputs)), 2e-5)
        assert near(got, two_way_scan(*inputs[:2], inputs[2].clone().requires_grad_()).detach(), 2e-5)


def test_layouts_batches_threads_and_dtypes() -> None:
    ahead, back, z = given(3, 70, 80)
    whole = two_way_scan(ahead, back, z, form="fused")
    turned = [
        Way(
            w.u.mT.contiguous().mT,
            w.low.transpose(0, 1).contiguous().transpose(0, 1),
            w.B.contiguous(),
            w.C.mT.contiguous().mT,
            *w[4:],
        )
        for w in (ahead, back)
    ]
    assert torch.equal(two_way_scan(*turned, z.contiguous(), form="fused"), whole)  # type: ignore[misc]
    one = [Way(*(x[1:2] for x in w[:4]), *w[4:]) for w in (ahead, back)]
    assert torch.equal(two_way_scan(*one, z[1:2], form="fused"), whole[1:2])  # type: ignore[misc]
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert torch.equal(two_way_scan(ahead, back, z, form="fused"), whole)
    torch.set_num_threads(before)
    low = [Way(*(x.bfloat16() for x in w[:4]), *w[4:]) for w in (ahead, back)]
    out = two_way_scan(*low, z.bfloat16())  # type: ignore[misc]
    assert out.dtype == torch.bfloat16 and near(out, two_way_scan(*double((*low, z.bfloat16()))), 8e-3)


def test_which_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused where nothing needs a gradient and states decay; gradients flow to every input; a NaN stays in
    its sample."""
    calls: list[int] = []
    real = two_way.two_way_fused
    monkeypatch.setattr(two_way, "two_way_fused", lambda *x: (calls.append(1), real(*x))[1])
    ahead, back, z = given(2, 9, 20)
    bad = ahead._replace(u=ahead.u.index_fill(0, torch.tensor([1]), torch.nan))
    out = two_way_scan(bad, back, z)
    assert len(calls) == 1 and bool(out[0].isfinite().all()) and bool(out[1].isnan().all())
    poisoned = two_way_scan(ahead._replace(A=torch.full_like(ahead.A, torch.nan)), back, z)
    two_way_scan(ahead._replace(A=-ahead.A), back, z)
    two_way_scan(ahead, back, z, form="reference")
    assert len(calls) == 1 and bool(poisoned.isnan().all())
    leaves = [x.clone().requires_grad_() for x in (*ahead, *back, z)]
    grads = torch.autograd.grad(two_way_scan(Way(*leaves[:8]), Way(*leaves[8:16]), leaves[16]).sum(), leaves)
    assert len(calls) == 1 and all(bool(g.any()) for g in grads)
    with torch.no_grad():
        two_way_scan(Way(*leaves[:8]), Way(*leaves[8:16]), leaves[16])
    assert len(calls) == 2


def test_under_vmap_it_is_the_same() -> None:
    ahead, back, z = given(2, 5, 4)
    both = torch.func.vmap(lambda gate: two_way_scan(ahead, back, gate))(torch.stack([z, 2 * z]))
    assert near(both[0], two_way_scan(ahead, back, z), 1e-5) and near(
        both[1], two_way_scan(ahead, back, 2 * z), 1e-5
    )


def test_what_does_not_fit_is_refused() -> None:
    ahead, back, z = given(2, 5, 16)
    for i, name in enumerate(Way._fields):
        with pytest.raises(
            ValueError, match=f"got {name} of shape .* expected|got A of shape|got weight of shape"
        ):
            two_way_scan(ahead, Way(*(x[:-1] if i == j else x for j, x in enumerate(back))), z)
    with pytest.raises(ValueError, match="a sequence of length 0"):
        two_way_scan(*(Way(*(x[:, :0] for x in w[:4]), *w[4:]) for w in (ahead, back)), z[:, :0])
    with pytest.raises(ValueError, match="got form='quick', expected auto"):
        two_way_scan(ahead, back, z, form="quick")
