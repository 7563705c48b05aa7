"""Molecules have their own measures, all of molecules as they were made: what is valid without any correction
counts, the rest is told beside it.

The reference's training part is what novelty is measured against and floors come from; distances are to its
held-out part where there is one. Stereochemistry counts where it is told: in ``unique`` where the samples
tell it, in what compares them with a reference where that does too. MOSES's measures stand beside ours under
their own names (`studio.evaluation.moses_measures`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backbones.registry import suggest
from studio.evaluation import molecule_measures, moses_measures
from studio.evaluation.decoded import Decoded
from studio.evaluation.judges import Asked, Found, Judge, Ruler, maker_of
from studio.evaluation.reference import Reference, located, parts_of
from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet
from studio.evaluation.sides import Sides
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


@dataclass(frozen=True)
class MoleculeRuler(Ruler):
    """Against the set itself. ``filters``: MOSES's rule lists, ``test_scaffolds``: its scaffold split, see
    `studio.metrics.moses`."""

    metrics: Sequence[str] | None
    reference: SampleSet
    filters: str | None = None
    test_scaffolds: str | None = None
    slow = frozenset({"fcd", "fragments", "scaffolds", "similarity", "targets", *moses_measures.MEASURES})
    once = frozenset({"uniqueness", "diversity", "IntDiv", "IntDiv2", "unique@1k", "unique@10k"})

    @property
    def digest(self) -> str:
        return self.reference.hash

    @property
    def about(self) -> dict[str, Any]:
        return {
            "extractor": self.reference.task,
            "reference": self.reference.name,
            "reference_hash": self.reference.hash,
            "reference_n": len(self.reference),
        }

    def measure(self, samples: SampleSet) -> Result:
        return evaluate(
            samples,
            self.reference,
            self.metrics,
            filters=self.filters,
            test_scaffolds=self.test_scaffolds,
        )

    def names(self, sets: Sequence[SampleSet]) -> tuple[list[str], dict[str, str]]:
        return parse_metrics(self.metrics, sets[0]), {}

    def by_rows(self, samples: SampleSet) -> Callable[[Sequence[str], np.ndarray], Found]:
        sides, _ = compared_sides(samples, self.reference)

        def measured(names: Sequence[str], rows: np.ndarray) -> Found:
            own = _rows(sides.own, rows)
            mine = own if sides.mine is sides.own else _rows(sides.mine, rows)
            part = replace(sides, own=own, mine=mine, made={})
            values: dict[str, float] = {}
            failed: dict[str, str] = {}
            for name in names:
                try:
                    values |= molecule_measures.MEASURES[name](part)[0]
                except ValueError as error:
                    failed[name] = str(error)
            return values, failed

        return measured


class MoleculeJudge(Judge):
    """See the top of this file."""

    takes, any_shape = ("filters", "test_scaffolds"), True

    def ruler(self, samples: SampleSet, ref: Any, asked: Asked) -> Ruler:
        wanted = parse_metrics(asked.metrics, samples, asked.filters)
        check(wanted, asked.filters, asked.test_scaffolds)
        if not asked.made and asked.metrics is not None and "targets" in wanted:
            molecule_measures.asked_for(samples.asked)
        real = ref if isinstance(ref, Reference) else located(ref)
        if not isinstance(real, SampleSet) or real.task != samples.task:
            kind = real.task if isinstance(real, SampleSet) else "features"
            raise ValueError(
                f"got molecules and a reference of {kind}, expected molecules such as moses or molecules:FILE"
            )
        return MoleculeRuler(asked.metrics, real, asked.filters, asked.test_scaffolds)


JUDGE = MoleculeJudge()


def decoded(samples: SampleSet) -> Decoded:
    """The molecules of a set, decoded once."""
    if "decoded" not in samples.kept:
        atoms = tuple(map(str, samples.legend.get("atoms", ())))
        samples.kept["decoded"] = Decoded(
            np.asarray(samples.values[:]), atoms, samples.numbers, samples.asked, samples.hash
        )
    made: Decoded = samples.kept["decoded"]
    return made


def _rows(molecules: Decoded, rows: np.ndarray) -> Decoded:
    """With the texts that are there."""
    part = molecules.part(rows)
    part.__dict__ |= {"stereo": molecules.stereo, "smiles": [molecules.smiles[i] for i in rows]}
    return part


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
    sides, about = compared_sides(samples, reference, filters, test_scaffolds)
    values: dict[str, float] = {}
    floor: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in wanted:
        try:
            found, of_real = molecule_measures.MEASURES[name](sides)
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
        **{k: v for k, v in maker_of(samples).items() if k != "labels"},
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


def compared_sides(
    samples: SampleSet, reference: SampleSet, filters: str | None = None, test_scaffolds: str | None = None
) -> tuple[Sides, dict[str, Any]]:
    """What is compared, and what the protocol says of it."""
    from studio.data.arrays import content_hash
    from studio.metrics.moses import read_rules, read_split

    rules = None if filters is None else read_rules(filters)
    own, train, split, about = decoded(samples), decoded(reference), None, dict(parts_of(reference))
    order = np.random.Generator(np.random.Philox(key=1)).permutation(len(reference))
    if reference.test is not None:
        real = others = decoded(reference.test)
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
