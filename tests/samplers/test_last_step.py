"""Heun with an Euler step at the data: where it differs, what it costs, and what it is refused for."""

from typing import Any

import pytest
import torch
from mixture import Mixture, points

from samplers import EDMPath, LinearPath, VPPath, build
from samplers.gaussian_bridge import GaussianBridge
from samplers.paths.bridge import BrownianBridge


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_only_the_last_step_is_euler(num_steps: int) -> None:
    model, x = Mixture().denoiser(LinearPath()), points(8, 2)
    plain = list(build("heun").steps(model, x, num_steps=num_steps))
    ended = list(build("heun", last="euler").steps(model, x, num_steps=num_steps))
    assert all(torch.equal(a.x, b.x) for a, b in zip(plain[:-1], ended[:-1], strict=True))
    assert plain[-1].evaluations == 2 * num_steps and ended[-1].evaluations == 2 * num_steps - 1
    before, last = (plain[-2].x if num_steps > 1 else x), ended[-1]
    velocity = model.predict(before, last.t, None).to("velocity")
    torch.testing.assert_close(last.x, before + (last.s - last.t) * velocity)
    # on a straight path Euler to the end is the data prediction
    torch.testing.assert_close(last.x, last.data_hat)
    assert not torch.equal(plain[-1].x, last.x)


@pytest.mark.parametrize("path", [VPPath(), EDMPath()], ids=["vp", "edm"])
def test_paths_without_a_slope_at_the_data_end_so_anyway(path: Any) -> None:
    model, x = Mixture().denoiser(path), path.prior_scale * points(4, 2)
    assert torch.equal(
        build("heun").sample(model, x, num_steps=4), build("heun", last="euler").sample(model, x, num_steps=4)
    )


def test_bridges_take_it_too() -> None:
    one = torch.eye(2, dtype=torch.float64)
    bridge = GaussianBridge(0 * one[0], one, one[0], 0.3 * one, sigma=0.8)
    steps = list(build("heun", last="euler").steps(bridge.denoiser(), points(4, 2), num_steps=5))
    assert steps[-1].evaluations == 9 and isinstance(bridge.denoiser().path, BrownianBridge)


def test_another_last_step_is_refused() -> None:
    with pytest.raises(ValueError, match="got last='midpoint', expected heun or euler"):
        build("heun", last="midpoint")
