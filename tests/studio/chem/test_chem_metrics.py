"""Measures of molecules against what they must be, and against MOSES's and fcd-torch's own ways to them."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.chem import floors, metrics, properties
from studio.chem.collect import Collection, collect
from studio.chem.toolkit import Chem, read_smiles

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def real() -> Collection:
    return collect(ROOT / "data/molecules_moses_45k.csv.gz", limit=240, conditions=["logP", "QED"], cache=False)


@pytest.fixture(scope="module")
def mols(real: Collection) -> list[Chem.Mol]:
    return [m for m in metrics.decoded(real.graphs, real.atoms) if m is not None]


def test_real_molecules_are_perfect(real: Collection, mols: list[Chem.Mol]) -> None:
    assert len(mols) == len(real) and metrics.validity(mols) == metrics.Validity(1.0, 1.0)
    assert metrics.smiles_of(metrics.decoded(real.graphs, real.atoms, correct=True)) == list(real.smiles)
    assert (
        metrics.uniqueness(real.smiles) == 1
        and metrics.novelty(real.smiles, real.smiles) == 0
        and metrics.novelty(real.smiles, real.smiles[:60]) == 0.75
    )
    assert metrics.coverage(mols, real.atoms) == 1
    assert metrics.scaffold_share(metrics.scaffolds(mols), metrics.scaffolds(mols)) == 1 and metrics.cosine(
        metrics.scaffolds(mols), metrics.scaffolds(mols)
    ) == pytest.approx(1)
    assert metrics.nearest_similarity(mols[:20], mols) == pytest.approx(1)


def test_shares_are_of_the_right_whole() -> None:
    some = [read_smiles("CCO"), read_smiles("CC.O"), None, read_smiles("CCO")]
    assert metrics.validity(some) == metrics.Validity(0.75, 0.5)
    texts = metrics.smiles_of(some)
    assert texts == ["CCO", "CC.O", None, "CCO"] and metrics.uniqueness(texts) == pytest.approx(2 / 3) and metrics.novelty(texts, ["CCO"]) == 0.5
    for call in (lambda: metrics.uniqueness([None]), lambda: metrics.validity([]), lambda: metrics.internal_diversity([None])):
        with pytest.raises(ValueError, match="expected at least one"):
            call()


def test_internal_diversity_by_pairs(mols: list[Chem.Mol]) -> None:
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    few = mols[:25]
    prints = [rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024).GetFingerprint(m) for m in few]
    mean = np.mean([DataStructs.TanimotoSimilarity(a, b) for a in prints for b in prints])
    assert metrics.internal_diversity(few) == pytest.approx(1 - mean, abs=1e-6)
    assert metrics.internal_diversity([few[0]] * 7) == pytest.approx(0, abs=1e-6)
    other = np.mean([max(DataStructs.TanimotoSimilarity(a, b) for b in prints[10:]) for a in prints[:10]])
    assert metrics.nearest_similarity(few[:10], few[10:]) == pytest.approx(other, abs=1e-6)


def test_fragments_are_moses_fragments(mols: list[Chem.Mol]) -> None:
    from collections import Counter

    from rdkit.Chem import AllChem

    by_hand: Counter[str] = Counter()
    for m in mols[:40]:
        by_hand.update(Chem.MolToSmiles(AllChem.FragmentOnBRICSBonds(m)).split("."))
    assert metrics.fragments(mols[:40]) == by_hand
    assert metrics.cosine({"a": 3, "b": 4}, {"b": 1}) == pytest.approx(0.8) and metrics.cosine({"a": 1}, {}) == 0


def test_fcd(real: Collection) -> None:
    pytest.importorskip("fcd_torch")
    a, b = (metrics.chemnet(part) for part in (real.smiles[:60], [None, *real.smiles[60:120]]))
    assert a.count == b.count == 60 and metrics.fcd(a, a) == pytest.approx(0, abs=1e-6)
    from fcd_torch import FCD

    theirs = FCD(canonize=False).precalc(list(real.smiles[:60]))
    assert np.allclose(a.mean.numpy(), theirs["mu"], atol=1e-6) and np.allclose(a.covariance.numpy(), theirs["sigma"], atol=1e-6)
    assert metrics.fcd(a, b) > 1


def test_the_error_of_exact_targets_is_zero(real: Collection, mols: list[Chem.Mol]) -> None:
    names = ["logP", "TPSA", "SA", "MW"]
    exact = properties.compute(mols[:30], names)
    found = metrics.on_target(mols[:30], exact, names)
    assert all(f == metrics.OnTarget(0.0, 1.0) for f in found.values()) and list(found) == names
    off = metrics.on_target([*mols[:30], None, None], np.concatenate([exact + 0.5, exact[:1], np.full((1, 4), np.nan)]), names)
    assert all(f.mae == pytest.approx(0.5) and f.share == pytest.approx(30 / 31) for f in off.values())
    assert metrics.on_target(mols[:2], np.full((2, 1), np.nan), ["logP"]) == {}
    with pytest.raises(ValueError, match="got the property 'logD', expected one of logP"):
        metrics.on_target(mols[:2], np.zeros((2, 1)), ["logD"])
    columns = properties.compute(mols, ["logP", "QED"])
    assert np.abs(columns - real.numeric).max() < 1e-3  # the file's own columns are rounded


def test_floors_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    asked, training = rng.normal(size=(17, 2)), rng.normal(size=(40, 2)) * [1, 5]
    asked[3, 0] = training[5, 1] = np.nan
    expected = np.nanmean(np.abs(asked[:, None] - training[None]), axis=(0, 1))
    assert floors.random_molecules(asked, training) == pytest.approx(expected)
    scale = np.nanstd(training, 0)
    errors, chosen = floors.looked_up(asked, training, scale)
    whole = np.delete(np.arange(40), 5)
    gaps = np.nansum(((asked[:, None] - training[None, whole]) / scale) ** 2, -1)
    assert chosen.tolist() == whole[gaps.argmin(1)].tolist()
    assert errors == pytest.approx(np.nanmean(np.abs(training[chosen] - asked), 0))
    assert floors.looked_up(training[whole], training, scale)[0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="no training molecule with all properties"):
        floors.looked_up(asked, np.full((3, 2), np.nan), scale)


def test_properties() -> None:
    """Ethanol and benzene from the definitions: weights, polar surface, counts; SA between 1 and 10."""
    found = properties.compute([read_smiles("CCO"), read_smiles("c1ccccc1"), None], list(properties.PROPERTIES))
    named = {n: found[:, i] for i, n in enumerate(properties.PROPERTIES)}
    assert named["MW"][:2] == pytest.approx([2 * 12.011 + 6 * 1.008 + 15.999, 6 * (12.011 + 1.008)], abs=0.01)
    assert named["TPSA"][:2] == pytest.approx([20.23, 0]) and named["rings"][:2].tolist() == [0, 1] and named["heavy_atoms"][:2].tolist() == [3, 6]
    assert 1 <= named["SA"][:2].min() <= named["SA"][:2].max() <= 10 and np.isnan(found[2]).all()
    assert properties.known("tpsa") == "TPSA" and properties.known("nothing") is None
