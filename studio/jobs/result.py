"""What a job made, as files, and as the index remembers it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.jobs.records import Item, Job
from studio.runtime.recipes import read_recipe


@dataclass(frozen=True)
class Result:
    """A run on disk. ``pictures`` are what to look at (for points the one plot), ``files`` what was saved,
    ``recipes`` one per sample; ``asked`` how many samples the run was to have, and ``stopped`` how it ended
    before it had them; ``note``: that no plan belonged to it, where one was asked for by ``auto``;
    ``failed``: pictures that could not be translated, and why; ``views``: name, file and form of further ways
    to look at it (`studio.jobs.views`); ``each``: seconds a sample, 0 where that was not seen, and the
    ``place`` where it took them (`studio.jobs.estimate.place`); ``first``: the model was loaded for it."""

    folder: Path
    pictures: tuple[Path, ...]
    files: tuple[Path, ...]
    sheet: Path
    recipes: tuple[dict[str, Any], ...]
    evaluations: int
    seconds: float
    asked: int
    stopped: str = ""
    note: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)
    views: tuple[Mapping[str, str], ...] = ()
    each: float = 0.0
    place: str = ""
    first: bool = False

    def told(self) -> dict[str, Any]:
        """All but the recipes, which lie in the folder; files by their names."""
        return {
            "pictures": [p.name for p in self.pictures],
            "files": [p.name for p in self.files],
            "sheet": self.sheet.name,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "asked": self.asked,
            "stopped": self.stopped,
            "note": self.note,
            "failed": dict(self.failed),
            "views": [*map(dict, self.views)],
            "each": self.each,
            "place": self.place,
            "first": self.first,
        }

    @classmethod
    def read(cls, folder: Path, told: Mapping[str, Any]) -> "Result":
        """Of what `told` gave. Raises ``ValueError`` where its files are gone."""
        named: dict[str, Any] = {k: tuple(folder / n for n in told[k]) for k in ("pictures", "files")}
        named |= {"sheet": folder / told["sheet"], "views": tuple(told.get("views", ()))}
        try:
            if (folder / "recipe.json").exists():
                recipes = tuple(json.loads((folder / "recipe.json").read_text()))
            else:
                recipes = tuple(map(read_recipe, named["pictures"]))
        except (OSError, ValueError):
            raise ValueError(f"{folder} was moved or deleted; what it held can be made again") from None
        return cls(folder=folder, recipes=recipes, **{**told, **named})

    def items(self, job: Job, task: str) -> list[Item]:
        """What a library lists: each picture, or the one drawing of all samples."""
        alone = len(self.pictures) == len(self.recipes)
        recipes = self.recipes if alone else self.recipes[:1]
        return [
            Item(
                id=f"{job.id}/{k:06d}",
                job=job.id,
                file=f"{self.folder.name}/{path.name}",
                task=task,
                model=str(recipe.get("model", job.model)),
                label=str(recipe.get("class", "")) if alone else "",
                seed=recipe.get("seed") if alone else None,
                created=job.created,
            )
            for k, (path, recipe) in enumerate(zip(self.pictures, recipes))
        ]
