"""Tokens against closed forms: three places of two tokens whose joint law, and so every conditional, is
known."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.types import Cond, NoiseSource
from guidance import Guided
from guidance import build as rule
from samplers import Denoiser, build
from samplers.batch import Batch, State
from samplers.heads.tokens import TokenLogits
from samplers.objective import build_objective
from samplers.paths.tokens import SCHEDULES, TokenPath
from samplers.solvers.orders import halton_ranks

L, V = 3, 2
STATES = torch.tensor(list(itertools.product(range(V), repeat=L)))  # (8, 3)
LAW = torch.tensor([0.30, 0.02, 0.06, 0.12, 0.05, 0.15, 0.10, 0.20], dtype=torch.float64)
PAIR = torch.tensor([0.6, *[0.0] * 6, 0.4], dtype=torch.float64)  # 000 or 111
COUNT = 40_000


class Exact(torch.nn.Module):
    """log p(x_i | what is visible), for every place; labels choose among laws."""

    def __init__(self, *laws: Tensor):
        super().__init__()
        self.laws, self.calls = torch.stack(laws), 0

    def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        self.calls += 1
        label = torch.zeros(len(x), dtype=torch.int64) if cond is None or cond.label is None else cond.label
        fits = ((x[:, None] == STATES) | (x[:, None] == V)).all(2)  # (B, 8)
        w = self.laws[label] * fits
        one = torch.stack([(w[..., None] * (STATES == v)).sum(1) for v in range(V)], -1)  # (B, L, V)
        return (one / one.sum(-1, keepdim=True)).clamp_min(1e-300).log()


def model(law: Tensor = LAW, **options: Any) -> Denoiser:
    return Denoiser(Exact(law), TokenPath(vocab=V, **options), TokenLogits())  # type: ignore[arg-type]


def sampled(
    denoiser: Any, count: int = COUNT, *, steps: int = L, cond: Cond | None = None, **options: Any
) -> Tensor:
    noise = NoiseSource(range(count))
    x, told = denoiser.path.space.start(noise, (L,))
    return build("masked", **options).sample(denoiser, x, cond or told, noise, num_steps=steps)


def shares(x: Tensor) -> Tensor:
    return torch.bincount((x * torch.tensor([4, 2, 1])).sum(1), minlength=8).double() / len(x)


def near(found: Tensor, law: Tensor, count: int = COUNT) -> None:
    """Chi-square of seven degrees of freedom below its 0.001 quantile; nothing where the law has nothing."""
    some = law > 0
    assert not found[~some].any()
    assert float((count * (found - law)[some] ** 2 / law[some]).sum()) < 24.3


def product(law: Tensor) -> Tensor:
    ones = (law[:, None] * STATES).sum(0)
    return torch.where(STATES == 1, ones, 1 - ones).prod(1)


# ---- samplers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["random", "halton"])
def test_one_place_a_step_is_the_joint_law(order: str) -> None:
    near(shares(sampled(model(), order=order)), LAW)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("order", ["ancestral", "random", "confidence", "gumbel"])
def test_one_step_is_the_product_of_marginals(order: str, schedule: str) -> None:
    near(shares(sampled(model(schedule=schedule), 10_000, steps=1, order=order)), product(LAW), 10_000)


def two_steps(law: Tensor) -> Tensor:
    """Of two places first, each by itself, and the other given them, over the three choices."""

    def given(places: tuple[int, ...], of: Tensor) -> Tensor:
        same = (STATES[:, None, list(places)] == STATES[None, :, list(places)]).all(2)  # (8 asked, 8)
        mass = (same * law).sum(1)
        one = torch.stack(
            [(same * law * (STATES[:, i] == STATES[:, None, i])).sum(1) / mass for i in range(L)], 1
        )
        return torch.where(of, one, 1.0).prod(1)

    total = torch.zeros(8, dtype=torch.float64)
    for first in itertools.combinations(range(L), 2):
        rest = torch.tensor([i not in first for i in range(L)])
        total += given((), ~rest) * given(first, rest) / 3
    return total


def test_two_steps_are_the_mixture_over_who_comes_first() -> None:
    """Of three places 3·½ are left after the first step, rounded down: two are revealed, then one."""
    near(shares(sampled(model(), steps=2, order="random")), two_steps(LAW))
    assert float((two_steps(LAW) - LAW).abs().sum()) < float((product(LAW) - LAW).abs().sum())


def test_many_ancestral_steps_are_the_joint_law() -> None:
    """Two places that are revealed in one step of K are the only error: of order 1/K."""
    found = shares(sampled(model(), 10_000, steps=50))
    assert float((found - LAW).abs().sum()) / 2 < 0.02
    far = float((shares(sampled(model(), 10_000, steps=2)) - LAW).abs().sum()) / 2
    assert far > 0.04


def test_uniform_corruption_has_the_law_of_many_steps() -> None:
    """The posterior of every place, from the exact denoiser under uniform corruption."""
    path = TokenPath(vocab=V, corruption="uniform")

    class Posterior(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
            k = float(t[0]) / 1000
            w = torch.where(x[:, None] == STATES, k + (1 - k) / V, (1 - k) / V).double().prod(2) * LAW
            one = torch.stack([(w[..., None] * (STATES == v)).sum(1) for v in range(V)], -1)
            return (one / one.sum(-1, keepdim=True)).clamp_min(1e-300).log()

    exact = Denoiser(Posterior(), path, TokenLogits())  # type: ignore[arg-type]
    found = shares(sampled(exact, 10_000, steps=60))
    assert float((found - LAW).abs().sum()) / 2 < 0.02
    with pytest.raises(ValueError, match="nothing is masked"):
        sampled(exact, 2, order="confidence")


@pytest.mark.parametrize("order, temperature, ones", [("confidence", 1.0, 0.4**3), ("gumbel", 1e6, 0.4)])
def test_confidence_is_biased_by_an_exact_number(order: str, temperature: float, ones: float) -> None:
    """000 or 111: the majority wins unless every place draws a 1; endless noise gives the law back."""
    found = shares(sampled(model(PAIR), order=order, choice_temperature=temperature))
    assert float(found[7]) == pytest.approx(ones, abs=4 * math.sqrt(ones * (1 - ones) / COUNT))
    assert float(found[0] + found[7]) == 1


@pytest.mark.parametrize("remask, eta", [("cap", 0.1), ("cap", 0.8), ("rescale", 0.5)])
def test_masking_again_keeps_the_marginals(remask: str, eta: float) -> None:
    """Of places that do not depend on each other: after every step the share of visible tokens is what the
    path says, and what they are what the law says."""
    denoiser, noise = model(product(LAW)), NoiseSource(range(20_000))
    x, told = denoiser.path.space.start(noise, (L,))
    ones = (LAW[:, None] * STATES).sum(0)
    again = False
    for step in build("masked", remask=remask, eta=eta).steps(denoiser, x, told, noise, num_steps=6):
        seen = step.x != V
        assert seen.double().mean(0).tolist() == pytest.approx([step.s] * L, abs=0.012)
        of = ((step.x == 1) & seen).double().sum(0) / seen.double().sum(0)
        if step.s >= 0.5:
            assert of.tolist() == pytest.approx(ones.tolist(), abs=0.02)
        again, x = again or bool(((x != V) & ~seen).any()), step.x
    assert again


def test_what_is_visible_stays_and_known_tokens_are_given_back() -> None:
    denoiser, noise = model(), NoiseSource(range(20_000))
    known = torch.tensor([[False, True, False]]).expand(20_000, L)
    cond = Cond(known=known, given=torch.ones(20_000, L, dtype=torch.int64))
    x, _ = denoiser.path.space.start(noise, (L,))
    before = torch.where(known, 1, x)
    for step in build("masked", order="random").steps(denoiser, x, cond, noise, num_steps=5):
        seen = before != V
        assert torch.equal(step.x[seen], before[seen]) and int(step.x.max()) <= V
        before = step.x
    assert int(before.max()) < V and (before[:, 1] == 1).all()
    law = LAW * (STATES[:, 1] == 1)
    near(shares(before), law / law.sum(), 20_000)


@pytest.mark.parametrize("order", ["ancestral", "random", "confidence", "gumbel", "halton"])
def test_a_sample_is_its_seeds(order: str) -> None:
    whole = sampled(model(), 8, order=order, steps=2)
    noise = NoiseSource([5])
    x, cond = model().path.space.start(noise, (L,))
    alone = build("masked", order=order).sample(model(), x, cond, noise, num_steps=2)
    assert torch.equal(alone[0], whole[5])


def test_more_steps_than_places() -> None:
    near(shares(sampled(model(), 10_000, steps=11, order="random")), LAW, 10_000)


def test_guidance_is_in_log_probabilities() -> None:
    """One step of one place: q_c² / q_∅ at scale 2, the condition alone at 1, none at 0."""
    other = LAW.flip(0)
    net = Exact(other, LAW)  # label −1 is the last
    denoiser = Denoiser(net, TokenPath(vocab=V), TokenLogits())  # type: ignore[arg-type]
    cond = Cond(label=torch.zeros(1, dtype=torch.int64))
    x = torch.full((1, L), V)
    c, u = (denoiser.predict(x, 0.5, k).to("probs")[0].double() for k in (cond, cond.null()))
    for scale, want in ((2.0, c**2 / u), (1.0, c), (0.0, u)):
        got = Guided(denoiser, [rule("cfg", scale=scale)]).predict(x, 0.5, cond).to("probs")[0].double()
        torch.testing.assert_close(got, want / want.sum(-1, keepdim=True), rtol=1e-5, atol=1e-7)


def test_sharper_draws() -> None:
    sampler = build("masked", temperature=0.5, top_p=1.0)
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    torch.testing.assert_close(sampler.tempered(p.log()), p**2 / (p**2).sum())  # type: ignore[attr-defined]
    nucleus = build("masked", top_p=0.6).tempered(p.log())  # type: ignore[attr-defined]
    torch.testing.assert_close(nucleus, torch.tensor([0.625, 0.375, 0.0], dtype=torch.float64))


def test_halton_visits_every_place_once_and_spreads() -> None:
    """The first six, of bases 2 and 3, lie one in each of two by three parts."""
    ranks = halton_ranks((4, 6))
    assert sorted(ranks.flatten().tolist()) == list(range(24))
    first = (ranks < 6).nonzero()
    assert len({(int(r) // 2, int(c) // 2) for r, c in first}) == 6


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight, schedule", itertools.product(["elbo", "count"], SCHEDULES))
def test_the_bound_is_the_likelihood(weight: str, schedule: str) -> None:
    """With exact conditionals the mean over times and masks is −log p(x): of all masks, at fine times."""
    x = torch.tensor([[1, 0, 1]])
    net, path = Exact(LAW), TokenPath(vocab=V, schedule=schedule)
    cells = 4000
    t = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    objective = build_objective(path=path, weight=weight)
    total = 0.0
    for hidden in itertools.product([False, True], repeat=L):
        m = torch.tensor([hidden])
        keep = path.keep(t)
        chance = torch.where(m, 1 - keep[:, None], keep[:, None]).prod(1)
        state = torch.where(m, V, x)
        logits = net(state, t).expand(cells, L, V).float()
        p = objective.parameterization.predict(
            lambda *a, of=logits: of, state.expand(cells, L), t, Cond(), path
        )
        (error,) = objective.parameterization.errors(
            p, State(p.x, t, Cond(), {"data": x.expand(cells, L)}), path.space
        )
        total += float((objective.weight(error, path, t) * chance).mean())
    want = -math.log(float(LAW[5])) / L
    assert total == pytest.approx(want, rel=4e-3 if schedule == "arccos" else 2e-5)


def test_masks_come_as_often_as_the_path_says_and_known_ones_never() -> None:
    path = TokenPath(vocab=5, schedule="cosine")
    objective = build_objective(path=path)
    data = torch.randint(0, 5, (4000, 6), generator=torch.Generator().manual_seed(0))
    known = torch.zeros(4000, 6, dtype=torch.bool)
    known[:, 2] = True
    noise = NoiseSource(range(4000))
    pairs = objective.sample_pairs(Batch(data, Cond(known=known)), noise)
    t = torch.full((4000,), 0.6, dtype=torch.float64)
    state = objective.state(pairs, t, noise)
    seen = (state.x != 5).double().mean(0)
    assert float(seen[2]) == 1
    assert seen[[0, 1, 3, 4, 5]].tolist() == pytest.approx([float(path.keep(0.6))] * 5, abs=0.04)
    assert torch.equal(state.x[state.x != 5], data[state.x != 5])

    def net(x: Tensor, t: Tensor, cond: Any, ctx: Any = None) -> Tensor:
        assert not t.any()  # it is told no time
        return torch.zeros(*x.shape, 5)

    loss = objective.loss(net, Batch(data, Cond(known=known)), noise)  # type: ignore[arg-type]
    some = (loss.per_sample > 0).double().mean()
    torch.testing.assert_close(
        loss.per_sample[loss.per_sample > 0], torch.full((int(some * 4000),), math.log(5))
    )


def test_uniform_noise_keeps_and_replaces() -> None:
    path = TokenPath(vocab=4, corruption="uniform", schedule="linear")
    objective = build_objective(path=path)
    data = torch.zeros(8000, 2, dtype=torch.int64)
    noise = NoiseSource(range(8000))
    state = objective.state(
        objective.sample_pairs(Batch(data), noise), torch.full((8000,), 0.4, dtype=torch.float64), noise
    )
    found = torch.bincount(state.x.flatten(), minlength=4).double() / state.x.numel()
    assert found.tolist() == pytest.approx([0.4 + 0.15, 0.15, 0.15, 0.15], abs=0.015)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: TokenPath(vocab=1), "at least two tokens"),
        (lambda: TokenPath(vocab=4, schedule="linea"), "expected one of linear"),
        (lambda: TokenPath(vocab=4, corruption="gauss"), "expected one of absorbing"),
        (lambda: build("masked", order="randm"), "did you mean 'random'"),
        (lambda: build("masked", top_p=0), "a share above 0"),
        (lambda: build("masked", order="random", remask="cap"), "expected ancestral"),
        (
            lambda: model().predict(torch.zeros(1, L, dtype=torch.int64), 0.5, Cond()).to("noise"),
            "neither noise",
        ),
        (lambda: build_objective(path={"name": "masked", "vocab": 4}, coupling="ot"), "has no such choice"),
    ],
)
def test_what_there_is_not(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_weight_that_does_not_fit_the_path() -> None:
    objective = build_objective(path={"name": "masked", "vocab": 4, "corruption": "uniform"}, weight="count")
    with pytest.raises(ValueError, match="choose weight=ce"):
        objective.loss(
            lambda x, *a: torch.zeros(*x.shape, 4), Batch(torch.zeros(2, 3).long()), NoiseSource([0, 1])
        )  # type: ignore[arg-type]
