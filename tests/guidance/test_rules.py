"""Every rule against recorded libraries, its closed form, and the identities that hold between rules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mixture import Mixture, gaussian, points
from torch import Tensor

import guidance
from backbones import Cond, NoiseSource, RunContext
from guidance import APG, CFG, Autoguidance, CFGPlusPlus, CFGZeroStar, Dual, Guided, Rule, Tangential
from guidance.tangential import damped
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, VPPath, build

LABEL = Cond(label=torch.zeros(4, dtype=torch.int64))


def model_of(c: Tensor, u: Tensor, space: str = "noise", path: Any = None) -> FunctionDenoiser:
    path = path or VPPath()
    return FunctionDenoiser(
        path, lambda x, t, cond: Prediction(space, u if int(cond.label[0]) < 0 else c, x, t, path)
    )


def guided(
    c: Tensor,
    u: Tensor,
    rules: list[Rule],
    space: str = "noise",
    path: Any = None,
    ctx: RunContext | None = None,
    x: Tensor | None = None,
) -> Tensor:
    """The guided prediction in the space it was made in."""
    model = Guided(model_of(c, u, space, path), rules)
    return model.predict(
        torch.zeros_like(c) if x is None else x, 0.5, Cond(label=torch.zeros(len(c), dtype=torch.int64)), ctx
    ).to(space)


def near(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max().clamp_min(1e-12))


def svd(c: Tensor, u: Tensor) -> Tensor:
    """The paper's form: the unconditional row on the first right singular vector of the two, in float64."""
    rows = torch.stack([u.flatten(1), c.flatten(1)], 1).double()
    v = torch.linalg.svd(rows, full_matrices=False).Vh[:, 0]  # (B, D)
    return ((rows[:, 0] * v).sum(1, keepdim=True) * v).view_as(u)


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, notes = golden("guiders")
    return tensors, notes["entries"]


def test_recorded_tcfg(recorded: Any) -> None:
    """The paper's form to 1e-5; diffusers agrees up to its float32 SVD. Its original formulation c + s (c −
    û) is our w = 1 + s."""
    g, entries = recorded
    c, u = g["in/pred_cond"], g["in/pred_uncond"]
    assert near(damped(c, u), g["tcfg/uncond_hat_paper"]) and near(
        damped(c, u), g["tcfg/uncond_hat_closed_form"]
    )
    seen = 0
    for name, entry in entries.items():
        if name.startswith(("tcfg/paper_w", "tcfg/diffusers_w")) and "orig" in entry:
            out = guided(c, u, [Tangential(), CFG(entry["w"] + entry["orig"])])
            if name.startswith("tcfg/paper"):
                assert near(out, g[name]), name
            assert float((out - g[name]).abs().max()) <= 1e-4, name
            seen += 1
    assert seen == 12


@pytest.mark.parametrize(
    "space, entry", [("noise", "eps"), ("v", "v"), ("data", "x0"), ("velocity", "flow_velocity")]
)
def test_recorded_tcfg_in_other_spaces(recorded: Any, space: str, entry: str) -> None:
    """The space matters: the same noise predictions, damped elsewhere and read as noise again."""
    g, entries = recorded
    notes = entries[f"tcfg/act_in_{entry}_as_eps"]
    c, u, x = g["in/pred_cond"].double(), g["in/pred_uncond"].double(), g["in/x_t"].double()
    path: Any = LinearPath()
    if entry == "flow_velocity":
        t = 1 - notes["flow_t"]  # theirs runs from data to noise
    else:
        path, t = VPPath(betas=torch.tensor([0.5, 0.4], dtype=torch.float64)), 0.0  # ᾱ = 0.3
    found = Guided(model_of(c, u, path=path), [Tangential(space), CFG(4.0)]).predict(x, t, LABEL).to("noise")
    assert near(found, g[f"tcfg/act_in_{entry}_as_eps"].double())


def test_tcfg_where_vectors_vanish_or_agree(recorded: Any) -> None:
    g, _ = recorded
    c = g["in/pred_cond"]
    zero = torch.zeros_like(c)
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        v = c.to(kind)
        tolerance = 1e-2 if kind == torch.bfloat16 else 1e-6
        assert damped(v, v).dtype == kind
        assert near(damped(v, v), v, tolerance)  # c = u: nothing to damp
        assert near(damped(v, -v), -v, tolerance)
        assert not damped(v, zero.to(kind)).any() and not damped(zero.to(kind), zero.to(kind)).any()
        assert near(damped(zero.to(kind), v), v, tolerance)
    assert near(guided(c, zero, [Tangential(), CFG(4.0)]), g["tcfg/degenerate_zero_uncond"], 1e-4)
    assert near(guided(c, c, [Tangential(), CFG(4.0)]), g["tcfg/degenerate_equal"], 1e-4)
    assert near(guided(c, -c, [Tangential(), CFG(4.0)]), g["tcfg/degenerate_opposite"], 1e-4)
    assert near(guided(zero, zero, [Tangential(), CFG(4.0)]), g["tcfg/degenerate_zero_both"], 1e-4)


@pytest.mark.parametrize("size", [6, 4 * 8 * 8, 4 * 64 * 64])
@pytest.mark.parametrize("apart", [0.01, 0.2, 1.0, 3.0])
def test_tcfg_against_an_svd_in_float64(size: int, apart: float) -> None:
    g = torch.Generator().manual_seed(size)
    u = torch.randn(4, size, generator=g)
    c = u + apart * torch.randn(4, size, generator=g)
    assert near(damped(c, u).double(), svd(c, u), 1e-6)


def test_tcfg_is_cfg_where_the_two_are_parallel_and_half_of_it_where_their_norms_agree() -> None:
    g = torch.Generator().manual_seed(3)
    u = torch.randn(4, 5, 6, generator=g, dtype=torch.float64)
    along = 1.7 * u
    assert near(guided(along, u, [Tangential(), CFG(3.0)]), guided(along, u, [CFG(3.0)]), 1e-12)
    c = torch.randn(4, 5, 6, generator=g, dtype=torch.float64)
    c = c * (u.flatten(1).norm(dim=1) / c.flatten(1).norm(dim=1)).view(4, 1, 1)
    for w in (0.0, 2.0, 7.5):
        assert near(guided(c, u, [Tangential(), CFG(w)]), guided(c, u, [CFG((1 + w) / 2)]), 1e-9)


def test_tcfg_to_first_order() -> None:
    """g = u + w p + (1 + w)/2 q with c − u = p (along u) + q (across): the error falls like |c − u|²."""
    g = torch.Generator().manual_seed(4)
    u, d = (torch.randn(2, 50, generator=g, dtype=torch.float64) for _ in range(2))
    errors = []
    for share in (0.02, 0.01):
        c = u + share * d
        p = (share * (d * u).sum(1, keepdim=True) / (u * u).sum(1, keepdim=True)) * u
        q = share * d - p
        errors.append(
            float((guided(c, u, [Tangential(), CFG(4.0)]) - (u + 4 * p + 2.5 * q)).norm() / (c - u).norm())
        )
    assert errors[0] < 0.05 and errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


def test_recorded_apg(recorded: Any) -> None:
    """Three steps with momentum in every setting: diffusers adds to u, its original formulation, and the
    paper's, to c."""
    g, entries = recorded
    for name in [n for n in entries if n.startswith("apg/w") and n.endswith("_s0")]:
        e = entries[name]
        rule = APG(
            e["w"] + e["orig"],
            eta=e["eta"],
            norm_threshold=e["norm_threshold"],
            momentum=e["momentum"] or 0.0,
            space="noise",
            form="paper" if e["orig"] else "diffusers",
        )
        ctx = RunContext(num_steps=3)
        for step in range(3):
            ctx.step = step
            out = guided(g[f"apg/in_cond_s{step}"], g[f"apg/in_uncond_s{step}"], [rule], ctx=ctx)
            assert near(out, g[f"{name[:-1]}{step}"]), (name, step)
    out = guided(
        g["in/pred_cond"],
        g["in/pred_uncond"],
        [APG(4.0, norm_threshold=2.5, norm_dim=1, form="diffusers", space="noise")],
    )
    assert near(out, g["apg/norm_dim1_w4_r2.5_eta0"])


def test_recorded_apg_mix(recorded: Any) -> None:
    g, entries = recorded
    ctx = RunContext(num_steps=3)
    rule = APG(
        10.0,
        cfg=3.5,
        start_step=1,
        eta=0.0,
        norm_threshold=10.0,
        momentum=-0.5,
        form="diffusers",
        space="noise",
    )
    for step in range(3):
        ctx.step = step
        out = guided(g[f"apg/in_cond_s{step}"], g[f"apg/in_uncond_s{step}"], [rule], ctx=ctx)
        assert near(out, g[f"apgmix/s{step}"]), step


def test_apg_by_its_formula() -> None:
    """eta = 1 without bound and momentum is cfg in the paper's form; the forms are the same update added at
    other places."""
    g = torch.Generator().manual_seed(5)
    c, u = (torch.randn(4, 3, 5, generator=g, dtype=torch.float64) for _ in range(2))
    assert near(guided(c, u, [APG(3.0, eta=1.0, space="noise")]), guided(c, u, [CFG(3.0)]), 1e-12)
    update = (guided(c, u, [APG(3.0, norm_threshold=2.0, space="noise")]) - c) / 2
    assert float(update.flatten(1).norm(dim=1).max()) <= 2.0 + 1e-9
    assert float((update * c).flatten(1).sum(1).abs().max()) < 1e-9  # eta = 0: nothing along c
    assert near(
        guided(c, u, [APG(3.0, norm_threshold=2.0, form="diffusers", space="noise")]), u + 3 * update, 1e-9
    )
    assert near(
        guided(c, u, [APG(3.0, norm_threshold=2.0, form="comfyui", space="noise")]), c + 3 * update, 1e-9
    )
    path = VPPath()
    # by default it works on data predictions
    data = Guided(model_of(c, u, path=path), [APG(3.0)]).predict(c, 0.3, LABEL).to("data")
    cd, ud = (Prediction("noise", v, c, 0.3, path).to("data") for v in (c, u))
    assert near(data, guided(cd, ud, [APG(3.0, space="noise")]), 1e-9)


def test_recorded_cfg_zero_star(recorded: Any) -> None:
    """On velocities. Their original formulation adds to c."""
    g, entries = recorded
    c, u = g["in/pred_cond"], g["in/pred_uncond"]
    for name, e in entries.items():
        if name.startswith("cfgzero/w"):
            ctx = RunContext(step=e["step"], num_steps=20)
            rule = CFGZeroStar(e["w"] + e["orig"], zero_steps=e["zero_init_steps"])
            assert near(guided(c, u, [rule], "velocity", LinearPath(), ctx), g[name]), name
    star = (c * u).flatten(1).sum(1) / ((u * u).flatten(1).sum(1) + 1e-8)
    assert near(star, g["cfgzero/alpha_star"])


def test_the_halves_of_cfg_zero_star() -> None:
    g = torch.Generator().manual_seed(6)
    c, u = (torch.randn(4, 3, 5, generator=g, dtype=torch.float64) for _ in range(2))
    path = LinearPath()
    late, early = RunContext(step=9, num_steps=20), RunContext(step=0, num_steps=20)
    assert near(
        guided(c, u, [CFGZeroStar(3.0, optimal=False)], "velocity", path, late),
        guided(c, u, [CFG(3.0)], "velocity", path),
        1e-12,
    )
    assert not guided(c, u, [CFGZeroStar(3.0)], "velocity", path, early).any()
    assert guided(c, u, [CFGZeroStar(3.0, zero_steps=0)], "velocity", path, early).any()
    # outside its interval it is silent
    assert near(guided(c, u, [CFGZeroStar(3.0, interval=(0.6, 0.9))], "velocity", path, early), c, 1e-12)
    with pytest.raises(ValueError, match="a prediction of zero is no standstill"):
        guided(c, u, [CFGZeroStar(3.0, zero_steps=1)], path=VPPath())
    # on its own it does not start still there
    assert guided(c, u, [CFGZeroStar(3.0)], path=VPPath(), ctx=early).any()
    still = list(
        build("euler").steps(
            Guided(model_of(c, u, "velocity", path), [CFGZeroStar(3.0)]), c, LABEL, num_steps=50
        )
    )
    assert [bool((s.x == c).all()) for s in still[:3]] == [True, True, False]  # 4 % of 50


def test_recorded_autoguidance(recorded: Any) -> None:
    """The same condition for a weaker model."""
    g, _ = recorded
    c, weak = g["in/pred_cond"], g["in/pred_cond_skip"]
    seen: list[Cond] = []
    path = VPPath()
    other = FunctionDenoiser(
        path, lambda x, t, cond: (seen.append(cond), Prediction("noise", weak, x, t, path))[1]
    )
    cond = Cond(label=torch.zeros(len(c), dtype=torch.int64))
    out = Guided(model_of(c, c, path=path), [Autoguidance(2.0, model=other)]).predict(
        torch.zeros_like(c), 0.5, cond
    )
    assert near(out.value, g["autog/w2.0"]) and seen == [cond]


def test_recorded_cfg_plus_plus(recorded: Any) -> None:
    """One DDIM step from ᾱ = .3 to .5: denoised with the guided noise, re-noised with the unconditional one;
    and the plain scale it is equal to."""
    g, entries = recorded
    e = entries["cfgpp/ddim_lam0.6_a0.3_to_0.5"]
    path = VPPath(
        betas=torch.tensor([1 - e["abar_prev"], 1 - e["abar_t"] / e["abar_prev"]], dtype=torch.float64)
    )
    x = g["in/x_t"]
    model = Guided(model_of(g["in/pred_cond"], g["in/pred_uncond"], path=path), [CFGPlusPlus(e["lam"])])
    step = next(build("ddim").steps(model, x, LABEL, num_steps=2))
    assert near(step.x, g["cfgpp/ddim_lam0.6_a0.3_to_0.5"])
    now, then = path.coefficients(0.0), path.coefficients(0.5)
    w = float(e["lam"] * then.alpha / (then.alpha - then.sigma / now.sigma * now.alpha))
    plain = Guided(model_of(g["in/pred_cond"], g["in/pred_uncond"], path=path), [CFG(w)])
    assert near(step.x, next(build("ddim").steps(plain, x, LABEL, num_steps=2)).x)


def test_cfg_plus_plus_needs_a_sampler_that_follows_it() -> None:
    c = torch.ones(4, 3)
    model = Guided(model_of(c, c), [CFGPlusPlus(0.5)])
    with pytest.raises(
        ValueError, match="Heun does not follow renoise, which the guidance asks for; choose ddim"
    ):
        build("heun").steps(model, c, LABEL, num_steps=2)


def test_dual_guidance() -> None:
    """e(∅,∅) + w₁ (e(c₁,∅) − e(∅,∅)) + w₂ (e(c₁,c₂) − e(c₁,∅)); w₁ = w₂ is cfg, and each branch is told what
    it should be."""
    path = LinearPath()
    values = {(False, False): 1.0, (False, True): 10.0, (True, True): 100.0}  # (label, numeric) given

    def answer(x: Tensor, t: Any, cond: Cond) -> Prediction:
        key = (bool((cond.label >= 0).all()), not bool(cond.numeric.isnan().any()))
        return Prediction("velocity", torch.full_like(x, values[key]), x, t, path)

    cond, x = Cond(label=torch.zeros(2, dtype=torch.int64), numeric=torch.ones(2, 1)), torch.zeros(2, 3)
    model = FunctionDenoiser(path, answer)
    out = Guided(model, [Dual(2.0, 3.0, keep="numeric")]).predict(x, 0.5, cond).value
    assert torch.equal(out, torch.full_like(x, 1 + 2 * (10 - 1) + 3 * (100 - 10)))
    same = Guided(model, [Dual(2.5, 2.5, keep="numeric")]).predict(x, 0.5, cond).value
    torch.testing.assert_close(same, Guided(model, [CFG(2.5)]).predict(x, 0.5, cond).value)
    with pytest.raises(ValueError, match="keeps the image, which was not given"):
        Guided(model, [Dual(2.0, 3.0)]).predict(x, 0.5, cond)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_of_the_scale(schedule: str) -> None:
    """The part above 1 starts at 0, grows, and has mean w − 1 over t."""
    rule = CFG(3.0, schedule=schedule)
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    weight = rule.weight(t)
    assert isinstance(weight, Tensor)
    assert (
        weight[0] == 1
        and float(weight.diff().min()) >= 0
        and float(torch.trapezoid(weight, t)) == pytest.approx(3.0, abs=1e-5)
    )
    assert not rule.active(0.0, LinearPath()) and rule.active(0.5, LinearPath())
    c, u = torch.ones(4, 2, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64)
    model = Guided(model_of(c, u, "velocity", LinearPath()), [rule])
    times = torch.tensor([0.5, 0.5, 0.25, 1.0], dtype=torch.float64)
    out = model.predict(c, times, LABEL).value
    assert torch.allclose(
        out[:, 0], torch.tensor([float(rule.weight(float(v))) for v in times], dtype=torch.float64)
    )
    assert CFG(3.0, schedule="limited", interval=(0.2, 0.8)).weight(0.3) == 3.0


EVERY: dict[str, Callable[[], list[Rule]]] = {
    "cfg": lambda: [CFG(3.0)],
    "cfg_linear": lambda: [CFG(3.0, schedule="linear")],
    "tcfg": lambda: [Tangential(), CFG(3.0)],
    "apg": lambda: [APG(3.0, norm_threshold=1.0, momentum=-0.5)],
    "zero_star": lambda: [CFGZeroStar(3.0, zero_steps=0)],
    "rescaled": lambda: guidance.parse("cfg=3,rescale=0.7"),
    "plus_plus": lambda: [CFGPlusPlus(0.6)],
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("path", [LinearPath(), VPPath(), EDMPath()], ids=["linear", "vp", "edm"])
def test_a_sample_alone_is_the_sample_in_a_batch(name: str, path: Any) -> None:
    with_label, without = gaussian(1.0, 0.3, 2), Mixture()
    model = FunctionDenoiser(
        path,
        lambda x, t, cond: (
            (without if int(cond.label[0]) < 0 else with_label).denoiser(path).predict(x, t, cond)
        ),
    )
    x = points(5)
    cond = Cond(label=torch.zeros(5, dtype=torch.int64))
    sampler = build("ddim")
    together = sampler.sample(Guided(model, EVERY[name]()), x, cond, NoiseSource(range(5)), num_steps=6)
    alone = sampler.sample(
        Guided(model, EVERY[name]()), x[2:3], Cond(label=cond.label[2:3]), NoiseSource([2]), num_steps=6
    )  # type: ignore[index]
    torch.testing.assert_close(together[2:3], alone, rtol=1e-9, atol=1e-9)
    assert bool(together.isfinite().all())


@pytest.mark.parametrize("name", EVERY)
def test_the_same_prediction_twice_is_guided_nowhere(name: str) -> None:
    """c = u: every rule gives c back."""
    c = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    space, path = ("velocity", LinearPath()) if name == "zero_star" else ("noise", VPPath())
    ctx = RunContext(step=5, num_steps=10)
    # CFG-Zero* divides by ‖u‖² + 1e-8
    assert near(guided(c, c, EVERY[name](), space, path, ctx, x=c), c, 1e-8)


def test_the_order_of_writing_does_not_matter_between_stages() -> None:
    g = torch.Generator().manual_seed(8)
    c, u = (torch.randn(4, 3, 5, generator=g) for _ in range(2))
    lines = ["tcfg,cfg=3,rescale=0.5", "rescale=0.5,cfg=3,tcfg", "cfg=3,rescale=0.5,tcfg"]
    first, *others = (guided(c, u, guidance.parse(line)) for line in lines)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("line", ["tcfg", "tcfg,rescale=0.5", "tcfg,autoguidance=1.5"])
def test_a_rule_with_nothing_to_act_on_is_refused(line: str) -> None:
    rules = [
        r.with_model(model_of(torch.ones(1), torch.ones(1))) if isinstance(r, Autoguidance) else r
        for r in guidance.parse(line)
    ]
    with pytest.raises(
        ValueError, match="is about the uncond branch, which no other rule uses; add one, such as cfg=2.0"
    ):
        Guided(model_of(torch.ones(1), torch.ones(1)), rules)
