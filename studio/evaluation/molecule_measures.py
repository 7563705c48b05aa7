"""Molecules have their own measures, all of molecules as they were made: what is valid without any correction
counts, the rest is told beside it.

The reference's training part is what novelty is measured against and floors come from; distances are to its
held-out part where there is one. Stereochemistry counts where it is told: in ``unique`` where the samples
tell it, in what compares them with a reference where that does too. MOSES's measures stand beside ours under
their own names (`studio.evaluation.moses_measures`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from backbones.registry import suggest
from studio.evaluation import moses_measures
from studio.evaluation.decoded import Decoded
from studio.evaluation.reference import parts_of
from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet
from studio.evaluation.sides import Found, Sides, against
from studio.runtime.version import __version__

OURS = (
    "validity",
    "uniqueness",
    "novelty",
    "diversity",
    "fcd",
    "fragments",
    "scaffolds",
    "similarity",
    "coverage",
    "targets",
)
NAMES = (*OURS, *moses_measures.MEASURES)


def evaluate(
    samples: SampleSet,
    reference: SampleSet,
    names: str | Sequence[str] | None,
    *,
    filters: str | None = None,
    test_scaffolds: str | None = None,
) -> Result:
    """``filters``: MOSES's rule lists, ``test_scaffolds``: its scaffold split, see `studio.metrics.moses`.
    Raises ``ValueError`` for unknown names, files that do not fit and a reference that is no set of
    molecules, ``ImportError`` without the extra."""
    wanted = parse_metrics(names, samples, filters)
    if reference.task != "molecule":
        raise ValueError(
            f"got molecules and a reference of {reference.task}, expected molecules such as moses or "
            "molecules:FILE"
        )
    sides, about = compared_sides(samples, reference, filters, test_scaffolds)
    values: dict[str, float] = {}
    floor: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in wanted:
        try:
            found, of_real = MEASURES[name](sides)
            values |= found
            floor |= of_real
        except ValueError as error:
            failed[name] = str(error)
    if names is None and filters is None:
        about["not_shown"] |= {"Filters": "n/a: --filters names no rule lists"}
    if "validity" not in wanted:
        about["not_shown"].pop("valid_corrected", None)
    protocol = {
        "extractor": "molecules",
        "samples": len(samples),
        "sample_hash": samples.hash,
        "reference": reference.name,
        "reference_hash": reference.hash,
        "reference_n": len(sides.real),
        "test_hash": None if reference.test is None else reference.test.hash,
        "training_n": len(reference),
        "floor": f"{floor_of(len(samples), sides, reference.test is not None)}; of mae, the nearest of the "
        "training set looked up",
        "studio": __version__,
        "rdkit": _rdkit(),
        **about,
        **{
            k: samples.about.get(k)
            for k in (
                "model",
                "model_hash",
                "weights",
                "sampler",
                "num_steps",
                "guidance",
                "seeds",
                "dtype",
                "conditions",
                "path",
            )
        },
    }
    return Result(samples.name, values, floor, failed, protocol)


def parse_metrics(
    names: str | Sequence[str] | None, samples: SampleSet | None = None, filters: str | None = None
) -> list[str]:
    """Names from ``"validity,moses"`` or a list; by default all that these samples can have. Raises
    ``ValueError`` for unknown ones, and ``Filters`` without its rules."""
    from studio.chem.properties import known

    default = [
        n
        for n in NAMES
        if (n != "targets" or any(map(known, samples.asked if samples is not None else ())))
        and (n != "Filters" or filters is not None)
    ]
    wanted = (
        default
        if names is None
        else [n.strip() for n in (names.split(",") if isinstance(names, str) else names)]
    )
    wanted = [
        n
        for w in wanted
        for n in ([m for m in moses_measures.MEASURES if m in default] if w == "moses" else [w])
    ]
    for n in wanted:
        if n not in NAMES:
            raise ValueError(
                f"got metric {n!r} for molecules, expected some of {', '.join(NAMES)}, or "
                f"moses{suggest(n, NAMES)}"
            )
    if "Filters" in wanted and filters is None:
        raise ValueError(
            "got the metric Filters without its rules, expected --filters with mcf.csv,wehi_pains.csv or "
            "the wheel of molsets that holds them"
        )
    return list(dict.fromkeys(wanted))


def check(wanted: Sequence[str], filters: str | None, test_scaffolds: str | None) -> None:
    """Before anything is measured. Raises ``ValueError`` for files that are not there or do not fit,
    ``ImportError`` without the extra."""
    from studio.metrics.moses import read_rules, read_split

    if filters is not None:
        read_rules(filters)
    if test_scaffolds is not None:
        read_split(test_scaffolds)
    if {"fcd", "FCD/Test"} & set(wanted):
        from studio.metrics.molecules import chemnet_network

        chemnet_network()


def asked_for(asked: Iterable[str]) -> list[str]:
    """Those of the conditions that RDKit computes. Raises ``ValueError`` for none."""
    from studio.chem.properties import known

    names = [n for n in asked if known(n)]
    if not names:
        raise ValueError(
            "the samples were asked for no property that RDKit computes; generate them with --set NAME=VALUE"
        )
    return names


def compared_sides(
    samples: SampleSet, reference: SampleSet, filters: str | None = None, test_scaffolds: str | None = None
) -> tuple[Sides, dict[str, Any]]:
    """What is compared, and what the protocol says of it."""
    from studio.data.arrays import content_hash
    from studio.metrics.moses import read_rules, read_split

    rules = None if filters is None else read_rules(filters)
    own, train, split, about = samples.decoded, reference.decoded, None, dict(parts_of(reference))
    order = np.random.Generator(np.random.Philox(key=1)).permutation(len(reference))
    if reference.test is not None:
        real = others = reference.test.decoded
        some = train.part(np.sort(order[: len(samples)]))
    else:  # the floor needs two sets that share nothing
        n = min(len(samples), max(len(order) // 2, 1))
        real, some, others = train, train.part(np.sort(order[:n])), train.part(np.sort(order[n:]))
    if test_scaffolds is not None:
        texts, name = read_split(test_scaffolds)
        split = Decoded(texts, (), {}, {}, content_hash(texts))
        about["test_scaffolds"] = f"{name} ({len(texts)} molecules, {split.key})"
    told = own.stereo, train.stereo or real.stereo
    if all(told):
        mine, stereo = own, "kept: samples and reference tell it"
    else:
        silent = [who for who, tells in zip(("the samples", "the reference"), told) if not tells]
        verb = "tells" if silent == ["the reference"] else "tell"
        mine, stereo = (
            own.flat,
            f"left out: {' and '.join(silent)} {verb} none" + ("; unique keeps it" if told[0] else ""),
        )
        train, real, some, others = train.flat, real.flat, some.flat, others.flat
        split = None if split is None else split.flat
    about |= {"stereo": stereo, "moses_filters": None if rules is None else rules.source}
    about["not_shown"] = {"valid_corrected": "n/a: SMILES have no graph to correct"} if own.is_text else {}
    return Sides(own, mine, train, real, some, others, split, rules), about


def floor_of(count: int, sides: Sides, held_out: bool) -> str:
    """How many real molecules the floors are of."""
    few, others = len(sides.some), len(sides.others)
    if held_out:
        return f"{few:,} training molecules against the {others:,} held out" + (
            f", there are no {count:,}" if few < count else ""
        )
    return f"two disjoint real sets of {few:,} and {others:,}" + (
        f", there are not twice {count:,}" if few < count else ""
    )


def _rdkit() -> str:
    from studio.chem.toolkit import version

    return version


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
