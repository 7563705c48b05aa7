"""Checkpoints of DiS and Diffusion-RWKV as model folders: the same network, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import backbones
import studio
from backbones import Cond
from studio.convert.convert import convert

CASES = {"dis_a_class": "dis", "drwkv_a_class": "rwkv"}


def checkpoint(golden: Callable[[str], Any], name: str, folder: Path) -> tuple[Path, Any, Any]:
    g, notes = golden(name)
    weights = {k.removeprefix("weights."): v for k, v in g.items() if k.startswith("weights.")}
    torch.save({"ema": weights, "model": {k: v + 1 for k, v in weights.items()}}, folder / "mine.pt")
    return folder / "mine.pt", backbones.from_original(CASES[name], weights, notes["config"]), g


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_becomes_a_model(golden: Callable[[str], Any], name: str, tmp_path: Path) -> None:
    """Its averaged weights, sampled and guided like any other model."""
    path, net, g = checkpoint(golden, name, tmp_path)
    model = studio.load(
        convert(f"{CASES[name]}:{path}", tmp_path / "model", overrides=["codec=pixels"]), dtype="fp32"
    )
    x, t, cond = g["input.x"], g["input.t"], Cond(label=g["input.y"])
    torch.testing.assert_close(model.denoiser.net(x, t, cond), net(x, t, cond))  # type: ignore[operator]
    assert len(model.classes) == 10 and model.config.sample.guidance == "cfg(scale=1.5,channels=3)"
    latents = list(model.stream(model.request(seeds=[0, 1], labels=[3, 4], num_steps=2)[0]))
    assert latents[-1].step.x.shape[1:] == x.shape[1:] and bool(latents[-1].step.x.isfinite().all())


def test_the_other_family_is_refused(golden: Callable[[str], Any], tmp_path: Path) -> None:
    path, _, _ = checkpoint(golden, "dis_a_class", tmp_path)
    for family, lacks in (("rwkv", "in_blocks.0.att.spatial_decay"), ("dit", "x_embedder.proj.weight")):
        with pytest.raises(ValueError, match=f"the weights lack {lacks}"):
            convert(f"{family}:{path}", tmp_path / "model")
    with pytest.raises(
        ValueError, match="pos_embed has 16 tokens, which is not the square grid of a side of 6"
    ):
        convert(f"dis:{path}", tmp_path / "model", overrides=["input_size=6"])
    with pytest.raises(ValueError, match="got num_classes=5, the label table has 11 rows"):
        convert(f"dis:{path}", tmp_path / "model", overrides=["num_classes=5"])
    assert not (tmp_path / "model").exists()
