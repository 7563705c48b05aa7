"""Conditions: null, index, dropout; what is known of the sample survives all three."""

import pytest
import torch
from torch import Tensor

from backbones import Cond, NoiseSource, RunContext

B = 12


def full(seed: int = 0) -> Cond:
    g = torch.Generator().manual_seed(seed)
    return Cond(
        label={"kind": torch.arange(B), "place": torch.arange(B) + 100},
        numeric=torch.rand(B, 2, generator=g),
        tokens={"text": torch.rand(B, 3, 4, generator=g)},
        image=torch.rand(B, 1, 2, 2, generator=g),
        valid=torch.rand(B, 5, generator=g) > 0.5,
        known=torch.rand(B, 1, 2, 2, generator=g) > 0.5,
        given=torch.rand(B, 1, 2, 2, generator=g),
    )


def sample_facts(c: Cond) -> list[Tensor]:
    return [c.valid, c.known, c.given]


def lost(c: Cond) -> dict[str, Tensor]:
    """(B,) per field: whether the whole field of a sample is missing; a field that is missing in part
    fails."""
    flags = {
        "kind": c.label["kind"] == -1,
        "place": c.label["place"] == -1,
        "numeric": c.numeric.isnan(),
        "text": c.tokens["text"].isnan(),
        "image": c.image.isnan(),
    }
    out = {}
    for name, flag in flags.items():
        flat = flag.reshape(B, -1)
        assert torch.equal(flat.any(1), flat.all(1)), name
        out[name] = flat.all(1)
    return out


def test_null() -> None:
    c = full()
    null = c.null()
    assert all(bool(v.all()) for v in lost(null).values())
    assert null.label["kind"].dtype == torch.int64
    for a, b in zip(sample_facts(null), sample_facts(c)):
        assert torch.equal(a, b)
    assert int(c.label["kind"][3]) == 3 and not bool(c.numeric.isnan().any())  # the original is untouched
    assert Cond().null() == Cond()


@pytest.mark.parametrize("i", [torch.tensor([7, 0, 7]), slice(2, 5)])
def test_index_takes_rows_of_every_field(i: Tensor | slice) -> None:
    c, rows = full(), full().index(i)
    for name in ("kind", "place"):
        assert torch.equal(rows.label[name], c.label[name][i])
    assert (
        torch.equal(rows.tokens["text"], c.tokens["text"][i])
        and torch.equal(rows.numeric, c.numeric[i])
        and torch.equal(rows.image, c.image[i])
    )
    for a, b in zip(sample_facts(rows), sample_facts(c)):
        assert torch.equal(a, b[i])


def test_drop_is_joint_deterministic_and_keeps_the_rest() -> None:
    c, noise = full(), NoiseSource(range(B), step=4)
    dropped = c.drop(0.5, noise)
    flags = list(lost(dropped).values())
    assert 0 < int(flags[0].sum()) < B
    for flag in flags[1:]:
        assert torch.equal(flag, flags[0])
    kept = ~flags[0]
    assert torch.equal(dropped.label["place"][kept], c.label["place"][kept]) and torch.equal(
        dropped.image[kept], c.image[kept]
    )
    for a, b in zip(sample_facts(dropped), sample_facts(c)):
        assert torch.equal(a, b)
    assert torch.equal(lost(c.drop(0.5, noise))["kind"], flags[0])
    assert not torch.equal(lost(c.drop(0.5, noise.at(5)))["kind"], flags[0])


def test_drop_of_a_sample_does_not_depend_on_its_batch() -> None:
    c = full()
    together = lost(c.drop(0.5, NoiseSource(range(B))))["kind"]
    for i in range(B):
        alone = c.index(slice(i, i + 1)).drop(0.5, NoiseSource([i]))
        assert bool(alone.label["kind"][0] == -1) == bool(together[i])


def test_drop_ends_and_rate() -> None:
    c = full()
    assert c.drop(0.0, NoiseSource(range(B))) is c
    assert all(bool(v.all()) for v in lost(c.drop(1.0, NoiseSource(range(B)))).values())
    n, p = 20_000, 0.1
    rate = float(
        (Cond(label=torch.zeros(n, dtype=torch.int64)).drop(p, NoiseSource(range(n))).label == -1)
        .double()
        .mean()
    )
    assert abs(rate - p) < 4.5 * (p * (1 - p) / n) ** 0.5


@pytest.mark.parametrize("form", ["columns", "names"])
def test_each_number_is_lost_by_itself(form: str) -> None:
    """At its rate, independently of the others and of the joint loss; a sample's losses do not depend on its
    batch."""
    n, each = 20_000, 0.3
    values = torch.rand(n, 3) if form == "columns" else {"a": torch.rand(n), "b": torch.rand(n, 2)}
    c = Cond(label=torch.zeros(n, dtype=torch.int64), numeric=values)

    def gone(dropped: Cond) -> Tensor:
        v = dropped.numeric
        return (v if form == "columns" else torch.column_stack([v["a"], v["b"]])).isnan().double()

    dropped = gone(c.drop(0.0, NoiseSource(range(n)), each=each))
    assert float((dropped.mean(0) - each).abs().max()) < 4.5 * (each * (1 - each) / n) ** 0.5
    assert float((torch.corrcoef(dropped.mT) - torch.eye(3)).abs().max()) < 4.5 / n**0.5
    both = c.drop(0.1, NoiseSource(range(n)), each=each)
    assert bool(gone(both)[both.label == -1].all()) and torch.equal(
        gone(both)[both.label == 0], dropped[both.label == 0]
    )
    assert torch.equal(gone(c.index(slice(7, 8)).drop(0.0, NoiseSource([7]), each=each))[0], dropped[7])


def test_partly_missing_numbers_stay_as_they_are() -> None:
    numeric = torch.tensor([[1.0, torch.nan], [torch.nan, 2.0]])
    c = Cond(numeric=numeric)
    torch.testing.assert_close(c.drop(1e-12, NoiseSource([0, 1])).numeric, numeric, equal_nan=True)
    assert bool(c.null().numeric.isnan().all())


def test_to_moves_every_field() -> None:
    moved = full().to("meta")
    assert (
        moved.label["kind"].is_meta
        and moved.tokens["text"].is_meta
        and moved.known.is_meta
        and moved.numeric.is_meta
    )


def test_run_context_branches_share_their_storage() -> None:
    ctx = RunContext(step=3, t=0.5, attention="explicit")
    other = ctx.on("uncond")
    assert (other.branch, other.step, other.t, other.attention, ctx.branch) == (
        "uncond",
        3,
        0.5,
        "explicit",
        "cond",
    )
    other.caches["a"] = 1
    other.states[("rule", 0)] = {"m": 2}
    other.taps["h"] = 3
    assert ctx.caches == {"a": 1} and ctx.states == {("rule", 0): {"m": 2}} and ctx.taps == {"h": 3}
    assert RunContext().caches == {}  # and no two runs do
