"""A set of graphs, or of SMILES as a file has them, as molecules, and what several measures ask of it; each
part is made once, when it is first asked for.

Graphs hold no stereochemistry. Text keeps it, as it keeps radicals; `flat` is the same set without, for
comparisons with a set that has none.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from studio.metrics.distances import Moments


class Decoded:
    """Of ``values``: (N, n, n + 1) uint8 graphs over ``atoms``, or (N,) SMILES. ``numbers``: known columns of
    properties, ``asked``: targets (NaN: none); ``key`` names the content."""

    def __init__(
        self,
        values: np.ndarray,
        atoms: Sequence[str],
        numbers: Mapping[str, np.ndarray],
        asked: Mapping[str, np.ndarray],
        key: str,
    ):
        self.values, self.given, self.numbers, self.asked, self.key = (
            values,
            tuple(atoms),
            numbers,
            asked,
            key,
        )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_text(self) -> bool:
        return self.values.dtype.kind == "U"

    def part(self, index: np.ndarray) -> "Decoded":
        """These rows as a set of their own; what is decoded already is not decoded again."""
        numbers, asked = ({k: v[index] for k, v in columns.items()} for columns in (self.numbers, self.asked))
        key = hashlib.sha256(np.ascontiguousarray(index, np.int64).tobytes()).hexdigest()[:16]
        made = Decoded(self.values[index], self.given, numbers, asked, f"{self.key} part {key}")
        made.__dict__["mols"] = [self.mols[i] for i in index]
        return made

    @cached_property
    def mols(self) -> list[Any]:
        """RDKit molecules without any correction, None for what is none."""
        from studio.metrics.molecules import decoded, of_text

        return of_text(self.values) if self.is_text else decoded(self.values, self.given)

    @cached_property
    def corrected(self) -> list[Any]:
        """The same after the published correction. Raises ``ValueError`` for SMILES, of which there is
        nothing to correct."""
        from studio.metrics.molecules import decoded

        if self.is_text:
            raise ValueError("got SMILES, expected graphs: what is no molecule has no graph to correct")
        return decoded(self.values, self.given, correct=True)

    @cached_property
    def atoms(self) -> tuple[str, ...]:
        """The atom types: those that are given with graphs, those that are there in SMILES."""
        from studio.metrics.molecules import atom_types

        return atom_types(self.mols) if self.is_text else self.given

    @cached_property
    def smiles(self) -> list[str | None]:
        """Canonical, with the stereochemistry where the set has any."""
        from studio.metrics.molecules import smiles_of

        return smiles_of(self.mols, stereo=self.stereo)

    @cached_property
    def stereo(self) -> bool:
        """Whether any molecule tells its stereochemistry."""
        from studio.metrics.molecules import has_stereo

        return self.is_text and any(m is not None and has_stereo(m) for m in self.mols)

    @cached_property
    def flat(self) -> "Decoded":
        """Without stereochemistry; the set itself where it has none."""
        if not self.stereo:
            return self
        from studio.metrics.molecules import smiles_of

        texts = np.array([s or "" for s in smiles_of(self.mols)])
        return Decoded(texts, self.given, self.numbers, self.asked, f"{self.key} flat")

    @cached_property
    def fragments(self) -> Counter[str]:
        from studio.metrics.molecules import fragments

        return fragments(self.mols)

    @cached_property
    def scaffolds(self) -> Counter[str]:
        from studio.metrics.molecules import scaffolds

        return scaffolds(self.mols)

    @cached_property
    def large_scaffolds(self) -> Counter[str]:
        from studio.metrics.moses import scaffolds

        return scaffolds(self.mols)

    @cached_property
    def prints(self) -> np.ndarray:
        from studio.metrics.molecules import fingerprints

        return fingerprints(self.mols)

    @cached_property
    def chemnet(self) -> Moments:
        """Moments of ChemNet's activations, kept in the user's cache: thousands of molecules take half a
        minute."""
        from studio.metrics.features import Features, cached
        from studio.metrics.molecules import chemnet

        kind = ",".join(self.given) if not self.is_text else "text"
        return cached(
            f"{self.key} {kind} chemnet", lambda: Features("chemnet", "0.13", chemnet(self.smiles))
        ).moments

    def properties(self, names: Sequence[str]) -> np.ndarray:
        """(N, K), from the set's own columns where it has them."""
        from studio.chem.properties import compute

        return np.stack(
            [self.numbers[n] if n in self.numbers else compute(self.mols, [n])[:, 0] for n in names], 1
        )
