"""Molecules: (B, n, n + 1) uint8 graphs, drawn and listed by RDKit (the extra ``chem``)."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from studio.tasks.base import Task
from studio.tasks.image import contact_sheet


class MoleculeTask(Task):
    """``atoms``: the types that the graphs count, ``aromatic``: how rings are written; both are the
    codec's."""

    name, suffix, dtype, judged = "molecule", ".smi", "uint8", "molecule"
    listing = ("samples.smi", "samples.csv", "samples.sdf", "sheet.svg")

    def __init__(self, atoms: Sequence[str] = (), aromatic: bool = False):
        self.atoms, self.aromatic = tuple(atoms), aromatic

    @property
    def legend(self) -> Mapping[str, np.ndarray]:
        return {"atoms": np.array(self.atoms)}

    def ready(self) -> None:
        importlib.import_module("studio.chem.toolkit")  # says which extra it is

    def pictures(self, values: Tensor) -> list[Image.Image]:
        """A drawing of each, without any correction: what is no molecule stands in a red frame."""
        from studio.chem.drawing import picture

        return [picture(v, self.atoms) for v in values.cpu().numpy()]

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        drawn = self.pictures(values)
        return contact_sheet(
            drawn,
            columns=columns or (len(drawn) if len(drawn) < 4 else 4 if len(drawn) <= 16 else 6),
            captions=captions,
        )

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        """The files of ``listing``: see `studio.chem.writing`."""
        from studio.chem.writing import described, write_all

        seeds, asked = [int(r["seed"]) for r in recipes], [r.get("conditions", {}) for r in recipes]
        write_all(folder, described(values.cpu().numpy(), self.atoms, seeds=seeds, asked=asked))
