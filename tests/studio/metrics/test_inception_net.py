"""FID's Inception: features and whole-set metrics recorded from torch-fidelity, its resize rule by hand, and
what is refused as weights."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seeded_inception import state
from torch import Tensor, nn

from studio.metrics.distances import frechet, inception_score, kernel_distance
from studio.metrics.features import build_extractor, extract
from studio.metrics.inception import TAPS, Inception, resize
from studio.metrics.inception_extractor import find_inception, load_inception
from studio.runtime.files import save_tensors, sha256

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "seeded.pth"
    torch.save(dict(state()), path)
    return path


@pytest.fixture(scope="module")
def net(weights: Path) -> Inception:
    return load_inception(weights)


def relative(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).norm() / b.norm())


def test_every_tap_is_torch_fidelitys(net: Inception, golden: Callable[[str], Any]) -> None:
    g = golden("inception")[0]
    with torch.no_grad():
        out = net(g["images4"], TAPS)
    assert tuple(out) == TAPS
    for tap in TAPS:
        assert relative(out[tap], g[f"features4.{tap}"]) < 1e-5, tap


def test_pictures_that_are_not_square(net: Inception, golden: Callable[[str], Any]) -> None:
    g = golden("inception")[0]
    assert relative(net(g["image_96x64"])["2048"], g["features_96x64.2048"]) < 1e-5


def test_asking_for_less_computes_less(net: Inception, golden: Callable[[str], Any]) -> None:
    late: list[bool] = []
    handle = net.Mixed_7a.register_forward_hook(lambda *_: late.append(True))
    assert (
        set(net(golden("inception")[0]["images4"][:1], ["768", "spatial7"])) == {"768", "spatial7"}
        and not late
    )
    handle.remove()


def test_resize_reads_from_i_times_in_over_out() -> None:
    x = torch.tensor([[0.0, 10.0], [20.0, 50.0]])[None, None]
    # the last row and column are held
    expected = torch.tensor([[0, 5, 10, 10], [10, 20, 30, 30], [20, 35, 50, 50], [20, 35, 50, 50.0]])
    assert torch.equal(resize(x, 4)[0, 0], expected)
    y = torch.arange(12.0).reshape(1, 1, 3, 4)
    # rows from 0, 0.75, 1.5, 2.25: 1 + 4·place, held at the last
    assert torch.equal(resize(y, 4)[0, 0, :, 1], torch.tensor([1, 4, 7, 9.0]))
    assert resize(torch.full((2, 3, 5, 7), 9.0)).unique().tolist() == [9.0]


@pytest.mark.slow
def test_metrics_of_whole_sets_are_torch_fidelitys(weights: Path, golden: Callable[[str], Any]) -> None:
    """Two sets of 320 emoji; the numbers in inception.json."""
    expected = golden("inception")[1]["metrics"]
    with np.load(GOLDEN / "emoji_640.npz", allow_pickle=False) as file:
        images = torch.from_numpy(file["images"]).permute(0, 3, 1, 2)
    extractor = build_extractor("inception", inception=weights)
    a, b = (extract(part.split(50), extractor, keep=True) for part in (images[:320], images[320:]))
    theirs = expected["torch_fidelity"]
    assert frechet(a.moments, b.moments) == pytest.approx(expected["fid_float64_eigh"], rel=1e-4)
    assert frechet(a.moments, b.moments) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert frechet(a.spatial, b.spatial) == pytest.approx(expected["sfid_float64_eigh"], rel=1e-4)
    mean, std = kernel_distance(a.values, b.values, subsets=20, subset_size=160, seed=2020)
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)
    mean, std = inception_score(a.logits, splits=10, seed=2020)
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert std == pytest.approx(theirs["inception_score_std"], rel=1e-3)


def test_layouts_of_the_published_files(net: Inception, tmp_path: Path) -> None:
    """A prefix, counters of batches, the auxiliary head, half precision, a dict around it: the same
    network."""
    half = {k: v.half() for k, v in state().items()}
    save_tensors(tmp_path / "half.safetensors", half)
    plain = load_inception(tmp_path / "half.safetensors")
    extra = {f"module.{k}": v for k, v in half.items()}
    extra |= {
        "module.Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(7),
        "module.AuxLogits.fc.bias": torch.zeros(1000),
        "other": torch.zeros(1),
    }
    torch.save({"state_dict": extra}, tmp_path / "wrapped.pt", _use_new_zipfile_serialization=False)
    wrapped = load_inception(tmp_path / "wrapped.pt")
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), wrapped.state_dict().values()))
    assert plain.hash == sha256(tmp_path / "half.safetensors") != wrapped.hash
    assert not plain.training and not any(p.requires_grad for p in plain.parameters())
    assert float((plain.fc.weight - net.fc.weight).abs().max()) < 1e-4


def test_the_extractor_names_its_weights(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_INCEPTION", str(weights))
    extractor = build_extractor("inception")
    assert (extractor.name, extractor.dim, extractor.hash) == ("inception", 2048, sha256(weights)[:16])
    grey = torch.full((2, 1, 28, 28), 40, dtype=torch.uint8)
    found = extract([grey], extractor, keep=True)
    assert (
        found.values.shape == (2, 2048)
        and found.logits.shape == (2, 1008)
        and found.spatial.dim == 7 * 17 * 17
    )
    assert torch.allclose(found.values, extractor(grey.expand(-1, 3, -1, -1))["features"], atol=1e-5)


def test_no_weights_says_where_they_come_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STUDIO_INCEPTION", raising=False)
    with pytest.raises(
        ValueError,
        match=r"STUDIO_INCEPTION=FILE.*pt_inception-2015-12-05-6726825d\.pth.*pytorch-fid.*works without it",
    ):
        build_extractor("inception")
    with pytest.raises(ValueError, match=r"nothing\.pth, which do not exist"):
        find_inception(tmp_path / "nothing.pth")
    monkeypatch.setenv("STUDIO_INCEPTION", str(tmp_path / "env.pth"))
    with pytest.raises(ValueError, match=r"env\.pth, which do not exist"):
        find_inception()


def test_a_name_that_promises_a_hash_is_held_to_it(tmp_path: Path) -> None:
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    path.write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"has SHA-256 [0-9a-f]{8}…, expected 6726825d….*download it again"):
        find_inception(path)
    right = path.with_name(f"other-{sha256(path)[:8]}.pth")
    shutil.move(path, right)
    assert find_inception(right) == right


class Rogue:
    def __reduce__(self) -> Any:
        return (Path("/nonexistent/rogue").touch, ())


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    torch.save({"fc.weight": Rogue()}, tmp_path / "rogue.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    (tmp_path / "cut.pth").write_bytes(b"\x80\x02no")
    for name in ("rogue.pth", "module.pt", "script.pt", "list.pth", "cut.pth"):
        with pytest.raises(ValueError, match=rf"{name} is refused: .*never run"):
            load_inception(tmp_path / name)


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    half = {k: v.half() for k, v in state().items()}
    path = tmp_path / "cut.safetensors"
    save_tensors(path, half)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="not a readable safetensors file.*cut off"):
        load_inception(path)
    save_tensors(tmp_path / "other.safetensors", {"weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="no Conv2d_1a_3x3.conv.weight"):
        load_inception(tmp_path / "other.safetensors")
    torchvisions = half | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    del torchvisions["Mixed_7c.branch1x1.bn.bias"]
    save_tensors(tmp_path / "torchvision.safetensors", torchvisions)
    with pytest.raises(
        ValueError,
        match=r"1 missing \(Mixed_7c.*2 of another shape \(fc.weight \(1000, 2048\).*1,000 classes",
    ):
        load_inception(tmp_path / "torchvision.safetensors")


def test_pictures_of_another_form_are_refused(net: Inception) -> None:
    for bad in (
        torch.zeros(1, 3, 8, 8),
        torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
    ):
        with pytest.raises(ValueError, match=r"expected uint8 \(B, 3, H, W\)"):
            net(bad)
    with pytest.raises(ValueError, match="got taps 512, expected some of 64"):
        net(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ["512"])
