"""Floats of a user's own data set: pictures where they all lie in 0..1, as ``ToTensor()`` makes them, and
what they are everywhere else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import dit_config
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

import studio
from studio.codecs.codec import build_codec
from studio.data import Arrays, Data, from_dataset
from studio.data.floats import codec_of

BYTES = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Items(Dataset):
    """Values that are only known from items."""

    def __init__(self, values: Tensor):
        self.hidden = values

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, i: int) -> Tensor:
        return self.hidden[i]


def config() -> dict[str, Any]:
    return {
        **dit_config(Path("none"), steps=3, save_every=3, log_every=3),
        "data": {},
        "sample": {"sampler": "ab2", "num_steps": 2, "guidance": ""},
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wrap", [Items, TensorDataset, lambda x: Subset(Items(x), range(len(x))), list])
def test_to_tensor_is_recognised(wrap: Any, dtype: torch.dtype) -> None:
    data = from_dataset(wrap((BYTES / 255).to(dtype)))
    assert data.codec == {"name": "pixels"} and any(
        note.startswith("floats that all lie in 0..1") for note in data.notes
    )


@pytest.mark.parametrize(
    "values",
    [
        BYTES / 127.5 - 1,
        BYTES.float(),
        BYTES / 255 * 1.2,
        (BYTES / 255).expand(-1, 2, -1, -1),
        (BYTES / 255).flatten(1),
        -(BYTES / 255),
    ],
)
def test_other_floats_stay_as_they_are(values: Tensor) -> None:
    for wrap in (Items, TensorDataset):
        data = from_dataset(wrap(values))
        assert data.codec == {"name": "scale", "std": 1.0} and not data.notes


def test_one_value_of_an_open_tensor_is_enough() -> None:
    values = BYTES / 255
    values[77, 0, 3, 3] = 1.5
    assert from_dataset(TensorDataset(values)).codec["name"] == "scale"
    assert codec_of(list(values), lambda i: values[i])[0]["name"] == (
        "scale" if 77 in (i * 299 // 255 for i in range(256)) else "pixels"
    )


def test_the_network_sees_what_it_would_of_bytes() -> None:
    codec = build_codec({"name": "pixels"})
    torch.testing.assert_close(codec.encode(BYTES / 255), codec.encode(BYTES), rtol=0, atol=3e-7)
    assert torch.equal(codec.decode(codec.encode(BYTES / 255)), BYTES)
    with pytest.raises(ValueError, match="values from 0 to 1.5, expected 0..1"):
        codec.encode(torch.tensor([0.0, 1.5]))


def test_a_run_on_floats_is_the_run_on_their_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    floats = studio.train(config(), data=Items(BYTES / 255), out=tmp_path / "floats")
    assert "taken as pictures, 0 is black and 1 is white" in capsys.readouterr().err
    whole = studio.train(config(), data=Items(BYTES), out=tmp_path / "bytes", quiet=True)
    assert json.loads((floats.folder / "meta.json").read_text())["codec"] == {"name": "pixels"}
    assert floats.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-4)
    values = floats.load(dtype="fp32").sample(seeds=range(2)).values
    assert values.dtype == torch.uint8


def test_an_item_beyond_the_others_stops_the_run(tmp_path: Path) -> None:
    values = BYTES / 255
    values[[i for i in range(300) if i not in {round(k * 299 / 255) for k in range(256)}]] *= 3
    with pytest.raises(ValueError, match="expected 0..1 as in the others"):
        studio.train(
            {**config(), "train": {**config()["train"], "steps": 40}},
            data=Items(values),
            out=tmp_path / "r",
            quiet=True,
        )


def test_an_older_run_goes_on_with_the_codec_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was trained on the same floats as they are; its record says so."""
    own = {"name": "scale", "std": 1.0}
    data = Data("TensorDataset", "image", (1, 8, 8), Items(BYTES / 255), codec=own)
    for name in ("straight", "older"):
        studio.train(config(), data=data, out=tmp_path / name, quiet=True)
    straight = studio.train(
        config(), ["train.steps=6"], data=data, out=tmp_path / "straight", quiet=True, resume=True
    )
    again = studio.train(
        config(), ["train.steps=6"], data=Items(BYTES / 255), out=tmp_path / "older", resume=True
    )
    assert "used as they are, as before" in capsys.readouterr().err
    assert (
        json.loads((again.folder / "meta.json").read_text())["codec"] == own
        and again.load().info.codec == own
    )
    assert again.metrics["loss"] == straight.metrics["loss"]
    tuned = studio.train(
        config(), data=Items(BYTES / 255), start_from=str(again.folder), out=tmp_path / "tuned", quiet=True
    )
    assert tuned.load().info.codec == own


def test_bytes_of_files_are_not_touched() -> None:
    data = Data("files", "image", (1, 8, 8), Arrays(BYTES.numpy()))
    assert data.codec == {"name": "pixels"} and torch.equal(
        build_codec(data.codec).encode(BYTES), BYTES.float().mul(1 / 127.5).sub(1)
    )
