"""What every registered sampler keeps on every registered space that it says it fits, and that it refuses the
others by name. A new sampler enters by itself, a new space by a line in `CASES`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from mixture import Mixture
from torch import Tensor, nn
from wrapped import Wrapped

import samplers
from backbones import Cond, NoiseSource
from backbones.registry import resolve
from samplers import Denoiser, LinearPath, build, spaces
from samplers.denoiser import Queryable
from samplers.heads.graph import Logits
from samplers.heads.tokens import TokenLogits
from samplers.paths.angles import GeodesicPath, WrappedVPPath
from samplers.paths.graph import GraphPath
from samplers.paths.tokens import TokenPath
from samplers.spaces.packing import draw


@dataclass(frozen=True)
class Case:
    """A model whose samples are of ``space``: its ``start`` of seeds, and a sample (1, ...) to be known."""

    space: str
    model: Queryable
    start: Callable[[NoiseSource], tuple[Tensor, Cond]]
    datum: Tensor | None = None

    def given(self) -> Tensor:
        return self.start(NoiseSource([99]))[0] if self.datum is None else self.datum


class Even(nn.Module):
    """Every category alike."""

    def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        return torch.zeros_like(x)


def drawn(path: Any, shape: tuple[int, ...]) -> Callable[[NoiseSource], tuple[Tensor, Cond]]:
    return lambda noise: spaces.of(path.space).start(noise, shape, scale=path.prior_scale)


def graphs() -> Case:
    pairs = (((0.2, 0.1, 0, 0, 0), (0.2, 0.05, 0, 0, 0)), ((0.2, 0.05, 0, 0, 0), (0.1, 0.1, 0, 0, 0)))
    path = GraphPath(num=20, atoms=(0.5, 0.5), joint=pairs)

    def start(noise: NoiseSource) -> tuple[Tensor, Cond]:
        valid = torch.ones(len(noise), 3, dtype=torch.bool)
        return draw(path.prior(valid), noise, valid, 2, stream="prior"), Cond(valid=valid)

    return Case("graph", Denoiser(Even(), path, Logits()), start)


def tokens(corruption: str) -> Case:
    path = TokenPath(vocab=5, corruption=corruption)

    def even(x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        return torch.zeros(*x.shape, 5)

    shape = (4,)
    given = torch.tensor([[3, 1, 4, 1]])
    model = Denoiser(even, path, TokenLogits())  # type: ignore[arg-type]
    return Case("tokens", model, drawn(path, shape), given)


LINE, TURN = LinearPath(), GeodesicPath().on(spaces.build("torus", prior="uniform"))
WOUND = WrappedVPPath(schedule="cosine", num=20)
CASES = {
    "euclid": Case("euclid", Mixture().denoiser(LINE), drawn(LINE, (2,))),
    "torus": Case("torus", Wrapped().flow(TURN), drawn(TURN, (2,))),
    "torus, of moments": Case("torus", Wrapped(0.8, 0.5).noise(WOUND), drawn(WOUND, (2,))),
    "graph": graphs(),
    "tokens": tokens("absorbing"),
    "tokens, replaced": tokens("uniform"),
}
KINDS = {n: resolve(samplers.REGISTRY, n, "sampler") for n in samplers.REGISTRY}
PAIRS = [(case, name) for case in CASES for name in KINDS]
FITTING = [
    (case, name)
    for case, name in PAIRS
    if "noise" in KINDS[name].starts and KINDS[name].steps_on(CASES[case].model.path)
]


def run(case: Case, name: str, noise: NoiseSource, cond: Cond | None = None, steps: int = 4) -> list[Any]:
    x, told = case.start(noise)
    return list(build(name).steps(case.model, x, cond or told, noise, num_steps=steps))


def test_every_space_has_a_case_and_a_sampler() -> None:
    assert {c.space for c in CASES.values()} == set(spaces.REGISTRY), "add the new space to CASES"
    assert {case for case, _ in FITTING} == set(CASES)


@pytest.mark.parametrize("case, name", FITTING)
def test_states_are_of_the_space_and_of_their_seeds(case: str, name: str) -> None:
    """Every state is its own projection, a run repeats itself, and a sample depends on its own seed alone."""
    one, noise = CASES[case], NoiseSource(range(5))
    space = spaces.of(one.model.path.space)
    steps = run(one, name, noise)
    _, cond = one.start(noise)
    for step in steps:
        assert bool(torch.isfinite(step.x).all()) and torch.equal(space.project(step.x, cond), step.x)
        assert step.data_hat.shape == step.x.shape and step.x.dtype == steps[0].x.dtype
    assert steps[-1].s == 1.0 and steps[-1].index + 1 == steps[-1].num_steps
    assert torch.equal(run(one, name, NoiseSource(range(5)))[-1].x, steps[-1].x)
    if not build(name).mixes:
        alone = run(one, name, NoiseSource([3]))[-1].x
        torch.testing.assert_close(alone[0], steps[-1].x[3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case, name", FITTING)
def test_known_entries_come_back_bit_for_bit(case: str, name: str) -> None:
    one, noise = CASES[case], NoiseSource(range(3))
    x, cond = one.start(noise)
    known = torch.zeros_like(x[:1], dtype=torch.bool)
    known[:, 0] = True
    fixed = {"known": known.expand_as(x), "given": one.given().expand_as(x)}
    last = run(one, name, noise, Cond(valid=cond.valid, **fixed))[-1].x
    assert torch.equal(last[:, 0], fixed["given"][:, 0])


@pytest.mark.parametrize("case, name", [pair for pair in PAIRS if pair not in FITTING])
def test_what_does_not_fit_is_refused_by_name(case: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"the sampler {KINDS[name].__name__} .*got .*; choose "):
        run(CASES[case], name, NoiseSource(range(2)))
