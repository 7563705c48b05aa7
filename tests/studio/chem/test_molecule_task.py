"""Molecules as samples: drawn, written, generated into a folder, and read back to be judged."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.chem.collect import collect
from studio.chem.drawing import picture, svg_sheet
from studio.chem.toolkit import Chem, canonical, read_smiles
from studio.chem.writing import described, sdf, smi, table
from studio.evaluation import evaluate
from studio.evaluation.sets import SampleSet, of_data, open_set
from studio.generation import store as stores
from studio.sampling.samples import Samples
from studio.tasks import build_task

ROOT = Path(__file__).parents[3]
FILE = ROOT / "data/molecules_moses_45k.csv.gz"


@pytest.fixture(scope="module")
def samples() -> Samples:
    """24 molecules of MOSES asked for their own logP, of which one is broken, one is in pieces and one is
    empty."""
    found = collect(FILE, limit=24, conditions=["logP"], cache=False)
    values = found.graphs.copy()
    values[0, 0, 2] = values[0, 1, 1] = 3  # a bond too many
    values[0, 1, 3] = values[0, 2, 2] = 3
    values[1, :, 1:] = 0
    values[2] = 0
    recipes = tuple(
        {"seed": i, "conditions": {"logP": float(v)}, "model": "none"}
        for i, v in enumerate(found.numeric[:, 0])
    )
    return Samples(
        torch.from_numpy(values),
        recipes,
        build_task("molecule", {"name": "graph", "atoms": list(found.atoms), "aromatic": False}),
        1.0,
    )


def test_pictures(samples: Samples) -> None:
    drawings = samples.pictures
    assert len(drawings) == 24 and {p.size for p in drawings} == {(216, 216)}
    frames = [p.getpixel((1, 108)) == (200, 40, 40) for p in drawings]
    assert frames == [True, False, True] + [False] * 21
    assert len({p.tobytes() for p in drawings}) == 24
    assert samples.grid().size[0] > 216 * 4


@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_graphs_of_all_kinds_can_be_drawn(density: float) -> None:
    """What a network makes in its first steps has bonds everywhere, for which RDKit finds no places."""
    rng = np.random.default_rng(0)
    for size in (1, 2, 12, 20):
        graph = np.zeros((20, 21), np.uint8)
        graph[:size, 0] = rng.integers(1, 5, size)
        bonds = np.triu(rng.integers(0, 5, (size, size)) * (rng.random((size, size)) < density), 1)
        graph[:size, 1 : size + 1] = bonds + bonds.T
        drawing = picture(graph, ("C", "[N+]", "*", "Cl"))
        assert drawing.size == (216, 216) and len(set(drawing.crop((4, 4, 212, 212)).getdata())) > 1


def test_everything_is_written_and_read_again(samples: Samples, tmp_path: Path) -> None:
    paths = samples.save(tmp_path / "out")
    assert [p.name for p in paths] == [
        "samples.npz",
        "samples.smi",
        "samples.csv",
        "samples.sdf",
        "sheet.svg",
    ] and all(p.is_file() for p in paths)
    assert (tmp_path / "out" / "grid.png").is_file() and len(
        json.loads((tmp_path / "out" / "recipe.json").read_text())
    ) == 24
    with pytest.raises(FileExistsError):
        samples.save(tmp_path / "out")
    arrays, listed = open_set(tmp_path / "out" / "samples.npz"), open_set(tmp_path / "out" / "samples.csv")
    assert (arrays.task, listed.task) == ("molecule", "molecule") and np.array_equal(
        arrays.values, samples.values.numpy()
    )
    smiles = [line.split("\t") for line in (tmp_path / "out" / "samples.smi").read_text().splitlines()]
    assert (
        len(smiles) == 24
        and smiles[3][1] == "seed-000003"
        and "." in smiles[1][0]
        and smiles[0][0] == smiles[2][0] == ""
    )
    found = [m for m in Chem.SDMolSupplier(str(tmp_path / "out" / "samples.sdf"))]
    assert [canonical(m) for m in found] == [s for s, _ in smiles] and found[3].GetProp("_Name") == smiles[3][
        1
    ]
    assert float(found[3].GetProp("obtained_logP")) == pytest.approx(
        float(found[3].GetProp("asked_logP")), abs=1e-3
    )
    assert (tmp_path / "out" / "sheet.svg").read_text().rstrip().endswith("</svg>")
    rows = (tmp_path / "out" / "samples.csv").read_text().splitlines()
    assert rows[0] == "name,smiles,valid,connected,corrected,asked_logP,obtained_logP" and len(rows) == 25
    assert (
        rows[1].split(",")[2:4] == ["0", "0"]
        and rows[2].split(",")[2:4] == ["1", "0"]
        and rows[3].startswith("seed-000002,,0,0,,")
    )


def test_texts_of_one_molecule() -> None:
    from studio.chem import graphs

    names = ("C", "O")
    made = described(
        graphs.encode(read_smiles("CCO"), names, 4)[None],
        names,
        seeds=[7],
        asked=[{"MW": 50.0, "other": 2.0}],
    )
    assert smi(made) == "CCO\tseed-000007\n"
    assert (
        table(made)
        == "name,smiles,valid,connected,corrected,asked_MW,obtained_MW,asked_other,obtained_other\n"
        "seed-000007,CCO,1,1,CCO,50,46.069,2,\n"
    )
    assert sdf(made).startswith("seed-000007\n") and ">  <obtained_MW>\n46.069\n\n" in sdf(made)
    assert picture(np.zeros((4, 5), np.uint8), names).size == (216, 216)
    with pytest.raises(ValueError, match="got no molecules to draw"):
        svg_sheet([])


def test_a_set_in_which_nothing_is_a_molecule(samples: Samples, tmp_path: Path) -> None:
    samples.task.write(tmp_path, torch.zeros(2, 4, 5, dtype=torch.uint8), samples.recipes[:2])
    assert (tmp_path / "samples.smi").read_text() == "\tseed-000000\n\tseed-000001\n" and "<svg" in (
        tmp_path / "sheet.svg"
    ).read_text()


def plan_of(samples: Samples, num: int) -> Any:
    """As much of a plan as a store looks at."""
    shape = tuple(samples.values.shape[1:])
    model = SimpleNamespace(
        task=samples.task,
        info=SimpleNamespace(shape=shape),
        sample_shape=shape,
        classes=(),
        recipes=lambda index: [samples.recipes[i % 24] for i in index],
    )
    labels = SimpleNamespace(of=lambda index, seeds: None)
    return SimpleNamespace(
        model=model,
        num=num,
        seeds=range(num),
        labels=labels,
        batch=lambda index: index,
        pinned=lambda: {"num": num},
    )


def test_a_generated_folder(samples: Samples, tmp_path: Path) -> None:
    plan = plan_of(samples, 24)
    store = stores.store_of(tmp_path, plan)
    assert not store.valid(0)
    store.write(0, samples.values, samples.recipes)
    assert store.valid(0) and store.read(0).dtype == np.uint8
    np.save(store.path(0), samples.values.float().numpy())
    assert not store.valid(0)  # another program's
    store.write(0, samples.values, samples.recipes)
    stores.write_npz(tmp_path / "samples.npz", store, plan)
    assert stores.npz_is_whole(tmp_path / "samples.npz", plan)
    stores.write_listing(tmp_path, store, plan)
    assert all((tmp_path / name).is_file() for name in samples.task.listing)
    found = open_set(tmp_path / "samples.npz")
    assert (
        np.array_equal(found.values, samples.values.numpy())
        and tuple(found.legend["atoms"]) == samples.task.atoms
    )
    stores.remove(tmp_path, samples.task.listing)
    assert not [p for p in tmp_path.iterdir() if p.is_file()]


def test_evaluation(samples: Samples, tmp_path: Path) -> None:
    pytest.importorskip("fcd_torch")
    samples.save(tmp_path / "out")
    reference = of_data(
        {"name": "moses", "path": str(FILE), "limit": 300, "conditions": ["logP"], "cache": False}, "moses"
    )
    found = evaluate(tmp_path / "out" / "samples.csv", reference)
    assert (
        not found.failed
        and found.values["valid"] == pytest.approx(22 / 24)
        and found.values["connected"] == pytest.approx(21 / 24)
    )
    # the one in pieces is off, the others are exact but for rounding
    assert found.values["mae_logP"] < 0.4 < found.values["random_logP"]
    assert found.values["on_target_logP"] == pytest.approx(22 / 24) and found.floor["mae_logP"] < 0.2
    assert found.floor["valid"] == 1 and found.protocol["training_n"] + found.protocol["reference_n"] == 300
    raw = evaluate(tmp_path / "out" / "samples.npz", reference, metrics="validity,uniqueness")
    assert (
        set(raw.values) == {"valid", "connected", "valid_corrected", "unique"}
        and raw.values["valid_corrected"] >= 22 / 24
    )
    alone = evaluate(reference, reference, metrics="novelty,coverage,fragments")
    assert alone.values["new"] == 0 and alone.values["atom_types"] == 1
    asked = evaluate(tmp_path / "out" / "samples.npz", reference, metrics="targets")
    assert "were asked for no property" in asked.failed["targets"]
    with pytest.raises(ValueError, match="got metric 'fid' for molecules, expected some of validity"):
        evaluate(reference, reference, metrics="fid")
    points = SampleSet("dots", np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match="got molecules and a reference of points"):
        evaluate(reference, points)


def test_files_of_samples_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "bad.smi").write_text("C(\nXx\n")
    with pytest.raises(ValueError, match="has no valid molecule among 2 rows"):
        open_set(tmp_path / "bad.smi")
    (tmp_path / "none.csv").write_text("name,smiles,valid\na,,0\nb,,0\n")
    assert len(open_set(tmp_path / "none.csv")) == 2 and not any(open_set(tmp_path / "none.csv").values)
    np.savez(tmp_path / "odd.npz", arr_0=np.zeros((2, 4, 4), np.uint8), atoms=np.array(["C"]))
    with pytest.raises(ValueError, match=r"expected uint8 graphs \(N, n, n \+ 1\)"):
        open_set(tmp_path / "odd.npz")
