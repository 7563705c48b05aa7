"""An adversarial pair as an outsider writes it: two networks alternate inside a step, fakes are replayed."""

from pathlib import Path

import pytest
import torch
from tiny import checkpoint_differences, killed, last_checkpoint, metrics, points_config
from torch import nn
from torch.nn.functional import softplus

import studio
from backbones.types import Cond
from samplers import Denoiser, Loss
from studio.data.loader import Draw
from studio.training.procedure import REGISTRY, NetworkSpec, Phase, Plain, Update

pytestmark = pytest.mark.usefixtures("one_thread")


class Replay:
    """Real points; as their sources, fakes of now and of some steps before."""

    def __init__(self, setting, make):
        self.setting, self.real, self.make = setting, setting.dataset(), make

    def at(self, step, places, ctx):
        real, g = self.real.at(step, places, ctx), torch.Generator().manual_seed(step.run)
        with torch.no_grad():
            fakes = self.make(self.setting.networks, torch.randn(real.values.shape, generator=g))
        pool = ctx.states["replay"] = torch.cat([fakes, ctx.states.get("replay", fakes)])[:512]
        fakes = torch.cat([fakes[::2], pool[torch.randint(len(pool), (len(fakes) // 2,), generator=g)]])
        return Draw(self.setting.codec.encode(real.values), Cond(), fakes, encoded=True)


def critic():
    return nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))


class Adversarial(Plain):
    def networks(self, config):
        return {"generator": NetworkSpec(config.backbone), "critic": NetworkSpec(critic, average=False)}

    def phases(self, setting):
        def make(nets, z):
            return self.denoiser(nets, setting.objective).predict(z, 0.0, Cond()).to("data")

        def criticise(nets, batch, noise, ctx):
            assert nets["critic"].training and not nets["generator"].training
            real = batch.data.requires_grad_(True)
            says, of_fakes = nets["critic"](real), nets["critic"](batch.source)
            (slope,) = torch.autograd.grad(says.sum(), real, create_graph=True)  # R1
            return Loss((softplus(-says) + softplus(of_fakes))[:, 0] + 2 * slope.square().sum(1))

        def generate(nets, batch, noise, ctx):
            assert not any(p.requires_grad for p in nets["critic"].parameters())
            return Loss(softplus(-nets["critic"](make(nets, noise.normal((2,), stream="z"))))[:, 0])

        first = Update(("critic",), criticise, Replay(setting, make), repeat=2)
        return [Phase("both", (first, Update(("generator",), generate, setting.dataset())))]

    def denoiser(self, nets, objective):
        return Denoiser(nets["generator"], objective.path, objective.parameterization)


def test_a_pair_learns_and_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "adversarial", f"{__name__}:Adversarial")
    config = points_config("mixture", steps=260, save_every=240, batch_size=64, lr=2e-3, ema=["0.99"])
    config["train"] |= {"betas": (0.5, 0.9), "schedule": "constant"}
    config["backbone"] |= {"width": 64}
    config |= {"procedure": {"name": "adversarial"}, "objective": {"parameterization": "data"}}
    config["sample"] |= {"sampler": "euler", "num_steps": 1}
    run = studio.train(config, out=tmp_path / "whole", quiet=True)
    made = run.load().sample(seeds=range(1000)).values
    assert 0.25 < float((made[:, 0] < made[:, 1] + 0.2).float().mean()) < 0.55  # 0.4 lies left
    assert torch.allclose(made.mean(0), torch.tensor([0.0, -0.4]), atol=0.25)
    assert torch.allclose(made.std(0), torch.tensor([1.33, 0.90]), rtol=0.25)
    assert {"critic.loss", "generator.loss"} <= metrics(run.folder)[-1].keys()
    rest = studio.train(killed(run.folder, tmp_path / "killed", 240), resume=True, quiet=True)
    assert checkpoint_differences(last_checkpoint(run.folder), last_checkpoint(rest.folder)) == []
