"""Damaged pictures and two sets of emoji: what the sources of the bundled bridges are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from studio.checkpoints.find import card
from studio.data import load_data
from studio.data.decode import decode
from studio.data.degraded import degrade, examples, hole_of
from studio.data.emoji import base_of, emoji
from studio.model import catalog

ROOT = Path(__file__).parents[3]
EMOJI = ROOT / "data" / "emoji32.npz"


def test_down_sampling_keeps_flat_pictures_and_the_mean() -> None:
    flat = torch.full((2, 1, 28, 28), 93, dtype=torch.uint8)
    assert torch.equal(degrade(flat, "down"), flat)
    ramp = torch.arange(28, dtype=torch.uint8).expand(1, 1, 28, 28) * 8
    out = degrade(ramp.contiguous(), "down").float()
    assert abs(float(out.mean()) - float(ramp.float().mean())) < 1.0
    assert (
        float((out[..., 6:-6] - ramp[..., 6:-6].float()).abs().max()) <= 1.0
    )  # a ramp survives averages and bicubic interpolation, but for its ends
    one = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    one[..., 13, 13] = 255
    assert int(degrade(one, "down").max()) < 40  # a single pixel does not


def test_a_hole_leaves_the_rest_and_holds_its_mean() -> None:
    values = torch.randint(
        0, 255, (3, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    out, inside = degrade(values, "hole"), hole_of(28, 28)
    assert int(inside.sum()) == 14 * 14 and torch.equal(out[..., ~inside], values[..., ~inside])
    for a, b in zip(out, values):
        assert float((a[..., inside].float() - b[..., ~inside].float().mean()).abs().max()) <= 0.5
    with pytest.raises(ValueError, match="got degradation 'blur', expected one of down, hole"):
        degrade(values, "blur")


def test_every_picture_stands_once_for_each_damage() -> None:
    data = load_data({"name": "fashion-restore"})
    assert len(data.train) == len(data.source) == 24000 and data.paired and data.classes == ()
    assert np.array_equal(data.train.values[0], data.train.values[1]) and not np.array_equal(
        data.source.values[0], data.source.values[1]
    )
    pictures = torch.from_numpy(data.held_out.values[:2].copy())
    assert np.array_equal(degrade(pictures, "down")[0].numpy(), data.held_out_source.values[0])
    assert np.array_equal(degrade(pictures, "hole")[1].numpy(), data.held_out_source.values[1])


def test_examples_lie_with_the_bundled_bridge() -> None:
    found = {p.name: decode(p) for p in catalog.examples_of(card("fashion-restore"))}
    made = examples()
    assert sorted(found) == sorted(made) and len(found) == 10
    assert all(np.array_equal(found[name], value.numpy()) for name, value in made.items())


def test_the_base_of_an_emoji() -> None:
    assert (
        base_of("1F44D-1F3FD") == "1F44D"
        and base_of("0023-FE0F-20E3") == "0023-20E3"
        and base_of("1F9D1-1F3FB-200D-1F680") == "1F9D1-200D-1F680"
    )


def test_emoji_are_split_by_base_and_held_out_ones_correspond() -> None:
    data = emoji(path=str(EMOJI))
    assert len(data.train) == len(data.source) and not data.paired and data.shape == (3, 32, 32)
    assert len(data.held_out) == len(data.held_out_source) > 300
    back = emoji(path=str(EMOJI), target="noto")
    assert np.array_equal(back.held_out.values, data.held_out_source.values) and np.array_equal(
        back.train.values, data.source.values
    )
    own = np.square(data.held_out.values.astype(float) - data.held_out_source.values).mean((1, 2, 3))
    other = np.square(data.held_out.values.astype(float) - np.roll(data.held_out_source.values, 200, 0)).mean(
        (1, 2, 3)
    )
    assert own.mean() < 0.6 * other.mean()  # partners look alike
    for trained, held in ((data.train, data.held_out), (data.source, data.held_out_source)):
        assert not {v.tobytes() for v in trained.values} & {v.tobytes() for v in held.values}


def test_refusals(tmp_path: Path) -> None:
    for options, message in (
        ({"path": str(tmp_path / "none.npz")}, "which does not exist; it lies in the repository under data/"),
        ({"path": str(EMOJI), "target": "apple"}, "got target 'apple', expected noto or twemoji"),
        ({"path": str(EMOJI), "held_out": 1.0}, "expected a fraction between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            emoji(**options)
