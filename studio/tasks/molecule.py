"""Molecules: (B, n, n + 1) uint8 graphs, drawn and listed by RDKit (the extra ``chem``)."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.tasks.base import Augment, Task
from studio.tasks.graph_order import reordered
from studio.tasks.image import contact_sheet
from studio.tasks.views import View


class MoleculeTask(Task):
    """``atoms``: the types that the graphs count, ``size`` n, ``aromatic``: how rings are written; all are
    the codec's."""

    name, dtype, says = "molecule", "uint8", "graphs"
    measures = "studio.evaluation.molecule_judge:JUDGE"
    listing = ("samples.smi", "samples.csv", "samples.sdf", "sheet.svg")

    def __init__(self, atoms: Sequence[str] = (), size: int = 0, aromatic: bool = False):
        self.atoms, self.size, self.aromatic = tuple(atoms), size, aromatic

    @property
    def legend(self) -> Mapping[str, np.ndarray]:
        return {"atoms": np.array(self.atoms)}

    @property
    def augments(self) -> Mapping[str, Augment]:
        """``reorder``: the atoms of each graph in another order."""
        return {"reorder": Augment(reordered)}

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        good = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == array.shape[1] + 1
        return "" if good else "uint8 graphs (N, n, n + 1)"

    def part(self, init: Any, mask: Any) -> tuple[Tensor | None, Tensor | None]:
        """(n, n + 1) of a SMILES or a graph that stays, and what of it may change."""
        if init is None or isinstance(init, Tensor):
            return init, mask
        from studio.chem.completion import part

        graph, known = part(str(init), self.atoms, self.size, aromatic=self.aromatic)
        return torch.from_numpy(graph), torch.from_numpy(~known)

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

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        """What was asked for and obtained, and which are valid."""
        return (View("Table", "samples.csv", "table"),)

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        """The files of ``listing``: see `studio.chem.writing`."""
        from studio.chem.writing import described, write_all

        seeds, asked = [int(r["seed"]) for r in recipes], [r.get("conditions", {}) for r in recipes]
        write_all(folder, described(values.cpu().numpy(), self.atoms, seeds=seeds, asked=asked))
