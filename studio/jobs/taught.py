"""What a run of a command took, told to the index of the folder of outputs: the page's estimates go by it."""

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from studio.checkpoints.find import card
from studio.jobs.artefacts import indexed, outputs_of
from studio.jobs.estimate import place
from studio.jobs.index import Index
from studio.jobs.pace import COMMAND
from studio.jobs.recipe import Recipe, from_recipe
from studio.jobs.records import Job
from studio.model import catalog
from studio.model.model import Model
from studio.runtime.seeds import seeds_text
from studio.sampling.samples import Samples

APART = ("path", "attention")  # of a recipe: what makes it a run of another pace


def teach(out: str | Path, model: Model, name: str, samples: Samples, batch: int) -> None:
    """Tell of ``samples`` of a model that were made by its ``name``, ``batch`` at once, and written to
    ``out``. Nothing where the folder of outputs has no index and ``out`` does not lie in it, nor where the
    index cannot be had: what was made is safe, and estimates stay guesses."""
    with contextlib.suppress(ValueError, OSError, sqlite3.Error):
        home = outputs_of(out)
        if not indexed(home) and home.resolve() not in Path(out).resolve().parents:
            return
        if (asked := _asked(name, samples.recipes[0])) is None:
            return
        count = len(samples.recipes)
        spec = replace(asked, seeds=seeds_text([recipe["seed"] for recipe in samples.recipes]))
        job = Job(
            id=f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
            kind=COMMAND,
            model=spec.model,
            spec=vars(spec),
            created=time.time(),
            state="done",
            done=count,
            total=count,
            told={
                "each": samples.seconds / count,
                "batch": batch,
                "first": True,
                "place": place(model.device, model.denoiser.dtype),
            },
        )
        index = Index(home)
        index.add(job)


def _asked(name: str, recipe: Mapping[str, Any]) -> Recipe | None:
    """How a run sampled, of a model by the name that a page on this machine finds; None for a run of another
    pace than the page's. Raises ``ValueError`` for a recipe that says less than all."""
    if any(recipe.get(key) for key in APART):
        return None
    found = catalog.name_of(card(name))
    here = Path(found)
    return from_recipe(recipe, str(here.resolve()) if here.is_dir() else found)
