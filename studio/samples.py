"""What sampling returns: values, pictures, and the recipe that makes each of them again.

Every PNG carries its recipe as JSON in the tEXt chunk ``drift-studio``.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from studio import files
from studio.recipes import KEY, command_of, read_recipe
from studio.strict_json import to_json
from studio.tasks.base import Task

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["KEY", "Samples", "command_of", "places", "read_recipe", "save_png", "sheet_recipe"]


@dataclass(frozen=True)
class Samples:
    """``values`` (N, ...) decoded, on the CPU; ``recipes`` one dict per sample; ``seconds`` it took."""

    values: Tensor
    recipes: tuple[dict[str, Any], ...]
    task: Task
    seconds: float

    def __len__(self) -> int:
        return len(self.values)

    @property
    def pictures(self) -> "list[Image]":
        """PIL pictures (for points: one plot of all)."""
        return self.task.pictures(self.values)

    def grid(self, *, columns: int | None = None, captions: bool = True) -> "Image":
        """A contact sheet with the class under each picture."""
        texts = [str(r.get("class", "")) for r in self.recipes]
        return self.task.sheet(self.values, columns=columns, captions=texts if captions and any(texts) else ())

    def save(self, out: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write one file per sample (or ``samples.npz`` and what the task lists), ``grid.png`` and ``recipe.json`` into a folder; returns the samples' paths.

        Existing files are kept: raises ``FileExistsError`` unless ``overwrite``.
        """
        folder = Path(out)
        wanted = places(folder, self.recipes, self.task, need=self.values.numel() * 2, overwrite=overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        if self.task.suffix == ".png":
            self.save_pictures(folder)
        else:
            import numpy as np

            np.savez(wanted[0], arr_0=self.values.numpy(), seeds=np.array([r["seed"] for r in self.recipes]), **self.task.legend)
            self.task.write(folder, self.values, self.recipes)
            if self.task.beside:
                self.save_pictures(folder)
        save_png(folder / "grid.png", self.grid(), sheet_recipe(self.recipes))
        files.write_json(folder / "recipe.json", list(self.recipes))
        return wanted

    def save_pictures(self, folder: Path) -> list[Path]:
        """A PNG of each sample with its recipe inside, into a folder that is there; returns their paths. Not for points, which one plot shows."""
        paths = [folder / f"{name}.png" for name in _names(self.recipes)]
        for path, picture, recipe in zip(paths, self.pictures, self.recipes, strict=True):
            save_png(path, picture, recipe)
        return paths


def places(folder: Path, recipes: Sequence[dict[str, Any]], task: Task, *, need: int = 0, overwrite: bool = False) -> list[Path]:
    """The samples' files as `Samples.save` names them, which can be asked before anything is sampled. ``need``: bytes.

    Raises ``FileExistsError`` for one that is there unless ``overwrite``, what `files.check_writable` raises, and ``ImportError`` where what writes
    such samples is not installed.
    """
    task.ready()
    files.check_writable(folder, need=need)
    pictures = [folder / f"{n}.png" for n in _names(recipes)]
    wanted = pictures if task.suffix == ".png" else [folder / n for n in ("samples.npz", *task.listing)]
    wanted = wanted + pictures if task.beside else wanted
    for path in (*wanted, folder / "grid.png", folder / "recipe.json"):
        if path.is_dir() or (path.exists() and not overwrite):
            raise FileExistsError(f"{path} exists already; choose another --out" + ("" if path.is_dir() else " or pass --overwrite"))
    return wanted


def _names(recipes: Sequence[dict[str, Any]]) -> list[str]:
    """``seed-000005``, with the class where a seed stands more than once."""
    times = Counter(r["seed"] for r in recipes)
    names = [f"seed-{r['seed']:06d}" + (f"-class-{r.get('label', -1)}" if times[r["seed"]] > 1 else "") for r in recipes]
    taken = Counter(names)
    return [n if taken[n] == 1 else f"{n}-{i:04d}" for i, n in enumerate(names)]


def sheet_recipe(recipes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One recipe of all: what differs is listed."""
    return {**recipes[0], **{k: [r.get(k) for r in recipes] for k in ("seed", "label", "class")}}


def save_png(path: Path, picture: "Image", recipe: dict[str, Any], *, durable: bool = True) -> None:
    """A PNG with its recipe inside, written atomically; ``durable`` as in `studio.files.replacing`."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(KEY, to_json(recipe))
    with files.replacing(path, durable=durable) as draft:
        picture.save(draft, format="PNG", pnginfo=info)
