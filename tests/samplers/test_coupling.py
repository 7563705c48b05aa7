"""Couplings as objects: what is paired, what travels along, whose draws they are, and what they refuse."""

import warnings
from typing import Any

import pytest
import torch
from mixture import points
from torch import Tensor

from backbones import Cond, NoiseSource
from samplers import Batch, LinearPath, Objective, build_objective
from samplers.couplings import transport
from samplers.couplings.coupling import REGISTRY, Coupled, Independent, Once, Paired
from samplers.couplings.gibbs import Gibbs
from samplers.couplings.planned import OT, Sinkhorn
from samplers.heads.parameterization import Direct

N = 24
SOURCE, DATA, NOISE = points(N, 3), 2 * points(N, 3, 1) + 1, NoiseSource(range(N))
LABELS = torch.arange(N) % 3
KINDS = {
    "independent": Independent(),
    "ot": OT(),
    "ot resampled": OT(resample=True),
    "ot per class": OT(labels="per_class"),
    "ot label cost": OT(label_cost=2.0),
    "sinkhorn": Sinkhorn(),
    "sinkhorn resampled": Sinkhorn(resample=True),
    "sinkhorn per class": Sinkhorn(labels="per_class"),
    "unbalanced": Sinkhorn(unbalanced=1.0),
    "gibbs": Gibbs(),
    "balanced": Gibbs(ess=0.7, balance=5),
}
every = pytest.mark.parametrize("name", list(KINDS))


def place(rows: Tensor, among: Tensor) -> list[int]:
    """Which row of ``among`` each row is."""
    return [int((among == r).flatten(1).all(1).nonzero()[0, 0]) for r in rows]


def pairs(coupled: Coupled, source: Tensor = SOURCE, data: Tensor = DATA) -> list[tuple[int, int]]:
    return list(zip(place(coupled.source, source), place(coupled.data, data)))


@every
def test_everything_of_a_sample_travels_with_it(name: str) -> None:
    """Label, numbers, masks and given values stay beside their data point; weights are finite with mean 1."""
    known = torch.zeros(N, 3, dtype=torch.bool)
    known[:, 0] = True
    cond = Cond(
        label={"a": LABELS, "b": LABELS * 2},
        numeric=torch.arange(N)[:, None].double(),
        tokens=DATA[:, :, None],
        image=DATA[:, None, None],
        valid=torch.ones(N, 3, dtype=torch.bool),
        known=known,
        given=DATA.clone(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = KINDS[name](SOURCE, DATA, cond, NOISE)
    where = place(out.data, DATA)
    assert (
        out.cond.label["b"].tolist() == [2 * int(LABELS[i]) for i in where]
        and out.cond.numeric[:, 0].tolist() == where
    )
    for field in (out.cond.given, out.cond.tokens[:, :, 0], out.cond.image[:, 0, 0]):
        assert torch.equal(field, out.data)
    assert set(place(out.source, SOURCE)) <= set(range(N)) and out.source.shape == SOURCE.shape
    if "resampled" not in name:
        assert where == list(range(N))
    if out.weight is not None:
        assert (
            out.weight.shape == (N,)
            and bool(torch.isfinite(out.weight).all())
            and not out.weight.requires_grad
        )
        assert float(out.weight.mean()) == pytest.approx(1.0, abs=1e-9 if name != "balanced" else 0.5)
    assert all(v.ndim == 0 and not v.requires_grad for v in out.logs.values())


@every
def test_draws_are_a_function_of_the_noise(name: str) -> None:
    cond = Cond(label=LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b, later = (
            KINDS[name](SOURCE, DATA, cond, n) for n in (NOISE, NoiseSource(range(N)), NOISE.at(1))
        )
        torch.manual_seed(0)
        state = torch.get_rng_state()
        KINDS[name](SOURCE, DATA, cond, NOISE)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a.source, b.source) and torch.equal(a.data, b.data)
    assert torch.equal(a.source, later.source) == (
        name not in ("ot resampled", "sinkhorn", "sinkhorn resampled", "sinkhorn per class", "unbalanced")
    )


@every
def test_a_shuffled_batch_has_the_same_pairs(name: str) -> None:
    """Shuffling samples together with their draws shuffles the result."""
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = KINDS[name](SOURCE, DATA, Cond(label=LABELS), NOISE)
        mixed = KINDS[name](SOURCE[order], DATA[order], Cond(label=LABELS[order]), NOISE.select(order))
    (
        torch.testing.assert_close(mixed.source, whole.source[order]),
        torch.testing.assert_close(mixed.data, whole.data[order]),
    )
    if whole.weight is not None:
        torch.testing.assert_close(mixed.weight, whole.weight[order], rtol=1e-8, atol=1e-10)
    for key, value in whole.logs.items():
        assert float(mixed.logs[key]) == pytest.approx(float(value), rel=1e-8)


@every
def test_a_batch_of_one(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # and nothing is said of it
        kind = KINDS[name]
        kind = OT(labels="ignore") if name == "ot" else kind
        out = kind(
            SOURCE[:1],
            DATA[:1],
            Cond(label=LABELS[:1]) if "class" in name or "cost" in name else Cond(),
            NoiseSource([4]),
        )
    assert torch.equal(out.source, SOURCE[:1]) and torch.equal(out.data, DATA[:1])
    assert out.weight is None or float(out.weight) == pytest.approx(1.0, abs=1e-12)
    assert "ess" not in out.logs or float(out.logs["ess"]) == pytest.approx(1.0)


def test_ot_is_the_optimal_permutation() -> None:
    out = OT()(SOURCE, DATA, Cond(), NOISE)
    cost = (SOURCE[:, None] - DATA).square().sum(-1)
    assert [i for i, _ in pairs(out)] == transport.assignment(cost).tolist()
    assert float(out.logs["mean_cost"]) == pytest.approx(
        float((out.source - out.data).square().sum(1).mean()), rel=1e-12
    )
    assert float(out.logs["mean_cost"]) < 0.7 * float((SOURCE - DATA).square().sum(1).mean())
    root = OT(cost="l2")(SOURCE, DATA, Cond(), NOISE)
    assert [i for i, _ in pairs(root)] == transport.assignment(cost.sqrt()).tolist()


def test_ot_on_a_line_sorts() -> None:
    x, y = points(50, 1), 2 * points(50, 1, 7)
    for cost in ("l2", "l2sq"):
        out = OT(cost=cost)(x, y, Cond(), NoiseSource(range(50)))
        assert torch.equal(out.data, y) and torch.equal(out.source[y[:, 0].argsort()], x[x[:, 0].argsort()])


def test_resampling_draws_pairs_of_the_plan() -> None:
    """Every pair is one of the permutation's, each as likely as any other, with about a third of the points
    left out."""
    n = 2000
    x, y = points(n, 1), points(n, 1, 5)
    plan = set(pairs(OT()(x, y, Cond(), NoiseSource(range(n))), x, y))
    out = OT(resample=True, labels="ignore")(x, y, Cond(label=torch.arange(n)), NoiseSource(range(n)))
    drawn = list(zip(place(out.source, x), out.cond.label.tolist()))
    assert set(drawn) <= plan and len(set(drawn)) / n == pytest.approx(0.632, abs=0.03)


@pytest.mark.slow
def test_sinkhorn_draws_from_its_plan() -> None:
    """The share of each pair over many steps, for both ways of drawing; cold plans are the assignment, hot
    ones independent."""
    x, y = points(5, 2), points(5, 2, 1)
    for resample in (False, True):
        coupling, count, rounds = Sinkhorn(reg=1.0, resample=resample), torch.zeros(5, 5), 600
        plan = coupling.plan(coupling.costs(x, y, Cond(), None)).exp()
        for step in range(rounds):
            chosen, rows, *_ = coupling.choose(x, y, Cond(), None, None, NoiseSource(range(5), step=step))
            count.index_put_(
                (chosen, torch.arange(5) if rows is None else rows),
                torch.tensor(1 / (5 * rounds)),
                accumulate=True,
            )
        torch.testing.assert_close(count.double(), plan, rtol=0, atol=0.02)
    cold = Sinkhorn(relative=1e-3, iterations=20_000, tolerance=1e-9)(SOURCE, DATA, Cond(), NOISE)
    assert pairs(cold) == pairs(OT()(SOURCE, DATA, Cond(), NOISE))
    hot = Sinkhorn(reg=1e9)
    torch.testing.assert_close(
        hot.plan(hot.costs(SOURCE, DATA, Cond(), None)).exp(),
        torch.full((N, N), N**-2.0, dtype=torch.float64),
    )


def test_unbalanced_transport_serves_outliers_less() -> None:
    data = DATA.clone()
    data[0] += 50
    out = Sinkhorn(reg=2.0, unbalanced=5.0)(SOURCE, data, Cond(), NOISE)
    assert float(out.weight[0]) < 0.05 and float(out.weight.mean()) == pytest.approx(1.0)
    stiff = Sinkhorn(reg=2.0, unbalanced=1e7, iterations=5000, tolerance=1e-9)(SOURCE, data, Cond(), NOISE)
    torch.testing.assert_close(stiff.weight, torch.ones(N, dtype=torch.float64), rtol=0, atol=1e-3)


def test_known_and_padded_entries_have_no_say() -> None:
    """The pairing is that of the entries which are free."""
    known = torch.zeros(N, 3, dtype=torch.bool)
    known[:, 0] = True
    cond = Cond(known=known, given=DATA)
    loud = SOURCE.clone()
    loud[:, 0] = 100 * points(N, 1, 8)[:, 0]
    expected = [
        i for i, _ in pairs(OT()(SOURCE[:, 1:], DATA[:, 1:], Cond(), NOISE), SOURCE[:, 1:], DATA[:, 1:])
    ]
    assert [i for i, _ in pairs(OT()(loud, DATA, cond, NOISE), loud)] == expected
    nodes, to = points(6, 4).view(6, 4, 1), points(6, 4, 2).view(6, 4, 1)
    valid = torch.arange(4) < torch.tensor([[2], [4], [3], [1], [4], [2]])
    free = Gibbs(eps=1.0, normalise="none")(nodes, to, Cond(valid=valid), NoiseSource(range(6)))
    expected = (-((nodes - to).square() * valid[..., None]).sum((1, 2)).sqrt()).exp()
    torch.testing.assert_close(free.weight, expected)


def test_warnings_of_two_runs_are_apart() -> None:
    """Neither Python's register of seen warnings nor another object keeps a run's warning from being seen."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for say in (Once(), Once()):
            say("kind", "the same words"), say("kind", "the same words"), say("other", "other words")
    assert [str(w.message) for w in caught] == ["the same words", "other words"] * 2


def test_paired_data() -> None:
    source = points(N, 3, 9)
    objective = build_objective(coupling="paired")
    assert torch.equal(objective.sample_pairs(Batch(DATA, source=source), NOISE).source, source)
    with pytest.raises(ValueError, match="without a source, expected pairs"):
        objective.sample_pairs(Batch(DATA), NOISE)
    assert torch.equal(Paired()(source, DATA, Cond(), NOISE).source, source)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_loss_reports_what_the_coupling_did() -> None:
    """And the energy of the paths it teaches: E|data − source|² of the pairs, in units of the whole sample;
    nothing keeps a graph alive."""
    shapes, data = points(N, 3), DATA.clone().requires_grad_()

    def net(x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        return torch.zeros_like(x)

    straight = Objective(LinearPath(), Direct("velocity")).loss(net, Batch(data, source=shapes), NOISE)
    assert float(straight.logs["path_energy"]) == pytest.approx(
        float((DATA - shapes).square().sum(1).mean()), rel=1e-6
    )
    short = Objective(LinearPath(), Direct("velocity"), coupling=OT()).loss(
        net, Batch(data, source=shapes), NOISE
    )
    assert float(short.logs["path_energy"]) == pytest.approx(float(short.logs["mean_cost"]), rel=1e-6)
    assert float(short.logs["path_energy"]) < 0.8 * float(straight.logs["path_energy"])
    weighted = Objective(LinearPath(), Direct("velocity"), coupling=Gibbs(eps=2.0)).loss(
        net, Batch(data, source=shapes), NOISE
    )
    w = (-(DATA - shapes).norm(dim=1) / 2).softmax(0)
    assert float(weighted.logs["path_energy"]) == pytest.approx(
        float((w * (DATA - shapes).square().sum(1)).sum()), rel=1e-6
    )
    assert {"error", "ess", "tilt_source", "tilt_data", "mean_cost", "eps", "path_energy"} == set(
        weighted.logs
    )
    for loss in (straight, short, weighted):
        assert loss.per_sample.requires_grad and not any(v.requires_grad for v in loss.logs.values())
    assert "path_energy" not in build_objective("vp", "noise").loss(net, Batch(DATA), NOISE).logs


@every
def test_the_model_is_trained_on_the_pairs(name: str) -> None:
    """The network's own target, pair by pair, times the weight."""
    cond = Cond(label=LABELS)
    seen: list[tuple[Tensor, Cond]] = []

    def net(x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        seen.append((x, cond))
        return torch.zeros_like(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = Objective(LinearPath(), Direct("velocity"), coupling=KINDS[name]).loss(
            net, Batch(DATA, cond, SOURCE), NOISE
        )
        out = KINDS[name](SOURCE, DATA, cond, NOISE)
    target = (out.data - out.source).square().mean(1)
    torch.testing.assert_close(
        loss.per_sample, target if out.weight is None else target * out.weight, rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(seen[0][0], loss.t[:, None] * out.data + (1 - loss.t[:, None]) * out.source)
    assert torch.equal(seen[0][1].label, out.cond.label)


def test_configs_name_couplings() -> None:
    assert set(REGISTRY) == {"independent", "ot", "sinkhorn", "gibbs", "paired"}
    assert isinstance(build_objective(coupling={"name": "ot", "labels": "per_class"}).coupling, OT)
    assert build_objective(coupling={"name": "sinkhorn", "reg": 2}).coupling.reg == 2.0
    assert build_objective(coupling={"name": "gibbs", "eps": 3, "balance": 10}).coupling.balance == 10
    for bad, message in (
        ("gibs", "got coupling 'gibs'.*did you mean 'gibbs'"),
        ({"name": "ot", "lables": "per_class"}, "unknown option 'lables'.*did you mean 'labels'"),
        ({"name": "ot", "labels": "by_class"}, "got labels 'by_class', expected per_class, ignore or none"),
        ({"name": "ot", "labels": "per_class", "label_cost": 1.0}, "expected one of them"),
        ({"name": "ot", "label_cost": -1.0}, "got label_cost=-1.0, expected 0 or more"),
        ({"name": "ot", "cost": "l1"}, "got cost 'l1', expected l2"),
        ({"name": "sinkhorn", "reg": 0.0}, "got reg=0.0, expected a positive number"),
        ({"name": "sinkhorn", "relative": -1.0}, "got relative=-1.0, expected a positive number"),
        ({"name": "sinkhorn", "unbalanced": 0.0}, "got unbalanced=0.0, expected a positive number"),
        (
            {"name": "sinkhorn", "reg": 1.0, "relative": 0.1},
            "got reg=1.0 and relative=0.1, expected one of them",
        ),
        ({"name": "sinkhorn", "iterations": 0}, "got iterations=0, expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            build_objective(coupling=bad)


def test_refusals() -> None:
    for kind in (OT(), Sinkhorn(), Gibbs()):
        with pytest.raises(ValueError, match=r"got sources of shape \(23, 3\) for data of shape \(24, 3\)"):
            kind(SOURCE[1:], DATA, Cond(), NOISE)
        with pytest.raises(ValueError, match=r"sources of shape \(24, 2\)"):
            kind(SOURCE[:, 1:], DATA, Cond(), NOISE)
    for labels in (OT(labels="per_class"), OT(label_cost=1.0)):
        with pytest.raises(ValueError, match="the batch has no labels"):
            labels(SOURCE, DATA, Cond(), NOISE)
    many = torch.zeros(100_000, 2)
    for kind in (OT(), Sinkhorn(), Gibbs(balance=5)):
        with pytest.raises(
            ValueError,
            match="got 100000 points to pair, expected at most 16384: .* 224 GiB .* try smaller batches, "
            "or the coupling gibbs",
        ):
            kind(many, many, Cond(), NOISE)
    with pytest.raises(ValueError, match="got 24 points to pair, expected at most 20"):
        OT(max_points=20)(SOURCE, DATA, Cond(), NOISE)
