"""Measures of molecules against what they must be, and against MOSES's and fcd-torch's own ways to them."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.chem import properties
from studio.chem.collect import Collection, collect
from studio.chem.toolkit import Chem, read_smiles
from studio.metrics import molecules, property_floors

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def real() -> Collection:
    return collect(
        ROOT / "data/molecules_moses_45k.csv.gz", limit=240, conditions=["logP", "QED"], cache=False
    )


@pytest.fixture(scope="module")
def mols(real: Collection) -> list[Chem.Mol]:
    return [m for m in molecules.decoded(real.graphs, real.atoms) if m is not None]


def test_real_molecules_are_perfect(real: Collection, mols: list[Chem.Mol]) -> None:
    assert len(mols) == len(real) and molecules.validity(mols) == molecules.Validity(1.0, 1.0)
    assert molecules.smiles_of(molecules.decoded(real.graphs, real.atoms, correct=True)) == list(real.smiles)
    assert (
        molecules.uniqueness(real.smiles) == 1
        and molecules.novelty(real.smiles, real.smiles) == 0
        and molecules.novelty(real.smiles, real.smiles[:60]) == 0.75
    )
    assert molecules.coverage(mols, real.atoms) == 1
    assert molecules.scaffold_share(
        molecules.scaffolds(mols), molecules.scaffolds(mols)
    ) == 1 and molecules.cosine(molecules.scaffolds(mols), molecules.scaffolds(mols)) == pytest.approx(1)
    assert molecules.nearest_similarity(mols[:20], mols) == pytest.approx(1)


def test_shares_are_of_the_right_whole() -> None:
    some = [read_smiles("CCO"), read_smiles("CC.O"), None, read_smiles("CCO")]
    assert molecules.validity(some) == molecules.Validity(0.75, 0.5)
    texts = molecules.smiles_of(some)
    assert (
        texts == ["CCO", "CC.O", None, "CCO"]
        and molecules.uniqueness(texts) == pytest.approx(2 / 3)
        and molecules.novelty(texts, ["CCO"]) == 0.5
    )
    for call in (
        lambda: molecules.uniqueness([None]),
        lambda: molecules.validity([]),
        lambda: molecules.internal_diversity([None]),
    ):
        with pytest.raises(ValueError, match="expected at least one"):
            call()


def test_internal_diversity_by_pairs(mols: list[Chem.Mol]) -> None:
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    few = mols[:25]
    prints = [rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024).GetFingerprint(m) for m in few]
    mean = np.mean([DataStructs.TanimotoSimilarity(a, b) for a in prints for b in prints])
    assert molecules.internal_diversity(few) == pytest.approx(1 - mean, abs=1e-6)
    assert molecules.internal_diversity([few[0]] * 7) == pytest.approx(0, abs=1e-6)
    other = np.mean([max(DataStructs.TanimotoSimilarity(a, b) for b in prints[10:]) for a in prints[:10]])
    assert molecules.nearest_similarity(few[:10], few[10:]) == pytest.approx(other, abs=1e-6)


def test_fragments_are_moses_fragments(mols: list[Chem.Mol]) -> None:
    from collections import Counter

    from rdkit.Chem import AllChem

    by_hand: Counter[str] = Counter()
    for m in mols[:40]:
        by_hand.update(Chem.MolToSmiles(AllChem.FragmentOnBRICSBonds(m)).split("."))
    assert molecules.fragments(mols[:40]) == by_hand
    assert (
        molecules.cosine({"a": 3, "b": 4}, {"b": 1}) == pytest.approx(0.8)
        and molecules.cosine({"a": 1}, {}) == 0
    )


def test_fcd(real: Collection) -> None:
    pytest.importorskip("fcd_torch")
    a, b = (molecules.chemnet(part) for part in (real.smiles[:60], [None, *real.smiles[60:120]]))
    assert a.count == b.count == 60 and molecules.fcd(a, a) == pytest.approx(0, abs=1e-6)
    from fcd_torch import FCD

    theirs = FCD(canonize=False).precalc(list(real.smiles[:60]))
    assert np.allclose(a.mean.numpy(), theirs["mu"], atol=1e-6) and np.allclose(
        a.covariance.numpy(), theirs["sigma"], atol=1e-6
    )
    assert molecules.fcd(a, b) > 1


def test_the_error_of_exact_targets_is_zero(real: Collection, mols: list[Chem.Mol]) -> None:
    names = ["logP", "TPSA", "SA", "MW"]
    exact = properties.compute(mols[:30], names)
    found = molecules.on_target(mols[:30], exact, names)
    assert all(f == molecules.OnTarget(0.0, 1.0) for f in found.values()) and list(found) == names
    off = molecules.on_target(
        [*mols[:30], None, None], np.concatenate([exact + 0.5, exact[:1], np.full((1, 4), np.nan)]), names
    )
    assert all(f.mae == pytest.approx(0.5) and f.share == pytest.approx(30 / 31) for f in off.values())
    assert molecules.on_target(mols[:2], np.full((2, 1), np.nan), ["logP"]) == {}
    with pytest.raises(ValueError, match="got the property 'logD', expected one of logP"):
        molecules.on_target(mols[:2], np.zeros((2, 1)), ["logD"])
    columns = properties.compute(mols, ["logP", "QED"])
    assert np.abs(columns - real.numeric).max() < 1e-3  # the file's own columns are rounded


def test_floors_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    asked, training = rng.normal(size=(17, 2)), rng.normal(size=(40, 2)) * [1, 5]
    asked[3, 0] = training[5, 1] = np.nan
    expected = np.nanmean(np.abs(asked[:, None] - training[None]), axis=(0, 1))
    assert property_floors.random_molecules(asked, training) == pytest.approx(expected)
    scale = np.nanstd(training, 0)
    errors, chosen = property_floors.looked_up(asked, training, scale)
    whole = np.delete(np.arange(40), 5)
    gaps = np.nansum(((asked[:, None] - training[None, whole]) / scale) ** 2, -1)
    assert chosen.tolist() == whole[gaps.argmin(1)].tolist()
    assert errors == pytest.approx(np.nanmean(np.abs(training[chosen] - asked), 0))
    assert property_floors.looked_up(training[whole], training, scale)[0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="no training molecule with all properties"):
        property_floors.looked_up(asked, np.full((3, 2), np.nan), scale)


def test_properties() -> None:
    """Ethanol and benzene from the definitions: weights, polar surface, counts; SA between 1 and 10."""
    found = properties.compute(
        [read_smiles("CCO"), read_smiles("c1ccccc1"), None], list(properties.PROPERTIES)
    )
    named = {n: found[:, i] for i, n in enumerate(properties.PROPERTIES)}
    assert named["MW"][:2] == pytest.approx([2 * 12.011 + 6 * 1.008 + 15.999, 6 * (12.011 + 1.008)], abs=0.01)
    assert (
        named["TPSA"][:2] == pytest.approx([20.23, 0])
        and named["rings"][:2].tolist() == [0, 1]
        and named["heavy_atoms"][:2].tolist() == [3, 6]
    )
    assert 1 <= named["SA"][:2].min() <= named["SA"][:2].max() <= 10 and np.isnan(found[2]).all()
    assert properties.known("tpsa") == "TPSA" and properties.known("nothing") is None
