"""Sample i is a function of its seed and its conditions: not of its batch, its neighbours or its place."""

from typing import Any

import numpy as np
import pytest
import torch
from thinned import thinned
from torch import Tensor

from backbones import Cond, NoiseSource
from guidance import CFG
from samplers import LinearPath
from studio import sampling
from studio.data.labels import parse_labels
from studio.model.model import Model
from studio.runtime.seeds import parse_seeds
from studio.runtime.signals import Stopped
from studio.sampling.engine import Request, build_sampler, micro_batches
from studio.tasks.points import exact_mixture

CLASSES = ("bar", "dot", "ring", "wedge")


def last_states(model: Model, **options: Any) -> Tensor:
    """(N, ...) states before they are decoded and rounded."""
    request, rules = model.request(**options)
    out: dict[int, Tensor] = {}
    for progress in model.stream(request, rules):
        if progress.step.index + 1 == progress.step.num_steps:
            out |= {i: x for i, x in zip(progress.rows, progress.step.x) if i is not None}
    return torch.stack([out[i] for i in range(len(request.seeds))])


@pytest.mark.parametrize("sampler", ["ab2", "heun", "ddpm", "ddim(eta=0.7)", "torchdiffeq(method=rk4)"])
@pytest.mark.parametrize("guidance", [None, "cfg=2.0"])
def test_a_seed_alone_is_the_seed_in_company(
    sampler: str, guidance: str | None, picture_model: Model
) -> None:
    options = {"sampler": sampler, "guidance": guidance, "num_steps": 8}
    many = last_states(picture_model, seeds=range(8), labels=[0, 1, 2, 3, 3, 2, 1, 0], **options)
    alone = last_states(picture_model, seeds=[5], labels=[2], **options)
    assert float((many[5] - alone[0]).abs().max()) < 1e-4
    assert float((many[5] - many[2]).abs().max()) > 0.1  # same class, another seed
    tripled = last_states(picture_model, seeds=range(8), labels=[0, 1, 2, 3, 3, 2, 1, 0], batch=3, **options)
    assert float((many - tripled).abs().max()) < 1e-4


@pytest.mark.parametrize("sampler", ["ab2", "ddpm"])
def test_bf16_on_a_cpu_rounds_every_sample_alike(
    sampler: str, picture_model: Model, points_model: Model
) -> None:
    """Without asking for it: rounding to three digits must not show the company a sample was computed in."""
    for model, labels in (
        (picture_model.with_dtype("bf16"), [0, 1, 2, 3, 3, 2, 1, 0]),
        (points_model.with_dtype("bf16"), None),
    ):
        options = {"sampler": sampler, "num_steps": 6}
        many = last_states(model, seeds=range(8), labels=labels, **options)
        alone = last_states(model, seeds=[5], labels=labels and [2], **options)
        assert torch.equal(many[5], alone[0])
    assert micro_batches(Request((5,)), fixed=True) == [[None] * 5 + [0] + [None] * 2]


@pytest.mark.parametrize(
    "sampler, dtype",
    thinned(2, ["heun", "ddpm", "torchdiffeq(method=dopri5,rtol=1e-3,atol=1e-3)"], ["fp32", "bf16"]),
)
def test_deterministic_means_bytes(sampler: str, dtype: str, picture_model: Model) -> None:
    """Whatever stands beside it: other seeds, other labels, another order, a batch that is full or not."""
    model = picture_model.with_dtype(dtype)
    adaptive = "dopri5" in sampler
    line = "cfg=3.0" if not adaptive else None
    options = {"sampler": sampler, "num_steps": 5, "guidance": line, "deterministic": True}
    alone = last_states(model, seeds=[5], labels=[2], **options)[0]
    company = [
        ([*range(8)], [0, 1, 2, 3, 0, 2, 1, 3]),
        ([*range(8)], [3, 3, 3, 3, 3, 2, 3, 3]),
        ([29, 13, 5, 21], [1, 0, 2, 3]),
        ([*range(20, 4, -1)], [2] * 16),
    ]
    # a shared step size would show
    for seeds, labels in company if not adaptive else [([4, 5, 6, 7], [1, 2, 0, 3])]:
        beside = last_states(model, seeds=seeds, labels=labels, batch=3, **options)
        assert torch.equal(beside[seeds.index(5)], alone), (seeds, labels)


def test_deterministic_batches_keep_every_sample_at_its_place() -> None:
    request = Request(tuple([5, 13, 0, 8, 7, 5]), deterministic=True)
    batches = micro_batches(request)
    assert batches == [
        [2, None, None, None, None, 0, None, 4],
        [3, None, None, None, None, 1, None, None],
        [None, None, None, None, None, 5, None, None],
    ]
    assert micro_batches(request, alone=True) == [[i] for i in range(6)]
    assert micro_batches(Request(tuple(range(5)), batch=2)) == [[0, 1], [2, 3], [4]]


def test_guidance_mixes_the_two_predictions(picture_model: Model) -> None:
    """One Euler step: x1 = x0 + u + w (c − u) with both predictions asked of the network here."""
    model, seeds, labels = picture_model, range(4), [3, 1, 0, 2]
    options: dict[str, Any] = {"seeds": seeds, "labels": labels, "sampler": "euler", "num_steps": 1}
    x = NoiseSource(list(seeds)).normal((1, 8, 8), stream="prior")
    with torch.no_grad():
        c, u = (
            model.denoiser.predict(x, 0.0, Cond(label=torch.tensor(y))).to("velocity")
            for y in (labels, [-1] * 4)
        )
    for w, want in ((0.0, u), (1.0, c), (3.0, u + 3 * (c - u))):
        torch.testing.assert_close(last_states(model, guidance=w, **options), x + want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        last_states(model, guidance=[CFG(3.0)], **options), last_states(model, guidance="cfg=3", **options)
    )
    torch.testing.assert_close(
        last_states(model, guidance=None, **{**options, "labels": "none"}), x + u, rtol=1e-4, atol=1e-4
    )


def test_an_exact_model_gives_the_data_it_is_exact_for() -> None:
    """The engine end to end on the mixture's own denoiser: mean and covariance of 4,000 samples."""
    from studio.codecs.codec import Scale

    std, n = 1.7, 4000
    request = Request(tuple(range(n)), num_steps=40, sampler="heun", batch=4096)
    codec = Scale(std=std)
    steps = sampling.stream(
        exact_mixture(LinearPath(), std=std), (2,), codec, request, device=torch.device("cpu")
    )
    values = sampling.run(steps, codec, len(request.seeds)).double()
    w, m, v = (
        torch.tensor(t, dtype=torch.float64)
        for t in ((0.4, 0.6), ((-1.5, 0.5), (1.0, -1.0)), (0.35**2, 0.6**2))
    )
    mean = w @ m
    cov = sum(w[k] * (v[k] * torch.eye(2) + torch.outer(m[k], m[k])) for k in range(2)) - torch.outer(
        mean, mean
    )
    assert values.mean(0).tolist() == pytest.approx(mean.tolist(), abs=0.1)
    torch.testing.assert_close(values.T.cov(), cov, rtol=0.08, atol=0.05)


def test_image_to_image_starts_at_its_share_of_the_way(picture_model: Model) -> None:
    init = torch.randint(0, 256, (1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    seen: list[Any] = []
    picture_model.sample(
        seeds=[3], num_steps=10, sampler="euler", init=init, strength=0.4, on_step=seen.append
    )
    assert [p.step.index for p in seen] == [6, 7, 8, 9] and seen[0].step.t == pytest.approx(0.6)
    clean = picture_model.codec.encode(init[None])
    noise = NoiseSource([3]).normal((1, 8, 8), stream="prior")
    first = seen[0]
    start = first.step.x - 0.1 * first.step.prediction.to("velocity")
    torch.testing.assert_close(start, 0.6 * clean + 0.4 * noise, rtol=1e-4, atol=1e-4)
    assert [p.done for p in seen] == [1, 2, 3, 4] and {p.total for p in seen} == {4}


@pytest.mark.parametrize("sampler", ["ab2", "ddpm", "rk4"])
def test_pixels_behind_the_mask_come_back_exactly(sampler: str, picture_model: Model) -> None:
    init = torch.randint(0, 256, (1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mask = torch.rand(8, 8, generator=torch.Generator().manual_seed(1)) < 0.4
    values = picture_model.sample(
        seeds=range(3), num_steps=6, sampler=sampler, init=init, mask=mask, guidance="cfg=2"
    ).values
    assert torch.equal(values[:, :, ~mask], init[None][:, :, ~mask].expand(3, 1, -1))
    assert not torch.equal(values[0][:, mask], values[1][:, mask])
    with pytest.raises(ValueError, match="a mask without a picture"):
        picture_model.sample(seeds=[0], mask=mask)
    with pytest.raises(ValueError, match=r"a mask of \(4, 4\), expected \(8, 8\)"):
        picture_model.sample(seeds=[0], init=init, mask=mask[:4, :4])


def test_on_step_sees_every_step_and_stops(picture_model: Model) -> None:
    seen: list[Any] = []
    picture_model.sample(seeds=range(5), num_steps=3, sampler="euler", batch=2, on_step=seen.append)
    assert [(p.done, p.total, p.rows) for p in seen] == [
        (i + 1, 9, ((0, 1), (2, 3), (4,))[i // 3]) for i in range(9)
    ]
    stopped: list[Any] = []
    with pytest.raises(Stopped):
        picture_model.sample(
            seeds=range(5), num_steps=3, batch=2, on_step=lambda p: stopped.append(p) or len(stopped) < 4
        )
    assert len(stopped) == 4


def test_seeds() -> None:
    assert (
        parse_seeds("0-3,12, 7") == (0, 1, 2, 3, 12, 7)
        and parse_seeds(4) == (4,)
        and parse_seeds(range(2)) == (0, 1)
    )
    for wrong in ("3-1", "", "x", "1,-2", "1-"):
        with pytest.raises(ValueError, match="expected numbers and ranges such as 0-7,12"):
            parse_seeds(wrong)


@pytest.mark.parametrize(
    "labels, want",
    [
        (None, (0, 1, 2)),
        ("ring", (2, 2, 2)),
        ("Ring,bar,none", (2, 0, -1)),
        ("1-3", (1, 2, 3)),
        (3, (3, 3, 3)),
        ([3, 0, "dot"], (3, 0, 1)),
        (range(1, 4), (1, 2, 3)),
        (np.array([2, 1, 0]), (2, 1, 0)),
        (torch.tensor([2, 1, 0]), (2, 1, 0)),
        ("none", (-1, -1, -1)),
        (-1, (-1, -1, -1)),
    ],
)
def test_labels(labels: Any, want: tuple[int, ...]) -> None:
    assert parse_labels(labels, CLASSES, (0, 1, 2)) == want


def test_labels_of_classes_that_are_called_by_numbers() -> None:
    classes = ("1", "2", "10")
    assert parse_labels([0, 1, 2], classes, (0, 1, 2)) == (0, 1, 2)  # numbers count classes
    assert parse_labels("1,10,2", classes, (0, 1, 2)) == (0, 2, 1)  # words are names first
    assert parse_labels("0", classes, (0,)) == (0,)
    assert parse_labels(None, (), (0, 1)) is None
    for wrong, text in (
        (4, "got class 4"),
        (-2, "got class -2"),
        ("9", "got class 9"),
        ("rong", "did you mean 'ring'"),
    ):
        with pytest.raises(ValueError, match=text):
            parse_labels(wrong, CLASSES, (0,))
    with pytest.raises(ValueError, match="this model has no classes"):
        parse_labels("bar", (), (0,))


def test_sampler_lines() -> None:
    sampler = build_sampler("ddim(eta=0.5, spacing=leading)")
    assert (sampler.eta, sampler.spacing) == (0.5, "leading") and build_sampler(
        "dpmpp-2m"
    ).__class__.__name__ == "DPMpp2M"
    for wrong, text in (
        ("ddim(eta=0.5", "name\\(key=value"),
        ("ddim(0.5)", "expected key=value"),
        ("ddim(etta=1)", "did you mean 'eta'"),
    ):
        with pytest.raises(ValueError, match=text):
            build_sampler(wrong)


def test_an_adaptive_solver_may_need_fewer_steps_than_were_asked_for(picture_model: Model) -> None:
    loose = picture_model.sample(
        seeds=[0, 1],
        labels=[0, 1],
        num_steps=200,
        guidance=None,
        sampler="torchdiffeq(method=dopri5,rtol=0.1,atol=0.1)",
    )
    tight = picture_model.sample(
        seeds=[0, 1], labels=[0, 1], num_steps=200, guidance=None, sampler="torchdiffeq(method=dopri5)"
    )
    assert len(loose) == 2 and float((loose.values.float() - tight.values.float()).abs().mean()) < 20
