"""Molecules as graphs: encoding, numbers of atoms given properties, a whole training run and its samples,
pieces that stay."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import studio
from backbones import Cond, NoiseSource
from studio import sampling
from studio.checkpoints.find import card
from studio.codecs.graph import GraphCodec
from studio.data.arrays import Arrays, Data
from studio.generation.engine import compute
from studio.generation.plan import make_plan
from studio.model import catalog
from studio.tasks.graph_order import reordered, walk

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE, TYPES = 5, ("C", "N", "O")


def molecules(count: int, seed: int = 0) -> np.ndarray:
    """Random chains (N, n, n + 1): 2 to 5 atoms, single or double bonds."""
    g = np.random.default_rng(seed)
    values = np.zeros((count, SIZE, SIZE + 1), np.uint8)
    for row in values:
        n = int(g.integers(2, SIZE + 1))
        row[:n, 0] = g.integers(1, len(TYPES) + 1, n)
        for i in range(n - 1):
            row[i, 2 + i] = row[i + 1, 1 + i] = int(g.integers(1, 3))
    return values


def codec_of(values: np.ndarray, numeric: np.ndarray | None = None) -> dict[str, Any]:
    numbers = (values[..., 0] > 0).sum(1)
    counts = np.bincount(numbers, minlength=SIZE + 1) / len(values)
    spec: dict[str, Any] = {
        "name": "graph",
        "atoms": TYPES,
        "size": SIZE,
        "counts": tuple(counts.tolist()),
        "aromatic": False,
    }
    if numeric is not None:
        both = np.concatenate([numbers[:, None], numeric], 1)
        spec["joint"] = {"mean": both.mean(0).tolist(), "cov": np.cov(both.T).tolist()}
    return spec


def test_encoded_and_back() -> None:
    values = torch.from_numpy(molecules(20))
    codec = GraphCodec(atoms=TYPES, size=SIZE)
    x = codec.encode(values)
    assert x.shape == (20, SIZE, 3 + 5 * SIZE) and torch.equal(codec.decode(x), values)
    bonds = x[..., 3:].unflatten(2, (SIZE, 5))
    valid = values[..., 0] > 0
    assert torch.equal(
        bonds.sum(-1), (valid[:, :, None] & valid[:, None] & ~torch.eye(SIZE, dtype=torch.bool)).float()
    )


def test_a_new_order_is_the_same_graph_walked_deep_first() -> None:
    # a ring of three, an atom on it, an atom alone; the other half: a chain of three and padding
    values = np.zeros((64, SIZE, SIZE + 1), np.uint8)
    for row, bonds in zip(values, [[(0, 1), (1, 2), (0, 2), (2, 3)]] * 32 + [[(0, 1), (1, 2)]] * 32):
        row[: 5 if len(bonds) == 4 else 3, 0] = [1, 2, 3, 1, 2][: 5 if len(bonds) == 4 else 3]
        for kind, (i, j) in enumerate(bonds, 1):
            row[i, j + 1] = row[j, i + 1] = kind
    data, noise = torch.from_numpy(values), NoiseSource(range(64))
    order = walk(data, noise.uniform((SIZE,), stream="order"))
    assert (
        torch.equal(order.sort(1).values, torch.arange(SIZE).expand(64, -1))
        and len(order[:32].unique(dim=0)) > 10
    )
    made = reordered(data, noise)
    # padding stays behind
    assert made.dtype == torch.uint8 and bool((made[32:, :3, 0] > 0).all()) and not made[32:, 3:].any()
    for old, new, place in zip(data, made, order):
        assert torch.equal(new[:, 0], old[place, 0]) and torch.equal(new[:, 1:], old[place][:, place + 1])
        # a new atom hangs on the last one that has others left, or begins a piece
        for k in range(1, int((new[:, 0] > 0).sum())):
            on = [i for i in range(k) if new[i, k + 1] > 0]
            left = [i for i in range(k) if bool((new[i, k + 1 :] > 0).any())]
            assert (max(on) == max(left)) if left else not on


def test_numbers_of_atoms_follow_the_training_set_and_the_properties() -> None:
    values = molecules(500)
    numbers = (values[..., 0] > 0).sum(1)
    g = np.random.default_rng(1)
    numeric = np.stack(
        [(numbers - numbers.mean()) / numbers.std() + 0.01 * g.normal(size=500), g.normal(size=500)], 1
    )
    codec = GraphCodec(**{k: v for k, v in codec_of(values, numeric).items() if k != "name"})
    noise = NoiseSource(range(2000))
    free = codec.numbers(noise, None)
    assert (
        np.abs(
            np.bincount(free.numpy(), minlength=SIZE + 1) / 2000
            - np.bincount(numbers, minlength=SIZE + 1) / 500
        ).max()
        < 0.03
    )
    assert torch.equal(codec.numbers(noise, torch.full((2000, 2), torch.nan)), free)
    for number in (2, 5):  # the first property says the number, the second nothing; a missing one is left out
        y = torch.tensor([[(number - numbers.mean()) / numbers.std(), torch.nan]]).expand(2000, 2)
        assert float((codec.numbers(noise, y) == number).float().mean()) > 0.7
    with pytest.raises(ValueError, match="1 to 5"):
        codec.settings["atoms"].checked("atoms", 6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training on chains, with one condition: how many atoms are carbon."""
    values = molecules(400)
    carbon = (values[..., 0] == 1).sum(1).astype(np.float64)
    numeric = ((carbon - carbon.mean()) / carbon.std())[:, None]
    data = Data(
        "chains",
        "molecule",
        (SIZE, SIZE + 1),
        Arrays(values[:350], None, numeric[:350]),
        Arrays(values[350:], None, numeric[350:]),
        (),
        codec_of(values[:350], numeric[:350]),
        "chains",
        0,
        ("carbon",),
        (float(carbon.mean()),),
        (float(carbon.std()),),
        ((0.0, 5.0),),
    )
    folder = tmp_path_factory.mktemp("graph") / "run"
    config = {
        "name": "chains",
        "backbone": {"name": "graph_dit", "hidden_size": 32, "depth": 2, "num_heads": 4},
        "objective": {"path": {"name": "graph", "num": 50}, "cond_drop": 0.1},
        "train": {
            "steps": 250,
            "batch_size": 64,
            "lr": 2e-3,
            "warmup": 20,
            "ema": ["0.99"],
            "dtype": "fp32",
            "eval_every": 125,
            "preview": False,
        },
        "sample": {"sampler": "graph", "num_steps": 25, "guidance": ""},
    }
    with torch.random.fork_rng():
        studio.train(config, data=data, out=folder, quiet=True)
    return folder


def test_interrupted_is_as_never_interrupted(run: Path, tmp_path: Path) -> None:
    """Four steps and four more give the bytes of eight, atoms in new orders or not; generated molecules do
    not depend on what is made beside them. Graphs are not flipped."""
    values = molecules(60)
    data = Data("chains", "molecule", (SIZE, SIZE + 1), Arrays(values), None, (), codec_of(values), "chains")
    config = {
        "backbone": {"name": "graph_dit", "hidden_size": 16, "depth": 1, "num_heads": 2},
        "objective": {"path": {"name": "graph", "num": 10}},
        "train": {
            "steps": 8,
            "batch_size": 8,
            "warmup": 2,
            "schedule": "constant",
            "dtype": "fp32",
            "eval_every": 0,
            "preview": False,
            "weak_snapshot": False,
        },
        "sample": {"sampler": "graph", "num_steps": 5, "guidance": ""},
    }
    studio.train(config, data=data, out=tmp_path / "whole", quiet=True)
    studio.train(config, ["train.steps=4"], data=data, out=tmp_path / "parts", quiet=True)
    studio.train(config, ["train.steps=8"], data=data, out=tmp_path / "parts", resume=True, quiet=True)
    last = "checkpoints/000000008/net.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()
    studio.train(config, ["train.reorder=true"], data=data, out=tmp_path / "turned", quiet=True)
    studio.train(
        config, ["train.reorder=true", "train.steps=4"], data=data, out=tmp_path / "again", quiet=True
    )
    studio.train(
        config,
        ["train.reorder=true", "train.steps=8"],
        data=data,
        out=tmp_path / "again",
        resume=True,
        quiet=True,
    )
    turned = (tmp_path / "turned" / last).read_bytes()
    assert turned == (tmp_path / "again" / last).read_bytes() != (tmp_path / "whole" / last).read_bytes()
    with pytest.raises(ValueError, match="train.flip=true on molecule data"):
        studio.train(config, ["train.flip=true"], data=data, out=tmp_path / "flipped", quiet=True)
    model = studio.load(run)
    alone = model.sample(seeds=[7], deterministic=True, num_steps=5).values
    assert torch.equal(alone[0], model.sample(seeds=range(3, 9), deterministic=True, num_steps=5).values[4])


def test_fine_tuning_needs_the_same_atoms(run: Path, tmp_path: Path) -> None:
    """Atoms are counted by their types, so a base is gone on with by graphs that were read with its own."""
    values = molecules(40)
    options = {
        "train": {"steps": 2, "batch_size": 8, "dtype": "fp32", "preview": False, "eval_every": 0},
        "sample": {"sampler": "graph", "num_steps": 5, "guidance": ""},
    }
    config = {
        "backbone": {"name": "graph_dit", "hidden_size": 32, "depth": 2, "num_heads": 4},
        "objective": {"path": {"name": "graph", "num": 50}},
        **options,
    }
    numeric = np.zeros((40, 1))
    other = {**codec_of(values), "atoms": ("N", "C", "O"), "aromatic": False}

    def data(codec: dict[str, Any]) -> Data:
        return Data(
            "new",
            "molecule",
            (SIZE, SIZE + 1),
            Arrays(values, None, numeric),
            None,
            (),
            codec,
            "new",
            0,
            ("carbon",),
            (0.0,),
            (1.0,),
        )

    with pytest.raises(ValueError, match="data.atoms=\\[C,N,O\\] data.size=5"):
        studio.train(config, data=data(other), start_from=str(run), out=tmp_path / "no", quiet=True)
    tuned = studio.train(
        config, data=data({**other, "atoms": TYPES}), start_from=str(run), out=tmp_path / "yes", quiet=True
    )
    assert tuned.load().sample(seeds=[0], guidance="prior=base,cfg=2", num_steps=3).values.shape == (
        1,
        SIZE,
        SIZE + 1,
    )


def legal(values: Tensor) -> Tensor:
    """(N,) which are chains of the training set's kind."""
    bonds, n = values[..., 1:].long(), (values[..., 0] > 0).sum(1)
    chain = torch.stack(
        [torch.diagonal(bonds, offset=1, dim1=1, dim2=2)[i, : n[i] - 1].gt(0).all() for i in range(len(n))]
    )
    return chain & (bonds.gt(0).sum((1, 2)) == 2 * (n - 1)) & (bonds <= 2).all(2).all(1)


def test_training_learns_chains_and_conditions(run: Path) -> None:
    model = studio.load(run)
    samples = model.sample(seeds=range(100), conditions={"carbon": 3}, guidance=None).values
    assert samples.shape == (100, SIZE, SIZE + 1) and samples.dtype == torch.uint8
    assert float(legal(samples).float().mean()) > 0.6
    few = model.sample(seeds=range(100), conditions={"carbon": 0}, guidance="cfg=1.5").values
    assert (
        float((samples[..., 0] == 1).sum(1).float().mean())
        > float((few[..., 0] == 1).sum(1).float().mean()) + 1
    )


def test_numbers_of_atoms_and_targets_beyond_the_data(run: Path) -> None:
    model = studio.load(run)
    samples = model.sample(seeds=range(4), conditions={"atoms": 4, "carbon": 2}, num_steps=3)
    assert ((samples.values[..., 0] > 0).sum(1) == 4).all()
    assert samples.recipes[2]["conditions"] == {"carbon": 2.0, "atoms": 4}
    # every sample of a set has it, and the manifest pins it
    plan = make_plan(model, num=6, conditions={"atoms": 3}, num_steps=3)
    assert plan.pinned()["conditions"] == {"atoms": 3}
    made = torch.cat([v for _, v in compute(plan, range(6))])
    assert ((made[..., 0] > 0).sum(1) == 3).all()
    with pytest.raises(ValueError, match="got 9 atoms, expected 1 to 5"):
        model.sample(seeds=[0], conditions={"atoms": 9}, num_steps=3)
    with pytest.warns(UserWarning, match="carbon=50 is outside what .* was trained on, 0 to 5"):
        model.sample(seeds=[0], conditions={"carbon": 50}, num_steps=3)
    with warnings.catch_warnings():  # once, and not for what was seen
        warnings.simplefilter("error")
        model.sample(seeds=[0], conditions={"carbon": 50}, num_steps=3)
        model.sample(seeds=[0], conditions={"carbon": 5}, num_steps=3)


def test_a_scaffold_in_smiles(run: Path) -> None:
    """Its atoms and bonds stay; a closed atom gets no further bond, the marked one may."""
    pytest.importorskip("rdkit")
    model = studio.load(run)
    values = model.sample(seeds=range(30), init="O=C*", conditions={"atoms": 5}).values
    # in canonical order
    assert (
        bool((values[:, 0, 0] == 1).all())
        and bool((values[:, 1, 0] == 3).all())
        and bool((values[:, 0, 2] == 2).all())
    )
    assert not bool(values[:, 1, 3:].any()) and ((values[..., 0] > 0).sum(1) == 5).all()
    with pytest.raises(ValueError, match="6 atoms, expected at most 5"):
        model.sample(seeds=[0], init="C1CCCCC1")


def test_a_seed_alone_is_as_among_others(run: Path) -> None:
    model = studio.load(run, dtype="fp32")
    many = model.sample(seeds=range(12), guidance=None).values
    assert torch.equal(model.sample(seeds=[5], guidance=None).values[0], many[5])
    numbers = (many[..., 0] > 0).sum(1)
    assert len(set(numbers.tolist())) > 1


def test_a_piece_stays(run: Path) -> None:
    """C=O is known: its atoms and the bond between them come back in every sample, which is at least as
    large."""
    model, part = studio.load(run), torch.zeros(SIZE, SIZE + 1, dtype=torch.uint8)
    part[0, 0], part[1, 0], part[0, 2], part[1, 1] = 1, 3, 2, 2
    request = sampling.Request(
        tuple(range(20)), None, ((float("nan"),),) * 20, 25, "graph", "", init=part, settings={"atoms": 4}
    )
    values = sampling.run(model.stream(request), model.codec, 20)
    assert bool((values[:, :2, 0] == part[:2, 0]).all()) and bool((values[:, :2, 1:3] == part[:2, 1:3]).all())
    assert ((values[:, :, 0] > 0).sum(1) == 4).all() and float((values[:, 2:, 0] > 0).float().sum()) > 0
    with pytest.raises(ValueError, match="at least 2"):
        sampling.run(
            model.stream(
                sampling.Request((0,), None, ((0.0,),), 5, "graph", "", init=part, settings={"atoms": 1})
            ),
            model.codec,
            1,
        )


def test_what_does_not_fit_graphs_is_refused(run: Path) -> None:
    model = studio.load(run)
    with pytest.raises(ValueError, match="choose graph"):
        model.sample(seeds=[0], sampler="heun", num_steps=5)
    with pytest.raises(ValueError, match="neither noise nor velocity"):
        model.sample(seeds=[0], conditions={"carbon": 2}, guidance="tcfg(space=noise),cfg=2")
    # what a page offers
    assert catalog.sampler_names(card(run)) == ["graph"] and "graph" not in catalog.sampler_names()
    codec = GraphCodec(atoms=TYPES, size=SIZE)
    with pytest.raises(ValueError, match="6 with something"):
        GraphCodec(atoms=TYPES, size=SIZE, counts=(1.0,))
    assert codec.weights(None, 1).shape == (1, SIZE + 1)
    x, cond = codec.start(Cond(), NoiseSource([0]), model.denoiser.path)  # type: ignore[arg-type]
    assert cond.valid is not None and int(cond.valid.sum()) == int((codec.decode(x)[..., 0] > 0).sum())
