"""Expectation and maximisation, written as an outsider would: a model of clean points learned from noisy
ones. Each round draws what they may have been from the last average, which the checkpoint keeps as a frozen
network, and learns from that."""

from pathlib import Path

import numpy as np
import pytest
from tiny import checkpoint_differences, killed, last_checkpoint, points_config

import samplers
import studio
from backbones.types import NoiseSource
from studio.data.arrays import Arrays, Data
from studio.data.loader import Draw
from studio.training.procedure import NetworkLoss, NetworkSpec, Phase, Plain, Update

pytestmark = pytest.mark.usefixtures("one_thread")
NOISE, CLEAN, ROUNDS = 1.0, (0.5, 2.0), 2  # deviations


class Posterior:
    """What the points of a batch may have been, by the frozen network: a run from where they lie on the
    path."""

    def __init__(self, setting, ask):
        self.setting, self.ask, self.noisy = setting, ask, setting.dataset()
        self.walk = samplers.build("euler_maruyama", lambda_min=-np.log(NOISE))

    def at(self, step, places, ctx):
        noisy = self.noisy.at(step, places, ctx)
        rows = range(places.start, places.stop)
        noise = NoiseSource([self.setting.seed] * len(rows), index=rows, step=step.run)
        x = self.walk.sample(self.ask(), noisy.values / (1 + NOISE), noisy.cond, noise=noise, num_steps=8)
        return Draw(x, noisy.cond, encoded=True)


class EM(Plain):
    def networks(self, config):
        return {"net": NetworkSpec(config.backbone), "last": NetworkSpec(config.backbone, frozen=True)}

    def phases(self, setting):
        nets, loss = setting.networks, NetworkLoss(setting.objective, "net")
        believe = Posterior(setting, lambda: self.denoiser({"net": nets["last"]}, setting.objective))
        yield Phase("noisy", (Update(("net",), loss, setting.dataset()),), until=1 / (1 + ROUNDS))
        for k in range(1, 1 + ROUNDS):
            yield Phase(
                f"round-{k}",
                (Update(("net",), loss, believe),),
                until=(k + 1) / (1 + ROUNDS),
                begin=lambda ctx: nets["last"].load_state_dict(setting.average("net").state_dict()),
            )


def expected(variance: float) -> float:
    """Of a Gaussian after the rounds, exactly."""
    total = now = variance + NOISE**2
    for _ in range(ROUNDS):
        share = now / (now + NOISE**2)
        now = share**2 * total + share * NOISE**2
    return now


def test_rounds_take_off_the_noise(tmp_path: Path) -> None:
    spread = np.square(CLEAN) + NOISE**2
    points = (np.random.default_rng(0).normal(size=(4000, 2)) * np.sqrt(spread)).astype(np.float32)
    data = Data("noisy", "points", (2,), Arrays(points), None, (), {"name": "scale", "std": 1.0})
    config = points_config(steps=150, save_every=25, keep_last=9, batch_size=128, lr=1e-2) | {"data": {}}
    run = studio.train(config, data=data, out=tmp_path / "whole", quiet=True, procedure=EM())
    variance = run.load().sample(seeds=range(4000), num_steps=12).values.var(0)
    assert np.allclose(variance, [expected(v**2) for v in CLEAN], rtol=0.25), (variance, spread)
    for at in (100, 125):  # between two rounds, and inside one
        rest = killed(run.folder, tmp_path / f"killed-{at}", at)
        studio.train(rest, data=data, resume=True, quiet=True, procedure=EM())
        assert checkpoint_differences(last_checkpoint(run.folder), last_checkpoint(rest)) == []
