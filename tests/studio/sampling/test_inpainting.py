"""Pictures that are filled in: how often steps are taken is recorded, counted and printed, and older recipes
keep theirs."""

import shlex

import pytest
import torch

from studio import sampling
from studio.model.model import Model
from studio.sampling.commands import command_of

INIT = torch.randint(0, 256, (1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
MASK = torch.zeros(8, 8, dtype=torch.bool)
MASK[:, 4:] = True


def said(command: str) -> str:
    words = shlex.split(command)
    return words[words.index("--sampler") + 1]


def test_steps_are_taken_again_by_default_and_counted(picture_model: Model) -> None:
    seen: list[sampling.Progress] = []
    samples = picture_model.sample(
        seeds=[0, 1, 2], batch=2, num_steps=4, init=INIT, mask=MASK, on_step=lambda p: seen.append(p) and None
    )
    assert samples.recipes[0]["sampler"] == "ab2(resample=5)"
    assert (
        [p.done for p in seen] == list(range(1, 41))
        and {p.total for p in seen} == {40}
        and sum(p.finished for p in seen) == 2
    )
    assert torch.equal(samples.values[:, :, :, :4], INIT[None, :, :, :4].expand(3, 1, 8, 4))
    once = picture_model.sample(seeds=[0], num_steps=4, init=INIT, mask=MASK, sampler="ab2(resample=1)")
    assert once.recipes[0]["sampler"] == "ab2(resample=1)" and not torch.equal(
        once.values[0], samples.values[0]
    )


def test_what_is_not_filled_in_is_not_taken_again(picture_model: Model) -> None:
    assert picture_model.request(init=INIT)[0].sampler == picture_model.request()[0].sampler == "ab2"
    assert (
        picture_model.request(init=INIT, mask=MASK, sampler="heun(resample=2)")[0].sampler
        == "heun(resample=2)"
    )
    assert (
        "resample"
        not in picture_model.request(init=INIT, mask=MASK, sampler="torchdiffeq(method=rk4)")[0].sampler
    )
    for options in ({}, {"init": INIT}):
        with pytest.raises(ValueError, match="got resample=5, which is for pictures that are filled in"):
            picture_model.request(sampler="ab2(resample=5)", **options)


def test_an_older_recipe_took_each_step_once(picture_model: Model) -> None:
    recipe = dict(
        picture_model.sample(
            seeds=[0], num_steps=2, init=INIT, mask=MASK, origin={"init": "a.png", "mask": "m.png"}
        ).recipes[0]
    )
    recipe.pop("as_values", None)
    assert said(command_of(recipe)) == "ab2(resample=5)"
    assert said(command_of({**recipe, "sampler": "ab2"})) == "ab2(resample=1)"
    plain = {k: v for k, v in recipe.items() if k not in ("mask",)}
    assert said(command_of({**plain, "sampler": "ab2"})) == "ab2"
