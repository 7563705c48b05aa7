"""What a model says of data: log densities in the data's own unit, the noise that data comes from, and what
lies between two samples."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import points_config
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import studio
from backbones import NoiseSource
from samplers import Denoiser, LinearPath, TrigPath
from samplers.heads.parameterization import data as data_head
from studio.data import from_arrays
from studio.data.toy import MIXTURE
from studio.model.between import path_between, slerp
from studio.model.model import Model
from studio.sampling.samples import Samples
from studio.tasks.points import exact_mixture

pytestmark = pytest.mark.usefixtures("one_thread")


class MixtureNet(nn.Module):
    """The exact denoiser of the ``mixture`` points as a network."""

    def __init__(self, path: Any, std: float):
        super().__init__()
        self.exact = exact_mixture(path, std=std)

    def forward(self, x: Tensor, clock: Tensor, cond: Any, ctx: Any = None) -> Tensor:
        return self.exact.predict(x, clock.double() / 1000, cond).value


class GaussianNet(nn.Module):
    """The exact denoiser of N(label/10, 0.3²) in every entry, of N(0, 0.3²) without a label."""

    def __init__(self, path: Any):
        super().__init__()
        self.path = path

    def forward(self, x: Tensor, clock: Tensor, cond: Any, ctx: Any = None) -> Tensor:
        c = self.path.coefficients(clock.double() / 1000)
        a, s = (v.float().view(-1, 1, 1, 1) for v in (c.alpha, c.sigma))
        mean = cond.label.clamp_min(0).view(-1, 1, 1, 1) / 10
        return mean + 0.09 * a / (0.09 * a**2 + s**2) * (x - a * mean)


def exact_points(model: Model) -> Model:
    path = LinearPath()
    return replace(model, denoiser=Denoiser(MixtureNet(path, model.codec.std), path, data_head()))


def exact_pictures(model: Model) -> Model:
    path = TrigPath()
    return replace(model, denoiser=Denoiser(GaussianNet(path), path, data_head()))


def pictures(count: int) -> Tensor:
    """Grey noise about the middle."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(135, 35, (count, 1, 8, 8)).clip(0, 255).astype(np.uint8))


def test_the_density_of_points_in_their_own_unit(points_model: Model) -> None:
    model = exact_points(points_model)
    assert abs(model.codec.std - 1) > 0.1
    x = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    w, m, s = (torch.tensor(MIXTURE[k], dtype=torch.float64) for k in ("weights", "means", "stds"))
    s = s.view(-1, 1).expand(m.shape)
    want = MixtureSameFamily(Categorical(w), Independent(Normal(m, s), 1)).log_prob(x.double())
    torch.testing.assert_close(model.log_prob(x, num_steps=40), want, rtol=0, atol=2e-3)
    in_threes = model.log_prob(x.numpy(), num_steps=5, batch=3)
    torch.testing.assert_close(in_threes, model.log_prob(x, num_steps=5), rtol=0, atol=1e-5)
    line = "torchdiffeq(rtol=1e-4,atol=1e-4)"
    torch.testing.assert_close(
        model.log_prob(x[:3], sampler=line)[1:2], model.log_prob(x[1:2], sampler=line), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(model.log_prob(x[:3], sampler=line), want[:3], rtol=0, atol=2e-2)


def test_the_density_of_pictures_by_class(picture_model: Model) -> None:
    """Of grey levels: 1/127.5 of the network's unit. The Jacobian is diagonal, so one probe is exact."""
    model, x = exact_pictures(picture_model), pictures(4)
    labels = [2, 0, -1, 3]
    mean = torch.tensor([0.2, 0.0, 0.0, 0.3], dtype=torch.float64).view(-1, 1, 1, 1)
    law = Normal(127.5 * (mean + 1), 127.5 * 0.3)
    want = law.log_prob(x.double()).flatten(1).sum(1)
    for options in ({"exact": False}, {"exact": False, "probes": 2, "seed": 5}):
        found = model.log_prob(x, labels=labels, num_steps=24, **options)
        torch.testing.assert_close(found, want, rtol=0, atol=2e-2)
    exact = model.log_prob(x, labels=labels, num_steps=8)  # of 64 numbers
    estimated = model.log_prob(x, labels=labels, num_steps=8, exact=False)
    torch.testing.assert_close(exact, estimated, rtol=0, atol=1e-3)
    alone = model.log_prob(x[1:2], labels=0, num_steps=8, exact=False)
    torch.testing.assert_close(alone, estimated[1:2], rtol=0, atol=1e-3)
    moved = NoiseSource([7] * 4, index=range(4)).uniform((1, 8, 8), stream="dequantise") - 0.5
    bits = -law.log_prob(x.double() + moved).flatten(1).sum(1) / (64 * math.log(2))
    found = model.bits_per_dim(x, labels=labels, num_steps=24, seed=7, exact=False)
    torch.testing.assert_close(found, bits, rtol=0, atol=1e-3)


def test_the_density_of_a_trained_network(picture_model: Model) -> None:
    """Its attention has no second derivative and needs none; the estimate is of the same number."""
    x, options = pictures(2), {"num_steps": 2, "sampler": "heun"}
    exact = picture_model.log_prob(x, labels=[1, 2], **options)
    each = torch.stack(
        [picture_model.log_prob(x, labels=[1, 2], exact=False, seed=k, **options) for k in range(16)]
    )
    assert ((each.mean(0) - exact).abs() < 4 * each.std(0) / 4).all() and (each.std(0) > 0).all()
    together = picture_model.log_prob(x, labels=[1, 2], exact=False, probes=16, **options)
    assert ((together - exact).abs() < each.std(0)).all()
    assert not torch.allclose(exact, picture_model.log_prob(x, **options))  # without a label


def test_there_and_back(picture_model: Model) -> None:
    made = picture_model.sample(seeds=[3, 4], labels=[1, 2], num_steps=8)
    errors = []
    for n in (2, 16):
        options: dict[str, Any] = {"labels": [1, 2], "num_steps": n, "sampler": "heun", "guidance": "none"}
        z = picture_model.invert(made, **options)
        assert z.shape == (2, 1, 8, 8) and z.dtype == torch.float32
        back = picture_model.sample(noise=z, **options)
        errors.append(float((back.values.float() - made.values.float()).abs().mean()))
    assert errors[1] < 1 and errors[1] < errors[0] / 3
    alone = picture_model.invert(made[1:], **(options | {"labels": 2}))
    torch.testing.assert_close(alone, z[1:], rtol=0, atol=1e-5)
    guided = picture_model.invert(made, labels=[1, 2], num_steps=32, guidance="cfg=1.5")
    back = picture_model.sample(noise=guided, labels=[1, 2], num_steps=32, guidance="cfg=1.5", sampler="heun")
    assert float((back.values.float() - made.values.float()).abs().mean()) < 1
    assert not torch.allclose(guided, z, atol=1e-2)


def test_the_noise_of_exact_pictures(picture_model: Model) -> None:
    """On the circle x = sin·m + √(sin² v + cos²) z: the start is z, of a sample at the mean 0."""
    model, x = exact_pictures(picture_model), pictures(3)
    z = model.invert(x, num_steps=60, guidance="none")
    mean = 0.2
    torch.testing.assert_close(z, (x / 127.5 - 1) / 0.3, rtol=0, atol=2e-2)
    z = model.invert(list(x), labels=2, num_steps=60, guidance="none", sampler="rk4", batch=2)
    torch.testing.assert_close(z, (x / 127.5 - 1 - mean) / 0.3, rtol=0, atol=1e-3)


def test_between_two_seeds(picture_model: Model) -> None:
    options: dict[str, Any] = {"num_steps": 4, "deterministic": True}
    way = picture_model.interpolate(5, 10, 4, **options)
    assert isinstance(way, Samples) and len(way) == 4
    for end, seed in ((way[0], 5), (way[-1], 10)):
        alone = picture_model.sample(seeds=[seed], **options)
        assert torch.equal(end.value, alone.values[0]) and end.recipe["label"] == alone.recipes[0]["label"]
    assert [r["label"] for r in way.recipes] == [1, 1, 2, 2]
    assert [r["share"] for r in way.recipes] == [0, 1 / 3, 2 / 3, 1] and way[1].recipe["between"] == [5, 10]
    assert not torch.equal(way[1].value, way[0].value)
    fixed = picture_model.interpolate(5, 10, 3, labels="dot", **options)
    assert {r["class"] for r in fixed.recipes} == {"dot"}


def test_between_data(points_model: Model) -> None:
    """The ends are what sampling makes of the data's noise, near the data."""
    a, b = torch.tensor([1.0, 0.5]), torch.tensor([-0.7, 1.2])
    way = points_model.interpolate(a, b.numpy(), 5, num_steps=24, sampler="heun")
    torch.testing.assert_close(way.values[[0, -1]], torch.stack([a, b]), rtol=0, atol=2e-2)
    z = points_model.invert(torch.stack([a, b]), num_steps=24)
    torch.testing.assert_close(
        way.values[[0, -1]], points_model.sample(noise=z, num_steps=24, sampler="heun").values
    )
    assert points_model.interpolate(3, a, 3, num_steps=4, sampler="ddpm").values.isfinite().all()


def test_a_great_circle() -> None:
    a, b = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    b = b * a.norm() / b.norm()
    way = path_between(a, b, 7)
    assert torch.equal(way[0], a) and torch.equal(way[-1], b)
    torch.testing.assert_close(way.flatten(1).norm(dim=1), a.norm().expand(7))
    turns = torch.cosine_similarity(way[1:].flatten(1), way[:-1].flatten(1)).acos()
    torch.testing.assert_close(turns, turns[0].expand(6), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slerp(a, 3 * b, 0.5).norm(), 2 * a.double().norm())
    one = torch.tensor([2.0])
    assert slerp(one, -one, 0.25).item() == 1 and slerp(one, one, 0.25).item() == 2  # no circle: straight
    assert slerp(0 * one, one, 0.5).item() == 1


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Points that lie at their number."""
    x = torch.linspace(-1, 1, 64)
    values, told = torch.stack([x, x], 1).numpy(), {"n": 10 * x.numpy()}
    data = from_arrays("line", values, task="points", numbers=told)
    config = points_config() | {"data": {}}
    run = studio.train(config, data=data, out=tmp_path_factory.mktemp("runs") / "line", quiet=True)
    return run.load(device="cpu", dtype="fp32")


def test_numbers_change_on_the_way(numbered: Model) -> None:
    way = numbered.interpolate(1, 2, 3, conditions={"n": (-4.0, 8.0)}, num_steps=2)
    assert [r["conditions"]["n"] for r in way.recipes] == pytest.approx([-4, 2, 8])
    for i, (seed, n) in enumerate(((1, -4.0), (2, 8.0))):
        alone = numbered.sample(seeds=[seed], conditions={"n": n}, num_steps=2)
        torch.testing.assert_close(way.values[2 * i], alone.values[0])
    kept = numbered.interpolate(1, 2, 3, conditions={"n": 4}, num_steps=2)
    assert [r["conditions"] for r in kept.recipes] == [{"n": 4.0}] * 3
    with pytest.raises(ValueError, match="got 3 values of n, expected one, or two"):
        numbered.interpolate(1, 2, conditions={"n": (1, 2, 3)})
    x = torch.zeros(1, 2)
    assert numbered.log_prob(x, conditions={"n": 0}) != numbered.log_prob(x, conditions={"n": 9})


def test_what_has_no_answer_is_refused(points_model: Model, picture_model: Model) -> None:
    x = torch.zeros(2, 2)
    for call in (points_model.invert, points_model.log_prob):
        with pytest.raises(ValueError, match=r"got values of shape \(2, 3\), expected \(N, 2\)"):
            call(torch.zeros(2, 3))
        with pytest.raises(ValueError, match="not finite"):
            call(x / 0)
        with pytest.raises(ValueError, match="leads to the data only"):
            call(x, sampler="ddpm")
    with pytest.raises(ValueError, match="does not follow slopes"):
        points_model.log_prob(x, sampler="ddim")
    with pytest.raises(ValueError, match="no smooth density"):
        points_model.log_prob(x, sampler="heun(clip=1)")
    with pytest.raises(ValueError, match="got probes=0"):
        points_model.log_prob(x, probes=0)
    with pytest.raises(ValueError, match="are no pictures"):
        points_model.bits_per_dim(x)
    with pytest.raises(ValueError, match="got count=1"):
        points_model.interpolate(1, 2, 1)
    with pytest.raises(ValueError, match="has no classes"):
        points_model.log_prob(x, labels=3)


def untrained(folder: Path, name: str) -> Model:
    """A model of tokens or angles that has seen a step."""
    small = ["backbone.depth=1", "train.steps=1", "train.preview=false", "train.dtype=fp32"]
    small += ["backbone.width=8"] if name == "angles" else ["backbone.hidden_size=16"]
    values = np.arange(60).reshape(30, 2) % 3
    np.savez(folder / "own.npz", **{name: values / 2 if name == "angles" else values})
    own = [f"data.path={folder / 'own.npz'}", "train.batch_size=8"]
    return studio.train(name, [*own, *small], out=folder / name, quiet=True).load(device="cpu", dtype="fp32")


@pytest.mark.parametrize("name", ["moses-graph-dit", "fashion-restore", "tokens", "angles"])
def test_models_without_noise_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what they are made of, before the network is asked."""
    own = name in ("tokens", "angles")
    model = untrained(tmp_path, name) if own else studio.load(name, device="cpu", dtype="fp32")

    def never(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(type(model.denoiser.net), "forward", never)
    x = torch.zeros(1, *model.sample_shape, dtype=torch.float32 if name == "angles" else torch.uint8)
    message = f"model of {model.denoiser.space} that does not start from Gaussian noise"
    for call in (model.invert, model.log_prob):
        with pytest.raises(ValueError, match=message):
            call(x)
    with pytest.raises(ValueError, match=message):
        model.interpolate(1, 2)
