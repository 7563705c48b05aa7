"""The jobs of a page: asked for, found again, and done, from what was asked for to files and the index's
items."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from studio.generation.translate import SHEET, translate
from studio.jobs import estimate, limits
from studio.jobs.queue import Live, Queue
from studio.jobs.recipe import FILES, Recipe
from studio.jobs.records import Job
from studio.jobs.result import Result
from studio.jobs.run import Update
from studio.jobs.seen import fitted
from studio.jobs.translation import Translation
from studio.jobs.uploads import SOURCES, copied, forget
from studio.jobs.views import file_of
from studio.runtime.recipes import read_recipe
from studio.runtime.signals import Stopped
from ui.engine import Engine


class Jobs:
    """The queue over an engine; what is asked for goes into its index."""

    def __init__(self, engine: Engine):
        self.engine = engine

    @cached_property
    def queue(self) -> Queue:
        """Begun when the first job is asked for."""
        work = {kind: partial(work, self.engine) for kind, work in WORK.items()}
        return Queue(self.engine.index, work, partial(unused, self.engine))

    def sample(
        self,
        asked: Recipe,
        owner: str,
        init: str | None = None,
        mask: str | None = None,
        known: str | None = None,
        given: str | None = None,
    ) -> str:
        """A run in the line for the device; the job's id. Files to start from and of what may change, or of
        which entries are known and their values, of which copies are kept with what is made. Raises
        ``ValueError`` for what no model could do, and for a recipe that names a file which is not given."""
        sent = {"init": init, "mask": mask, "known": known, "given": given}
        sent = {name: file for name, file in sent.items() if file}
        if not sent:
            asked.check()
            self.engine.start(asked, None)
            return self.queue.submit("sample", asked.model, vars(asked), owner)
        once = list(dict.fromkeys(sent.values()))
        with self._kept(asked.model, once) as (folder, names):
            named = dict(zip(once, names))
            given_here = {name: named[sent[name]] if name in sent else None for name in FILES}
            asked = replace(asked, **cast(dict[str, Any], given_here))
            asked.check()
            self.engine.start(asked, folder)  # what is no picture is refused now
            return self.queue.submit("sample", asked.model, vars(asked), owner, folder=folder.name)

    def translate(self, asked: Translation, uploads: Sequence[str], mask: str | None, owner: str) -> str:
        """The same for pictures, of which copies are kept with what is made of them."""
        with self._kept("translate", [*uploads, mask]) as (folder, names):
            sources = tuple(names[: len(uploads)])
            asked = replace(asked, sources=sources, mask=names[-1] if mask else None)
            asked.check()
            return self.queue.submit("translate", asked.bridge, vars(asked), owner, folder=folder.name)

    @contextmanager
    def _kept(self, name: str, uploads: Sequence[str | None]) -> Iterator[tuple[Path, list[str]]]:
        """A new folder with copies of the uploads, and their names there; gone where asking fails."""
        folder = self.engine.fresh(Path(name).name)
        try:
            copies = copied([u for u in uploads if u], folder / SOURCES, taken=[SHEET])
            yield folder, [p.name for p in copies]
        except BaseException:
            shutil.rmtree(folder)
            raise

    def known(self, job: str) -> Job:
        """What the index has of a job. Raises ``ValueError`` for one that is not there."""
        if (found := self.engine.index.job(job) if job else None) is None:
            raise ValueError(f"got job {limits.brief(job)}, which is not known here")
        return found

    def line(self) -> list[Live]:
        """Unfinished jobs, the one that is being done first."""
        return self.queue.line() if "queue" in vars(self) else []

    def stop_first(self, mine: str) -> str:
        """Stop one's own job where it is unfinished, else the one that is being done."""
        line = self.line()
        own = [live.job.id for live in line if live.job.id == mine] or [live.job.id for live in line[:1]]
        return self.queue.stop(own[0]) if own else ""

    def stop_soon(self, owner: str, wait: float) -> str:
        """Stop the owner's jobs, also one that was asked for a moment ago: waits so many seconds for it to be
        there. See `Queue.stop_all`."""
        until = time.monotonic() + wait
        while not (words := self.queue.stop_all(owner)) and time.monotonic() < until:
            time.sleep(0.05)
        return words

    def result(self, job: str) -> Result:
        """What a job made that has ended. Raises ``ValueError`` for one that made nothing, or is not
        there."""
        found = self.engine.index.job(job)
        if found is None or not found.told:
            why = "there is none" if found is None else found.words or f"it is {found.state}"
            raise ValueError(f"got job {limits.brief(job)}, expected one that has made something: {why}")
        return Result.read(self.engine.out / found.folder, found.told)

    def view(self, job: str, result: Result, place: int) -> Path:
        """The file of a view of what a job made, drawn where it is not there yet. Raises ``ValueError`` where
        it cannot be drawn any more."""
        spec = self.known(job).spec
        return file_of(result, place, lambda: self.engine.asked(Recipe.parse(spec), result.folder)[:2])


# ---- what does a job, by its kind


def sample(engine: Engine, live: Live) -> None:
    """A run of a `Recipe`; what an earlier process has finished of it stays."""
    begun = engine.out / live.job.folder if live.job.folder else None
    live.tell(f"Loading {Path(live.job.model).name} …")
    try:
        run = engine.begin(Recipe.parse(live.job.spec), begun)
        live.say(folder=run.folder.name, total=len(run.values), done=run.finished)
        for news in engine.follow(
            run,
            live.flag,
            preview=lambda: live.watchers > 0,
            kept=lambda count: live.say(done=count),
            left=lambda: live.left,
        ):
            if isinstance(news, Result):
                _made(engine, live, news, run.model.task.name)
            else:
                live.tell(news)
    except (ValueError, Stopped):
        if not live.left:
            unused(engine, live.job)
        raise


def bridge(engine: Engine, live: Live) -> None:
    """A `Translation` of the pictures that lie in the job's folder; those that are translated stay."""
    asked, folder = Translation.parse(live.job.spec), engine.out / live.job.folder
    sources = [folder / SOURCES / name for name in asked.sources]
    live.say(total=len(sources))
    live.tell(f"Loading {Path(live.job.model).name} …")
    began = took = each = 0.0
    where = ""

    def step(progress: Any) -> bool:
        nonlocal began, took
        began = began or time.perf_counter()
        took = time.perf_counter() - began
        live.tell(Update(progress.done, progress.total, progress.step.evaluations, took))
        return not live.flag.is_set()

    stopped, failed, first = "", {}, not engine.holds(asked.bridge)
    try:
        model = engine.model(asked.bridge)
        mask = None if asked.mask is None else folder / SOURCES / asked.mask
        done = translate(
            model,
            sources,
            folder,
            num_steps=asked.num_steps or None,
            sampler=asked.sampler or None,
            seed=asked.seed,
            resize=asked.resize,
            direction=asked.direction,
            label=asked.label,
            mask=mask and fitted(mask, model.sample_shape[1:]) if asked.resize else mask,
            on_step=step,
        )
        place = f"{folder / SOURCES}{os.sep}"  # known already, and in the way of reading
        failed = {Path(k).name: why.replace(place, "") for k, why in done.failed.items()}
        files = tuple(p for p in sorted({*done.written, *done.kept}, key=_order(sources)))
        each = took / max(1, len(done.written))
        where = estimate.place(model.device, model.denoiser.dtype)
    except ValueError:
        unused(engine, live.job)
        raise
    except Stopped:
        files = tuple(sorted(_translated(folder), key=_order(sources)))
        if not live.left:
            unused(engine, live.job)
        if not files or live.left:
            raise Stopped("Stopped; nothing was translated") from None
        stopped = f"Stopped; the {len(files)} translated of {len(sources)} are in {folder}"
    recipes = tuple(map(read_recipe, files))
    made = Result(
        folder,
        files,
        files,
        folder / SHEET,
        recipes,
        0,
        0.0,
        len(sources),
        stopped,
        failed=failed,
        each=each,
        place=where,
        first=first,
    )
    _made(engine, live, made, model.task.name)


def unused(engine: Engine, job: Job) -> None:
    """Of a job that made nothing the copies of its pictures go too."""
    forget(engine.out, job, SHEET)


def _translated(folder: Path) -> list[Path]:
    return [p for p in folder.glob("*.png") if p.name != SHEET]


def _order(sources: list[Path]) -> Callable[[Path], int]:
    """In the order of their sources."""
    places = {source.stem: k for k, source in enumerate(sources)}
    return lambda path: places.get(path.stem, len(places))


def _made(engine: Engine, live: Live, result: Result, task: str) -> None:
    engine.index.keep(result.items(live.job, task))
    live.tell(result, words=result.stopped, told=result.told(), done=len(result.recipes))


WORK: dict[str, Callable[[Engine, Live], None]] = {"sample": sample, "translate": bridge}
