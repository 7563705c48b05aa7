"""Angles end to end: read from a file, trained on the torus, sampled, given, measured and drawn."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import studio
from backbones import Cond
from backbones.mlp import MLPBackbone
from samplers.spaces.torus import TAU, wrap
from studio.codecs.angles import Angles
from studio.config import load_config
from studio.data import load_data
from studio.evaluation import evaluate
from studio.evaluation.angle_measures import MEASURES
from studio.evaluation.sets import SampleSet, open_set
from studio.metrics import angle_sets as metrics
from studio.tasks import build_task

TINY = [
    "backbone.width=32",
    "backbone.depth=1",
    "train.steps=30",
    "train.batch_size=64",
    "train.dtype=fp32",
    "train.save_every=30",
    "train.eval_every=30",
    "train.weak_snapshot=false",
    "sample.num_steps=4",
]


def made(n: int = 300, d: int = 2, turns: bool = False) -> np.ndarray:
    """(n, d) float64 about π, on both sides of the seam."""
    rng = np.random.default_rng(0)
    values = wrap(torch.from_numpy(math.pi + 0.4 * rng.standard_normal((n, d)))).numpy()
    return values + TAU * rng.integers(-2, 3, values.shape) if turns else values


def file_of(folder: Path, values: Any, **more: Any) -> Path:
    np.savez(folder / "file.npz", angles=values, **more)
    return folder / "file.npz"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> studio.Run:
    folder = tmp_path_factory.mktemp("angles")
    path = file_of(folder, made(), labels=np.arange(300) % 2)
    return studio.train("angles", [f"data.path={path}", *TINY], out=folder / "run", quiet=True)


def test_the_network_sees_a_circle() -> None:
    """The output at x and a whole turn on is one, as at −π and π; without the option it is not."""
    torch.manual_seed(0)
    net = MLPBackbone(dim=3, width=16, depth=1, periodic=True).double()
    torch.nn.init.normal_(net.out.weight)
    x, t = torch.randn(5, 3, dtype=torch.float64), torch.full((5,), 300.0)
    turned = x + TAU * torch.tensor([1, -2, 0], dtype=torch.float64)
    torch.testing.assert_close(net(x, t, Cond()), net(turned, t, Cond()), rtol=0, atol=1e-12)
    edge = torch.full((1, 3), math.pi, dtype=torch.float64)
    torch.testing.assert_close(net(edge, t[:1]), net(-edge, t[:1]), rtol=0, atol=1e-12)
    plain = MLPBackbone(dim=3, width=16, depth=1).double()
    torch.nn.init.normal_(plain.out.weight)
    assert not torch.allclose(plain(x, t), plain(turned, t))


def test_the_codec_winds_and_counts_from_its_centre() -> None:
    data = torch.from_numpy(made(turns=True))
    codec = Angles(centre=(3.0, -2.0))
    for one in (Angles(), codec):
        x = one.encode(data)
        assert x.dtype == torch.float32 and float(x.abs().max()) < math.pi
        assert float(wrap(one.decode(x) - data).abs().max()) < 1e-6
    assert float(codec.encode(torch.tensor([[3.0, -2.0]])).abs().max()) == 0
    assert codec.sizes((2,)) == {"dim": 2, "periodic": True}
    assert "from other centres" in codec.apart(Angles(), "a", "b") and not codec.apart(codec, "a", "b")


def test_whole_turns_of_the_file_change_nothing(run: studio.Run, tmp_path: Path) -> None:
    """The same weights and the same samples, to the bit."""
    path = file_of(tmp_path, made(turns=True), labels=np.arange(300) % 2)
    assert np.abs(np.load(path)["angles"]).max() > 2 * math.pi
    words = [f"data.path={path}", *TINY, "train.preview=false"]
    other = studio.train("angles", words, out=tmp_path / "run", quiet=True)
    last = "checkpoints/000000030/net.safetensors"
    assert (run.folder / last).read_bytes() == (other.folder / last).read_bytes()
    a, b = (r.load(device="cpu").sample(seeds=range(8)).values for r in (run, other))
    assert torch.equal(a, b)


def test_a_run_records_its_space_and_samples_from_its_prior(run: studio.Run, tmp_path: Path) -> None:
    config = load_config(run.folder)
    assert config.objective["space"] == {"name": "torus", "prior": "uniform"}
    assert config.backbone["periodic"] is True and config.backbone["num_classes"] == 2
    model = run.load(device="cpu", dtype="fp32")
    assert model.denoiser.path.space.prior == "uniform"  # type: ignore[union-attr]
    samples = model.sample(seeds=range(64))
    samples.save(tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        values = file["values"]
    assert values.shape == (64, 2) and values.dtype == np.float32
    assert values.min() >= -math.pi and values.max() < math.pi
    assert (tmp_path / "out" / "grid.png").is_file() and (
        run.folder / "checkpoints/000000030/preview.png"
    ).is_file()
    found = open_set(tmp_path / "out" / "samples.npz")
    assert found.task == "angles" and np.array_equal(found.values[:], values)
    for name in ("euler", "ab2", "midpoint", "rk4", "torchdiffeq"):
        assert float(model.sample(seeds=[1], sampler=name).values.abs().max()) < math.pi


def test_known_angles_come_back_to_the_bit(run: studio.Run) -> None:
    """Under a mask, of a model that was not trained with them; and a start on the way."""
    model, init = run.load(device="cpu", dtype="fp32"), np.array([3.1, -3.1], np.float32)
    held = model.sample(seeds=range(4), init=init, mask=np.array([0, 1]))
    assert np.array_equal(held.values[:, 0].numpy(), np.full(4, init[0]))
    assert len(held.values[:, 1].unique()) == 4
    near = model.sample(seeds=range(4), init=init, strength=0.25).values
    assert float(wrap(near - torch.from_numpy(init)).abs().max()) < 2.5


def test_what_makes_no_sense_on_angles_is_refused(run: studio.Run) -> None:
    model = run.load(device="cpu", dtype="fp32")
    for options, message in (
        ({"sampler": "ddim"}, "the sampler DDIM is for models of euclid, got one of torus; choose ab2"),
        ({"sampler": "dpmpp_2m"}, "the sampler DPMpp2M is for models of euclid, got one of torus"),
        ({"sampler": "heun(clip=1)"}, "got clip for Heun on the path GeodesicPath, which has no levels"),
        ({"guidance": "tcfg,cfg=2"}, "got Tangential in the space noise for a model of torus"),
        ({"init": "a.png"}, "got a.png, expected numbers of shape"),
        ({"init": [1.0, 2.0, 3.0]}, "got a sample of shape .3,., expected .2,."),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(seeds=[0], labels="0", **options)
    assert model.sample(seeds=[0], labels="0", guidance="cfg=2.0").values.isfinite().all()
    with pytest.raises(ValueError, match="got the path trig|got the path TrigPath"):
        model.on_path("trig").sample(seeds=[0])


def test_the_published_path_trains_and_samples(tmp_path: Path) -> None:
    """Centred, with the noise head's smooth L1 loss; ddpm is what it samples with."""
    path = file_of(tmp_path, made(d=3))
    way = ["objective.path={name: wrapped_vp, schedule: cosine}", "objective.parameterization=noise"]
    asked = [f"data.path={path}", *TINY, *way, "objective.space=torus", "data.centre=true"]
    with pytest.raises(ValueError, match="got another prior on the path wrapped_vp"):
        studio.train("angles", [f"data.path={path}", *TINY, *way], out=tmp_path / "run", quiet=True)
    asked += ["sample.sampler=auto", "train.preview=false"]
    run = studio.train("angles", asked, out=tmp_path / "run", quiet=True)
    model = run.load(device="cpu", dtype="fp32")
    assert model.config.sample.sampler.startswith("ddpm")
    assert float(wrap(torch.tensor(model.info.codec["centre"]) - math.pi).abs().max()) < 0.1
    for sampler in (None, "ddim"):
        values = model.sample(seeds=range(16), sampler=sampler).values
        assert values.shape == (16, 3) and float(values.abs().max()) < math.pi
    kept = model.sample(seeds=[0], init=made(d=3)[0].astype(np.float32), mask=np.array([0, 1, 1])).values
    assert float(kept[0, 0]) == np.float32(made(d=3)[0, 0])
    with pytest.raises(ValueError, match="the sampler Heun follows the flow of a path, got WrappedVPPath"):
        model.sample(seeds=[0], sampler="heun")


def test_they_are_generated_and_measured_beside_a_floor(run: studio.Run, tmp_path: Path) -> None:
    studio.generate(run.load(device="cpu"), tmp_path / "set", num=60, quiet=True)
    assert np.load(tmp_path / "set" / "samples.npz")["values"].shape == (60, 2)
    path = file_of(tmp_path, made())
    result = evaluate(tmp_path / "set", f"angles:{path}")
    assert result.values.keys() == result.floor.keys() == {"direction", "resultant", "kuiper", "histogram"}
    rows = studio.sweep(run.load(device="cpu"), tmp_path / "sweep", {"num_steps": [1, 2]}, num=32)
    assert {"num_steps", "kuiper"} <= set(rows[0])


def test_measures_have_their_closed_values() -> None:
    """Of a turned set the angle of the turn; of the set itself 0; of disjoint ones the greatest there is; and
    all the same wherever the circle is cut."""
    x = made(400, 2).astype(np.float32)
    turned = wrap(torch.from_numpy(x) + 0.3).numpy()
    sets = [SampleSet(n, v, task="angles") for n, v in (("x", x), ("turned", turned))]
    measure: dict[str, Any] = {k: getattr(m, "of", m) for k, m in MEASURES.items()}
    assert all(abs(m(sets[0], sets[0])) < 1e-12 for m in measure.values())
    assert measure["direction"](*sets) == pytest.approx(0.3, abs=1e-5)
    assert measure["resultant"](*sets) == pytest.approx(0.0, abs=1e-6)
    far = [np.full((50, 1), v) + np.linspace(0, 0.1, 50)[:, None] for v in (-1.0, 2.0)]
    assert metrics.kuiper(far[0][:, 0], far[1][:, 0]) == 1.0
    assert metrics.jensen_shannon(far[0], far[1], 24) == pytest.approx(math.log(2))
    a, b = x[:, 0].astype(np.float64), turned[:200, 0].astype(np.float64)
    cut = [wrap(torch.from_numpy(v + 1.234)).numpy() for v in (a, b)]
    assert metrics.kuiper(*cut) == pytest.approx(metrics.kuiper(a, b), abs=1e-12)


@pytest.mark.parametrize(
    "values, message",
    [
        (
            np.zeros(5),
            "got float64 of shape .5,., expected radians .N, d. or .N, L, d.; of one angle each angles",
        ),
        (np.zeros((4, 2, 3, 1)), "got float64 of shape .4, 2, 3, 1., expected radians .N, d. or .N, L, d."),
        (np.array(["a"]), "got <U1 of shape .1,."),
        (np.array([[0, 1], [2, np.nan], [1, 1]]), r"got nan in item 1 at \[1\] of .*file.npz \(angles\)"),
        (np.array([[0, np.inf]]), "got inf in item 0"),
        (np.zeros((0, 2)), "expected radians"),
    ],
)
def test_bad_files_are_refused(values: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_data({"name": "angles", "path": str(file_of(tmp_path, values))})


def test_degrees_are_asked_about_and_other_paths_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, np.array([[0.0, 170.0], [-90.0, 12.0], [30.0, 40.0]]))
    data = load_data({"name": "angles", "path": str(path)})
    assert "from -90 to 170, which are taken for radians" in data.notes[0] and "np.deg2rad" in data.notes[0]
    with pytest.raises(ValueError, match="holds angles, expected 'phi' among them as data.angles says"):
        load_data({"name": "angles", "path": str(path), "angles": "phi"})
    with pytest.raises(
        ValueError, match="got the path LinearPath, whose law is on euclid, for data of torus"
    ):
        asked = [f"data.path={path}", *TINY, "objective.path=linear", "objective.space=euclid"]
        studio.train("angles", asked, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_bundled_angles() -> None:
    data = load_data({"name": "angles"})
    values = data.train.values
    assert data.shape == (2,) and values.dtype == np.float32 and len(values) == 38000
    assert data.classes == ("helix", "strand", "other") and np.abs(values).max() < math.pi
    helix = values[data.train.labels == 0]
    assert abs(metrics.moments(helix)).min() > 0.85  # they lie close together, about (−63°, −42°)
    assert np.allclose(np.rad2deg(np.angle(metrics.moments(helix))), (-65, -40), atol=6)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_any_number_of_angles_is_drawn(d: int) -> None:
    picture = build_task("angles").sheet(torch.from_numpy(made(50, d)))
    assert picture.mode == "RGB" and min(picture.size) >= 180 and len(np.unique(np.asarray(picture))) > 10
