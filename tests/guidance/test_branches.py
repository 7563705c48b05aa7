"""Branches from other models, and what a rule keeps between steps: exact mixtures across paths, calls
counted, solvers of several evaluations."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mixture import Mixture, gaussian, points
from torch import Tensor

from backbones import Cond, DiT, RunContext
from guidance import APG, CFG, Autoguidance, Dual, Guided, PriorSwap, Rule, Tangential
from samplers import Denoiser, EDMPath, FunctionDenoiser, LinearPath, Prediction, VPPath, build
from samplers.heads.parameterization import Direct
from samplers.paths import TrigPath
from samplers.reparameterised import same_path, seen_from

COND = Cond(label=torch.zeros(6, dtype=torch.int64))
X = points(6)
OTHER = Mixture((0.3, 0.7), ((0.5, 1.0), (-1.0, -0.5)), (0.5, 0.4))
PATHS = {
    "linear": LinearPath(),
    "trig": TrigPath(),
    "vp": VPPath(),
    "cosine": VPPath(schedule="cosine"),
    "edm": EDMPath(),
}
SPACES = {"linear": "velocity", "trig": "velocity", "vp": "noise", "cosine": "v", "edm": "data"}


class Theta(FunctionDenoiser):
    """With a label one Gaussian, without (poorly) the default mixture; counts its calls by branch."""

    def __init__(self, path: Any, space: str = "data"):
        self.labelled, self.plain = (
            gaussian(1.0, 0.3, 2).denoiser(path, space),
            Mixture().denoiser(path, space),
        )
        self.calls: list[str] = []
        super().__init__(
            path,
            lambda x, t, cond: (
                self.plain if cond.label is None or int(cond.label[0]) < 0 else self.labelled
            ).predict(x, t, cond),
        )

    def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        self.calls.append(ctx.branch if ctx else "")
        return super().predict(x, t, cond, ctx)


@pytest.mark.parametrize(
    "rules",
    [[CFG(3.0)], [Tangential(), CFG(3.0)], [APG(3.0, norm_threshold=1.0)]],
    ids=["cfg", "tcfg", "apg"],
)
def test_a_swap_with_itself_changes_nothing(rules: list[Rule]) -> None:
    for path in PATHS.values():
        model = Theta(path)
        plain = Guided(model, rules).predict(X, 0.5, COND).value
        assert torch.equal(Guided(model, [PriorSwap(model), *rules]).predict(X, 0.5, COND).value, plain)


@pytest.mark.parametrize("ours", PATHS)
@pytest.mark.parametrize("theirs", PATHS)
def test_a_prior_from_another_path_is_the_analytic_one(ours: str, theirs: str) -> None:
    """Samples guided away from an exact prior that lives on another path agree with those that know the prior
    on their own."""
    path = PATHS[ours]
    prior = OTHER.denoiser(PATHS[theirs], SPACES[theirs])
    exact = OTHER.denoiser(path)
    for t in (0.1, 0.5, 0.9):
        x = 0.7 * X
        swapped = Guided(Theta(path), [PriorSwap(prior), CFG(2.0)]).predict(x, t, COND).to("data")
        truth = Guided(Theta(path), [PriorSwap(exact), CFG(2.0)]).predict(x, t, COND).to("data")
        torch.testing.assert_close(swapped, truth, rtol=0, atol=1e-4 if "edm" not in (ours, theirs) else 2e-3)


@pytest.mark.parametrize("theirs", ["linear", "edm"])
def test_samples_with_a_swapped_prior(theirs: str) -> None:
    """VP ↔ flow and VP ↔ EDM, whole trajectories to 1e-4."""
    path = PATHS["vp"]
    truth = build("heun").sample(
        Guided(Theta(path), [PriorSwap(OTHER.denoiser(path)), CFG(1.5)]), X, COND, num_steps=40
    )
    swapped = build("heun").sample(
        Guided(Theta(path), [PriorSwap(OTHER.denoiser(PATHS[theirs], SPACES[theirs])), CFG(1.5)]),
        X,
        COND,
        num_steps=40,
    )
    assert float((truth - swapped).abs().max()) <= 1e-4


def test_the_nearest_entry_of_another_table(golden: Callable[[str], Any]) -> None:
    """Stable Diffusion's table asked from the original one: 101 → 101, 201 → 164, …, 999 → 727; the state is
    handed over as it is, and it is the other model's noise that is kept."""
    ours, theirs = VPPath(schedule="scaled_linear", start=0.00085, end=0.012), VPPath()
    asked: list[tuple[float, Tensor]] = []
    noise = torch.full((6, 2), 0.3, dtype=torch.float64)

    def answer(x: Tensor, t: Any, cond: Cond) -> Prediction:
        asked.append((float(theirs.index(t)), x))
        return Prediction("noise", noise, x, t, theirs)

    prior = FunctionDenoiser(theirs, answer)
    for k, expected in {
        101: 101,
        201: 164,
        401: 288,
        501: 354,
        601: 423,
        801: 570,
        981: 712,
        999: 727,
    }.items():
        model = Guided(Theta(ours), [PriorSwap(prior, match="nearest"), CFG(0.0)])
        out = model.predict(X, ours.time(k), COND)
        index, x = asked[-1]
        assert round(index) == expected, (k, index)
        torch.testing.assert_close(x, X, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(out.to("noise"), noise, rtol=1e-9, atol=1e-9)


def test_a_prior_gets_its_own_null_and_is_asked_only_where_it_is_needed() -> None:
    path, seen = LinearPath(), []  # type: LinearPath, list[Cond]
    model = Theta(path)
    prior = FunctionDenoiser(
        path, lambda x, t, cond: (seen.append(cond), OTHER.denoiser(path).predict(x, t, cond))[1]
    )
    guided = Guided(model, [PriorSwap(prior), CFG(2.0, interval=(0.2, 0.6))])
    known = torch.ones(6, 2, dtype=torch.bool)
    cond = Cond(label=COND.label, image=torch.ones(6, 1, 2, 2), valid=known)
    for t in (0.1, 0.3, 0.7):
        guided.predict(X, t, cond)
    assert model.calls == ["cond"] * 3 and len(seen) == 1
    assert seen[0].label is None and seen[0].image is None and seen[0].valid is known


def test_a_prior_that_knows_the_first_channels_only() -> None:
    """The others keep the conditional prediction, in the space that the rule works in."""
    path = LinearPath()
    c, prior_value = (
        torch.randn(2, 4, 3, 3, dtype=torch.float64),
        torch.randn(2, 3, 3, 3, dtype=torch.float64),
    )
    model = FunctionDenoiser(path, lambda x, t, cond: Prediction("velocity", c, x, t, path))
    shapes: list[Any] = []
    prior = FunctionDenoiser(
        path, lambda x, t, cond: (shapes.append(x.shape), Prediction("velocity", prior_value, x, t, path))[1]
    )
    out = Guided(model, [PriorSwap(prior, channels=3), CFG(3.0)]).predict(
        torch.randn(2, 4, 3, 3, dtype=torch.float64), 0.4, Cond()
    )
    torch.testing.assert_close(out.value[:, :3], prior_value + 3 * (c[:, :3] - prior_value))
    torch.testing.assert_close(out.value[:, 3:], c[:, 3:])
    assert shapes == [(2, 3, 3, 3)]


def test_a_prior_beside_two_conditions_replaces_the_empty_one_only() -> None:
    path = LinearPath()
    prior = OTHER.denoiser(path)
    cond = Cond(label=COND.label, numeric=torch.ones(6, 1, dtype=torch.float64))
    model = Theta(path)
    out = Guided(model, [PriorSwap(prior), Dual(2.0, 3.0, keep="label")]).predict(X, 0.5, cond).to("data")
    e0, e1 = prior.predict(X, 0.5, cond).to("data"), model.labelled.predict(X, 0.5, cond).to("data")
    # this model does not look at the number: e(c₁, ∅) = e(c₁, c₂)
    torch.testing.assert_close(out, e0 + 2 * (e1 - e0) + 0.0)


def test_autoguidance_and_cfg_add_up() -> None:
    path = LinearPath()
    model, weak = Theta(path), gaussian(0.8, 0.5, 2).denoiser(path)
    c, u, o = (m.predict(X, 0.5, COND).to("data") for m in (model.labelled, model.plain, weak))
    both = Guided(model, [Autoguidance(2.0, model=weak), CFG(3.0)]).predict(X, 0.5, COND).to("data")
    torch.testing.assert_close(both, c + (c - o) + 2 * (c - u))
    assert model.calls == ["cond", "uncond"]
    alone = Guided(model, [Autoguidance(1.0, model=weak)]).predict(X, 0.5, COND).to("data")
    torch.testing.assert_close(alone, c)


def test_what_does_not_fit_is_refused() -> None:
    path = LinearPath()
    model = Theta(path)
    with pytest.raises(ValueError, match="Autoguidance needs another model; pass model="):
        Guided(model, [Autoguidance(2.0)])
    with pytest.raises(ValueError, match="PriorSwap names the model 'base', which is not loaded"):
        Guided(model, [PriorSwap("base"), CFG(2.0)])
    with pytest.raises(ValueError, match="got two rules that provide the uncond branch, expected one"):
        Guided(model, [PriorSwap(model), PriorSwap(model), CFG(2.0)])
    with pytest.raises(ValueError, match="PriorSwap is about the uncond branch, which no other rule uses"):
        Guided(model, [PriorSwap(model)])
    bridge = Theta(path)
    bridge.starts = "source"
    with pytest.raises(
        ValueError,
        match="got a model of euclid that starts from source to guide one of euclid that starts from noise",
    ):
        Guided(model, [PriorSwap(bridge), CFG(2.0)])


def test_which_paths_are_one() -> None:
    fresh = {
        "linear": LinearPath(),
        "trig": TrigPath(),
        "vp": VPPath(),
        "cosine": VPPath(schedule="cosine"),
        "edm": EDMPath(),
    }
    for a in PATHS:
        for b in fresh:
            assert same_path(PATHS[a], fresh[b]) == (a == b)
    assert not same_path(VPPath(), VPPath(num=500)) and not same_path(EDMPath(), EDMPath(sigma_max=40.0))
    model = Theta(LinearPath())
    assert seen_from(model, LinearPath()) is model


class Counting(Rule):
    """Remembers in its state how many steps it has seen and what it found there."""

    def combine(self, predictions: Any, *, x: Tensor, t: Any, path: Any, state: dict[str, Any]) -> Tensor:
        state["steps"] = state.get("steps", 0) + 1
        self.seen.append((state["step"], state["steps"]))
        return torch.lerp(predictions["uncond"], predictions["cond"], 2.0)

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []


@pytest.mark.parametrize("name, per_step", [("euler", 1), ("heun", 2), ("rk4", 4), ("midpoint", 2)])
def test_state_counts_steps_and_not_evaluations(name: str, per_step: int) -> None:
    rule, model = Counting(), Theta(LinearPath())
    ctx = RunContext()
    list(build(name).steps(Guided(model, [rule]), X, COND, num_steps=5, ctx=ctx))
    # every evaluation of a step finds what was there before it
    assert rule.seen == [(i, i + 1) for i in range(5) for _ in range(per_step)]
    assert ctx.states["rule 0"][1]["steps"] == 5


def test_state_of_an_adaptive_solver_counts_accepted_steps() -> None:
    rule, model, ctx = Counting(), Theta(LinearPath()), RunContext()
    steps = list(
        build("torchdiffeq", method="dopri5", rtol=1e-6, atol=1e-6).steps(
            Guided(model, [rule]), X, COND, num_steps=5, ctx=ctx
        )
    )
    assert len(rule.seen) > 2 * len(steps)
    # the solver asks once more at the end of the last one
    assert len(steps) <= ctx.states["rule 0"][1]["steps"] <= len(steps) + 1


def test_momentum_is_the_same_recursion_under_one_and_two_evaluations() -> None:
    """Where c − u is constant, Heun must do what Euler does, or momentum was counted twice."""
    path = LinearPath()
    c, u = (
        torch.full((6, 2), 2.0, dtype=torch.float64),
        torch.tensor([[1.0, 0.5]], dtype=torch.float64).expand(6, 2),
    )
    model = FunctionDenoiser(
        path, lambda x, t, cond: Prediction("velocity", u if int(cond.label[0]) < 0 else c, x, t, path)
    )
    rules: list[Rule] = [APG(3.0, momentum=-0.5, eta=0.3, space="velocity")]
    one, two = (build(name).sample(Guided(model, rules), X, COND, num_steps=6) for name in ("euler", "heun"))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_runs_in_two_threads_do_not_touch_each_other() -> None:
    path, rules = LinearPath(), [APG(4.0, momentum=-0.5, norm_threshold=1.0)]
    model = Guided(Theta(path), rules)
    alone = [build("heun").sample(model, x, COND, num_steps=8) for x in (X, X.flip(0))]
    results: list[Tensor | None] = [None, None]

    def run(i: int) -> None:
        results[i] = build("heun").sample(model, (X, X.flip(0))[i], COND, num_steps=8)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(r is not None and torch.equal(r, a) for r, a in zip(results, alone))


def test_the_probe_records_each_step_without_asking_again() -> None:
    path = LinearPath()
    model = Theta(path)
    ctx = RunContext(taps={"probe": []})
    list(
        build("heun").steps(
            Guided(model, [Tangential(), CFG(3.0, interval=(0.25, 1.0))]), X, COND, num_steps=4, ctx=ctx
        )
    )
    assert model.calls.count("uncond") == 6 and model.calls.count("cond") == 8  # as without it
    rows = ctx.taps["probe"]
    assert [(r["step"], r["t"], r["branch"]) for r in rows] == [
        (1, 0.25, "uncond"),
        (2, 0.5, "uncond"),
        (3, 0.75, "uncond"),
    ]
    ctx = RunContext(t=0.5, taps={"probe": []})
    Guided(model, [CFG(3.0)]).predict(X, 0.5, COND, ctx)
    c, u = (m.predict(X, 0.5, COND).to("velocity") for m in (model.labelled, model.plain))
    row = ctx.taps["probe"][0]
    assert row["scale"] == pytest.approx(3.0) and row["difference"] == pytest.approx(
        float((c - u).norm(dim=1).mean())
    )
    assert row["ratio"] == pytest.approx(float((c.norm(dim=1) / u.norm(dim=1)).mean()))
    assert row["cosine"] == pytest.approx(float(torch.nn.functional.cosine_similarity(c, u).mean()))


def test_rules_in_the_space_of_noise_at_the_end_of_pure_noise() -> None:
    """There every noise prediction is the state itself. A flow still knows its data: damping does what it
    does just beside the end."""
    path = LinearPath()
    model = Theta(path, "velocity")
    rules: list[Rule] = [Tangential(), CFG(3.0)]
    at, beside = (Guided(model, rules).predict(X, t, COND).to("data") for t in (0.0, 2e-3))
    torch.testing.assert_close(at, beside, rtol=0, atol=2e-2)
    c, u = (m.predict(X, 0.0, COND).to("data") for m in (model.labelled, model.plain))
    d = c - u
    across = d - (d * X).sum(1, keepdim=True) / (X * X).sum(1, keepdim=True) * X
    # to first order, across and along the state
    torch.testing.assert_close(at, u + 3 * (d - across) + 2 * across, rtol=0, atol=2e-2)
    both = torch.cat([X[:3], X[3:]])
    times = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.5, 0.5], dtype=torch.float64)
    mixed = Guided(model, rules).predict(both, times, COND)
    assert mixed.t is times
    torch.testing.assert_close(mixed.to("data")[:3], at[:3])
    torch.testing.assert_close(
        mixed.to("data")[3:], Guided(model, rules).predict(X, 0.5, COND).to("data")[3:]
    )


def test_a_bounded_prior() -> None:
    """Where there is nothing but noise, a model of noise with the slightest error would put the data
    anywhere."""
    theirs, ours = VPPath(schedule="cosine"), LinearPath()
    wrong = FunctionDenoiser(theirs, lambda x, t, cond: Prediction("noise", 1.01 * x, x, t, theirs))
    free, bound = (
        Guided(Theta(ours), [PriorSwap(wrong, clip=clip), CFG(0.0)]).predict(X, 0.0, COND).to("data")
        for clip in (None, 1.0)
    )
    assert float(free.abs().max()) > 50 and float(bound.abs().max()) == 1.0
    with pytest.raises(ValueError, match="got clip=-1, expected a positive bound"):
        PriorSwap(wrong, clip=-1)


def test_one_call_of_twice_the_batch_is_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tokens: one call, the same numbers, heads and times included; many: two calls."""
    monkeypatch.setattr("backbones.batching.filled", lambda dtype, threads: 256)  # whatever machine this is
    calls: list[tuple[str, int]] = []

    class Seen(Denoiser):
        def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
            calls.append((ctx.branch if ctx else "", len(x)))
            return super().predict(x, t, cond, ctx)

    net = DiT(
        input_size=8,
        patch_size=2,
        in_channels=1,
        hidden_size=16,
        depth=1,
        num_heads=2,
        num_classes=4,
        num_numeric=2,
        learn_sigma=True,
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(p.numel()))
    model = Seen(net, VPPath(), Direct("noise", variance="learned_range")).requires_grad_(False)
    g = torch.Generator().manual_seed(0)
    few, many = torch.randn(16, 1, 8, 8, generator=g), torch.randn(17, 1, 8, 8, generator=g)
    for x in (few, many):
        cond = Cond(
            label=torch.arange(len(x)) % 4,
            numeric=torch.randn(len(x), 2, generator=g),
            known=torch.zeros_like(x, dtype=torch.bool),
            given=x,
        )
        for t in (0.5, torch.linspace(0.1, 0.9, len(x), dtype=torch.float64)):
            calls.clear()
            out = Guided(model, [CFG(3.0)]).predict(x, t, cond)
            assert calls == ([("both", 32)] if x is few else [("cond", 17), ("uncond", 17)])
            c, u = model.predict(x, t, cond), model.predict(x, t, cond.null())
            torch.testing.assert_close(out.value, u.value + 3 * (c.value - u.value), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(out.head("variance"), c.head("variance"), rtol=1e-4, atol=1e-5)
            assert out.x is x and out.t is t


# not on paths that begin where a score says nothing of the data
@pytest.mark.parametrize("name", ["vp", "cosine", "edm"])
def test_guided_samples_follow_the_analytic_score(name: str) -> None:
    """w ∇log p(x_t | c) + (1 − w) ∇log p(x_t) by automatic differentiation of the densities, against cfg on
    the two exact models."""
    path, w = PATHS[name], 2.5
    labelled, plain = gaussian(1.0, 0.3, 2), Mixture()

    def answer(x: Tensor, t: Any, cond: Cond) -> Prediction:
        c = path.coefficients(t)  # type: ignore[attr-defined]
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            density = w * labelled.log_prob(at, c.alpha, c.sigma) + (1 - w) * plain.log_prob(
                at, c.alpha, c.sigma
            )
            score = torch.autograd.grad(density.sum(), at)[0]
        return Prediction("score", score, x, t, path)  # type: ignore[arg-type]

    x = X * path.prior_scale  # type: ignore[attr-defined]
    truth = build("heun").sample(FunctionDenoiser(path, answer), x, COND, num_steps=30)
    model = FunctionDenoiser(
        path,  # type: ignore[arg-type]
        lambda x, t, cond: (
            (plain if int(cond.label[0]) < 0 else labelled).denoiser(path, SPACES[name]).predict(x, t, cond)
        ),  # type: ignore[arg-type]
    )
    sampled = build("heun").sample(Guided(model, [CFG(w)]), x, COND, num_steps=30)
    torch.testing.assert_close(sampled, truth, rtol=1e-6, atol=1e-6)
