"""A run with a network of one's own: loaded with the network, which stays as it is, and what `info` prints is
what works."""

import copy
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import dit_config
from torch import Tensor, nn

import studio
from studio.cli.info import describe
from studio.cli.main import main
from studio.training.run import Run

BYTES = torch.randint(0, 256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.label, self.norm, self.inner = (
            nn.Embedding(4, 1),
            nn.BatchNorm2d(1),
            nn.Conv2d(1, 1, 3, padding=1),
        )

    def forward(self, x: Tensor, t: Tensor, cond: Any, ctx: Any = None) -> Tensor:
        return self.inner(self.norm(x)) + self.label(torch.where(cond.label < 0, 3, cond.label)).view(
            -1, 1, 1, 1
        )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Net]:
    net = Net()
    data = [(b, i % 3) for i, b in enumerate(BYTES)]
    config = {**dit_config(Path("none"), steps=4, save_every=0, preview=True), "data": {}}
    return studio.train(
        config, data=data, backbone=net, out=tmp_path_factory.mktemp("own") / "my run", quiet=True
    ), net


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_the_network_that_is_passed_stays_as_it_is(own: tuple[Run, Net]) -> None:
    run, net = own
    before, fresh = copy.deepcopy(net), Net()
    average, raw = (
        studio.load(run.folder, backbone=net, dtype="fp32"),
        studio.load(run.folder, backbone=net, weights="raw", dtype="fp32"),
    )
    other = studio.load(run.folder, backbone=fresh, dtype="fp32")
    assert same(net, before) and net.training and all(p.requires_grad for p in net.parameters())
    assert (
        same(average.denoiser.net, other.denoiser.net)
        and not same(average.denoiser.net, raw.denoiser.net)
        and same(raw.denoiser.net, net)
    )
    samples = [m.sample(seeds=[0, 1], num_steps=2).values for m in (average, other, run.load(dtype="fp32"))]
    assert torch.equal(samples[0], samples[1]) and torch.equal(samples[0], samples[2])


@pytest.mark.parametrize(
    "wrong, text",
    [
        (Net, r"class Net as the backbone.*try backbone=Net\(\)"),
        ("net", "str as the backbone"),
        (nn.Linear(2, 2), "does not fit"),
        (None, r"pass it in Python: studio.load\('.*', backbone=Net\(\)\)"),
    ],
)
def test_what_is_no_such_network(wrong: Any, text: str, own: tuple[Run, Net], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        studio.load(own[0].folder, backbone=wrong)
    if not isinstance(wrong, nn.Module | None):
        with pytest.raises(ValueError, match=text):
            studio.train(
                {"train": {"steps": 1}}, data=list(BYTES), backbone=wrong, out=tmp_path / "run", quiet=True
            )


def of_python(text: str) -> str:
    """The line that a card or a recipe prints for such a model."""
    assert (
        text.startswith("none, because its network is a module of your own; in Python: ") and "\n" not in text
    )
    return text.partition("in Python: ")[2]


def test_what_info_prints_works(
    own: tuple[Run, Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = own
    monkeypatch.chdir(tmp_path)
    exec(of_python(describe(str(run.folder))["command"]), {"studio": studio, "Net": Net})
    assert len(list((tmp_path / "pictures").glob("seed-*.png"))) == 8
    options: dict[str, Any] = dict(
        labels=[2, 1, -1], seeds=[5, 0, 1], num_steps=3, sampler="heun", guidance=1.5, deterministic=True
    )
    made = run.load(weights="raw", dtype="fp32").sample(**options)
    made.save(tmp_path / "made")
    for name in ("grid.png", "seed-000005.png"):
        exec(of_python(describe(str(tmp_path / "made" / name))["command"]), {"studio": studio, "Net": Net})
        again = tmp_path / "again" / "seed-000005.png"
        assert again.read_bytes() == (tmp_path / "made" / "seed-000005.png").read_bytes()
        for path in (tmp_path / "again").iterdir():
            path.unlink()
    main(["export", str(run.folder), "--out", str(tmp_path / "flat")])
    line = of_python(capsys.readouterr().out.splitlines()[-1])
    assert repr(str(tmp_path / "flat")) in line


def test_a_generated_folder_says_it_too(own: tuple[Run, Net], tmp_path: Path) -> None:
    studio.generate(own[0].load(), tmp_path / "set", num=2, num_steps=2, quiet=True)
    assert of_python(describe(str(tmp_path / "set"))["command"]).startswith(
        f"studio.generate(studio.load({str(own[0].folder) + '@4'!r}, backbone=Net())"
    )


def test_commands_of_models_with_odd_names_can_be_typed(
    points_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "my run's $HOME"
    odd.symlink_to(points_run.folder)
    words = shlex.split(describe(str(odd))["command"])
    assert words == ["studio", "sample", str(odd), "--out", "pictures"]
    monkeypatch.chdir(tmp_path)
    main([*words[1:], "--seeds", "0", "--num-steps", "1"])
    assert (tmp_path / "pictures" / "samples.npz").is_file()
