"""What is finished of a run, on disk: its files, its drawings and what the index is to say of it."""

import re
from datetime import datetime
from pathlib import Path

from studio.checkpoints import plans
from studio.jobs.estimate import place
from studio.jobs.result import Result
from studio.jobs.run import Run
from studio.model.checked_request import run_of


def saved(run: Run) -> Result | None:
    """What is finished of a run, on disk."""
    model, samples = run.model, run.samples()
    if samples is None:
        return None
    written = tuple(samples.save(run.folder, overwrite=True))
    sheet = run.folder / "grid.png"
    pictures = (
        (sheet,)
        if model.task.together
        else written
        if model.task.one_each
        else tuple(samples.save_pictures(run.folder))
    )
    run.parts.remove()
    return Result(
        run.folder,
        pictures,
        tuple(dict.fromkeys([*written, *pictures, sheet])),
        sheet,
        samples.recipes,
        run.evaluations,
        samples.seconds,
        len(run.request.seeds),
        note=_without(run),
        views=tuple(
            {"name": v.name, "file": v.file, "form": v.form} for v in model.task.views(model.sample_shape)
        ),
        each=samples.seconds / max(1, run.finished - run.before),
        place=place(model.device, model.denoiser.dtype),
        first=run.first,
    )


def _without(run: Run) -> str:
    """What ``auto`` fell back to, "" where it found a plan or was not asked."""
    model, request = run.model, run.request
    if model.plan != plans.AUTO or request.plan is not None:
        return ""
    return plans.chosen(model.plan, run_of(model, request), model.folder, model.name)[1]


def fresh(out: Path, name: str) -> Path:
    """A new folder ``<date-time>-<name>`` below ``out``; a number is added where the second was used
    before."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{slug}"
    out.mkdir(parents=True, exist_ok=True)
    for count in range(1, 1000):
        folder = out / (stem if count == 1 else f"{stem}-{count}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{out / stem} and 998 more exist already; choose another --out")
