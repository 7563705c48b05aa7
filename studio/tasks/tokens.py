"""Tokens: (B, L) or (B, H, W) ids. Shown as a table of colours, a row a sequence, or a picture a grid; as
lines of text where the ids stand for symbols."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.runtime import files
from studio.tasks.base import Task
from studio.tasks.image import contact_sheet
from studio.tasks.views import Seen, View, table

ROWS, CELL = 64, 8  # sequences of a sheet, and pixels of a token


class TokensTask(Task):
    name, together, previewed, array, dtype = "tokens", True, 32, "values", "int64"
    measures = "studio.evaluation.token_measures:MEASURES"

    def __init__(self, *, vocab: int = 0, symbols: tuple[str, ...] = (), dtype: str = "int64"):
        self.vocab, self.symbols, self.dtype = vocab, tuple(symbols), dtype

    @property
    def listing(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("samples.txt",) if self.symbols else ()

    @property
    def legend(self) -> Mapping[str, np.ndarray]:
        return {"vocab": np.array(self.vocab)} | ({"symbols": np.array(self.symbols)} if self.symbols else {})

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        return (
            "" if array.ndim in (2, 3) and array.dtype.kind in "iu" else "whole numbers (N, L) or (N, H, W)"
        )

    def shows(self, shape: Sequence[int]) -> bool:
        return len(shape) in (1, 2)

    def pictures(self, values: Tensor) -> list[Image.Image]:
        """One picture of all samples."""
        return [self.sheet(values)]

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        if values.ndim == 3:
            return contact_sheet([self._drawn(grid) for grid in values], columns=columns, captions=captions)
        return self._drawn(values[:ROWS])

    def _drawn(self, ids: Tensor) -> Image.Image:
        """(H, W) ids as cells of colours."""
        import matplotlib

        vocab = max(self.vocab, int(ids.max()) + 1 if ids.numel() else 2)
        shades = torch.from_numpy(matplotlib.colormaps["turbo"](np.linspace(0, 1, vocab))[:, :3])
        cells = (255 * shades[ids.long().cpu()]).round().to(torch.uint8).numpy()
        return Image.fromarray(cells.repeat(CELL, 0).repeat(CELL, 1))

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        """Where ids stand for symbols, what they say."""
        return (View("Text", "sheet.csv", "table", self._listed),) if self.symbols else ()

    def _listed(self, path: Path, seen: Seen) -> None:
        table(path, ("seed", "text"), zip((r["seed"] for r in seen.recipes), self.lines(seen.values)))

    def lines(self, values: Tensor) -> list[str]:
        """The symbols of each sample."""
        join = "" if all(len(s) == 1 for s in self.symbols) else " "
        return [join.join(self.symbols[i] for i in row) for row in values.flatten(1).tolist()]

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        """``samples.txt``: a line of symbols for each sample."""
        if not self.symbols:
            return
        with files.replacing(folder / "samples.txt") as draft:
            draft.write_text(
                "".join(line.replace("\n", "\\n") + "\n" for line in self.lines(values)), encoding="utf-8"
            )
