"""From chains to a model, its samples, files and measures."""

from pathlib import Path

import numpy as np
import pytest
import torch

import studio
from studio.evaluation import evaluate
from studio.model.model import Model
from studio.recipes.protein import pdb
from studio.recipes.protein.backbones import bundled
from studio.recipes.protein.placing import angles_of, real
from studio.tasks import build_task

TINY = [
    "backbone.hidden_size=16",
    "backbone.depth=1",
    "backbone.num_heads=2",
    "train.steps=4",
    "train.minutes=null",
]
TINY += [
    "train.batch_size=4",
    "train.dtype=fp32",
    "train.eval_every=0",
    "train.warmup=1",
]
TINY += ["train.weak_snapshot=false", "train.save_every=0", "sample.num_steps=2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    run = studio.train("protein", TINY, out=tmp_path_factory.mktemp("runs") / "protein", quiet=True)
    return run.load(device="cpu")


def test_lengths_that_are_asked_for(model: Model) -> None:
    """One for all, or one of each; a sample does not depend on what is sampled beside."""
    made = model.sample(conditions={"length": 50}, seeds=range(3))
    assert made.values.shape == (3, 50, 6)
    missing = made.values.isnan()
    assert missing[:, 0].tolist() == [[True, False, False, False, False, False]] * 3
    assert missing[:, -1].tolist() == [[False, True, True, False, True, True]] * 3
    assert not missing[:, 1:-1].any() and float(made.values[~missing].abs().max()) <= torch.pi
    each = model.sample(conditions={"length": np.array([40, 50, 61])}, seeds=range(3))
    assert real(each.values.numpy()).sum(1).tolist() == [40, 50, 61] and each.values.shape == (3, 61, 6)
    assert [r["conditions"] for r in each.recipes] == [{"length": n} for n in (40, 50, 61)]
    torch.testing.assert_close(each.values[1, :50], made.values[1], rtol=0, atol=1e-4, equal_nan=True)
    drawn = real(model.sample(seeds=range(6)).values.numpy()).sum(1)
    assert len({*drawn.tolist()}) > 1 and 40 <= drawn.min() and drawn.max() <= 128
    with pytest.raises(ValueError, match="got 12 length, expected 40 to 128"):
        model.sample(conditions={"length": 12})


def test_files_of_samples(model: Model, tmp_path: Path) -> None:
    made = model.sample(conditions={"length": [40, 45]}, seeds=[7, 8])
    made.save(tmp_path / "out")
    for value, seed, length in zip(made.values, (7, 8), (40, 45)):
        (chain,) = pdb.read(tmp_path / "out" / f"seed-{seed:06d}.pdb")
        gaps = np.angle(np.exp(1j * (angles_of(chain) - value[:length].double().numpy())))
        assert len(chain) == length and np.nanmax(np.abs(gaps)) < 0.01
    drawing = (tmp_path / "out" / "sheet.svg").read_text()
    assert drawing.count("<path") == 39 + 44 and "http" not in drawing.replace("http://www.w3.org", "")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        np.testing.assert_array_equal(file["values"], made.values.numpy())
        assert file["angle_names"].tolist()[:3] == ["phi", "psi", "omega"]
    with pytest.raises(FileExistsError, match="exists already"):
        made.save(tmp_path / "out")
    found = evaluate(
        tmp_path / "out" / "samples.npz", ref="protein-backbones@held_out", metrics="pairs,shape"
    )
    assert found.values["pairs"] > 0 and found.values["radius"] > 0 and found.floor["clash_free"] > 0.9


def test_views(model: Model, tmp_path: Path) -> None:
    from studio.tasks.views import Seen

    class Nobody:
        def data(self, count: int) -> None:
            return None

        def velocity(self, values: torch.Tensor, t: float) -> torch.Tensor:
            raise ValueError

    made = model.sample(conditions={"length": [40, 45]}, seeds=[7, 8])
    task = build_task("protein")
    for view in task.views(model.sample_shape):
        if view.draw is not None:
            view.draw(tmp_path / view.file, Seen(made.values, made.recipes, Nobody()))
    rows = (tmp_path / "sheet.csv").read_text().splitlines()
    assert rows[0].startswith("seed,residues") and [r.split(",")[:2] for r in rows[1:]] == [
        ["7", "40"],
        ["8", "45"],
    ]
    assert (tmp_path / "sheet.ramachandran.png").stat().st_size > 1000
    assert made.grid().size[0] > 100


def test_a_loop_between_known_ends(model: Model) -> None:
    """Known angles come back to the bit, missing ones too; the chain is as long as what is given."""
    given = bundled()[0][3]
    known = np.ones(len(given), bool)
    known[20:30] = False
    mask = np.repeat(known[:, None], 6, 1)
    made = model.sample(known=mask, given=given, seeds=range(3)).values.numpy()
    assert made.shape == (3, len(given), 6)
    for one in made:
        np.testing.assert_array_equal(one[known], given[known])
    assert not np.isnan(made[:, ~known]).any() and np.ptp(made[:, 25, 0]) > 1e-3
    whole = model.sample(conditions={"length": 60}, known=mask[:50], given=given[:50], seeds=[0])
    assert whole.values.shape == (1, 60, 6)
    np.testing.assert_array_equal(whole.values[0, :20].numpy(), given[:20])
    with pytest.raises(ValueError, match="which row .* is known"):
        model.sample(conditions={"length": 40}, known=mask, given=given, seeds=[0])


def test_the_published_path(tmp_path: Path) -> None:
    """FoldingDiff's own noise on the circle, with padding: steps of ddpm leave it alone."""
    path = ["objective.path={name: wrapped_vp, schedule: cosine}", "objective.parameterization=noise"]
    quick = [*TINY, *path, "sample.sampler=ddpm", "train.preview=false", "train.known=null"]
    run = studio.train("protein", quick, out=tmp_path / "run", quiet=True)
    made = run.load(device="cpu").sample(conditions={"length": [40, 44]}, seeds=[0, 1], num_steps=3)
    assert real(made.values.numpy()).sum(1).tolist() == [40, 44]
