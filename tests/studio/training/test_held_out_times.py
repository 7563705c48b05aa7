"""The held-out loss looks where training looks: on a table at its entries, with every parameterisation and
variance."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import dit_config, metrics, write_pictures
from torch import Tensor, nn

import studio
from backbones import Cond
from samplers import VPPath
from samplers.times import on_entries
from studio.checkpoints.build import objective_of
from studio.codecs.codec import Pixels
from studio.config import from_tree
from studio.training.held_out import held_out_loss


class Clocks(nn.Module):
    """A network that says nothing, of twice the channels where a variance is learned, and keeps the clocks it
    was shown."""

    def __init__(self, wide: bool):
        super().__init__()
        self.wide, self.seen = wide, []  # type: bool, list[Tensor]

    def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        self.seen.append(t)
        return torch.zeros_like(torch.cat([x, x], 1) if self.wide else x)


@pytest.mark.parametrize(
    "schedule", [{"schedule": "linear"}, {"schedule": "cosine"}, {"zero_snr": True}, {"num": 7}], ids=str
)
@pytest.mark.parametrize(
    "head",
    [
        {"name": "noise", "variance": "learned_range"},
        {"name": "v", "variance": "learned_range"},
        "noise",
        "data",
        "edm",
    ],
    ids=str,
)
def test_on_a_table_at_its_entries(schedule: dict[str, Any], head: Any) -> None:
    objective = objective_of(
        from_tree({"objective": {"path": {"name": "vp", **schedule}, "parameterization": head}})
    )
    wide = isinstance(head, dict)
    net = Clocks(wide)
    values = torch.randint(
        0, 256, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    bins = held_out_loss(
        net, objective, Pixels(), values, Cond(), seed=1, device=torch.device("cpu"), dtype=torch.float32
    )
    assert all(0 <= b < 1e4 for b in bins), bins
    size, clocks = objective.path.size, torch.stack(net.seen)
    assert (
        bool((clocks == clocks.round()).all())
        and 0 <= float(clocks.min())
        and float(clocks.max()) <= size - 1
    )
    if size > 10:
        # a tenth of the table each, the last next to the data
        assert bool((clocks.mean(1).diff() < 0).all()) and float(clocks[-1].max()) < size / 10


def test_times_between_entries_go_to_the_noisier_one_and_entries_stay() -> None:
    for size in (7, 100, 1000):
        path = VPPath(num=size)
        entries = torch.tensor([path.time(k) for k in range(size)], dtype=torch.float64)
        assert torch.equal(on_entries(entries, path), entries)
        assert torch.equal(on_entries(entries + 0.4 / size, path), entries)
    assert float(on_entries(torch.tensor(1.0, dtype=torch.float64), VPPath())) == VPPath().time(0)


def test_a_run_that_learns_its_variance_logs_numbers(tmp_path: Path) -> None:
    """The objective of the shipped fashion-ddpm, on a few small pictures."""
    config = dit_config(write_pictures(tmp_path / "pictures.npz"), steps=4, eval_every=2)
    config["backbone"]["learn_sigma"] = True
    config["objective"] = {
        "path": {"name": "vp", "schedule": "cosine"},
        "parameterization": {"name": "noise", "variance": "learned_range"},
        "cond_drop": 0.1,
    }
    config["sample"] = {"sampler": "ddim(clip=1,recompute_noise=true)", "num_steps": 4, "guidance": ""}
    run = studio.train(config, out=tmp_path / "run", quiet=True)
    for line in [m for m in metrics(run.folder) if "held_out" in m]:
        assert all(
            0 < v < 1e4
            for k in line
            for v in (line[k] if isinstance(line[k], list) else [line[k]])
            if k.startswith("held_out")
        )
