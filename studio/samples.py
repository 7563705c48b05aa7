"""What sampling returns: values, pictures, and the recipe that makes each of them again.

Every PNG carries its recipe as JSON in the tEXt chunk ``drift-studio``.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from studio import files
from studio.tasks.base import Task

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "drift-studio"


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
        files.check_writable(folder, need=self.values.numel() * 2)
        names = _names(self.recipes)
        suffix = self.task.suffix
        wanted = [folder / f"{n}.png" for n in names] if suffix == ".png" else [folder / n for n in ("samples.npz", *self.task.listing)]
        taken = [p for p in (*wanted, folder / "grid.png") if p.exists()]
        if taken and not overwrite:
            raise FileExistsError(f"{taken[0]} exists already; choose another --out or pass --overwrite")
        folder.mkdir(parents=True, exist_ok=True)
        if suffix == ".png":
            self.save_pictures(folder)
        else:
            import numpy as np

            np.savez(wanted[0], arr_0=self.values.numpy(), seeds=np.array([r["seed"] for r in self.recipes]), **self.task.legend)
            self.task.write(folder, self.values, self.recipes)
        several = {k: [r.get(k) for r in self.recipes] for k in ("seed", "label", "class")}
        save_png(folder / "grid.png", self.grid(), {**self.recipes[0], **several})
        files.write_json(folder / "recipe.json", list(self.recipes))
        return wanted

    def save_pictures(self, folder: Path) -> list[Path]:
        """A PNG of each sample with its recipe inside, into a folder that is there; returns their paths. Not for points, which one plot shows."""
        paths = [folder / f"{name}.png" for name in _names(self.recipes)]
        for path, picture, recipe in zip(paths, self.pictures, self.recipes, strict=True):
            save_png(path, picture, recipe)
        return paths


def _names(recipes: Sequence[dict[str, Any]]) -> list[str]:
    """``seed-000005``, with the class where a seed stands more than once."""
    seeds = [r["seed"] for r in recipes]
    names = [f"seed-{s:06d}" if seeds.count(s) == 1 else f"seed-{s:06d}-class-{r.get('label', -1)}" for s, r in zip(seeds, recipes)]
    return [n if names.count(n) == 1 else f"{n}-{i:04d}" for i, n in enumerate(names)]


def save_png(path: Path, picture: "Image", recipe: dict[str, Any]) -> None:
    """A PNG with its recipe inside, written atomically."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(KEY, json.dumps(recipe))
    with files.replacing(path) as draft:
        picture.save(draft, format="PNG", pnginfo=info)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe inside a PNG. Raises ``ValueError`` for a file that has none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            text = picture.info.get(KEY)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not a readable picture ({error})") from None
    if text is None:
        raise ValueError(f"{path} carries no recipe of this studio; it was made elsewhere, or its text was stripped by another program")
    try:
        recipe = json.loads(text)
    except ValueError:
        raise ValueError(f"{path} carries a damaged recipe") from None
    return recipe


def command_of(recipe: dict[str, Any]) -> str:
    """The command that makes the sample of a recipe again."""

    def listed(key: str) -> list[Any]:
        value = recipe.get(key)
        return value if isinstance(value, list) else [value]

    if recipe.get("source"):
        return (
            f"studio translate {shlex.quote(recipe['model'])} {shlex.quote(recipe['source'])} --out again --seed {recipe['seed_base']} "
            f"--num-steps {recipe['num_steps']} --sampler '{recipe['sampler']}' --direction {recipe['direction']} --weights {recipe['weights']} "
            f"--dtype {recipe['dtype']}" + (f" --mask {shlex.quote(recipe['mask'])}" if recipe.get("mask") else "")
        )
    parts = [f"studio sample {shlex.quote(recipe['model'])} --out again --seeds {','.join(map(str, listed('seed')))}"]
    labels, names = listed("label"), listed("class")
    if any(label is not None for label in labels):
        by_name = all(isinstance(n, str) and "," not in n for n in names)  # a number could be another class's name
        numbers = ["none" if label == -1 else str(label) for label in labels]
        parts.append(f"--labels {shlex.quote(','.join(names if by_name else numbers))}")
    parts += [f"--set {shlex.quote(f'{k}={v}')}" for k, v in recipe.get("conditions", {}).items()]
    parts += [f"--num-steps {recipe['num_steps']}", f"--sampler '{recipe['sampler']}'", f"--guidance '{recipe['guidance']}'"]
    parts += [f"--weights {recipe['weights']}", f"--dtype {recipe['dtype']}"]
    if recipe.get("init"):
        parts.append(f"--init {shlex.quote(recipe['init'])} --strength {recipe['strength']}")
    if recipe.get("mask"):
        parts.append(f"--mask {shlex.quote(recipe['mask'])}")
    if isinstance(recipe.get("path"), str):
        parts.append(f"--path {recipe['path']}")
    if recipe.get("deterministic"):
        parts.append("--deterministic")
    return " ".join(parts)
