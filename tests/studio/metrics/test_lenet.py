"""The shipped extractor is frozen: its hash, its accuracy, its sizes; and the script that made it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from studio.data import load_data
from studio.metrics import lenet
from studio.metrics.features import build_extractor
from studio.metrics.lenet import LeNet, accuracy, augment, load_lenet, metadata, shipped
from studio.runtime.files import save_tensors

HASH = "7e88049b3909cf40"


@pytest.fixture(scope="module")
def held_out() -> tuple[Tensor, Tensor]:
    data = load_data({"name": "fashion-mnist"})
    values, cond = data.held_out.__getitems__(range(len(data.held_out)))
    return values, cond.label


def test_the_weights_are_frozen() -> None:
    assert load_lenet()[1] == build_extractor("lenet").hash == HASH
    assert shipped().stat().st_size < 1_000_000


def test_it_still_tells_the_classes(held_out: tuple[Tensor, Tensor]) -> None:
    reached = accuracy(load_lenet()[0], *held_out)
    assert reached >= 0.88 and reached == pytest.approx(float(metadata(shipped())["accuracy"]), abs=2e-3)


def test_features_come_before_the_last_layer(held_out: tuple[Tensor, Tensor]) -> None:
    extractor = build_extractor("lenet")
    out = extractor(held_out[0][:5])
    assert out["features"].shape == (5, 64) == (5, extractor.dim) and out["logits"].shape == (5, 10)
    net = load_lenet()[0]
    assert (
        torch.allclose(net.out(out["features"]), out["logits"], atol=1e-5)
        and float(out["features"].min()) >= 0
    )


def test_other_pictures_are_refused() -> None:
    net = load_lenet()[0]
    for bad in (torch.zeros(1, 1, 32, 32), torch.zeros(1, 3, 28, 28), torch.zeros(1, 28, 28)):
        with pytest.raises(
            ValueError, match=r"expected uint8 \(B, 1, 28, 28\).*use inception or efficientnet"
        ):
            net(bad.to(torch.uint8))
    with pytest.raises(ValueError, match="torch.float32 pictures"):
        net(torch.zeros(1, 1, 28, 28))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "other.safetensors", {"w": torch.zeros(1)})
    with pytest.raises(ValueError, match="does not hold the weights of the lenet extractor"):
        load_lenet(tmp_path / "other.safetensors")


def test_augmentation_moves_and_mirrors() -> None:
    x = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
    x[:, :, 10, 5] = 1
    moved = augment(x, torch.Generator().manual_seed(0))
    places = {tuple(p) for p in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert moved.shape == x.shape and moved.sum() == 64
    assert (
        {r for r, _ in places} == set(range(8, 13))
        and {c for _, c in places} <= {*range(3, 8), *range(20, 25)}
        and len(places) > 20
    )


def test_training_is_a_function_of_its_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lenet.LeNet, "__init__", small)
    monkeypatch.setattr(
        "sys.argv", ["lenet", "--train", "--epochs", "1", "--out", str(tmp_path / "a.safetensors")]
    )
    before = torch.random.get_rng_state()
    lenet.main()
    assert (
        torch.equal(before, torch.random.get_rng_state())
        and "accuracy on 2000 held-out pictures" in capsys.readouterr().out
    )
    net, notes = lenet.train(epochs=1)
    assert notes == metadata(tmp_path / "a.safetensors") and float(notes["accuracy"]) > 0.2  # chance is 0.1
    assert all(
        torch.equal(a.cpu(), b)
        for a, b in zip(
            net.state_dict().values(), load_lenet(tmp_path / "a.safetensors")[0].state_dict().values()
        )
    )


def small(self: LeNet) -> None:
    """One convolution: the script, not the network, is what is tested."""
    torch.nn.Module.__init__(self)
    self.convs, self.norms = (
        torch.nn.ModuleList([torch.nn.Conv2d(1, 4, 5, stride=4)]),
        torch.nn.ModuleList([torch.nn.BatchNorm2d(4)]),
    )
    self.hidden, self.out = torch.nn.Linear(4, 64), torch.nn.Linear(64, 10)
