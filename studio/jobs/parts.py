"""Finished micro-batches of a run on its way: kept at once, one file each, below the run's folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from studio.runtime import files

NAME = "parts"


class Parts:
    """The parts of a run in ``folder``, which are gone when the run is saved as a whole. ``made_by``: what
    the samples were made by, which must be the same to go on."""

    def __init__(self, folder: Path, made_by: str):
        self.folder, self.made_by = folder / NAME, made_by

    def write(self, rows: Sequence[int], values: Sequence[Tensor]) -> None:
        """Keep decoded samples by their places in the run. Raises ``OSError`` for a disk that is full."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {"rows": torch.tensor(list(rows)), "values": torch.stack(list(values))}
        with files.replacing(self.folder / f"{min(rows):06d}.safetensors") as draft:
            files.save_tensors(draft, tensors, {"format": "pt", "made_by": self.made_by})

    def read(self) -> dict[int, Tensor]:
        """What was kept, by place; a file that does not read is left out, and its samples are made again.
        Raises ``ValueError`` where it was made by something else."""
        found: dict[int, Tensor] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, "pt") as part:
                    made_by, rows, values = (
                        part.metadata()["made_by"],
                        part.get_tensor("rows"),
                        part.get_tensor("values"),
                    )
            except (SafetensorError, OSError, KeyError, TypeError):
                continue
            if made_by != self.made_by:
                raise ValueError(
                    f"the samples in {self.folder} were made by another state of the model or other "
                    "settings; they are kept there: ask for all of them anew"
                )
            found |= dict(zip(rows.tolist(), values, strict=True))
        return found

    def remove(self) -> None:
        """After the samples are saved."""
        shutil.rmtree(self.folder, ignore_errors=True)
