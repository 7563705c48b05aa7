"""Python's forms of what is asked for: numbers of numpy and torch, samplers as objects, noise as numbers,
``none``. Each is the same request as its plain form."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import dit_config
from torch import Tensor

import guidance
import samplers
import studio
from backbones.types import NoiseSource, RecordedNoise
from guidance import CFG
from samplers.solvers.ode import Heun
from studio.model.model import Model
from studio.runtime.recipes import told
from studio.sampling.commands import command_of
from studio.sampling.sampler_spec import build_sampler, said

GREY = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
NUMBERS = (
    lambda v: v,
    np.float64,
    np.array,
    torch.tensor,
    lambda v: np.array([v]),
    lambda v: torch.tensor([v], dtype=torch.float64),
)
WHOLE = (np.int64, np.uint8, np.float32, float, np.array, torch.tensor, lambda v: torch.tensor([v]))


def recipe(model: Model, **options: Any) -> dict[str, Any]:
    """Of one request, as JSON keeps it."""
    request, rules = model.request(**{"seeds": [3], "num_steps": 2, **options})
    return json.loads(json.dumps(model.recipes(request, None, rules)[0]))


@pytest.mark.parametrize("form", WHOLE)
def test_whole_numbers(form: Any, picture_model: Model) -> None:
    assert recipe(picture_model, num_steps=form(5), seeds=form(7), batch=form(2)) == recipe(
        picture_model, num_steps=5, seeds=7
    )
    assert recipe(picture_model, seeds=[form(7)], labels=[form(2)]) == recipe(
        picture_model, seeds=[7], labels=2
    )


@pytest.mark.parametrize("form", NUMBERS)
def test_scales_and_strengths(form: Any, picture_model: Model) -> None:
    plain = recipe(picture_model, guidance="cfg=2.5", init=GREY, strength=0.25)
    for scale in (
        form(2.5),
        [form(2.5)],
        {"name": "cfg", "scale": form(2.5)},
        CFG(form(2.5)),
        guidance.build("cfg", scale=form(2.5)),
    ):
        assert recipe(picture_model, guidance=scale, init=GREY, strength=form(0.25)) == plain
    assert recipe(picture_model, sampler={"name": "heun", "shift": form(2.5)}) == recipe(
        picture_model, sampler="heun(shift=2.5)"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        dict(num_steps=2.5),
        dict(num_steps="3"),
        dict(num_steps=True),
        dict(num_steps=np.array([1, 2])),
        dict(batch=0),
        dict(batch="all"),
        dict(deterministic="no"),
        dict(init=GREY, strength="half"),
        dict(init=GREY, strength=torch.nan),
        dict(seeds=torch.tensor(1.5)),
        dict(guidance=torch.ones(2)),
    ],
)
def test_what_is_no_number_is_refused(wrong: dict[str, Any], picture_model: Model) -> None:
    with pytest.raises(ValueError, match="got "):
        picture_model.request(**{"seeds": [3], **wrong})


@pytest.mark.parametrize("none", ["none", "None", " none ", "", None, [], ["none"], ()])
def test_no_guidance(none: Any, picture_model: Model) -> None:
    assert picture_model.config.sample.guidance and recipe(picture_model, guidance=none)["guidance"] == ""
    with pytest.raises(ValueError, match="got guidance rule 'none'"):
        guidance.parse("none,cfg=2")


SAMPLERS: list[tuple[Any, str]] = [
    (Heun(), "heun"),
    (Heun(shift=2.0, last="euler"), "heun(shift=2,last=euler)"),
    (samplers.build("ddim", eta=0.5), "ddim(eta=0.5)"),
    (samplers.build("ddpm", variance="fixed_large"), "ddpm(variance=fixed_large)"),
    (samplers.build("torchdiffeq", rtol=1e-3), "torchdiffeq(rtol=0.001)"),
    (
        samplers.build("diffusers", scheduler="UniPCMultistepScheduler", use_karras_sigmas=True),
        "diffusers(scheduler=UniPCMultistepScheduler,use_karras_sigmas=True)",
    ),
    ({"name": "edm_heun", "s_churn": 5.0}, "edm_heun(s_churn=5)"),
]


@pytest.mark.parametrize("sampler, line", SAMPLERS)
def test_samplers_as_objects(sampler: Any, line: str, picture_model: Model) -> None:
    """An object is the request that its line is, so its recipe has a command."""
    assert recipe(picture_model, sampler=sampler) == recipe(picture_model, sampler=line)
    ours = picture_model.sample(sampler=sampler, seeds=[1], num_steps=2)
    assert torch.equal(ours.values, picture_model.sample(sampler=line, seeds=[1], num_steps=2).values)
    assert command_of(ours.recipes[0]).startswith("studio sample")


def test_every_sampler_of_the_registry_has_a_line() -> None:
    for name in samplers.REGISTRY:
        line = said(samplers.build(name))
        assert (
            line is not None
            and line.partition("(")[0] == name
            and vars(build_sampler(line)) == vars(samplers.build(name))
        )


def test_a_sampler_of_your_own(picture_model: Model, tmp_path: Path) -> None:
    class Mine(Heun):
        def step(self, *args: Any) -> Tensor:
            return super().step(*args) * 0.5

    mine = picture_model.sample(sampler=Mine(), seeds=[1], num_steps=3)
    assert mine.recipes[0]["sampler"] == "custom" and not torch.equal(
        mine.values, picture_model.sample(sampler="heun", seeds=[1], num_steps=3).values
    )
    assert (
        told(lambda: command_of(mine.recipes[0]))
        == "none, because its sampler was an object in Python, which no line describes"
    )
    for wrong, text in (
        (Heun, r"try Heun\(\)"),
        ("custom", "pass that object again"),
        (3, "got int as the sampler"),
        ({"name": "hoin"}, "did you mean"),
    ):
        with pytest.raises(ValueError, match=text):
            picture_model.request(sampler=wrong, seeds=[1])
    with pytest.raises(ValueError, match="no line describes"):
        studio.generate(picture_model, tmp_path / "out", num=2, sampler=Mine(), quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_changed_object_is_what_it_is_now(picture_model: Model) -> None:
    changed = Heun()
    changed.shift = 3.0
    assert recipe(picture_model, sampler=changed)["sampler"] == "heun(shift=3)"
    changed.shift = torch.ones(2)  # type: ignore[assignment]
    assert said(changed) == "custom"


def test_generate_takes_them_too(picture_model: Model, tmp_path: Path) -> None:
    options: dict[str, Any] = dict(quiet=True, workers=1, format="npz")
    studio.generate(
        picture_model,
        tmp_path / "a",
        num=3,
        num_steps=2,
        sampler="heun",
        guidance=2.0,
        labels=[1, 2, 3],
        **options,
    )
    studio.generate(
        picture_model,
        tmp_path / "b",
        num=np.int64(3),
        num_steps=torch.tensor(2),
        sampler=Heun(),
        guidance=np.float32(2),
        labels=np.array([1, 2, 3]),
        batch=np.int32(4),
        **options,
    )
    pinned = [json.loads((tmp_path / name / "manifest.json").read_text())["pinned"] for name in "ab"]
    assert pinned[0] == pinned[1]


def test_noise_as_numbers(picture_model: Model) -> None:
    """The start is the given one, in every form, and in any batch."""
    plain = picture_model.sample(seeds=[4, 5, 6], num_steps=3, labels=1).values
    start = NoiseSource([4, 5, 6]).normal((1, 8, 8), stream="prior")
    for form in (
        start,
        start.double(),
        start.numpy(),
        list(start),
        start[:, 0],
        start.movedim(1, -1),
        [s.numpy() for s in start],
    ):
        assert torch.equal(picture_model.request(noise=form)[0].noise, start)
    for batch in (2, 8):
        made = picture_model.sample(noise=start.numpy(), num_steps=3, labels=1, batch=batch)
        assert torch.equal(made.values, plain) and [r["seed"] for r in made.recipes] == [0, 1, 2]
    assert torch.equal(
        picture_model.sample(noise=start, num_steps=3, labels=1, deterministic=True, seeds=[9, 1, 5]).values,
        plain,
    )
    one = picture_model.sample(noise=start[1], seeds=[7, 8], num_steps=3, labels=1)
    assert torch.equal(one.values, plain[[1, 1]])
    assert (
        told(lambda: command_of(one.recipes[0]))
        == "none, because noise came as values in Python, not as a file"
    )


def test_what_is_drawn_on_the_way_is_still_the_seeds(picture_model: Model) -> None:
    start = NoiseSource([4]).normal((1, 8, 8), stream="prior")
    options: dict[str, Any] = dict(sampler="euler_maruyama", num_steps=3, labels=1)
    again = picture_model.sample(noise=start, seeds=[4], **options).values
    assert torch.equal(again, picture_model.sample(seeds=[4], **options).values) and not torch.equal(
        again, picture_model.sample(noise=start, seeds=[5], **options).values
    )


def test_noise_as_a_source(picture_model: Model) -> None:
    plain = picture_model.sample(seeds=[4, 5], num_steps=2)
    same = picture_model.sample(noise=NoiseSource([4, 5]), num_steps=2)
    # a source that is nothing but seeds is those seeds
    assert torch.equal(same.values, plain.values) and same.recipes == plain.recipes
    page = picture_model.sample(
        noise=NoiseSource([4, 5], index=[1, 2], step=3), num_steps=2, labels=1, batch=1
    )
    start = NoiseSource([4, 5], index=[1, 2], step=3).normal((1, 8, 8), stream="prior")
    assert torch.equal(page.values, picture_model.sample(noise=start, num_steps=2, labels=1).values)
    recorded = picture_model.sample(
        noise=RecordedNoise({"prior": [start]}), seeds=[0, 1], num_steps=2, labels=1, batch=1
    )
    assert torch.equal(recorded.values, page.values) and recorded.recipes[0]["as_values"] == ["noise"]


@pytest.mark.parametrize(
    "options, text",
    [
        (dict(noise=torch.zeros(3, 1, 8, 8), seeds=[1, 2]), "noise for 3 samples and 2 seeds"),
        (dict(noise=torch.randn(2, 1, 4, 4)), r"expected \(N, 1, 8, 8\)"),
        (dict(noise=torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), "uint8, expected finite floats"),
        (dict(noise=torch.full((1, 8, 8), torch.nan)), "not finite"),
        (dict(noise="white"), "noise='white'"),
        (dict(noise=object()), "noise of object"),
        (dict(noise=NoiseSource([1]), seeds=[2]), "a NoiseSource of others"),
    ],
)
def test_what_is_no_noise(options: dict[str, Any], text: str, picture_model: Model) -> None:
    with pytest.raises(ValueError, match=text):
        picture_model.request(**options)


def test_noise_of_another_scale_is_told(picture_model: Model) -> None:
    with pytest.warns(UserWarning, match="deviation 80"):
        picture_model.request(
            noise=80
            * NoiseSource([4]).normal((1, 8, 8), stream="prior")
            / NoiseSource([4]).normal((1, 8, 8), stream="prior").square().mean().sqrt()
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture_model.request(noise=NoiseSource([4]).normal((1, 8, 8), stream="prior"))


def test_points_take_noise(points_model: Model) -> None:
    start = NoiseSource(range(6)).normal((2,), stream="prior")
    assert torch.equal(
        points_model.sample(noise=start.tolist()).values, points_model.sample(seeds=range(6)).values
    )


def test_configs_hold_plain_numbers(pictures: Path, tmp_path: Path) -> None:
    """A dict with numpy's and torch's numbers is the config that the plain one is, and its run resumes."""
    plain, odd = (
        dit_config(pictures, steps=2, save_every=0),
        dit_config(
            pictures,
            steps=np.int64(2),
            lr=torch.tensor(2e-3, dtype=torch.float64),
            batch_size=np.array(8),
            save_every=0,
        ),
    )
    odd |= {"seed": torch.tensor(3)}
    one, two = (
        studio.train(c, out=tmp_path / name, quiet=True) for name, c in (("plain", plain), ("odd", odd))
    )
    assert (one.folder / "config.yaml").read_text() == (
        two.folder / "config.yaml"
    ).read_text() and one.metrics.get("loss") == two.metrics.get("loss")
    assert json.loads((two.folder / "meta.json").read_text())["source"]["train"]["steps"] == 2
    assert (
        studio.train(
            {**odd, "train": {**odd["train"], "steps": np.int64(3)}}, out=two.folder, resume=True, quiet=True
        ).step
        == 3
    )


@pytest.mark.parametrize("kind", ["PIL", "1", "uint8", "bool", "float", "torch"])
def test_masks_and_pictures(kind: str, picture_model: Model) -> None:
    free = np.zeros((8, 8), bool)
    free[:, 3:] = True
    init: dict[str, Any] = {
        "PIL": Image.fromarray(GREY),
        "uint8": GREY,
        "float": GREY / 255,
        "torch": torch.from_numpy(GREY),
    }
    mask = {
        "PIL": Image.fromarray((free * 255).astype(np.uint8)),
        "1": Image.fromarray(free),
        "uint8": free.astype(np.uint8) * 255,
        "bool": free,
        "float": free.astype(np.float32),
        "torch": torch.from_numpy(free),
    }[kind]
    samples = picture_model.sample(init=init.get(kind, GREY), mask=mask, seeds=[1], num_steps=2)
    assert samples.recipes[0]["as_values"] == ["init", "mask"] and torch.equal(
        samples.values[0, 0][~torch.from_numpy(free)], torch.from_numpy(GREY[~free])
    )
