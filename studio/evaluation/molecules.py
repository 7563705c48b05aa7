"""Molecules have their own measures, all of graphs as they were made: what is valid without any correction counts, the rest is told beside it.

The reference's training part is what novelty is measured against and floors come from; distances are to its held-out part where there is one.
"""

from collections.abc import Sequence

import numpy as np

from backbones.registry import suggest
from studio import __version__
from studio.evaluation.decoded import Decoded
from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet

NAMES = ("validity", "uniqueness", "novelty", "diversity", "fcd", "fragments", "scaffolds", "similarity", "coverage", "targets")


def evaluate(samples: SampleSet, reference: SampleSet, names: str | Sequence[str] | None) -> Result:
    """Raises ``ValueError`` for unknown names and a reference that is no set of molecules, ``ImportError`` without the extra."""
    from studio.chem.properties import known

    default = [n for n in NAMES if n != "targets" or any(map(known, samples.asked))]
    wanted = default if names is None else [n.strip() for n in (names.split(",") if isinstance(names, str) else names)]
    for n in wanted:
        if n not in NAMES:
            raise ValueError(f"got metric {n!r} for molecules, expected some of {', '.join(NAMES)}{suggest(n, NAMES)}")
    if reference.task != "molecule":
        raise ValueError(f"got molecules and a reference of {reference.task}, expected molecules such as moses or molecules:FILE")
    mine, train = samples.decoded, reference.decoded
    real = train if reference.test is None else reference.test.decoded
    order = np.random.Generator(np.random.Philox(key=1)).permutation(len(reference))[: len(samples)]
    some = reference.take(np.sort(order)).decoded
    values: dict[str, float] = {}
    floor: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in wanted:
        try:
            found, of_real = MEASURES[name](mine, train, real, some)
            values |= found
            floor |= of_real
        except ValueError as error:
            failed[name] = str(error)
    protocol = {
        "extractor": "molecules", "samples": len(samples), "sample_hash": samples.hash, "reference": reference.name, "reference_hash": reference.hash, "reference_n": len(real),
        "test_hash": None if reference.test is None else reference.test.hash, "training_n": len(reference),
        "floor": f"{len(some)} training molecules; of mae, the nearest of the training set looked up", "studio": __version__, "rdkit": _rdkit(),
        **{k: samples.about.get(k) for k in ("model", "model_hash", "weights", "sampler", "num_steps", "guidance", "seeds", "dtype", "conditions", "path")},
    }  # fmt: skip
    return Result(samples.name, values, floor, failed, protocol)


def _rdkit() -> str:
    from studio.chem.toolkit import version

    return version


Found = tuple[dict[str, float], dict[str, float]]


def validity(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    """``valid``: the whole graph sanitises; ``connected``: and is one molecule; ``valid_corrected``: after the published correction."""
    from studio.chem import metrics

    plain = metrics.validity(mine.mols)
    fixed = metrics.validity(mine.corrected)
    floor = metrics.validity(some.mols)
    return {"valid": plain.valid, "connected": plain.connected, "valid_corrected": fixed.valid}, {"valid": floor.valid, "connected": floor.connected}


def uniqueness(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    from studio.chem import metrics

    return {"unique": metrics.uniqueness(mine.smiles)}, {"unique": metrics.uniqueness(some.smiles)}


def novelty(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    """The floor is the held-out part's."""
    from studio.chem import metrics

    known = [s for s in train.smiles if s is not None]
    return {"new": metrics.novelty(mine.smiles, known)}, {} if real is train else {"new": metrics.novelty(real.smiles, known)}


def diversity(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    from studio.chem import metrics

    return {"diversity": metrics.internal_diversity(mine.mols)}, {"diversity": metrics.internal_diversity(some.mols)}


def fcd(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    from studio.chem import metrics

    return {"fcd": metrics.fcd(mine.smiles, real.chemnet)}, {"fcd": metrics.fcd(some.smiles, real.chemnet)}


def fragments(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    from studio.chem import metrics

    return {"fragments": metrics.cosine(mine.fragments, real.fragments)}, {"fragments": metrics.cosine(some.fragments, real.fragments)}


def scaffolds(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    """``scaffolds``: cosine of their counts with the reference's; ``scaffolds_known``: share of molecules whose scaffold the training set has."""
    from studio.chem import metrics

    known = train.scaffolds
    values = {"scaffolds": metrics.cosine(mine.scaffolds, real.scaffolds), "scaffolds_known": metrics.scaffold_share(mine.scaffolds, known)}
    floor = {"scaffolds": metrics.cosine(some.scaffolds, real.scaffolds)}
    return values, floor if real is train else {**floor, "scaffolds_known": metrics.scaffold_share(real.scaffolds, known)}


def similarity(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    """To the most alike molecule of the reference."""
    from studio.chem import metrics

    return {"similarity": metrics.nearest_similarity(mine.mols, real.mols)}, {"similarity": metrics.nearest_similarity(some.mols, real.mols)}


def coverage(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    from studio.chem import metrics

    return {"atom_types": metrics.coverage(mine.mols, train.atoms)}, {"atom_types": metrics.coverage(some.mols, train.atoms)}


def targets(mine: Decoded, train: Decoded, real: Decoded, some: Decoded) -> Found:
    """Of each condition that RDKit computes: ``mae_``, ``on_target_`` (share of the samples it could be measured on) and ``random_``, the error of a random training molecule."""
    from studio.chem import floors, metrics
    from studio.chem.properties import known

    names = [n for n in mine.asked if known(n)]
    if not names:
        raise ValueError("the samples were asked for no property that RDKit computes; generate them with --set NAME=VALUE")
    goal = np.stack([mine.asked[n] for n in names], 1)
    found, have = metrics.on_target(mine.mols, goal, names), train.properties(names)
    chance, nearest = floors.random_molecules(goal, have), floors.looked_up(goal, have, np.nanstd(have, 0))[0]
    values = {f"{kind}_{n}": v for n, f in found.items() for kind, v in (("mae", f.mae), ("on_target", f.share))}
    values |= {f"random_{n}": float(v) for n, v in zip(names, chance)}
    return {k: v for k, v in values.items() if v == v}, {f"mae_{n}": float(v) for n, v in zip(names, nearest)}


MEASURES = {
    "validity": validity, "uniqueness": uniqueness, "novelty": novelty, "diversity": diversity, "fcd": fcd, "fragments": fragments, "scaffolds": scaffolds,
    "similarity": similarity, "coverage": coverage, "targets": targets,
}  # fmt: skip
