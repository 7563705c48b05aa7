"""What sampling returns: values, pictures, and the recipe that makes each of them again.

Every PNG carries its recipe as JSON in the tEXt chunk ``drift-studio``.
"""

import io
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor

from studio.data.labels import listed
from studio.runtime import files
from studio.runtime.recipes import KEY
from studio.runtime.seeds import seeds_text
from studio.runtime.strict_json import to_json
from studio.tasks.base import Task, names_of

if TYPE_CHECKING:
    from PIL.Image import Image


SHOWN = 100  # samples on the sheet of a notebook


@dataclass(frozen=True, repr=False, eq=False)
class Sample:
    """One of `Samples`: its ``value`` (...) on the CPU and its ``recipe``; a picture in a notebook."""

    value: Tensor
    recipe: dict[str, Any]
    task: Task

    @property
    def seed(self) -> int:
        return int(self.recipe["seed"])

    @property
    def picture(self) -> "Image":
        """A PIL picture, or the drawing of what is none."""
        return self.task.pictures(self.value[None])[0]

    def __repr__(self) -> str:
        return f"Sample: {_size(self.value)} of seed {self.recipe.get('seed')}{_of_class(self.recipe)}"

    def __eq__(self, other: object) -> bool:
        """Of the same values by the same recipe."""
        return (
            isinstance(other, Sample) and self.recipe == other.recipe and torch.equal(self.value, other.value)
        )

    __hash__ = None  # type: ignore[assignment]

    def _repr_png_(self) -> bytes:
        return _png(self.picture)


@dataclass(frozen=True, repr=False, eq=False)
class Samples(Sequence[Sample]):
    """``values`` (N, ...) decoded, on the CPU; ``recipes`` one dict per sample; ``seconds`` it took. A
    sequence of `Sample`, of which a slice is `Samples` again; in a notebook a contact sheet of the first
    `SHOWN`."""

    values: Tensor
    recipes: tuple[dict[str, Any], ...]
    task: Task
    seconds: float

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Samples": ...
    def __getitem__(self, index: Any) -> "Sample | Samples":
        if isinstance(index, slice):
            rows = range(len(self))[index]
            return Samples(self.values[list(rows)], self.recipes[index], self.task, self.seconds)
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"got sample {place} of {len(self)}, expected {-len(self)} to {len(self) - 1}")
        return Sample(self.values[place], self.recipes[place], self.task)

    def __repr__(self) -> str:
        if not self.recipes:
            return "Samples: none"
        first = self.recipes[0]
        kinds = list(dict.fromkeys(str(r["class"]) for r in self.recipes if "class" in r))
        made = [
            f"{first.get('num_steps')} steps of {first.get('sampler')}",
            f"guidance {first['guidance']}" if first.get("guidance") else "",
        ]
        lines = [
            f"Samples: {len(self)} of {_size(self.values[0])} by {first.get('model')}, {self.seconds:.1f} s",
            f"  seeds:   {_brief(seeds_text([r['seed'] for r in self.recipes]))}",
            f"  classes: {listed(kinds)}" if kinds else "",
            f"  made by: {_brief(', '.join(filter(None, made)))}",
        ]
        return "\n".join(line for line in lines if line)

    def _repr_png_(self) -> bytes | None:
        """Drawn together, where that is how they are shown, all of them."""
        few = self if self.task.together else self[:SHOWN]
        return _png(few.grid()) if len(few) else None

    @property
    def pictures(self) -> "list[Image]":
        """PIL pictures (for points: one plot of all)."""
        return self.task.pictures(self.values)

    def grid(self, *, columns: int | None = None, captions: bool = True) -> "Image":
        """A contact sheet with the class under each picture."""
        texts = [str(r.get("class", "")) for r in self.recipes]
        return self.task.sheet(
            self.values, columns=columns, captions=texts if captions and any(texts) else ()
        )

    def save(self, out: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write one file per sample (or ``samples.npz`` and what the task lists), ``grid.png`` and
        ``recipe.json`` into a folder; returns the samples' paths.

        Existing files are kept: raises ``FileExistsError`` unless ``overwrite``.
        """
        folder = Path(out)
        wanted = places(folder, self.recipes, self.task, need=self.values.numel() * 2, overwrite=overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        if self.task.one_each:
            self.save_pictures(folder)
        else:
            import numpy as np

            kept = {
                self.task.array: self.values.numpy(),
                "seeds": np.array([r["seed"] for r in self.recipes]),
                "task": np.array(self.task.name),
                **self.task.legend,
            }
            np.savez(wanted[0], **cast(Mapping[str, Any], kept))
            self.task.write(folder, self.values, self.recipes)
            if self.task.beside:
                self.save_pictures(folder)
        save_png(folder / "grid.png", self.grid(), sheet_recipe(self.recipes))
        files.write_json(folder / "recipe.json", list(self.recipes))
        return wanted

    def save_pictures(self, folder: Path) -> list[Path]:
        """A PNG of each sample with its recipe inside, into a folder that is there; returns their paths. Not
        for points, which one plot shows."""
        paths = [folder / f"{name}.png" for name in names_of(self.recipes)]
        for path, picture, recipe in zip(paths, self.pictures, self.recipes, strict=True):
            save_png(path, picture, recipe)
        return paths


def _size(value: Tensor) -> str:
    return f"{'×'.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}"


def _of_class(recipe: dict[str, Any]) -> str:
    return f", class {recipe['class']}" if "class" in recipe else ""


def _brief(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:89]}…"


def _png(picture: "Image") -> bytes:
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()


def places(
    folder: Path, recipes: Sequence[dict[str, Any]], task: Task, *, need: int = 0, overwrite: bool = False
) -> list[Path]:
    """The samples' files as `Samples.save` names them, which can be asked before anything is sampled.
    ``need``: bytes.

    Raises ``FileExistsError`` for one that is there unless ``overwrite``, what `files.check_writable` raises,
    and ``ImportError`` where what writes such samples is not installed.
    """
    task.ready()
    files.check_writable(folder, need=need)
    pictures = [folder / f"{n}.png" for n in names_of(recipes)]
    wanted = pictures if task.one_each else [folder / n for n in ("samples.npz", *task.file_names(recipes))]
    wanted = wanted + pictures if task.beside else wanted
    there = set(os.listdir(folder)) if folder.is_dir() else set()  # of many names few are, if any
    for path in (*wanted, folder / "grid.png", folder / "recipe.json"):
        if path.name in there and (path.is_dir() or not overwrite):
            raise FileExistsError(
                f"{path} exists already; choose another --out"
                + ("" if path.is_dir() else " or pass --overwrite")
            )
    return wanted


def sheet_recipe(recipes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One recipe of all: what differs is listed."""
    return {**recipes[0], **{k: [r.get(k) for r in recipes] for k in ("seed", "label", "class")}}


def save_png(path: Path, picture: "Image", recipe: dict[str, Any], *, durable: bool = True) -> None:
    """A PNG with its recipe inside, written atomically; ``durable`` as in
    `studio.runtime.files.replacing`."""
    data = png_bytes(picture, recipe)
    with files.replacing(path, durable=durable) as draft:
        draft.write_bytes(data)


def png_bytes(picture: "Image", recipe: dict[str, Any]) -> bytes:
    """A PNG with its recipe inside."""
    from PIL.PngImagePlugin import PngInfo

    info, buffer = PngInfo(), io.BytesIO()
    info.add_text(KEY, to_json(recipe))
    picture.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()
