"""A file of molecules is a reference as it stands, whatever training would take of it; floors are of as many
molecules as were measured, and say so."""

from pathlib import Path

import numpy as np
import pytest

from studio.evaluation import evaluate
from studio.evaluation.molecule_judge import decoded
from studio.evaluation.sets import open_set

pytest.importorskip("rdkit")

# 200
SHORT = [
    f"{'C' * a}{b}{'C' * c}"
    for a in range(1, 9)
    for b in ("O", "N", "C(=O)", "c1ccc(CC)cc1", "C1CC1")
    for c in range(1, 6)
]
LONG = [f"{'C' * a}OCCN{'C' * (50 - a)}" for a in range(20)]  # more atoms than a network is trained on


def table(path: Path, rows: list[str]) -> Path:
    path.write_text("SMILES\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("m") / "all.csv", SHORT + LONG + SHORT[:20])


def test_copies_of_a_file_are_known(file: Path) -> None:
    """Rows of 30 atoms and more, and a tenth that training keeps aside, counted as new."""
    found = evaluate(file, f"molecules:{file}", metrics="novelty,similarity,scaffolds,fragments")
    assert found.values["new"] == 0 and found.values["similarity"] == found.values["scaffolds_known"] == 1
    assert found.values["scaffolds"] == pytest.approx(1) and found.values["fragments"] == pytest.approx(1)
    assert (
        found.protocol["reference_n"] == found.protocol["training_n"] == 240
        and found.protocol["reference_part"] == "all"
    )
    assert found.values == evaluate(file, file, metrics="novelty,similarity,scaffolds,fragments").values


def test_a_part_is_what_training_makes_of_it_and_says_what_it_left_out(file: Path) -> None:
    train, rest = (open_set(f"molecules:{file}@{part}") for part in ("train", "held_out"))
    assert len(train) + len(rest) == len(
        set(decoded(open_set(table(file.parent / "short.csv", SHORT))).smiles)
    )
    told = evaluate(file, f"molecules:{file}@train", metrics="novelty").protocol
    assert told["reference_part"] == "train" and told["training_n"] == len(train)
    left = told["reference_left_out"]
    assert (
        f"the {len(rest):,} that are held out" in left
        and "20 rows were left out" in left
        and "duplicates" in left
    )


def test_floors_are_of_molecules_that_share_nothing(file: Path, tmp_path: Path) -> None:
    """They were of some of the reference against all of it, which holds them: novelty had none, similarity
    1."""
    index = np.random.default_rng(0).permutation(len(SHORT))
    ours, theirs = ([SHORT[i] for i in part] for part in (index[:60], index[60:]))
    few, many = table(tmp_path / "few.csv", ours), table(tmp_path / "many.csv", theirs)
    found = evaluate(few, f"molecules:{many}", metrics="novelty,similarity,scaffolds,fragments,uniqueness")
    assert found.protocol["floor"].startswith("two disjoint real sets of 60 and 80;")
    for name in ("new", "similarity", "scaffolds", "fragments"):
        assert found.floor[name] == pytest.approx(found.values[name], abs=0.12), name
    assert found.floor["similarity"] < 0.98
    more = evaluate(many, f"molecules:{few}", metrics="novelty").protocol["floor"]
    assert more.startswith("two disjoint real sets of 30 and 30, there are not twice 140;")
    parts = evaluate(many, f"molecules:{file}@train", metrics="novelty").protocol["floor"]
    assert "140 training molecules against the " in parts and "held out" in parts


def test_one_molecule_has_no_floor_and_keeps_its_value(tmp_path: Path) -> None:
    one = table(tmp_path / "one.csv", ["CCO"])
    found = evaluate(one, one, metrics="novelty,similarity")
    assert found.values == {"new": 0, "similarity": 1} and found.failed == {} and found.floor == {}
