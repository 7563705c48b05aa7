"""MOSES's measures beside ours, under its names (`studio.metrics.moses` has the rules). ``/TestSF`` is its
scaffold split; the rest is against the reference."""

from collections.abc import Callable

from studio.evaluation.sides import Found, Sides, against


def unique(name: str, k: int) -> Callable[[Sides], Found]:
    """Of the first ``k`` valid ones, or of all where there are fewer, as MOSES has it."""

    def measure(s: Sides) -> Found:
        from studio.metrics.moses import unique_at

        return {name: unique_at(s.own.smiles, k)[0]}, {name: unique_at(s.some.smiles, k)[0]}

    return measure


def diversity(name: str, p: int) -> Callable[[Sides], Found]:
    def measure(s: Sides) -> Found:
        from studio.metrics.molecules import internal_diversity

        return {name: internal_diversity(s.mine.prints, p=p)}, {name: internal_diversity(s.some.prints, p=p)}

    return measure


def filters(s: Sides) -> Found:
    return {"Filters": s.rules.share(s.own.mols)}, {"Filters": s.rules.share(s.some.mols)}


MEASURES: dict[str, Callable[[Sides], Found]] = {
    "unique@1k": unique("unique@1k", 1000),
    "unique@10k": unique("unique@10k", 10000),
    "IntDiv": diversity("IntDiv", 1),
    "IntDiv2": diversity("IntDiv2", 2),
    "Filters": filters,
    "FCD/Test": against("FCD/Test", "fcd", "FCD/TestSF"),
    "SNN": against("SNN", "similarity", "SNN/TestSF"),
    "Frag": against("Frag", "fragments", "Frag/TestSF"),
    "Scaf": against("Scaf", "large_scaffolds", "Scaf/TestSF"),
}
