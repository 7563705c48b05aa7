"""MOSES's measures by hand, and the files they take."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.chem.toolkit import read_smiles
from studio.evaluation import evaluate
from studio.metrics import molecules, moses

BIPHENYL, NAPHTHALENE, TOLUENE = "c1ccc(-c2ccccc2)cc1", "c1ccc2ccccc2c1", "Cc1ccccc1"
MCF = 'names,smarts\nMCF1,[#6]=&!@[#6]-[#6]#[#7]\nMCF2,"[H]C([H])([#6])[F,Cl,Br,I]"\n'
PAINS = (
    '"[#6]-2-[#6]-c:1:c(:c:c:c:c:1)-[#6](-c:3:c:c:c:c:c-2:3)=[#6]-[#6]"   '
    ',"<regId=styrene_A(13)>"\n"c1ccccc1-[#8]-[#1]"  ,"<regId=mine(1)>"\n'
)


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["SMILES", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel laid out as that of molsets."""
    path = tmp_path_factory.mktemp("wheel") / "molsets-0.3.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("moses/metrics/mcf.csv", MCF)
        archive.writestr("moses/metrics/wehi_pains.csv", PAINS)
        archive.writestr("moses/dataset/data/test.csv.gz", gzip.compress(b"SMILES\nCCO\n"))
        archive.writestr(
            "moses/dataset/data/test_scaffolds.csv.gz",
            gzip.compress(f"SMILES\n{NAPHTHALENE}\nCCN\n".encode()),
        )
    return path


def test_scaffolds_have_two_rings(tmp_path: Path) -> None:
    samples, real = (
        table(tmp_path / "s.csv", BIPHENYL, BIPHENYL, TOLUENE, "CCO"),
        table(tmp_path / "r.csv", BIPHENYL, NAPHTHALENE, TOLUENE),
    )
    found = evaluate(samples, real, metrics="Scaf,scaffolds").values
    assert found["Scaf"] == pytest.approx(2 / (2 * np.sqrt(2)))  # (2, 0) and (1, 1): toluene has one ring
    assert found["scaffolds"] == pytest.approx(3 / (np.sqrt(5) * np.sqrt(3)))  # ours counts it
    assert moses.scaffolds([read_smiles(f"CCC{BIPHENYL}"), read_smiles("C1CC2CCC1C2"), None]) == {
        BIPHENYL: 1,
        "C1CC2CCC1C2": 1,
    }


def test_unique_at_k(tmp_path: Path) -> None:
    texts = ["CCO", None, "OCC", "CCN", "CCC"]
    smiles = [None if t is None else molecules.smiles_of([read_smiles(t)])[0] for t in texts]
    assert (
        moses.unique_at(smiles, 2) == (0.5, 2)
        and moses.unique_at(smiles, 3) == (pytest.approx(2 / 3), 3)
        and moses.unique_at(smiles, 99) == (0.75, 4)
    )
    rows = ["F" + "C" * (1 + i % 25) + "N" + "C" * (i // 25 % 24) for i in range(1200)]  # 600 and again
    found = evaluate(
        table(tmp_path / "s.csv", *rows),
        table(tmp_path / "r.csv", "CCO"),
        metrics="unique@1k,unique@10k,uniqueness",
    ).values
    assert (found["unique@1k"], found["unique@10k"], found["unique"]) == (0.6, 0.5, 0.5)


def test_diversities_are_powers(tmp_path: Path) -> None:
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    texts = [BIPHENYL, NAPHTHALENE, TOLUENE, "CCO", "CCN", "CC(=O)Nc1ccccc1"]
    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    prints = [maker.GetFingerprint(read_smiles(t)) for t in texts]
    alike = np.array([[DataStructs.TanimotoSimilarity(a, b) for b in prints] for a in prints])
    found = evaluate(
        table(tmp_path / "s.csv", *texts),
        table(tmp_path / "r.csv", "CCO", "CCCN"),
        metrics="IntDiv,IntDiv2,SNN,diversity",
    ).values
    assert (
        found["IntDiv"] == pytest.approx(1 - alike.mean(), abs=1e-6) and found["diversity"] == found["IntDiv"]
    )
    assert found["IntDiv2"] == pytest.approx(1 - np.sqrt((alike**2).mean(1)).mean(), abs=1e-6)
    real = [maker.GetFingerprint(read_smiles(t)) for t in ("CCO", "CCCN")]
    assert found["SNN"] == pytest.approx(
        np.mean([max(DataStructs.TanimotoSimilarity(a, b) for b in real) for a in prints]), abs=1e-6
    )


def test_fragments(tmp_path: Path) -> None:
    """Ethyl phenyl ether is cut at its oxygen, anisole is not another kind of it."""
    found = evaluate(
        table(tmp_path / "s.csv", "CCOc1ccccc1", "CCO"), table(tmp_path / "r.csv", "CCO"), metrics="Frag"
    ).values["Frag"]
    pieces = molecules.fragments([read_smiles("CCOc1ccccc1")])
    assert pieces.total() == 3 and found == pytest.approx(1 / np.sqrt(pieces.total() + 1))


@pytest.mark.parametrize(
    "text, passes",
    [
        ("CCO", True),
        ("C1CCCCCC1", True),
        ("C1CCCCCCC1", False),
        ("CC[N+](C)(C)C", False),
        ("CCP", False),
        ("C=CC#N", False),
        ("CCCl", False),
        ("CC(C)(C)Cl", True),
        ("Oc1ccccc1", False),
        ("COc1ccccc1", True),
        ("C[Si](C)C", False),
    ],
)
def test_filters(text: str, passes: bool, wheel: Path) -> None:
    rules = moses.read_rules(str(wheel))
    assert rules.passes(read_smiles(text)) is passes and len(rules.patterns) == 4
    assert rules.share([read_smiles(text), read_smiles("CCO"), None]) == (1.0 if passes else 0.5)


def test_files_of_rules(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "mcf.csv").write_text(MCF)
    (tmp_path / "wehi_pains.csv").write_text(PAINS)
    assert (
        moses.read_rules(str(tmp_path)).source
        == "mcf.csv, wehi_pains.csv (4 rules)"
        == moses.read_rules(str(wheel)).source
    )
    assert (
        moses.read_rules(f"{tmp_path / 'mcf.csv'},{tmp_path / 'wehi_pains.csv'}").source
        == "mcf.csv, wehi_pains.csv (4 rules)"
    )
    assert len(moses.read_rules(str(tmp_path / "wehi_pains.csv")).patterns) == 2
    (tmp_path / "bad.csv").write_text("smarts\nCC\nC(\n")
    (tmp_path / "words.csv").write_text("hello,there\n")
    (tmp_path / "cut.whl").write_bytes(wheel.read_bytes()[:100])
    for name, words in (
        ("bad.csv", "bad.csv, line 3: got 'C\\('"),
        ("words.csv", "no column of SMARTS"),
        ("none.csv", "expected a file that is there"),
        ("cut.whl", "not a readable zip"),
    ):
        with pytest.raises(ValueError, match=words):
            moses.read_rules(str(tmp_path / name))


def test_all_of_them(wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcd_torch")
    samples, real = (
        table(tmp_path / "s.csv", BIPHENYL, "CCO", "C=CC#N", "C(", NAPHTHALENE),
        table(tmp_path / "r.csv", BIPHENYL, "CCO", BIPHENYL, "CCO"),
    )
    names = {"unique@1k", "unique@10k", "IntDiv", "IntDiv2", "FCD/Test", "SNN", "Frag", "Scaf"}
    found = evaluate(samples, real, metrics="moses")
    assert set(found.values) == names == set(found.floor)
    found = evaluate(samples, real, metrics="moses", filters=str(wheel), test_scaffolds=str(wheel))
    assert set(found.values) == names | {"Filters", "FCD/TestSF", "SNN/TestSF", "Frag/TestSF", "Scaf/TestSF"}
    assert found.values["Filters"] == 0.75 and found.floor["Filters"] == 1.0
    assert found.values["Scaf/TestSF"] == pytest.approx(np.sqrt(0.5)) and found.values[
        "Scaf"
    ] == pytest.approx(np.sqrt(0.5))
    assert (
        "2 molecules" in found.protocol["test_scaffolds"]
        and found.protocol["moses_filters"] == "mcf.csv, wehi_pains.csv (4 rules)"
    )
    swapped = evaluate(samples, table(tmp_path / "sf.csv", NAPHTHALENE, "CCN"), metrics="moses")
    for name in ("FCD/Test", "SNN", "Frag", "Scaf"):
        assert found.values[name.removesuffix("/Test") + "/TestSF"] == pytest.approx(
            swapped.values[name], abs=1e-6
        )
    alone = evaluate(samples, real, metrics="Scaf", test_scaffolds=str(tmp_path / "sf.csv"))
    assert alone.values == pytest.approx({"Scaf": np.sqrt(0.5), "Scaf/TestSF": np.sqrt(0.5)})


def test_what_cannot_be_computed_is_refused_first(wheel: Path, tmp_path: Path) -> None:
    samples = table(tmp_path / "s.csv", "CCO")
    with pytest.raises(ValueError, match="got the metric Filters without its rules, expected --filters"):
        evaluate(samples, samples, metrics="Filters")
    with pytest.raises(ValueError, match="expected a file that is there"):
        evaluate(samples, samples, metrics="Scaf", test_scaffolds=str(tmp_path / "no.whl"))
    np.save(tmp_path / "points.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match="got filters=.* for points, expected molecules"):
        evaluate(tmp_path / "points.npy", tmp_path / "points.npy", filters=str(wheel))
