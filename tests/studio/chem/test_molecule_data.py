"""The data sets `molecules` and `moses`: shapes, standardised conditions, splits, node counts, and what lies
beside a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import warm

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from tiny import environment, points_config

import studio
from studio.chem.splits import scaffold, scaffold_split
from studio.chem.toolkit import read_smiles
from studio.data import load_data

FILE = "data/molecules_moses_45k.csv.gz"


def test_moses(root: str) -> None:
    data = load_data(
        {
            "name": "moses",
            "path": f"{root}/{FILE}",
            "limit": 450,
            "conditions": ["logP", "QED"],
            "cache": False,
        }
    )
    n = data.codec["size"]
    assert (data.task, data.shape, data.numeric) == ("molecule", (n, n + 1), ("logP", "QED"))
    # a ninth is the test set's
    assert len(data.train) + len(data.held_out) == 450 and 30 < len(data.held_out) < 75
    values, cond = data.train.__getitems__([0, 3])
    assert values.shape == (2, n, n + 1) and cond.numeric.shape == (2, 2)
    both = np.concatenate([data.train.numeric, data.held_out.numeric])
    assert np.abs(both.mean(0)).max() < 1e-6 and np.abs(both.std(0) - 1).max() < 1e-6
    sizes = (data.train.values[..., 0] > 0).sum(1)
    assert data.codec["counts"] == pytest.approx((np.bincount(sizes, minlength=n + 1) / len(sizes)).tolist())
    columns = np.column_stack([sizes, data.train.numeric])
    assert data.codec["joint"]["mean"] == pytest.approx(columns.mean(0).tolist())
    assert np.allclose(data.codec["joint"]["cov"], np.cov(columns.T))
    raw = data.train.numeric * np.array(data.numeric_std) + np.array(data.numeric_mean)
    assert np.allclose(data.numeric_range, np.stack([raw.min(0), raw.max(0)], 1))
    aromatic = load_data(
        {
            "name": "moses",
            "path": f"{root}/{FILE}",
            "limit": 200,
            "conditions": ["logP", "QED"],
            "aromatic": True,
            "cache": False,
        }
    )
    assert aromatic.hash != data.hash and "[nH]" in aromatic.codec["atoms"] and aromatic.codec["aromatic"]


def test_missing_numbers_and_what_lies_beside(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        "smiles,a,b\n"
        + "".join(f"{'C' * k}O,{k},{'' if k % 2 else k * k}\n" for k in range(1, 9))
        + "C(,1,1\n"
    )
    data = load_data({"name": "molecules", "path": str(path), "conditions": ["a", "b"], "held_out": 0.0})
    assert data.held_out is None and np.isnan(data.train.numeric[:, 1]).sum() == 4
    whole = ~np.isnan(data.train.numeric).any(1)
    columns = np.column_stack([(data.train.values[..., 0] > 0).sum(1), data.train.numeric])[whole]
    assert np.allclose(data.codec["joint"]["cov"], np.cov(columns.T))
    assert data.beside["rows-left-out.csv"].splitlines()[1].startswith("10,") and data.notes[0].startswith(
        "1 rows were left out"
    )
    bare = load_data({"name": "molecules", "path": str(path)})
    assert bare.numeric == () and bare.train.numeric is None and len(bare.codec["joint"]["mean"]) == 1


def test_a_run_keeps_what_lies_beside(tmp_path: Path) -> None:
    dots = load_data({"name": "points", "count": 200})
    run = studio.train(
        points_config(steps=2),
        data=replace(dots, beside={"rows-left-out.csv": "line\n"}),
        out=tmp_path / "run",
        quiet=True,
    )
    assert (run.folder / "rows-left-out.csv").read_text() == "line\n"


def test_splits(tmp_path: Path) -> None:
    texts = (
        ["c1ccccc1" + "C" * k for k in range(8)]
        + ["C1CCCCC1" + "C" * k for k in range(4)]
        + ["c1ccncc1C", "C1CC1C", "CCO"]
    )
    train, held = scaffold_split(texts, 0.3)
    assert sorted([*train, *held]) == list(range(15)) and 0 < len(held) <= round(0.3 * 15)
    names = [scaffold(read_smiles(t)) for t in texts]
    assert not {names[i] for i in train} & {names[i] for i in held}
    assert names[0] == "c1ccccc1" and names[-1] == ""
    assert [a.tolist() for a in scaffold_split(texts, 0.3)] == [train.tolist(), held.tolist()]
    with pytest.raises(ValueError, match="no scaffold has 4 molecules or fewer; choose split: random"):
        scaffold_split(texts[:8], 0.5)
    path = tmp_path / "own.csv"
    path.write_text(
        "smiles,set\n" + "".join(f"{t},{'Test' if i % 5 == 0 else 'train'}\n" for i, t in enumerate(texts))
    )
    marked = load_data({"name": "molecules", "path": str(path), "split": "set"})
    assert (len(marked.train), len(marked.held_out)) == (12, 3)
    by_scaffold = load_data({"name": "molecules", "path": str(path), "split": "scaffold", "held_out": 0.3})
    assert len(by_scaffold.held_out) == len(held)


def test_refusals(root: str, tmp_path: Path) -> None:
    for spec, message in (
        ({"name": "moses", "path": str(tmp_path / "none.csv.gz")}, "it lies in the repository under data/"),
        (
            {"name": "molecules", "path": f"{root}/{FILE}", "split": "sheet", "limit": 5},
            "expected 'sheet' among them",
        ),
        (
            {"name": "molecules", "path": f"{root}/{FILE}", "conditions": ["logP", "logp"], "limit": 5},
            "two have one name",
        ),
        (
            {"name": "molecules", "path": f"{root}/{FILE}", "held_out": 1.0, "limit": 5},
            "expected a fraction from 0 to below 1",
        ),
        ({"name": "molecules", "path": f"{root}/{FILE}", "max_atom": 5}, "did you mean 'max_atoms'"),
    ):
        with pytest.raises(ValueError, match=message):
            load_data(spec)


def test_without_the_extra(root: str) -> None:
    """The studio imports no RDKit by itself, and says what to install where it is needed."""
    code = f"""
import sys
import studio
from studio.data import load_data
from studio.tasks import build_task
assert not any(m.split(".")[0] in ("rdkit", "fcd_torch") for m in sys.modules)
sys.modules["rdkit"] = None
build_task("molecule", {{"atoms": ["C"]}})
try:
    load_data({{"name": "moses", "path": {f"{root}/{FILE}"!r}}})
except ImportError as error:
    print(error)
"""
    done = warm.run(["-c", code], cwd=Path(root), env=environment())
    assert done.returncode == 0, done.stderr
    assert "molecules need RDKit, which is not installed; pip install 'drift-studio[chem]'" in done.stdout
