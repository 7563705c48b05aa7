"""Two stages, written as an outsider would: an encoder learns alone, then is frozen under a model that reads
what it says; the finished model asks both."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import checkpoint_differences, killed, last_checkpoint, metrics, points_config
from torch import nn

import studio
from samplers import Denoiser, Loss
from studio.training.procedure import NetworkSpec, Phase, Plain, Update

pytestmark = pytest.mark.usefixtures("one_thread")


class Chained(nn.Module):
    """The field reads where the encoder puts a class."""

    def __init__(self, encoder, field):
        super().__init__()
        self.encoder, self.field = encoder, field

    def forward(self, x, t, cond, ctx=None):
        return self.field(torch.cat([x, t.expand(len(x))[:, None] / 1000, self.encoder(cond.label)], 1))


def field():
    return nn.Sequential(nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))


class TwoStages(Plain):
    def networks(self, config):
        return {"encoder": NetworkSpec(lambda: nn.Embedding(8, 2)), "field": NetworkSpec(field)}

    def optimisers(self, config):
        return {"main": config.train, "table": replace(config.train, lr=0.1)}

    def phases(self, setting):
        def describe(nets, batch, noise, ctx):
            return Loss((nets["encoder"](batch.cond.label) - batch.data).square().sum(1))

        def flow(nets, batch, noise, ctx):
            assert not nets["encoder"].training and not nets["encoder"].weight.requires_grad
            return setting.objective.loss(Chained(**nets), batch, noise, ctx)

        data = setting.dataset()
        yield Phase("encoder", (Update(("encoder",), describe, data, optimiser="table"),), until=0.25)
        yield Phase("field", (Update(("field",), flow, data),))

    def denoiser(self, nets, objective):
        return Denoiser(Chained(**nets), objective.path, objective.parameterization)


def test_what_the_first_stage_learned_stays_and_leads_the_second(tmp_path: Path) -> None:
    config = points_config(labels=True, steps=240, lr=2e-2, save_every=60, eval_every=60, keep_last=9)
    config["train"] |= {"batch_size": 64, "eval_samples": 64}
    config["sample"] = {"sampler": "heun", "num_steps": 8}
    run = studio.train(config, out=tmp_path / "whole", quiet=True, procedure=TwoStages())
    early, late = (load_file(run.folder / f"checkpoints/{n:09d}/encoder.safetensors") for n in (60, 240))
    assert torch.equal(early["weight"], late["weight"]) and float(early["weight"].norm(dim=1).min()) > 1
    labels = torch.arange(128) % 8
    centres = 5 * torch.stack([(labels * torch.pi / 4).cos(), (labels * torch.pi / 4).sin()], 1)
    made = run.load().sample(seeds=range(128), labels=labels.tolist()).values
    assert float((made - centres).norm(dim=1).median()) < 1.5, "of a class: 0.8 around its centre"
    watched = [m["held_out"] for m in metrics(run.folder) if "held_out" in m]
    assert len(watched) == 4 and watched[0] < 0.2, "the classes' spread, 0.56² / 3.57² twice"
    with pytest.raises(ValueError, match=r"procedure=TwoStages\(\)"):
        studio.load(run.folder)
    rest = killed(run.folder, tmp_path / "killed", 180)
    with pytest.raises(ValueError, match=r"procedure of your own \(TwoStages\)"):
        studio.train(rest, resume=True, quiet=True)
    studio.train(rest, resume=True, quiet=True, procedure=TwoStages())
    assert checkpoint_differences(last_checkpoint(run.folder), last_checkpoint(rest)) == []
