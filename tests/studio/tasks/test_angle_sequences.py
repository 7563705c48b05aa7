"""Sequences of angles (N, L, d), and that a shipped config takes a network which is for its data."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import studio
from backbones import Cond
from backbones.dit import DiT
from samplers.spaces.torus import TAU
from studio.codecs.angles import Angles
from studio.config import load_config
from studio.evaluation.angle_measures import MEASURES
from studio.evaluation.sets import SampleSet
from studio.metrics import angle_sets as metrics

QUICK = ["train.steps=3", "train.batch_size=16", "train.dtype=fp32", "train.eval_every=0", "train.warmup=1"]
QUICK += ["train.preview=false", "train.weak_snapshot=false", "train.save_every=0"]


def test_a_network_of_rows_sees_circles() -> None:
    """(B, L, d) is as (B, d, L) of a network of curves; whole turns change nothing; known places are told."""
    torch.manual_seed(0)
    form: dict[str, Any] = {"input_size": (5,), "patch_size": 1, "in_channels": 3, "hidden_size": 16}
    form |= {"depth": 1, "num_heads": 2, "num_classes": 0, "known": True, "periodic": True}
    rows, curves = DiT(**form, rows=True).double(), DiT(**form).double()
    for module in (rows.modulation, rows.final_layer.linear, rows.known_embedder):
        torch.nn.init.normal_(module.weight)  # type: ignore[union-attr, arg-type]
    curves.load_state_dict(rows.state_dict())
    x, t = torch.randn(4, 5, 3, dtype=torch.float64), torch.full((4,), 300.0)
    known = torch.arange(5)[None, :, None].expand(4, 5, 1) < 2
    out = rows(x, t, Cond(known=known))
    turned = curves(x.transpose(1, 2), t, Cond(known=known.transpose(1, 2)))
    assert out.shape == x.shape and torch.equal(out, turned.transpose(1, 2))
    whole = x + TAU * torch.randint(-2, 3, x.shape).double()
    torch.testing.assert_close(rows(whole, t, Cond(known=known)), out, rtol=0, atol=1e-11)
    assert rows.tokens((5, 3)) == 5 and float((rows(x, t) - out).detach().abs().max()) > 1e-3
    with pytest.raises(ValueError, match="expected rows .B, n, d."):
        rows(x[:, 0], t)
    with pytest.raises(ValueError, match="got rows=true with patches"):
        DiT(input_size=8, rows=True)


def sequences(count: int = 60) -> np.ndarray:
    """(count, 7, 2) about π, on both sides of the seam."""
    return (math.pi + 0.3 * np.random.default_rng(0).standard_normal((count, 7, 2))).astype(np.float32)


def test_from_a_file_to_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", angles=sequences())
    asked = [f"data.path={tmp_path / 'x.npz'}", *QUICK, "backbone.hidden_size=16", "backbone.depth=1"]
    asked += ["backbone.num_heads=2", "data.centre=true", "train.known=[random,prefix]"]
    run = studio.train("angles", asked, out=tmp_path / "run", quiet=True)
    backbone = load_config(run.folder).backbone
    assert backbone.items() >= {"name": "dit", "hidden_size": 16, "in_channels": 2, "patch_size": 1}.items()
    assert backbone["input_size"] == (7,) and all(backbone[k] for k in ("rows", "periodic", "known"))
    model = run.load(device="cpu")
    assert np.shape(model.info.codec["centre"]) == (2,) and isinstance(model.codec, Angles)
    init, free = sequences(1)[0], np.ones((7, 2), bool)
    init[:3], free[:3] = init[:3] - 2 * math.pi, False
    made = model.sample(seeds=range(3), init=init, mask=free, num_steps=2)
    assert made.values.shape == (3, 7, 2)
    np.testing.assert_array_equal(made.values[:, :3].numpy(), np.broadcast_to(init[:3], (3, 3, 2)))
    made.save(tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert file["values"].shape == (3, 7, 2) and file["values"].dtype == np.float32
    more = studio.train(
        "angles", [*asked, "train.steps=4"], out=tmp_path / "run", resume=True, quiet=True
    ).load(device="cpu")
    assert more.config.backbone["name"] == "dit"


def test_measures_count_all_places_together() -> None:
    flat = sequences().reshape(-1, 2)
    pair = [SampleSet(n, v, task="angles") for n, v in (("a", sequences()), ("b", flat + np.float32(0.3)))]
    assert MEASURES["direction"](*pair) == pytest.approx(0.3, abs=1e-4)  # type: ignore[operator]
    assert abs(metrics.moments(flat)).shape == (2,)


def test_vectors_of_an_npz_train_an_mlp(tmp_path: Path) -> None:
    """Where nobody asked for a network; what was typed of it stays."""
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32))
    for k, source in enumerate(("npz", f"npz:{tmp_path / 'x.npz'}")):
        asked = [f"data.path={tmp_path / 'x.npz'}", *QUICK, "backbone.width=16"]
        run = studio.train(source, asked, out=tmp_path / f"run{k}", quiet=True)
        backbone = load_config(run.folder).backbone
        assert (backbone["name"], backbone["width"], backbone["dim"]) == ("mlp", 16, 6)
        assert run.load(device="cpu").sample(seeds=[0], num_steps=2).values.shape == (1, 6)


@pytest.mark.parametrize(
    "source, asked, message",
    [
        (
            "npz",
            ["backbone.name=rwkv"],
            "rwkv, which is for shapes by input_size, for points of shape .6,., ",
        ),
        ("npz", ["backbone={name: dit, size: Ti/4}"], "takes dim; try backbone.name=mlp, or its whole"),
        ({"backbone": {"name": "dit"}, "data": {"name": "npz"}}, [], "got the backbone dit"),
    ],
)
def test_a_network_for_other_shapes_is_refused(
    source: Any, asked: list[str], message: str, tmp_path: Path
) -> None:
    """Where it was asked for by name, and before anything is written."""
    np.savez(tmp_path / "x.npz", images=np.zeros((60, 6), np.float32))
    with pytest.raises(ValueError, match=message):
        studio.train(
            source, [f"data.path={tmp_path / 'x.npz'}", *QUICK, *asked], out=tmp_path / "r", quiet=True
        )
    assert not (tmp_path / "r").exists()
