"""Tables of molecules as people have them: without headers, under other names and endings, with cells that
are no numbers, and with one molecule that is far too large."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

import studio.chem.collect as source
from studio.chem.collect import collect
from studio.data import load_data
from studio.evaluation.sets import open_set

WANT = ("CCO", "CCN")


def put(where: Path, text: str, name: str = "mols.csv", encoding: str = "utf-8") -> Path:
    (where / name).write_bytes(text.encode(encoding))
    return where / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "CCO,1\nCCN,2\n"),
        ("a.csv", "CCO\nCCN\n"),
        ("a.csv", "1,CCO\n2,CCN\n"),
        ("a.tsv", "CCO\t1\nCCN\t2\n"),
        ("a.csv", "mol-1;CCO\nmol-2;CCN\n"),
        ("a.csv", "\ufeffpSMILES,Tg\nCCO,1\nCCN,2\n"),
        ("a.csv", "Tg,Polymer SMILES\n1,CCO\n2,CCN\n"),
        ("a.csv", "id,SMILES_canonical\nx,CCO\ny,CCN\n"),
        ("a.smiles", "CCO\nCCN\n"),
        ("a.smiles", "CCO ethanol\nCCN\n"),
        ("a.txt", "CCO\nCCN\n"),
        ("a.txt", "smiles,value\nCCO,1\nCCN,2\n"),
        ("a.SMILES", "smiles\nCCO\nCCN\n"),
    ],
)
def test_every_form_says_the_same(name: str, text: str, tmp_path: Path) -> None:
    path = put(tmp_path, text, name)
    assert collect(path, cache=False).smiles == WANT
    assert tuple(open_set(f"molecules:{path}").values) == WANT and tuple(open_set(path).values) == WANT


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_every_encoding_says_the_same(encoding: str, tmp_path: Path) -> None:
    assert collect(
        put(tmp_path, "smiles;Größe\nCCO;1\nCCN;2\n", encoding=encoding), conditions=["Größe"], cache=False
    ).numeric.tolist() == [[1], [2]]


def test_cells_that_are_no_numbers_are_missing_and_counted(tmp_path: Path) -> None:
    path = put(tmp_path, "smiles,a,b\nCCO,>100,1\nCCN,#N/A,2\nCCC,3,x\nCCF,4,4\nCCCl,<LOD,n.d.\n")
    found = collect(path, conditions=["a", "b"], cache=False)
    assert len(found) == 5 and not found.rejected
    assert np.array_equal(
        found.numeric, [[np.nan, 1], [np.nan, 2], [3, np.nan], [4, 4], [np.nan, np.nan]], equal_nan=True
    )
    assert found.notes == (
        "3 cells are no numbers and count as missing, their molecules are kept, first line 2: a is "
        "'>100', expected a finite number or nothing",
    )
    data = load_data({"name": "molecules", "path": str(path), "conditions": ("a", "b"), "held_out": 0.0})
    assert len(data.train) == 5 and data.beside["rows-left-out.csv"].count("\n") == 4
    # from the cache
    assert (
        load_data({"name": "molecules", "path": str(path), "conditions": ("a", "b"), "held_out": 0.0}).notes
        == data.notes
    )


def test_decimal_commas_are_told_by_their_column(tmp_path: Path) -> None:
    path = put(
        tmp_path, 'smiles;comma;point;thousands\nCCO;1,5;1.5;"1.234,5"\nCCN;-0,25;2.5;7\nCCC;3;4;"10,0"\n'
    )
    found = collect(path, conditions=["comma", "point", "thousands"], cache=False)
    assert found.numeric.tolist() == [[1.5, 1.5, 1234.5], [-0.25, 2.5, 7], [3, 4, 10]] and not found.unread
    # nobody can tell: the point counts
    mixed = collect(put(tmp_path, "smiles;a\nCCO;1,5\nCCN;2.5\n"), conditions=["a"], cache=False)
    assert np.array_equal(mixed.numeric[:, 0], [np.nan, 2.5], equal_nan=True) and len(mixed.unread) == 1


def test_one_long_chain_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "smiles\n" + "".join(f"{'C' * k}O\n" for k in range(1, 9)) + "C" * 600 + "\n"
    path = put(tmp_path, text)
    found = collect(path, cache=False)
    assert found.graphs.shape == (8, 9, 10) and "600 atoms, expected at most 30" in found.rejected[0].reason
    monkeypatch.setattr(source, "MOST_BYTES", 1_000_000)
    with pytest.raises(
        ValueError,
        match=r"9 molecules as graphs of 600 atoms.* data.max_atoms=332 leaves out the 1 that are larger",
    ):
        collect(path, max_atoms=1000, cache=False)
    assert len(collect(path, max_atoms=332, cache=False)) == 8


def test_a_folder_of_sampled_molecules_is_a_set(tmp_path: Path) -> None:
    put(tmp_path, "CCO\nCCN\n", "samples.smi")
    assert tuple(open_set(tmp_path).values) == WANT
    put(tmp_path, "smiles,asked_logP\nCCO,1.5\nCCN,2\n", "samples.csv")
    judged = open_set(tmp_path)
    assert (
        judged.name == str(tmp_path)
        and judged.task == "molecule"
        and judged.asked["logP"].tolist() == [1.5, 2]
    )


def test_the_reference_moses_is_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(load_data({"name": "moses", "limit": 20, "cache": False}).train) > 10


def test_columns_that_nobody_can_choose_between_are_named(tmp_path: Path) -> None:
    path = put(tmp_path, "pSMILES,mSMILES\nCCO,CCN\n")
    with pytest.raises(ValueError, match=r"several columns of SMILES \(pSMILES, mSMILES\)"):
        collect(path, cache=False)
    assert collect(path, smiles="mSMILES", cache=False).smiles == ("CCN",)


def test_data_without_a_bond_has_a_noise(tmp_path: Path) -> None:
    from studio.chem.statistics import count, published

    data = load_data(
        {"name": "molecules", "path": str(put(tmp_path, "C\nO\nN\nCl\n", "a.smi")), "held_out": 0.0}
    )
    assert data.shape == (1, 2)
    found, (bonds, _) = count(data.train.values, 4), published(data.train.values, data.codec["atoms"])
    assert found.bonds.tolist() == bonds.tolist() == [1, 0, 0, 0, 0] and float(
        found.pairs.sum()
    ) == pytest.approx(1)
