"""The measures of molecules, by name: each takes `Sides` and gives values, and what real molecules give."""

from collections.abc import Callable, Iterable

import numpy as np

from studio.evaluation import moses_measures
from studio.evaluation.sides import Found, Sides, against


def asked_for(asked: Iterable[str]) -> list[str]:
    """Those of the conditions that RDKit computes. Raises ``ValueError`` for none."""
    from studio.chem.properties import known

    names = [n for n in asked if known(n)]
    if not names:
        raise ValueError(
            "the samples were asked for no property that RDKit computes; generate them with --set NAME=VALUE"
        )
    return names


def validity(s: Sides) -> Found:
    """``valid``: the whole graph or text sanitises; ``connected``: and is one molecule; ``valid_corrected``:
    after the published correction, of graphs."""
    from studio.metrics import molecules

    plain, floor = molecules.validity(s.own.mols), molecules.validity(s.some.mols)
    fixed = {} if s.own.is_text else {"valid_corrected": molecules.validity(s.own.corrected).valid}
    return {"valid": plain.valid, "connected": plain.connected, **fixed}, {
        "valid": floor.valid,
        "connected": floor.connected,
    }


def uniqueness(s: Sides) -> Found:
    from studio.metrics import molecules

    return {"unique": molecules.uniqueness(s.own.smiles)}, {"unique": molecules.uniqueness(s.some.smiles)}


def novelty(s: Sides) -> Found:
    """The floor is the held-out part's; without one, that of some of the reference against the others."""
    from studio.metrics import molecules

    known, (one, others) = [text for text in s.train.smiles if text is not None], s.apart
    value = {"new": molecules.novelty(s.mine.smiles, known)}
    return value, {
        "new": molecules.novelty(one.smiles, [text for text in others.smiles if text is not None])
    } if len(others) else {}


def scaffolds(s: Sides) -> Found:
    """``scaffolds``: cosine of their counts with the reference's; ``scaffolds_known``: share of molecules
    whose scaffold the training set has. Of one ring or more."""
    from studio.metrics import molecules

    known, (alike, of_real), (one, others) = s.train.scaffolds, s.compared("scaffolds"), s.apart
    values = {"scaffolds": alike, "scaffolds_known": molecules.scaffold_share(s.mine.scaffolds, known)}
    if of_real is None:
        return values, {}
    return values, {
        "scaffolds": of_real,
        "scaffolds_known": molecules.scaffold_share(one.scaffolds, others.scaffolds),
    }


def coverage(s: Sides) -> Found:
    from studio.metrics import molecules

    return {"atom_types": molecules.coverage(s.own.mols, s.train.atoms)}, {
        "atom_types": molecules.coverage(s.some.mols, s.train.atoms)
    }


def targets(s: Sides) -> Found:
    """Of each condition that RDKit computes: ``mae_``, ``on_target_`` (share of the samples it could be
    measured on) and ``random_``, the error of a random training molecule."""
    from studio.metrics import molecules, property_floors

    names = asked_for(s.own.asked)
    goal = np.stack([s.own.asked[n] for n in names], 1)
    found, have = molecules.on_target(s.own.mols, goal, names), s.train.properties(names)
    chance, nearest = (
        property_floors.random_molecules(goal, have),
        property_floors.looked_up(goal, have, np.nanstd(have, 0))[0],
    )
    values = {
        f"{kind}_{n}": v for n, f in found.items() for kind, v in (("mae", f.mae), ("on_target", f.share))
    }
    values |= {f"random_{n}": float(v) for n, v in zip(names, chance)}
    return {k: v for k, v in values.items() if v == v}, {f"mae_{n}": float(v) for n, v in zip(names, nearest)}


MEASURES: dict[str, Callable[[Sides], Found]] = {
    "validity": validity,
    "uniqueness": uniqueness,
    "novelty": novelty,
    "diversity": moses_measures.diversity("diversity", 1),
    "fcd": against("fcd", "fcd"),
    "fragments": against("fragments", "fragments"),
    "scaffolds": scaffolds,
    "similarity": against("similarity", "similarity"),
    "coverage": coverage,
    "targets": targets,
    **moses_measures.MEASURES,
}
