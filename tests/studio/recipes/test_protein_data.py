"""Backbones as data, and as states of the torus: padding, ends that have no angle, lengths."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.types import Cond, NoiseSource
from samplers.paths.angles import GeodesicPath
from studio.codecs.chains import Chains
from studio.codecs.codec import build_codec
from studio.data import load_data
from studio.data.arrays import Data
from studio.data.finite import check_data
from studio.recipes.protein import pdb
from studio.recipes.protein.backbones import FIRST, LAST, bundled
from studio.recipes.protein.placing import place


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data({"name": "protein-backbones"})


@pytest.fixture(scope="module")
def codec(data: Data) -> Chains:
    made = build_codec(data.codec)
    assert isinstance(made, Chains)
    return made


def test_the_bundled_chains(data: Data) -> None:
    assert (len(data.train), len(data.held_out), data.shape) == (3150, 350, (128, 6))
    check_data(data)
    values, valid = data.train.values, data.train.named["valid"]
    lengths = valid.sum(1)
    assert lengths.min() == 40 and lengths.max() == 128
    assert np.bincount(lengths, minlength=129)[1:].tolist() == data.codec["lengths"]
    there = np.broadcast_to(valid[..., None], values.shape).copy()
    there[:, 0, FIRST] = False
    for k in LAST:
        there[np.arange(len(values)), lengths - 1, k] = False
    np.testing.assert_array_equal(~np.isnan(values), there)
    assert np.nanmax(np.abs(values)) <= np.float32(np.pi) and len(bundled()[0]) == 3500
    parts = [np.unique(np.nan_to_num(p.values), axis=0) for p in (data.train, data.held_out)]
    assert len(np.unique(np.concatenate(parts), axis=0)) == len(parts[0]) + len(parts[1])


def test_states_hold_all_but_the_farthest_angles(data: Data, codec: Chains) -> None:
    values = torch.from_numpy(data.held_out.values)
    x = codec.encode(values)
    assert torch.isfinite(x).all() and x.abs().max() <= torch.pi
    assert not x[values.isnan()].any()
    back = codec.decode(x)
    assert torch.equal(back.isnan(), values.isnan())
    gaps = torch.exp(1j * (back - values)).angle().abs()[~values.isnan()]
    assert (gaps > 1e-5).float().mean() < 2e-4  # what lies beyond the scale is cut off
    turned = codec.encode(values.double() + 2 * torch.pi * torch.randint(-2, 3, values.shape))
    torch.testing.assert_close(turned, x, rtol=0, atol=2e-5)
    assert codec.scale[:3] == (1, 1, 1) and max(codec.scale[3:]) < 0.2
    assert x[..., 3:][~values[..., 3:].isnan()].std() > 0.3


def test_lengths_are_drawn_as_in_the_data_or_told(data: Data, codec: Chains) -> None:
    def lengths(settings: dict | None = None, count: int = 20_000) -> torch.Tensor:
        x, cond = codec.start(Cond(), NoiseSource(range(count)), GeodesicPath(), (128, 6), settings=settings)
        assert cond.valid is not None
        assert torch.equal((x != 0).any(-1), cond.valid)
        return cond.valid.sum(1)

    drawn, real = lengths(), torch.from_numpy(data.train.named["valid"].sum(1))
    assert drawn.min() >= 40 and abs(float(drawn.double().mean() - real.double().mean())) < 0.6
    assert abs(float(drawn.double().std() - real.double().std())) < 0.6
    assert lengths({"length": 60}, 3).tolist() == [60] * 3
    assert lengths({"length": (50, 41, 128)}, 3).tolist() == [50, 41, 128]
    setting = codec.settings["length"]
    assert (setting.low, setting.high) == (40, 128)
    assert setting.of_each("length", np.array([50, 60]), 2) == (50, 60)
    assert setting.of_each("length", torch.tensor([50.0]), 2) == setting.of_each("length", "50", 2) == 50
    for wrong in (39, [50, 129, 60], 50.5, [50, 60]):
        with pytest.raises(ValueError, match="^got .* length"):
            setting.of_each("length", wrong, 3)


def test_a_folder_of_files(tmp_path: Path) -> None:
    """Longer chains are cut, shorter ones are left out and told of."""
    chains = bundled()[0][:6]
    (tmp_path / "more").mkdir()
    for k, chain in enumerate(chains):
        pdb.write(tmp_path / ("more" if k % 2 else "") / f"{k}.pdb", place(chain[None])[0])
    (tmp_path / "broken.pdb").write_text("ATOM      1  N   GLY A   1    x")
    lengths = sorted(map(len, chains))
    found = load_data(
        {
            "name": "protein-backbones",
            "path": str(tmp_path),
            "shortest": lengths[1],
            "longest": lengths[-1] - 1,
        }
    )
    made = (
        np.concatenate([found.train.values, found.held_out.values]) if found.held_out else found.train.values
    )
    assert made.shape == (5, lengths[-1] - 1, 6)
    assert sorted((~np.isnan(made[..., 3])).sum(1)) == [*lengths[1:-1], lengths[-1] - 1]
    assert any("1 of 7 files" in n for n in found.notes) and any("1 chains of less" in n for n in found.notes)
    with pytest.raises(ValueError, match="got 0 chains of 200 or more residues"):
        load_data({"name": "protein-backbones", "path": str(tmp_path), "shortest": 200, "longest": 300})
    for options in ({"path": str(tmp_path / "no")}, {"shortest": 50, "longest": 40}):
        with pytest.raises(ValueError, match="^got .*expected"):
            load_data({"name": "protein-backbones", **options})
