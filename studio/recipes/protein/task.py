"""Backbones: (N, n, 6) radians, NaN on padding and where an angle does not exist."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.recipes.protein import drawing, pdb
from studio.recipes.protein.placing import NAMES, place, real
from studio.runtime import files
from studio.tasks.angles import AnglesTask
from studio.tasks.base import names_of
from studio.tasks.views import View

VIEWS = (
    View("Traces", "sheet.svg", "picture"),
    View("Ramachandran", "sheet.ramachandran.png", "picture", drawing.ramachandran),
    View("Table", "sheet.csv", "table", drawing.numbers),
)
TRACED = 24  # chains of the sheet of traces


class ProteinTask(AnglesTask):
    """See `studio.recipes.protein.placing` for the order of the angles."""

    name, previewed, any_length = "protein", 16, True
    listing = ("sheet.svg",)
    measures = "studio.recipes.protein.measures:MEASURES"

    @property
    def says(self) -> str:
        return "backbones"

    @property
    def legend(self) -> Mapping[str, np.ndarray]:
        """What the last axis counts."""
        return {"angle_names": np.array(NAMES)}

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        good = array.ndim == 3 and array.shape[2] == len(NAMES) and array.dtype.kind == "f"
        return "" if good else "float radians (N, n, 6), NaN on padding"

    def trimmed(self, values: Tensor) -> Tensor:
        """As many places as the longest chain has."""
        return values[:, : int((~values[..., 3].isnan()).sum(1).max())]

    def file_names(self, recipes: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """A PDB file of each."""
        return (*self.listing, *(f"{name}.pdb" for name in names_of(recipes)))

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        angles = values.double().cpu().numpy()
        captions = [f"seed {r['seed']}" for r in recipes]
        with files.replacing(folder / "sheet.svg") as draft:
            draft.write_text(drawing.svg(angles[:TRACED], captions))
        names = self.file_names(recipes)[len(self.listing) :]
        for name, atoms, there in zip(names, place(angles), real(angles), strict=True):
            pdb.write(folder / name, atoms[there])

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        return drawing.sheet(values.double().cpu().numpy())

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        return VIEWS

    def place(self, values: Tensor) -> Tensor:
        """(N, n, 3, 3) x, y, z of the atoms N, Cα and C of each residue, in Å."""
        return torch.from_numpy(place(values.double().cpu().numpy()))
