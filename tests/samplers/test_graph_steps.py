"""Sampling graphs with the exact denoiser of a known distribution reproduces it; guidance acts on
log-probabilities as its formula says."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import guidance
import samplers
from backbones import Cond, NoiseSource, RunContext
from backbones.graph_dit import GraphDiT
from guidance import Guided
from samplers import Batch, Denoiser, build_objective
from samplers.heads.graph import GraphPrediction, Logits
from samplers.paths.graph import GraphPath
from samplers.spaces.packing import BONDS, draw, pack, softmax, unpack

TYPES, N = 2, 2


def every_graph() -> Tensor:
    """(12, 2, F): two atoms of two types, and one of three bonds."""
    rows = []
    for a, b, k in itertools.product(range(TYPES), range(TYPES), range(3)):
        atoms, bonds = torch.zeros(N, TYPES), torch.zeros(N, N, BONDS)
        atoms[0, a] = atoms[1, b] = bonds[0, 1, k] = bonds[1, 0, k] = 1.0
        rows.append(pack(atoms[None], bonds[None])[0])
    return torch.stack(rows)


GRAPHS = every_graph()
LAWS = {  # of the twelve, by condition; −1 is their mixture
    0: torch.tensor([8.0, 1, 1, 1, 4, 1, 1, 4, 1, 1, 1, 8]),
    1: torch.tensor([1.0, 1, 1, 9, 1, 1, 1, 1, 9, 2, 2, 2]),
}
LAWS[-1] = sum(v / v.sum() for v in LAWS.values())  # type: ignore[assignment]


def path_of(mode: str, num: int = 200) -> GraphPath:
    p = LAWS[-1] / LAWS[-1].sum()
    atoms, bonds = unpack(GRAPHS, TYPES)
    share = torch.einsum("g,gia->a", p, atoms) / N
    joint = torch.einsum("g,ga,gb,gk->abk", p, atoms[:, 0], atoms[:, 1], bonds[:, 0, 1])
    joint = joint + joint.transpose(0, 1)
    return GraphPath(
        mode=mode,
        num=num,
        atoms=tuple(share.tolist()),
        joint=tuple(tuple(map(tuple, r)) for r in joint.tolist()),
    )


class Exact:
    """Marginals of p(graph | z_t, condition), by summing over all twelve."""

    space, starts, known_trained = "graph", "noise", False

    def __init__(self, path: GraphPath):
        self.path, self.calls = path, 0

    def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> GraphPrediction:
        self.calls += 1
        valid = torch.ones(len(x), N, dtype=torch.bool)
        p = self.path.noised(GRAPHS, t, torch.ones(len(GRAPHS), N, dtype=torch.bool))  # (12, N, F)
        atoms, bonds = unpack(p, TYPES)
        z, e = unpack(x.double(), TYPES)
        likely = torch.einsum("gia,bia->bgi", atoms, z).prod(-1) * torch.einsum(
            "gk,bk->bg", bonds[:, 0, 1], e[:, 0, 1]
        )
        label = cond.label if isinstance(cond.label, Tensor) else torch.full((len(x),), -1)
        law = torch.stack([LAWS[int(k)] / LAWS[int(k)].sum() for k in label]).double()
        post = likely * law
        mean = torch.einsum("bg,gif->bif", post / post.sum(1, keepdim=True), GRAPHS.double())
        s = (
            ctx.t_next
            if ctx is not None and ctx.t_next is not None
            else min(1.0, float(t) + 1 / self.path.num)
        )
        logits = mean.clamp_min(1e-30).log()
        return GraphPrediction(space="logits", value=logits, x=x, t=t, path=self.path, valid=valid, s=s)


def counts(x: Tensor) -> Tensor:
    """(12,) shares of the graphs among samples."""
    return torch.stack([(x == g).flatten(1).all(1).double().mean() for g in GRAPHS])


def sampled(
    denoiser: Any, count: int, label: int | None, *, num_steps: int = 200, **options: float
) -> Tensor:
    path, valid = denoiser.path, torch.ones(count, N, dtype=torch.bool)
    noise = NoiseSource(range(count))
    cond = Cond(label=None if label is None else torch.full((count,), label), valid=valid)
    x = draw(path.prior(valid), noise, valid, TYPES, stream="prior")
    return samplers.build("graph", **options).sample(denoiser, x, cond, noise, num_steps=num_steps)


@pytest.mark.parametrize("mode", [pytest.param("marginal", marks=pytest.mark.slow), "corrected"])
def test_the_exact_denoiser_gives_the_law(mode: str) -> None:
    """Total variation below 4 % with 40 steps and 2,500 samples (chance alone is about 2.5 %); four steps are
    farther away."""
    law = LAWS[0] / LAWS[0].sum()
    far = {
        n: float((counts(sampled(Exact(path_of(mode)), 2500, 0, num_steps=n)) - law).abs().sum() / 2)
        for n in (4, 40)
    }
    assert far[40] < 0.04 < far[4]


@pytest.mark.parametrize(
    "renoise, until",
    [
        (0.05, 0.9),
        pytest.param(1.0, 0.9, marks=pytest.mark.slow),
        pytest.param(1.0, 1.0, marks=pytest.mark.slow),
    ],
)
def test_drawing_a_share_anew_keeps_the_law(renoise: float, until: float) -> None:
    """Total variation below 4 % with 40 steps and 2,500 samples, as without."""
    got = counts(sampled(Exact(path_of("corrected")), 2500, 0, renoise=renoise, until=until, num_steps=40))
    assert float((got - LAWS[0] / LAWS[0].sum()).abs().sum() / 2) < 0.04


def test_a_renoised_step_by_hand() -> None:
    """(1 − r) p(z_s | z_t) + r q(z_s | ẑ_0) before ``until``, the first alone after it."""
    path, seen = path_of("corrected"), {}
    valid = torch.ones(4, N, dtype=torch.bool)
    x = draw(path.prior(valid), NoiseSource(range(4)), valid, TYPES, stream="x")
    for s in (0.5, 0.95):
        p = Exact(path).predict(x, s - 0.02, Cond(), RunContext(t=s - 0.02, t_next=s))
        want = (
            path.following(p)
            if s > 0.9
            else 0.4 * path.following(p) + 0.6 * path.noised(softmax(p.value, TYPES), s, valid)
        )
        noise = NoiseSource(range(4)).at(3)
        seen[s] = samplers.build("graph", renoise=0.6).step(x, s - 0.02, s, lambda x, t, p=p: p, noise, [])
        assert torch.equal(seen[s], draw(want, noise, valid, TYPES, stream="step"))


def test_guidance_is_a_product_of_powers() -> None:
    """p ∝ p_u (p_c/p_u)^w for every atom and bond, of the clean graph or, in the space logp, of the next
    state; w = 1 is the conditional with one call, w = 0 the unconditional."""
    path = path_of("corrected")
    valid = torch.ones(6, N, dtype=torch.bool)
    x = draw(path.prior(valid), NoiseSource(range(6)), valid, TYPES, stream="x")
    cond, ctx = Cond(label=torch.zeros(6, dtype=torch.int64)), RunContext(t=0.5, t_next=0.52)
    for w, space in itertools.product((0.0, 2.0, 3.5), ("native", "logp")):
        ask = {k: Exact(path).predict(x, 0.5, c, ctx).to(space) for k, c in (("c", cond), ("u", cond.null()))}
        made: Any = Guided(Exact(path), [guidance.build("cfg", scale=w, space=space)]).predict(
            x, 0.5, cond, RunContext(t=0.5, t_next=0.52)
        )
        got = path.following(made) if space == "logp" else made.to("probs")
        for want, have in zip(map(torch.exp, powers(ask, w)), unpack(got, TYPES)):
            want = want / want.sum(-1, keepdim=True)
            off = (
                want.sum(-1).isfinite()
                if want.ndim == 3
                else ~torch.eye(N, dtype=torch.bool)[None].expand(6, -1, -1)
            )
            torch.testing.assert_close(have[off].double(), want[off], rtol=1e-4, atol=1e-6)
    one = Exact(path)
    alone = Guided(one, [guidance.build("cfg", scale=1.0)]).predict(
        x, 0.5, cond, RunContext(t=0.5, t_next=0.52)
    )
    assert one.calls == 1 and alone.space == "logits"


def powers(ask: dict[str, Tensor], w: float) -> tuple[Tensor, Tensor]:
    (c, ce), (u, ue) = unpack(ask["c"], TYPES), unpack(ask["u"], TYPES)
    return u + w * (c - u), ue + w * (ce - ue)


def test_guided_samples_lean_towards_the_condition() -> None:
    """More of what is typical of the condition; inside an interval only, less so."""
    path = path_of("marginal")
    typical = (LAWS[0] / LAWS[0].sum() > LAWS[-1] / LAWS[-1].sum() + 1e-6).double()
    shares = {}
    for name, rules in {
        "none": [],
        "interval": [guidance.build("cfg", scale=3.0, interval=(0.8, 1.0))],
        "all": [guidance.build("cfg", scale=3.0)],
        "prior": [guidance.build("prior_swap", model=Exact(path)), guidance.build("cfg", scale=3.0)],
    }.items():
        model: Any = Guided(Exact(path), rules) if rules else Exact(path)
        shares[name] = float(counts(sampled(model, 600, 0, num_steps=30)) @ typical)
    assert (
        shares["none"] + 0.02 < shares["interval"] + 0.01 < shares["all"]
        and shares["all"] > shares["none"] + 0.1
    )
    assert shares["prior"] == pytest.approx(shares["all"], abs=1e-12)  # the prior is the model itself


def test_a_prior_with_another_schedule_and_clock() -> None:
    """The same law learned with 60 steps instead of 200 guides as the model itself does, up to the difference
    of their steps; other types are refused."""
    path, other = path_of("marginal"), path_of("marginal", num=60)
    valid = torch.ones(4, N, dtype=torch.bool)
    x = draw(path.noised(GRAPHS[:4], 0.6, valid), NoiseSource(range(4)), valid, TYPES, stream="x")
    cond, ctx = Cond(label=torch.zeros(4, dtype=torch.int64)), RunContext(t=0.6, t_next=0.65)
    own = Guided(Exact(path), [guidance.build("cfg", scale=2.0)]).predict(x, 0.6, cond, ctx).to("logp")
    swapped = (
        Guided(
            Exact(path), [guidance.build("prior_swap", model=Exact(other)), guidance.build("cfg", scale=2.0)]
        )
        .predict(x, 0.6, cond, ctx)
        .to("logp")
    )
    real = own > -5  # what has any weight
    torch.testing.assert_close(swapped[real], own[real], rtol=0, atol=0.15)
    assert (
        path.same_as(path_of("marginal"))
        and not path.same_as(other)
        and not path.same_as(path_of("corrected"))
    )
    with pytest.raises(ValueError, match="other atom types"):
        foreign: Any = Exact(GraphPath(atoms=(1.0,), joint=(((1.0, 1.0, 0.0, 0.0, 0.0),),)))
        Guided(
            Exact(path), [guidance.build("prior_swap", model=foreign), guidance.build("cfg", scale=2.0)]
        ).predict(x, 0.6, cond, ctx)


def test_known_entries_and_the_loss() -> None:
    """The loss is the cross-entropy by hand; known entries are clean in the input and left out of it."""
    path = path_of("marginal")
    objective = build_objective(
        path={
            "name": "graph",
            "mode": "marginal",
            "num": 200,
            "atoms": tuple(path.statistics.atoms.tolist()),
            "joint": tuple(
                tuple(map(tuple, r)) for r in (path.statistics.between * 0 + path.statistics.bonds).tolist()
            ),
        },
        parameterization={"name": "logits", "bond_weight": 3.0},
    )
    seen: list[Tensor] = []

    def net(x: Tensor, t: Tensor, cond: Cond, ctx: RunContext | None = None) -> Tensor:
        seen.append(x)
        return torch.arange(x.numel(), dtype=torch.float32).view_as(x).sin()

    data, noise = GRAPHS[:4], NoiseSource([0] * 4, index=range(4))
    loss = objective.loss(net, Batch(data), noise, t=torch.full((4,), 0.3))
    logits, want = unpack(net(data, torch.zeros(4), Cond()), TYPES), unpack(data, TYPES)
    atoms = -(logits[0].log_softmax(-1) * want[0]).sum(-1).mean(1)
    bonds = -(logits[1].log_softmax(-1) * want[1]).sum(-1)[:, [0, 1], [1, 0]].mean(1)
    torch.testing.assert_close(loss.per_sample, atoms + 3.0 * bonds)
    known = torch.zeros_like(data, dtype=torch.bool)
    known[:, 0, :TYPES] = True
    loss = objective.loss(net, Batch(data, Cond(known=known)), noise, t=torch.full((4,), 0.3))
    assert torch.equal(seen[-1][:, 0, :TYPES], data[:, 0, :TYPES])
    other = -(logits[0].log_softmax(-1) * want[0]).sum(-1)[:, 1]
    torch.testing.assert_close(loss.per_sample, other + 3.0 * bonds)
    assert bool((objective.loss(net, Batch(data), noise).t < 1).all()) and path.step_of(0.3) == 140


def test_what_graphs_do_not_have() -> None:
    with pytest.raises(ValueError, match="coupling='ot'"):
        build_objective(path={"name": "graph"}, coupling="ot")
    with pytest.raises(ValueError, match="temperature"):
        samplers.build("graph", temperature=0.0)
    for wrong in ({"renoise": 1.5}, {"renoise": -0.1}, {"until": 0.0}):
        with pytest.raises(ValueError, match="expected a share"):
            samplers.build("graph", **wrong)
    rules = [guidance.build("cfg", scale=2.0, space="logp")]
    path, valid = path_of("corrected"), torch.ones(1, N, dtype=torch.bool)
    with pytest.raises(ValueError, match="leave out space=logp"):
        x = draw(path.prior(valid), NoiseSource([0]), valid, TYPES, stream="x")
        samplers.build("graph", renoise=1).sample(
            Guided(Exact(path), rules), x, Cond(valid=valid), NoiseSource([0]), num_steps=4
        )
    with pytest.raises(ValueError, match="expected native"):
        guidance.build("cfg", space="noise")
    with pytest.raises(ValueError, match="choose graph"):
        samplers.build("heun").sample(Exact(path_of("marginal")), GRAPHS, num_steps=3)
    with pytest.raises(ValueError, match="no variance head"):
        Exact(path_of("marginal")).predict(GRAPHS, 0.5, Cond()).head("variance")


def test_both_branches_of_few_atoms_are_one_call() -> None:
    """Of the network, with what two calls say; padding and known entries go into both."""
    torch.manual_seed(0)
    path = path_of("corrected")
    net = GraphDiT(
        max_atoms=N, atom_types=TYPES, hidden_size=16, depth=1, num_heads=2, num_numeric=1
    ).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    seen: list[int] = []
    net.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    x, valid = GRAPHS[:6].double(), torch.tensor([[True, True]] * 5 + [[True, False]])
    cond = Cond(
        numeric=torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None],
        valid=valid,
        known=torch.zeros_like(x, dtype=torch.bool),
        given=torch.zeros_like(x),
    )
    model = Denoiser(net, path, Logits())
    ctx = RunContext(t_next=0.45)
    c, u = (model.predict(x, 0.4, k, ctx) for k in (cond, cond.null()))
    seen.clear()
    made = Guided(model, guidance.parse("cfg=2.5")).predict(x, 0.4, cond, ctx)
    assert seen == [12] and made.s == 0.45 and torch.equal(made.valid, valid)
    torch.testing.assert_close(made.value, u.value + 2.5 * (c.value - u.value), rtol=1e-9, atol=1e-9)
    many = Cond(numeric=torch.zeros(600, 1, dtype=torch.float64))
    Guided(model, guidance.parse("cfg=2.5")).predict(GRAPHS[:1].double().expand(600, -1, -1), 0.4, many, ctx)
    assert seen[1:] == [600, 600]
