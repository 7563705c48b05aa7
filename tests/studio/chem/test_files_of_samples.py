"""Files of generated molecules are judged by every row that they have, and by all that a row says: blanks,
radicals, stereochemistry, pieces."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.chem import graphs
from studio.chem.collect import collect
from studio.chem.reading import read_table
from studio.chem.toolkit import Chem, read_smiles
from studio.evaluation import evaluate
from studio.evaluation.molecule_judge import decoded
from studio.evaluation.sets import open_set
from studio.tasks import build_task

ATOMS = ("C", "N", "O", "S")
FEW = "validity,uniqueness,novelty,scaffolds,fragments,coverage"


def write(path: Path, *rows: str, header: str = "smiles") -> Path:
    path.write_text("\n".join([header, *rows] if header else rows) + "\n")
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(
        tmp_path_factory.mktemp("reference") / "real.csv", "CCO", "c1ccccc1C", "C[C@H](N)C(=O)O", "C/C=C/C"
    )


# ---- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, text, valid, count",
    [
        ("a.csv", 'smiles\nCCO\n""\nCCN\n""\n', 0.5, 4),  # as pandas writes an empty string
        ("b.csv", "smiles\nCCO\n\nCCN\n", 2 / 3, 3),
        ("c.csv", "name,smiles\na,CCO\nb,\nc,CCN\n,\n", 0.5, 4),
        # a line without cells is no row of two columns
        ("d.csv", 'name,smiles\na,CCO\nb,""\n\nc,CCN\n', 2 / 3, 3),
        ("e.tsv", "smiles\tx\nCCO\t1\n\t2\nC(\t3\n", 1 / 3, 3),
        ("f.smi", "CCO a\n\nCCN b\n", 2 / 3, 3),
        ("g.smi", "smiles name\nCCO\ta\n\tb\nCCN\tc\n\td\n", 0.5, 4),
        ("h.csv", "smiles\nCCO\nnan\nNone\nCCN\n", 0.5, 4),
        ("i.csv", 'smiles\n""\n""\n', 0.0, 2),
    ],
)
def test_a_blank_row_is_a_sample_that_is_no_molecule(
    name: str, text: str, valid: float, count: int, reference: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    found = evaluate(tmp_path / name, reference, metrics="validity")
    assert (
        found.values["valid"] == pytest.approx(valid)
        and found.protocol["samples"] == count
        and not found.failed
    )


def test_rows_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="odd.csv, line 3: 3 cells, expected 2"):
        open_set(write(tmp_path / "odd.csv", "a,CCO", "b,CCN,1", header="name,smiles"))
    with pytest.raises(ValueError, match="holds no record"):
        (tmp_path / "no.sdf").write_text("\n")
        open_set(tmp_path / "no.sdf")


def test_training_reads_as_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "CCO", '""', "", "CCN")
    assert read_table(path).rows == (("CCO",), ("CCN",)) and read_table(path, blank=True).rows == (
        ("CCO",),
        ("",),
        ("",),
        ("CCN",),
    )
    assert collect(path, cache=False).smiles == ("CCO", "CCN")


# ---- one folder, four files ----------------------------------------------------------------------


def test_every_file_of_a_folder_gives_the_same_numbers(reference: Path, tmp_path: Path) -> None:
    """One broken, one empty, one in pieces, one whose double bond has no side, though it is drawn with
    one."""
    texts = ["CCO", "CC=CC", "CC.O", "c1ccc2[nH]ccc2c1", "CC[N+](C)(C)C", "CCO", "*CC"]
    kinds = ("C", "N", "O", "[N+]", "[nH]", "*")
    values = np.stack(
        [graphs.encode(read_smiles(t), kinds, 10, aromatic=True) for t in texts]
        + [np.zeros((10, 11), np.uint8)] * 2
    )
    values[-1, :3, 0], values[-1, 0, 2], values[-1, 1, 1] = 3, 3, 3  # oxygen with a triple bond
    recipes = [{"seed": i, "conditions": {"logP": 1.0 + i}} for i in range(len(values))]
    task = build_task("molecule", {"name": "graph", "atoms": list(kinds), "aromatic": True})
    task.write(tmp_path, torch.from_numpy(values), recipes)
    np.savez(tmp_path / "samples.npz", arr_0=values, atoms=np.array(kinds))
    found = {
        kind: evaluate(tmp_path / f"samples.{kind}", reference, metrics=FEW)
        for kind in ("npz", "csv", "smi", "sdf")
    }
    assert found["npz"].values["valid"] == pytest.approx(7 / 9) and found["npz"].values[
        "connected"
    ] == pytest.approx(6 / 9)
    assert found["npz"].values["unique"] == pytest.approx(6 / 7)
    corrected = found["npz"].values.pop("valid_corrected")
    assert corrected >= 7 / 9
    for kind in ("csv", "smi", "sdf"):
        assert (
            found[kind].values == pytest.approx(found["npz"].values) and found[kind].protocol["samples"] == 9
        ), kind
    assert open_set(tmp_path / "samples.sdf").asked["logP"].tolist() == [1.0 + i for i in range(9)]
    (tmp_path / "copy.sdf.gz").write_bytes(
        gzip.compress((tmp_path / "samples.sdf").read_bytes().replace(b"\n", b"\r\n"))
    )
    assert (
        open_set(tmp_path / "copy.sdf.gz").values.tolist()
        == open_set(tmp_path / "samples.sdf").values.tolist()
    )
    assert [m is not None and m.GetNumAtoms() for m in Chem.SDMolSupplier(str(tmp_path / "samples.sdf"))][
        -2:
    ] == [0, 0]


def test_correction_is_of_graphs_only(reference: Path, tmp_path: Path) -> None:
    found = evaluate(write(tmp_path / "a.smi", "CCO", "CCN", "C(", header=""), reference)
    assert "valid_corrected" not in found.values and not found.failed
    assert (
        found.protocol["not_shown"]["valid_corrected"].startswith("n/a")
        and "Filters" in found.protocol["not_shown"]
    )
    assert any(line.startswith("valid_corrected") and "n/a" in line for line in found.lines())


# ---- what a row says -----------------------------------------------------------------------------


def test_radicals_stay_radicals(tmp_path: Path) -> None:
    real = write(tmp_path / "real.csv", "CCC", "CCO")
    path = write(tmp_path / "a.csv", "[CH2]CC", "CCC", "[O]CC")
    assert decoded(open_set(path)).smiles == ["[CH2]CC", "CCC", "CC[O]"]
    found = evaluate(path, real, metrics="validity,uniqueness,novelty")
    assert (found.values["valid"], found.values["unique"], found.values["new"]) == (
        1.0,
        1.0,
        pytest.approx(2 / 3),
    )
    left = collect(path, cache=False)
    assert left.smiles == ("CCC",) and len(left.rejected) == 2 and "2 rows were left out" in left.notes[0]


def test_stereochemistry_counts_where_both_tell_it(reference: Path, tmp_path: Path) -> None:
    both = write(tmp_path / "both.csv", "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "C/C=C\\C", "C/C=C/C")
    found = evaluate(both, reference, metrics="uniqueness,novelty,fragments,unique@1k")
    assert (found.values["unique"], found.values["unique@1k"], found.values["new"]) == (1.0, 1.0, 0.5)
    assert found.protocol["stereo"] == "kept: samples and reference tell it"
    flat = write(tmp_path / "flat.csv", "CC(N)C(=O)O", "CC=CC")
    found = evaluate(both, flat, metrics="uniqueness,novelty,fragments")
    assert found.values["new"] == 0 and found.values["unique"] == 1.0  # the reference cannot tell them apart
    assert found.protocol["stereo"] == "left out: the reference tells none; unique keeps it"
    found = evaluate(flat, reference, metrics="uniqueness,novelty")
    assert found.values["new"] == 0 and found.protocol["stereo"] == "left out: the samples tell none"
    assert (
        evaluate(flat, flat, metrics="novelty").protocol["stereo"]
        == "left out: the samples and the reference tell none"
    )


def test_fcd_sees_stereochemistry(reference: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcd_torch")
    rows = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "C/C=C\\C", "C/C=C/C", "CCO"]
    same = evaluate(
        write(tmp_path / "a.csv", *rows), write(tmp_path / "same.csv", *rows), metrics="fcd"
    ).values["fcd"]
    turned = [r.replace("@@", "#").replace("@", "@@").replace("#", "@") for r in rows[:1] * 2] + rows[2:]
    other = evaluate(
        write(tmp_path / "b.csv", *turned), write(tmp_path / "same.csv", *rows), metrics="fcd"
    ).values["fcd"]
    assert same == pytest.approx(0, abs=1e-6) and other > 0.01


def test_a_model_is_judged_without_stereochemistry(tmp_path: Path) -> None:
    values = np.stack([graphs.encode(read_smiles(t), ATOMS, 8) for t in ("CC(N)C(=O)O", "CC=CC", "CCS")])
    np.savez(tmp_path / "made.npz", arr_0=values, atoms=np.array(ATOMS))
    found = evaluate(
        tmp_path / "made.npz",
        write(tmp_path / "real.csv", "C[C@H](N)C(=O)O", "C/C=C/C"),
        metrics="novelty,coverage",
    )
    assert (
        found.values["new"] == pytest.approx(1 / 3)
        and found.protocol["stereo"] == "left out: the samples tell none"
    )
