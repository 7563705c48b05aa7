"""The training objective: losses in closed form, exact targets, known entries, dropout, weights, and the
options of configs."""

from typing import Any

import pytest
import torch
from mixture import gaussian, points
from torch import Tensor, nn

from backbones import Cond, NoiseSource
from samplers import Batch, EDMPath, LinearPath, Objective, VPPath, build_objective
from samplers.couplings.coupling import Coupled
from samplers.heads.parameterization import EDM, Direct
from samplers.objective import objective_options
from samplers.spaces.euclid import Euclid

PATHS = {"linear": LinearPath(), "vp": VPPath(), "edm": EDMPath()}
every_path = pytest.mark.parametrize("path", list(PATHS.values()), ids=list(PATHS))


class Constant(nn.Module):
    """A network that emits what it is given and remembers what it saw."""

    def __init__(self, out: Tensor | None = None):
        super().__init__()
        self.out, self.seen = out, []  # type: Tensor | None, list[tuple[Tensor, Tensor, Cond]]

    def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        self.seen.append((x, t, cond))
        return torch.zeros_like(x) if self.out is None else self.out


def prior(noise: NoiseSource, data: Tensor) -> Tensor:
    return Euclid().start(noise, data.shape[1:], dtype=data.dtype)[0]


def test_a_silent_network_loses_the_target() -> None:
    """E|data − noise|² = E|data|² + 1 by entry, and sample by sample."""
    data, noise = 2 * points(20_000, 3), NoiseSource(range(20_000))
    loss = Objective(LinearPath(), Direct("velocity")).loss(Constant(), Batch(data), noise)
    torch.testing.assert_close(
        loss.per_sample, (data - prior(noise, data)).square().mean(1), rtol=1e-12, atol=1e-12
    )
    assert float(loss.per_sample.mean()) == pytest.approx(float(data.square().mean()) + 1, rel=0.02)
    assert float(loss.logs["error"]) == pytest.approx(float(loss.per_sample.mean()), rel=1e-9)
    assert float(
        Objective(VPPath(), Direct("noise")).loss(Constant(), Batch(data), noise).per_sample.mean()
    ) == pytest.approx(1.0, rel=0.02)


def test_the_network_sees_the_interpolation_and_its_own_clock() -> None:
    data, noise = points(64), NoiseSource(range(64))
    for path in PATHS.values():
        net = Constant()
        loss = Objective(path, Direct("noise")).loss(net, Batch(data), noise)
        (x, clock, _), c = net.seen[0], path.coefficients(loss.t)
        torch.testing.assert_close(
            x, c.alpha[:, None] * data + c.sigma[:, None] * prior(noise, data), rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(clock, path.network_time(loss.t).float())
    net = Constant()
    source = points(64, seed=9)
    Objective(LinearPath(), Direct("velocity")).loss(
        net, Batch(data, source=source), noise, t=torch.zeros(64, dtype=torch.float64)
    )
    assert torch.equal(net.seen[0][0], source)  # a source that the data brings takes the prior's place


@every_path
@pytest.mark.parametrize("kind", ["noise", "data", "v", "velocity", "edm"])
def test_the_exact_target_costs_nothing(path: Any, kind: str) -> None:
    data, noise = points(32, 3), NoiseSource(range(32), step=2)
    parameterization = EDM(sigma_data=0.7) if kind == "edm" else Direct(kind)
    objective = Objective(path, parameterization)
    t = objective.times(noise, path)
    c, z = path.coefficients(t), prior(noise, data)
    a, s, da, ds = (v[:, None] for v in (c.alpha, c.sigma, c.d_alpha, c.d_sigma))
    level = s / a
    x = a * data + s * z
    edm = (data - 0.49 / (level**2 + 0.49) * x / a) / (level * 0.7 / (level**2 + 0.49).sqrt())
    target = {"noise": z, "data": data, "v": a * z - s * data, "velocity": da * data + ds * z, "edm": edm}[
        kind
    ]
    assert float(objective.loss(Constant(target), Batch(data), noise).per_sample.max()) < 1e-12
    # half a unit in the network's own output
    off = objective.loss(Constant(target + 0.5), Batch(data), noise).per_sample
    torch.testing.assert_close(off, torch.full_like(off, 0.25), rtol=1e-6, atol=1e-6)


@every_path
@pytest.mark.parametrize("kind", ["noise", "data", "v", "velocity", "edm"])
def test_a_perfect_prediction_reads_as_the_data(path: Any, kind: str) -> None:
    data, noise = points(32, 3), NoiseSource(range(32), step=2)
    objective = Objective(path, EDM() if kind == "edm" else Direct(kind))
    t = 0.05 + 0.9 * torch.rand(32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = objective.state(Coupled(prior(noise, data), data, Cond()), t, noise)
    silent = objective.predict(Constant(), state)
    # what a silent network lacks
    target = -objective.parameterization.error(silent, data, prior(noise, data))
    torch.testing.assert_close(
        objective.predict(Constant(target), state).to("data"), data, rtol=1e-8, atol=1e-8
    )


def test_edm_scales_keep_unit_variance() -> None:
    """Inputs and targets of the network have variance 1 when the data has sigma_data's (Karras et al.,
    appendix B.6)."""
    path, n = EDMPath(), 40_000
    data, noise, net = 0.5 * points(n, 1), NoiseSource(range(n)), Constant()
    loss = Objective(path, EDM(sigma_data=0.5)).loss(net, Batch(data), noise)
    for level in ((loss.t < 0.3), (loss.t > 0.9)):
        assert float(net.seen[0][0][level].var()) == pytest.approx(1.0, rel=0.07)
        assert float(loss.per_sample[level].mean()) == pytest.approx(1.0, rel=0.07)


def test_the_exact_network_reaches_the_bayes_error() -> None:
    """Gaussian data N(0, v): Var(data | x) = v s²/(a² v + s²), the velocity's is its (a' − s' a/s)² fold =
    1/(1 − t)²."""
    std, path, n = 0.6, LinearPath(), 60_000
    data, noise = std * points(n, 1), NoiseSource(range(n))
    model = gaussian(0.0, std).denoiser(path)

    class Exact(nn.Module):
        def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
            return model.predict(x, t.double() / 1000, cond).to("velocity")

    for t in (0.1, 0.5, 0.9):
        loss = Objective(path, Direct("velocity")).loss(
            Exact(), Batch(data), noise, t=torch.full((n,), t, dtype=torch.float64)
        )
        variance = std**2 * (1 - t) ** 2 / (t**2 * std**2 + (1 - t) ** 2)
        assert float(loss.per_sample.mean()) == pytest.approx(variance / (1 - t) ** 2, rel=0.02)


def test_known_entries_are_put_in_place_and_left_out() -> None:
    data, noise = points(16, 4), NoiseSource(range(16))
    known = torch.rand(16, 4, generator=torch.Generator().manual_seed(1)) > 0.6
    known[0], known[1] = True, False
    given = points(16, 4, 5)
    net = Constant()
    objective = Objective(LinearPath(), Direct("velocity"))
    loss = objective.loss(net, Batch(data, Cond(known=known, given=given)), noise)
    seen = net.seen[0][0]
    assert torch.equal(seen[known], given[known])
    squared = (data - prior(noise, data)).square()
    for i in range(1, 16):
        free = ~known[i]
        expected = squared[i][free].mean() if bool(free.any()) else torch.zeros((), dtype=torch.float64)
        assert float(loss.per_sample[i]) == pytest.approx(float(expected), rel=1e-12)
    assert float(loss.per_sample[0]) == 0.0
    without = Constant()
    objective.loss(without, Batch(data, Cond(known=known)), noise)
    assert torch.equal(without.seen[0][0][known], data[known])  # values default to the data's own


def test_a_mask_for_all_channels() -> None:
    data, noise = points(2, 3 * 4).view(2, 3, 2, 2), NoiseSource(range(2))
    known = torch.tensor([[[[True, False], [False, False]]]]).expand(2, 1, 2, 2)
    loss = Objective(LinearPath(), Direct("velocity")).loss(Constant(), Batch(data, Cond(known=known)), noise)
    squared = (data - prior(noise, data)).square().flatten(2)[:, :, 1:]
    torch.testing.assert_close(loss.per_sample, squared.flatten(1).mean(1), rtol=1e-12, atol=1e-12)


def test_dropout_of_conditions_is_a_function_of_the_noise() -> None:
    cond = Cond(label=torch.arange(400), known=torch.zeros(400, 2, dtype=torch.bool))
    objective, data = Objective(LinearPath(), Direct("velocity"), cond_drop=0.3), points(400)

    def lost(noise: NoiseSource) -> Tensor:
        net = Constant()
        objective.loss(net, Batch(data, cond), noise)
        assert net.seen[0][2].known is not None
        return net.seen[0][2].label == -1

    first = lost(NoiseSource(range(400)))
    assert torch.equal(first, lost(NoiseSource(range(400)))) and abs(float(first.double().mean()) - 0.3) < 0.1
    assert not torch.equal(first, lost(NoiseSource(range(400), step=1)))


def test_loss_of_a_sample_does_not_depend_on_its_batch() -> None:
    objective, data = Objective(VPPath(), Direct("noise")), points(8)
    together = objective.loss(Constant(), Batch(data), NoiseSource(range(8)))
    alone = objective.loss(Constant(), Batch(data[5:6]), NoiseSource([5]))
    (
        torch.testing.assert_close(alone.per_sample, together.per_sample[5:6]),
        torch.testing.assert_close(alone.t, together.t[5:6]),
    )


def test_draws_do_not_depend_on_how_a_batch_is_split() -> None:
    """Training keys each sample by (run seed, position in the global batch): two halves are the whole,
    dropout and times included."""
    objective = Objective(VPPath(), Direct("noise"), cond_drop=0.5)
    data, cond = points(16), Cond(label=torch.arange(16))

    def run(rows: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        net, index = Constant(), torch.arange(16)[rows]
        loss = objective.loss(
            net, Batch(data[rows], cond.index(rows)), NoiseSource([7] * len(index), index=index, step=3)
        )
        return loss.per_sample, loss.t, net.seen[0][0], net.seen[0][2].label

    whole, halves = run(slice(0, 16)), [run(slice(0, 5)), run(slice(5, 16))]
    for all_of_it, parts in zip(whole, zip(*halves)):
        torch.testing.assert_close(torch.cat(parts), all_of_it, rtol=1e-12, atol=1e-12)
    assert len(whole[0].unique()) == 16 and 0 < int((whole[3] == -1).sum()) < 16


def test_weights_of_pairs() -> None:
    class Weighted:
        def __call__(self, source: Tensor, data: Tensor, cond: Cond, noise: NoiseSource) -> Coupled:
            return Coupled(
                source,
                data.flip(0),
                cond.index(torch.arange(len(data) - 1, -1, -1)),
                torch.arange(4.0, dtype=torch.float64),
            )

    data, noise, net = points(4), NoiseSource(range(4)), Constant()
    loss = Objective(LinearPath(), Direct("velocity"), coupling=Weighted()).loss(
        net, Batch(data, Cond(label=torch.arange(4))), noise
    )
    expected = torch.arange(4.0, dtype=torch.float64) * (data.flip(0) - prior(noise, data)).square().mean(1)
    torch.testing.assert_close(loss.per_sample, expected, rtol=1e-12, atol=1e-12)
    assert net.seen[0][2].label.tolist() == [3, 2, 1, 0]


def test_velocity_weight_turns_data_errors_into_velocity_errors() -> None:
    data, noise, out = points(64), NoiseSource(range(64)), points(64, seed=8)
    t = torch.linspace(0.02, 0.9, 64, dtype=torch.float64)
    weighted = Objective(LinearPath(), Direct("data"), weight="velocity").loss(
        Constant(out), Batch(data), noise, t=t
    )
    c, z = LinearPath().coefficients(t), prior(noise, data)
    x = c.alpha[:, None] * data + c.sigma[:, None] * z
    velocity_error = (out - x) / (1 - t[:, None]) - (data - z)
    torch.testing.assert_close(weighted.per_sample, velocity_error.square().mean(1), rtol=1e-9, atol=1e-12)


def test_built_from_a_config() -> None:
    tree = {
        "path": {"name": "vp", "schedule": "cosine"},
        "parameterization": {"name": "noise", "variance": "learned_range"},
        "cond_drop": 0.1,
        "bound_weight": 1,
    }
    objective = build_objective(**objective_options(tree))
    assert objective.parameterization.variance == "learned_range" and objective.cond_drop == 0.1
    torch.testing.assert_close(objective.path.alpha_bar, VPPath(schedule="cosine").alpha_bar)
    for bad, message in (
        ({"pth": "vp"}, "unknown option 'pth'.*did you mean 'path'"),
        ({"cond_drop": "often"}, "got 'often'"),
    ):
        with pytest.raises(ValueError, match=message):
            objective_options(bad)
    for bad, message in (
        ({"path": "vpp"}, "got path 'vpp'.*did you mean 'vp'"),
        ({"path": {"schedule": "cosine"}}, "got a path without a name"),
        ({"path": {"name": "linear", "schedule": "cosine"}}, "unknown option 'schedule'"),
        ({"weight": "max_snr"}, "got loss weight 'max_snr', expected one of.*did you mean 'min_snr'"),
        ({"cond_drop": 1.5}, "got cond_drop=1.5, expected a probability"),
        ({"drop_each": -0.1}, "got drop_each=-0.1, expected a probability"),
        ({"parameterization": {"name": "noise", "variance": "learned"}}, "got variance 'learned'"),
    ):
        with pytest.raises(ValueError, match=message):
            build_objective(**bad)
