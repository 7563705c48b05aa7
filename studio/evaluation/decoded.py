"""A set of graphs as molecules, and what several measures ask of it; each part is made once, when it is first asked for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from studio.metrics.distances import Moments


class Decoded:
    """Of (N, n, n + 1) uint8 ``graphs`` over ``atoms``; ``numbers``: known columns of properties, ``asked``: targets (NaN: none); ``key`` names the content."""

    def __init__(self, graphs: np.ndarray, atoms: Sequence[str], numbers: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray], key: str):
        self.graphs, self.atoms, self.numbers, self.asked, self.key = graphs, tuple(atoms), numbers, asked, key

    def __len__(self) -> int:
        return len(self.graphs)

    @cached_property
    def mols(self) -> list[Any]:
        """RDKit molecules without any correction, None for graphs that are none."""
        from studio.chem.metrics import decoded

        return decoded(self.graphs, self.atoms)

    @cached_property
    def corrected(self) -> list[Any]:
        """The same after the published correction."""
        from studio.chem.metrics import decoded

        return decoded(self.graphs, self.atoms, correct=True)

    @cached_property
    def smiles(self) -> list[str | None]:
        from studio.chem.metrics import smiles_of

        return smiles_of(self.mols)

    @cached_property
    def fragments(self) -> Counter[str]:
        from studio.chem.metrics import fragments

        return fragments(self.mols)

    @cached_property
    def scaffolds(self) -> Counter[str]:
        from studio.chem.metrics import scaffolds

        return scaffolds(self.mols)

    @cached_property
    def chemnet(self) -> Moments:
        """Moments of ChemNet's activations, kept in the user's cache: thousands of molecules take half a minute."""
        from studio.chem.metrics import chemnet
        from studio.metrics.features import Features, cached

        return cached(f"{self.key} {','.join(self.atoms)} chemnet", lambda: Features("chemnet", "0.13", chemnet(self.smiles))).moments

    def properties(self, names: Sequence[str]) -> np.ndarray:
        """(N, K), from the set's own columns where it has them."""
        from studio.chem.properties import compute

        return np.stack([self.numbers[n] if n in self.numbers else compute(self.mols, [n])[:, 0] for n in names], 1)
