"""The engine and its two rules: exact ends of the scale, calls counted, intervals, channels, order of stages,
recorded results."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mixture import Mixture, gaussian, points
from torch import Tensor

from backbones import Cond, NoiseSource, RunContext
from guidance import CFG, Guided, Rescale, Rule
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, VPPath, build
from samplers.denoiser import Queryable

PATHS = {"linear": LinearPath(), "vp": VPPath(), "edm": EDMPath()}
every_path = pytest.mark.parametrize("path", list(PATHS.values()), ids=list(PATHS))


class Two(FunctionDenoiser):
    """A model with one exact mixture for a label and another without; remembers branch and time of its
    calls."""

    def __init__(self, path: Any, space: str = "data"):
        self.with_label, self.without = (
            gaussian(1.0, 0.3, 2).denoiser(path, space),
            Mixture().denoiser(path, space),
        )
        self.calls: list[tuple[str, float]] = []
        super().__init__(
            path,
            lambda x, t, cond: (self.without if int(cond.label[0]) < 0 else self.with_label).predict(
                x, t, cond
            ),
        )

    def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        self.calls.append((ctx.branch if ctx else "", float(t)))
        return super().predict(x, t, cond, ctx)


COND = Cond(label=torch.zeros(6, dtype=torch.int64))
X = points(6)


@every_path
def test_scale_one_is_conditional_and_asks_once(path: Any) -> None:
    model = Two(path)
    out = Guided(model, [CFG(1.0)]).predict(X, 0.5, COND)
    assert torch.equal(out.value, model.with_label.predict(X, 0.5, COND).value) and model.calls == [
        ("cond", 0.5)
    ]


@every_path
@pytest.mark.parametrize("space", ["data", "noise", "v", "velocity"])
def test_scale_zero_is_unconditional(path: Any, space: str) -> None:
    model = Two(path, space)
    out = Guided(model, [CFG(0.0)]).predict(X, 0.5, COND)
    torch.testing.assert_close(
        out.to("data"), model.without.predict(X, 0.5, COND).to("data"), rtol=1e-10, atol=1e-10
    )
    assert [b for b, _ in model.calls] == ["cond", "uncond"]


@every_path
@pytest.mark.parametrize("w", [-0.5, 0.3, 2.0, 7.5])
def test_the_formula_in_every_space(path: Any, w: float) -> None:
    """u + w (c − u), whatever the model emits and wherever it is read."""
    for emitted in ("data", "noise", "velocity"):
        model = Two(path, emitted)
        out = Guided(model, [CFG(w)]).predict(X, 0.4, COND)
        c, u = model.with_label.predict(X, 0.4, COND), model.without.predict(X, 0.4, COND)
        for space in ("data", "noise", "v", "velocity", "score"):
            torch.testing.assert_close(
                out.to(space), u.to(space) + w * (c.to(space) - u.to(space)), rtol=1e-8, atol=1e-8
            )


def test_the_same_condition_twice_is_no_guidance() -> None:
    model = Mixture().denoiser(LinearPath())
    out = Guided(model, [CFG(5.0)]).predict(X, 0.4, COND).to("data")
    torch.testing.assert_close(out, model.predict(X, 0.4, COND).to("data"), rtol=1e-10, atol=1e-10)


def test_interval_in_t() -> None:
    """Half open, a ≤ t < b, and closed at the data when b is 1; outside of it the second call is not made."""

    def calls(t: float, interval: tuple[float, float]) -> int:
        model = Two(LinearPath())
        Guided(model, [CFG(2.0, interval=interval)]).predict(X, t, COND)
        return len(model.calls)

    assert [calls(t, (0.1, 0.9)) for t in (0.0, 0.0999, 0.1, 0.5, 0.8999, 0.9, 1.0)] == [1, 1, 2, 2, 2, 1, 1]
    assert [calls(t, (0.5, 1.0)) for t in (0.4, 0.5, 1.0)] == [1, 2, 2]


@every_path
def test_interval_in_sigma(path: Any) -> None:
    """lo < sigma/alpha ≤ hi, the same levels on every path."""
    model = Two(path)
    guided = Guided(model, [CFG(2.0, interval_sigma=(0.3, 2.0))])
    counts = []
    for sigma in (5.0, 2.0001, 1.9999, 1.0, 0.3001, 0.2999, 0.05):
        model.calls.clear()
        guided.predict(X, float(path.time_of(torch.tensor(sigma, dtype=torch.float64).pow(-2).log())), COND)
        counts.append(len(model.calls))
    assert counts == [1, 1, 2, 2, 2, 1, 1]


@pytest.mark.parametrize("name, per_step", [("euler", 1), ("heun", 2), ("midpoint", 2), ("rk4", 4)])
def test_a_step_is_guided_as_a_whole(name: str, per_step: int) -> None:
    """Its start decides for all of its evaluations: 10 steps, of which those from 0.2 to 0.5 count double."""
    model = Two(LinearPath())
    guided = Guided(model, [CFG(3.0, interval=(0.2, 0.55))])
    steps = list(build(name).steps(guided, X, COND, num_steps=10))
    unconditional = [t for branch, t in model.calls if branch == "uncond"]
    assert len(unconditional) == 4 * per_step and min(unconditional) == 0.2
    assert max(unconditional) == pytest.approx(
        0.6 if name in ("heun", "rk4") else 0.55 if name == "midpoint" else 0.5
    )
    assert steps[-1].evaluations == 10 * per_step


def test_without_a_context_the_time_itself_decides() -> None:
    model = Two(LinearPath())
    guided = Guided(model, [CFG(2.0, interval=(0.1, 0.5))])
    guided.predict(X, 0.1, COND)
    guided.predict(X, torch.full((6,), 0.1, dtype=torch.float64)[0], COND)
    assert len(model.calls) == 4
    guided.predict(X, 0.7, COND, RunContext(t=0.2))
    assert len(model.calls) == 6


def test_what_is_known_of_the_sample_reaches_both_branches() -> None:
    seen: list[Cond] = []
    inner = Two(LinearPath())
    model = FunctionDenoiser(
        LinearPath(), lambda x, t, cond: (seen.append(cond), inner.predict(x, t, cond))[1]
    )
    cond = Cond(
        label=COND.label,
        numeric=torch.ones(6, 1),
        known=torch.ones(6, 2, dtype=torch.bool),
        given=X,
        valid=torch.ones(6, 2, dtype=torch.bool),
    )
    Guided(model, [CFG(2.0)]).predict(X, 0.5, cond)
    c, u = seen
    assert c is cond and bool((u.label == -1).all()) and bool(u.numeric.isnan().all())
    assert u.known is cond.known and u.given is cond.given and u.valid is cond.valid


@pytest.mark.parametrize("channels", [1, 3, 4, 9, None])
def test_channels(channels: int | None) -> None:
    """The first ones are guided, the rest stay conditional; heads come from the conditional branch."""
    g = torch.Generator().manual_seed(0)
    c, u, v = (torch.randn(2, 4, 3, 3, generator=g) for _ in range(3))
    model = FunctionDenoiser(
        VPPath(),
        lambda x, t, cond: Prediction(
            "noise",
            u if int(cond.label[0]) < 0 else c,
            x,
            t,
            VPPath(),
            {"variance": v if int(cond.label[0]) >= 0 else -v},
        ),
    )
    out = Guided(model, [CFG(4.0, channels=channels)]).predict(
        torch.zeros(2, 4, 3, 3), 0.5, Cond(label=torch.zeros(2, dtype=torch.int64))
    )
    n = 4 if channels is None else channels
    torch.testing.assert_close(out.value[:, :n], (u + 4 * (c - u))[:, :n])
    assert torch.equal(out.value[:, n:], c[:, n:]) and torch.equal(out.head("variance"), v)


def from_tensors(c: Tensor, u: Tensor) -> FunctionDenoiser:
    return FunctionDenoiser(
        VPPath(), lambda x, t, cond: Prediction("noise", u if int(cond.label[0]) < 0 else c, x, t, VPPath())
    )


def test_recorded_guiders(golden: Callable[[str], Any]) -> None:
    """diffusers' classifier-free guidance with and without rescaling. Its original formulation counts from
    the conditional branch: our w + 1."""
    g, notes = golden("guiders")
    model, x = from_tensors(g["in/pred_cond"], g["in/pred_uncond"]), torch.zeros_like(g["in/pred_cond"])
    cond, checked = Cond(label=torch.zeros(len(x), dtype=torch.int64)), 0
    for name, entry in notes["entries"].items():
        if not name.startswith("cfg/"):
            continue
        stages: list[Rule] = [CFG(entry["w"] + entry["orig"])] + (
            [Rescale(entry["rescale"])] if entry["rescale"] else []
        )
        out = Guided(model, stages).predict(x, 0.5, cond).value
        assert float((out - g[name]).abs().max()) <= 2e-6 * float(g[name].abs().max()), name
        checked += 1
    assert checked == 20


def test_rescale() -> None:
    """phi = 1 gives the guided prediction the conditional's deviation, sample by sample; between, it is the
    line from one to the other."""
    g = torch.Generator().manual_seed(1)
    c, u = (
        torch.randn(3, 2, 4, 4, generator=g, dtype=torch.float64),
        torch.randn(3, 2, 4, 4, generator=g, dtype=torch.float64),
    )
    model, x, cond = from_tensors(c, u), torch.zeros_like(c), Cond(label=torch.zeros(3, dtype=torch.int64))
    plain = Guided(model, [CFG(6.0)]).predict(x, 0.5, cond).value
    full = Guided(model, [CFG(6.0), Rescale(1.0)]).predict(x, 0.5, cond).value
    torch.testing.assert_close(full.std((1, 2, 3)), c.std((1, 2, 3)))
    torch.testing.assert_close(
        full / plain, (c.std((1, 2, 3)) / plain.std((1, 2, 3))).view(3, 1, 1, 1).expand_as(c)
    )
    torch.testing.assert_close(
        Guided(model, [CFG(6.0), Rescale(0.3)]).predict(x, 0.5, cond).value, 0.3 * full + 0.7 * plain
    )
    assert torch.equal(Guided(model, [CFG(6.0), Rescale(0.0)]).predict(x, 0.5, cond).value, plain)


def test_rescale_alone_or_outside_the_interval_does_nothing() -> None:
    model = Two(LinearPath())
    for stages in (
        [Rescale(1.0)],
        [CFG(1.0), Rescale(1.0)],
        [CFG(4.0, interval=(0.6, 0.9)), Rescale(1.0)],
        [],
    ):
        model.calls.clear()
        assert (
            torch.equal(
                Guided(model, stages).predict(X, 0.5, COND).value,
                model.with_label.predict(X, 0.5, COND).value,
            )
            and len(model.calls) == 1
        )


def test_rescale_works_in_the_native_space() -> None:
    """On the line it is the velocity that gets the conditional's deviation back."""
    model = Two(LinearPath())
    out = Guided(model, [CFG(6.0), Rescale(1.0)]).predict(X, 0.5, COND)
    c = model.with_label.predict(X, 0.5, COND)
    torch.testing.assert_close(out.to("velocity").std(1), c.to("velocity").std(1), rtol=1e-9, atol=1e-9)
    assert float((out.to("data").std(1) - c.to("data").std(1)).abs().max()) > 1e-3


def test_stages_run_in_order_and_keep_their_state_in_the_run() -> None:
    class Double(Rule):
        """Doubles the unconditional branch before it is combined, in the data space, and counts."""

        space = "data"

        def transform(
            self, predictions: Any, *, x: Tensor, t: Any, path: Any, state: dict[str, Any]
        ) -> dict[str, Tensor]:
            state["count"] = state.get("count", 0) + 1
            return {"uncond": 2 * predictions["uncond"]}

    model, ctx = Two(LinearPath()), RunContext()
    guided = Guided(model, [Double(), CFG(3.0)])
    out = guided.predict(X, 0.5, COND, ctx).to("data")
    c, u = (m.predict(X, 0.5, COND).to("data") for m in (model.with_label, model.without))
    torch.testing.assert_close(out, 2 * u + 3 * (c - 2 * u), rtol=1e-9, atol=1e-9)
    guided.predict(X, 0.5, COND, ctx)
    assert ctx.states["rule 0"][1]["count"] == 2 and "count" not in ctx.states["rule 1"][1]
    fresh = RunContext()
    guided.predict(X, 0.5, COND, fresh)
    assert fresh.states["rule 0"][1]["count"] == 1
    # too late to change anything
    after = Guided(model, [CFG(3.0), Double()]).predict(X, 0.5, COND).to("data")
    torch.testing.assert_close(after, u + 3 * (c - u), rtol=1e-9, atol=1e-9)


def test_guided_is_a_denoiser() -> None:
    """It is sampled like one, and can be guided again."""
    model = Two(VPPath())
    model.known_trained = True
    guided = Guided(model, [CFG(2.0)])
    assert (
        isinstance(guided, Queryable)
        and guided.path is model.path
        and (guided.space, guided.starts) == ("euclid", "noise")
        and guided.known_trained
    )
    x, noise = points(6), NoiseSource(range(6))
    one = build("ddim").sample(Guided(model, [CFG(1.0)]), x, COND, noise, num_steps=10)
    torch.testing.assert_close(one, build("ddim").sample(model.with_label, x, COND, noise, num_steps=10))
    twice = Guided(guided, [CFG(1.0)]).predict(X, 0.5, COND)
    assert torch.equal(twice.value, guided.predict(X, 0.5, COND).value)


def test_guided_sampling_in_closed_form() -> None:
    """Two Gaussians of one deviation and means 0 (no label) and m: guided by w the flow is that of mean w
    m."""
    path, std, m, w = LinearPath(), 0.4, 1.0, 2.5
    labelled, plain, target = (gaussian(mean, std, 2).denoiser(path) for mean in (m, 0.0, w * m))
    model = FunctionDenoiser(
        path, lambda x, t, cond: (plain if int(cond.label[0]) < 0 else labelled).predict(x, t, cond)
    )
    out = build("rk4").sample(Guided(model, [CFG(w)]), X, COND, num_steps=20)
    torch.testing.assert_close(out, build("rk4").sample(target, X, num_steps=20), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(out, w * m + std * X, rtol=0, atol=1e-3)
