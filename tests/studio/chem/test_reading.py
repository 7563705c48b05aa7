"""Files of molecules: separators, line ends, columns, and everything that can be wrong with them."""

import gzip
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.chem import properties
from studio.chem.collect import Collection, collect
from studio.chem.reading import number, read_table, report
from studio.chem.toolkit import read_smiles


def put(where: Path, text: str, name: str = "mols.csv") -> Path:
    path = where / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def reasons(found: Collection) -> dict[int, str]:
    return {r.line: r.reason for r in found.rejected}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "SMILES,logP\nCCO,1\nCCN,2\n"),
        ("a.csv", "SMILES;logP\r\nCCO;1\r\nCCN;2\r\n"),
        ("a.tsv", "logP\tsmiles\n1\tCCO\n2\tCCN\n"),
        ("a.csv.gz", "\ufeffid,canonical_smiles,logP\n1,CCO,1\n2,CCN,2"),
        ("a.csv", "smiles,logP\rCCO,1\rCCN,2\r"),
        ("a.csv", '\n"smiles","logP"\n\n"CCO","1"\n"CCN","2"\n\n'),
    ],
)
def test_tables_of_all_kinds(name: str, text: str, tmp_path: Path) -> None:
    found = collect(put(tmp_path, text, name), conditions=["logP"], cache=False)
    assert (
        found.smiles == ("CCO", "CCN")
        and found.numeric.tolist() == [[1.0], [2.0]]
        and not found.rejected
        and found.notes == ()
    )


@pytest.mark.parametrize(
    "text", ["CCO ethanol\nCCN\n", "smiles name\r\nCCO ethanol\r\nCCN\r\n", "CCO\tethanol, or so\nCCN\t\n"]
)
def test_smi(text: str, tmp_path: Path) -> None:
    assert collect(put(tmp_path, text, "a.smi"), cache=False).smiles == ("CCO", "CCN")


def test_rows_that_cannot_be_used_are_told_with_their_lines(tmp_path: Path) -> None:
    long = "C" * 10000
    path = put(
        tmp_path,
        f"smiles,value\nCCO,1\nC(,2\n,3\n{long},4\nCCCCCCC,5\nCCN,abc\n"
        'CC,"1,5"\nCCC,inf\nOCC,9\nCCO.Cl,10\n[CH2]C,11\nCCCl,\nCC\nC=C,n/a\n[2H]OC,3\n',
    )
    found = collect(path, conditions=["value"], max_atoms=6, cache=False)
    assert found.smiles == ("CCO", "CCN", "CC", "CCC", "CCCl", "C=C", "CO")
    assert np.array_equal(found.numeric[:, 0], [1, np.nan, 1.5, np.nan, np.nan, np.nan, 3], equal_nan=True)
    assert {r.line: r.reason for r in found.unread} == {
        k: f"value is {v!r}, expected a finite number or nothing" for k, v in ((7, "abc"), (9, "inf"))
    }
    expected = {
        3: "which is no valid SMILES",
        4: "got no SMILES",
        5: "10,000 characters, expected at most 2,000",
        6: "7 atoms, expected at most 6; raise data.max_atoms",
        12: "which a graph without hydrogens does not hold",
        14: "1 cells, expected 2",
    }
    told = reasons(found)
    assert told.keys() == expected.keys() and all(text in told[line] for line, text in expected.items()), told
    assert (found.salts, found.duplicates) == (0, 2)  # OCC, and CCO of the salt
    assert found.notes[0].startswith("6 rows were left out, first line 3: got 'C(', which is no valid SMILES")
    text = report(found.rejected)
    assert text.splitlines()[:2] == ["line,reason,text", "3,\"got 'C(', which is no valid SMILES\",C("]


def test_salts_keep_their_largest_fragment(tmp_path: Path) -> None:
    found = collect(put(tmp_path, "[Na+].CC(=O)[O-]\nc1ccccc1.CCO\nCC.CC\n", "a.smi"), cache=False)
    assert (
        found.smiles == ("CC(=O)[O-]", "c1ccccc1", "CC")
        and found.salts == 3
        and found.atoms == ("C", "O", "[O-]")
    )


def test_open_ends_take_a_place(tmp_path: Path) -> None:
    found = collect(put(tmp_path, "*CC*\n*CCC*\n", "a.smi"), max_atoms=4, cache=False)
    assert found.smiles == ("*CC*",) and "5 atoms, expected at most 4" in reasons(found)[2]


def test_stereoisomers_are_one_graph(tmp_path: Path) -> None:
    found = collect(put(tmp_path, "C/C=C/C\nC/C=C\\C\nC[C@H](N)O\nC[C@@H](N)O\n", "a.smi"), cache=False)
    assert len(found) == 2 and found.duplicates == 2


def test_logarithms_of_columns_and_properties(tmp_path: Path) -> None:
    path = put(tmp_path, "smiles,O2\nCCO,100\nCCN,\nCCC,0\nCCCC,-3\nCCF,0.01\n")
    found = collect(path, conditions=("log10(O2)", "O2", "log10(heavy_atoms)"), cache=False)
    assert found.smiles == ("CCO", "CCN", "CCF")
    np.testing.assert_allclose(
        found.numeric, [[2, 100, np.log10(3)], [np.nan, np.nan, np.log10(3)], [-2, 0.01, np.log10(3)]]
    )
    assert (
        reasons(found)[4] == "got 0 for log10(O2), expected a positive number"
        and "got -3 for" in reasons(found)[5]
    )
    with pytest.raises(ValueError, match="got the condition 'N2', expected a column of"):
        collect(path, conditions=("log10(N2)",), cache=False)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    whole = gzip.compress(b"smiles\n" + b"CCO\nCCN\nCCC\n" * 500)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "plain.csv.gz").write_bytes(b"smiles\nCCO\n")
    (tmp_path / "noise.csv").write_bytes(bytes(50))
    for path, message in (
        (tmp_path / "none.csv", "which does not exist"),
        (put(tmp_path, "", "empty.csv"), "is empty, expected a header and a molecule a line"),
        (put(tmp_path, " \r\n \n", "blank.csv"), "is empty"),
        (put(tmp_path, "smiles,logP\n", "head.csv"), "has no whole row below its header"),
        (put(tmp_path, "smiles\n", "head.smi"), "has no molecule below its header"),
        (tmp_path / "cut.csv.gz", "is not a whole gzip file .* it may be cut off"),
        (tmp_path / "plain.csv.gz", "is no gzip file"),
        (tmp_path / "noise.csv", "it is no text"),
        (put(tmp_path, "x", "a.xlsx"), "expected one of .csv, .tsv, .smi"),
        (
            put(tmp_path, "id,value\n1,2\n", "columns.csv"),
            "has the columns id, value, expected one named smiles; to train on it set data.smiles=COLUMN",
        ),
        (put(tmp_path, "smiles\nC(\nXx\n", "bad.csv"), "has no usable molecule, first line 2"),
        (put(tmp_path, "smiles,SMILES\nC,C\n", "twice.csv"), None),
    ):
        if message is None:
            assert read_table(path).smiles(None) == 0  # the one that is written as asked
        else:
            with pytest.raises(ValueError, match=message):
                collect(path, cache=False)


def test_columns_that_cannot_be_used(tmp_path: Path) -> None:
    path = put(tmp_path, "smiles,value,Text,value\nCCO,1,x,2\nCCN,3,y,4\n")
    for options, message in (
        ({"smiles": "structur"}, "expected structur"),
        ({"conditions": ["value"]}, "has 2 columns named 'value', expected one"),
        ({"conditions": ["logP", "LOGP"]}, "of which two have one name"),
        (
            {"conditions": ["logD"]},
            r"got the condition 'logD', expected a column of .* or a property \(logP, QED",
        ),
        ({"conditions": ["Text"]}, "has no number for the condition 'Text', expected at least one"),
        ({"extra": "split"}, "expected 'split' among them"),
        ({"max_atoms": 0}, "expected at least 1"),
        ({"atoms": ["C", "O"], "limit": 0}, "expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            collect(path, cache=False, **options)
    blank = put(tmp_path, "smiles,empty\nCCO,\nCCN,na\n", "blank.csv")
    with pytest.raises(ValueError, match="has no number for the condition 'empty'"):
        collect(blank, conditions=["empty"], cache=False)


def test_a_vocabulary_that_is_given(tmp_path: Path) -> None:
    found = collect(put(tmp_path, "CCO\nCCBr\n", "a.smi"), atoms=["C", "N", "O"], size=9, cache=False)
    assert found.atoms == ("C", "N", "O") and found.graphs.shape == (1, 9, 10)
    assert reasons(found) == {2: "got the atom type Br, expected one of C, N, O"}


def test_properties_come_from_columns_or_are_computed(tmp_path: Path) -> None:
    path = put(tmp_path, "smiles,logp\nCCO,7.5\nc1ccccc1,\n")
    found = collect(path, conditions=["logP", "QED", "rings"], cache=False)
    assert np.array_equal(found.numeric[:, 0], [7.5, np.nan], equal_nan=True) and found.numeric[
        :, 2
    ].tolist() == [0, 1]
    direct = properties.compute([read_smiles("CCO")], ["qed"])[0, 0]
    assert found.numeric[0, 1] == direct


def test_the_cache_gives_the_same_and_follows_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = put(tmp_path, "smiles,part\nCCO,a\nC(,b\nCCN,c\n")
    first, again = (collect(path, conditions=["logP"], extra="part") for _ in range(2))
    stored = list((tmp_path / "cache").rglob("*.npz"))
    assert len(stored) == 1
    for name in ("smiles", "atoms", "extra", "rejected", "salts", "duplicates"):
        assert getattr(first, name) == getattr(again, name)
    assert np.array_equal(first.graphs, again.graphs) and np.array_equal(first.numeric, again.numeric)
    stored[0].write_bytes(b"damaged")
    assert collect(path, conditions=["logP"], extra="part").smiles == first.smiles
    put(tmp_path, "smiles,part\nCCC,a\n")
    assert collect(path, conditions=["logP"], extra="part").smiles == ("CCC",)


def test_numbers() -> None:
    assert number(" 1e-3 ", "x") == 1e-3 and all(
        np.isnan(number(t, "x")) for t in ("", "NaN", "N/A", "none", "-")
    )
    for text in ("abc", "1,5", "1e999", "-inf", "0x10"):
        with pytest.raises(ValueError, match="expected a finite number"):
            number(text, "x")
