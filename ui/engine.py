"""What the page does, without the page: finds and keeps models, runs one job at a time, stops it, saves what it made, and restores recipes."""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidance.grammar import CUSTOM
from studio import catalog, files, sampling
from studio.devices import DTYPE_NAMES, pick_device, pick_dtype
from studio.model import Model, load
from studio.recipes import command_of, read_recipe, sampler_text, told
from studio.shelf import Card, card, list_models
from ui.settings import Settings, from_recipe, renamed, shortened

if TYPE_CHECKING:
    from PIL.Image import Image

KEEP_MODELS = 2
PREVIEW_EVERY = 0.25  # seconds between updates, at least
PREVIEW_SHARE = 5  # a preview waits this many times its own cost, so that looking stays below a fifth of the work
PREVIEW_WAIT = 2.0  # but never longer than this, in seconds
PREVIEW_ROWS = 40
BATCH, POINTS_BATCH = 64, 1024  # samples computed at once; one solver step of them is how long Stop may take


@dataclass(frozen=True)
class Update:
    """A run on its way: ``done`` of ``total`` steps, network ``evaluations`` and ``seconds`` so far; ``preview`` is None between pictures."""

    done: int
    total: int
    evaluations: int
    seconds: float
    preview: "Image | None" = None


@dataclass(frozen=True)
class Result:
    """A finished run on disk. ``pictures`` are what to look at (for points the one plot), ``files`` what was saved, ``recipes`` one per sample."""

    folder: Path
    pictures: tuple[Path, ...]
    files: tuple[Path, ...]
    sheet: Path
    recipes: tuple[dict[str, Any], ...]
    evaluations: int
    seconds: float


class Job:
    """A browser session's run: ``flag`` asks it to stop, ``ended`` is set when it has, ``words`` say how."""

    def __init__(self) -> None:
        self.flag, self.ended, self.words = threading.Event(), threading.Event(), "Stopped; nothing was saved"


@dataclass(frozen=True)
class Restored:
    """Control values of a picture's recipe; ``notes`` say in plain words what will differ."""

    settings: Settings
    recipe: dict[str, Any]
    notes: tuple[str, ...] = ()


class Engine:
    """``roots``: folders with models; ``out``: where pictures go; ``device`` and ``dtype`` as in `studio.load`."""

    def __init__(self, roots: Sequence[str | Path] = ("runs",), out: str | Path = "outputs", *, device: str = "auto", dtype: str = "auto"):
        self.roots, self.out, self.device, self.dtype = tuple(roots), Path(out).expanduser().resolve(), device, dtype
        self._models: OrderedDict[tuple[Any, ...], Model] = OrderedDict()
        self._jobs: dict[str, Job] = {}
        self._busy = threading.Lock()

    def check(self) -> None:
        """Raises ``ValueError`` or ``OSError`` when the device, the number format or the output folder cannot be had."""
        pick_dtype(self.dtype, pick_device(self.device))
        files.check_writable(self.out)

    def place(self) -> str:
        """Device and number format in a few letters."""
        where = pick_device(self.device)
        return f"{where} · {DTYPE_NAMES[pick_dtype(self.dtype, where)]}"

    def cards(self) -> dict[str, Card]:
        """Models that start from noise, by the text that finds them: bundled ones and those below the roots."""
        return {catalog.name_of(c): c for c in list_models(self.roots) if not c.starts_from}

    def bridges(self) -> dict[str, Card]:
        """Models that start from pictures."""
        return {catalog.name_of(c): c for c in list_models(self.roots) if c.starts_from and catalog.one_file_each(c)}

    def model(self, name: str, *, weights: str = "auto", dtype: str = "auto") -> Model:
        """A loaded model; the two used last are kept. A checkpoint written since is loaded anew."""
        shown = card(name)
        key_name, path = catalog.weights_file(shown, weights)
        kind = self.dtype if dtype == "auto" else dtype
        key = (str(name), key_name, kind, path, path.stat().st_mtime_ns)
        if key not in self._models:
            while len(self._models) >= KEEP_MODELS:
                self._models.popitem(last=False)
            self._models[key] = load(name, weights=weights, device=self.device, dtype=kind)
        self._models.move_to_end(key)
        return self._models[key]

    @contextmanager
    def job(self, owner: str) -> Iterator[Job]:
        """A running job of a browser session, with the flag that `stop` raises; waits until the job before has ended."""
        job = Job()
        with self._busy:
            self._jobs[owner] = job
            try:
                yield job
            except sampling.Stopped as stopped:
                job.words = str(stopped)
                raise
            finally:
                self._jobs.pop(owner, None)
                job.ended.set()

    def stop(self, owner: str, *, wait: float = 0.0) -> str:
        """Ask the owner's job to stop after the solver step it is in, and wait so many seconds for it; how it ended, or "" when there is none."""
        job = self._jobs.get(owner)
        if job is None:
            return ""
        job.flag.set()
        return job.words if job.ended.wait(wait) else "Stopping after this step; nothing will be saved"

    def run(
        self, settings: Settings, stop: threading.Event | None = None, *, preview: bool = True, every: float = PREVIEW_EVERY
    ) -> Iterator[Update | Result]:
        """Sample and save: updates at most once in ``every`` seconds, then one `Result`.

        Raises ``ValueError`` or ``OSError`` for what cannot be done and `studio.sampling.Stopped` when ``stop`` is set; nothing is saved then.
        """
        stop = stop or threading.Event()
        files.check_writable(self.out)
        model = self.model(settings.model, weights=settings.weights, dtype=settings.dtype)
        request, _ = model.request(**settings.options(model.classes), batch=POINTS_BATCH if model.task.together else BATCH)
        started = time.perf_counter()
        values: list[Any] = [None] * len(request.seeds)
        last: sampling.Progress | None = None
        evaluations, due = 0, 0.0
        _halt(stop, last)
        with closing(model.stream(request)) as steps:
            for progress in steps:
                if last is not None and progress.rows != last.rows:
                    sampling.collect(values, last, model.codec)
                    evaluations += last.step.evaluations
                last, now = progress, time.perf_counter() - started
                _halt(stop, last)
                if now < due or progress.done == progress.total:
                    continue
                picture = _preview(model, progress) if preview else None
                cost = time.perf_counter() - started - now
                due = now + (max(every, min(PREVIEW_SHARE * cost, PREVIEW_WAIT)) if every else 0)
                yield Update(progress.done, progress.total, evaluations + progress.step.evaluations, now, picture)
                _halt(stop, last)
        assert last is not None
        sampling.collect(values, last, model.codec)
        yield self._saved(model, model.gathered(request, values, time.perf_counter() - started), evaluations + last.step.evaluations)

    def _saved(self, model: Model, samples: Any, evaluations: int) -> Result:
        folder = self._fresh(model.config.name)
        written = tuple(samples.save(folder))
        sheet = folder / "grid.png"
        pictures = (sheet,) if model.task.together else written if model.task.suffix == ".png" else tuple(samples.save_pictures(folder))
        return Result(folder, pictures, tuple(dict.fromkeys([*written, *pictures, sheet])), sheet, samples.recipes, evaluations, samples.seconds)

    def _fresh(self, name: str) -> Path:
        """A new folder ``<date-time>-<model>`` below ``out``; a number is added where the second was used before."""
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
        stem = f"{datetime.now():%Y%m%d-%H%M%S}-{slug}"
        self.out.mkdir(parents=True, exist_ok=True)
        for count in range(1, 1000):
            folder = self.out / (stem if count == 1 else f"{stem}-{count}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
        raise FileExistsError(f"{self.out / stem} and 998 more exist already; choose another --out")

    def recipe(self, path: str | Path) -> dict[str, Any]:
        """The recipe in a PNG. Raises ``ValueError`` when it has none, with the file's name instead of where the browser's copy lies."""
        try:
            recipe = read_recipe(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), Path(path).name)) from None
        if "model" not in recipe:
            raise ValueError(f"{Path(path).name} carries a recipe that names no model; it is damaged")
        return recipe

    def explain(self, path: str | Path) -> tuple[dict[str, Any], str]:
        """A PNG's recipe with long lists in short, and the command that makes its samples again, or why there is none."""
        recipe = self.recipe(path)
        try:
            classes = len(self._model_of(recipe)[1].classes)
        except ValueError:
            classes = 0
        brief = shortened(recipe, classes)
        own = isinstance(recipe.get("seed"), list) and "label" not in brief  # each seed its own, which is what no --labels means
        asked = {k: v for k, v in recipe.items() if k not in ("label", "class")} if own else recipe
        try:
            return brief, told(lambda: command_of(asked))
        except ValueError as error:
            raise ValueError(f"{Path(path).name} cannot be made again: {error}") from None

    def restore(self, path: str | Path) -> Restored:
        """Control values from a PNG. Raises ``ValueError`` when it has no recipe or its model is not here."""
        recipe = self.recipe(path)
        name, shown, notes = self._model_of(recipe)
        settings = from_recipe({**recipe, "sampler": sampler_text(recipe, catalog.fit_of(shown))}, name, shown.classes)
        notes += renamed(recipe, shown.classes)
        digest = str(recipe.get("model_hash", ""))
        if settings.weights not in shown.weights:
            notes.append(f"The model has no weights {settings.weights!r} any more; it has {', '.join(shown.weights)}.")
        elif catalog.weights_hash(shown, settings.weights) != digest:
            notes.append(f"The weights of {name} differ from those that made this picture ({digest}): the same settings will give another picture.")
        if recipe.get("init"):
            notes.append("This picture was started from another picture, which the page cannot give; use the command below.")
        if recipe.get("path"):
            notes.append("This picture was sampled on another path than the model's own, which the page cannot give; use the command below.")
        if recipe["guidance"] == CUSTOM:
            notes.append("This picture was guided by rules given as objects in Python, which the page cannot give; guidance was left out.")
        return Restored(settings, recipe, tuple(notes))

    def _model_of(self, recipe: dict[str, Any]) -> tuple[str, Card, list[str]]:
        """The recipe's model by name, at its step; failing that, a model here with the same weights."""
        name, known = str(recipe["model"]), self.cards()
        plain, _, step = name.partition("@")
        if plain in known and step in ("", str(known[plain].step)):
            return plain, known[plain], []
        error = None
        if not name.startswith("hf:"):  # a dropped file must not start a download
            try:
                return name, card(name), []
            except (ValueError, OSError) as failed:
                error = failed
        same = catalog.find_by_hash(str(recipe.get("model_hash", "")), known.values())
        if same is not None:
            found = catalog.name_of(same)
            return found, same, [f"{name} is not here, but {found} has the same weights and was chosen instead."]
        if plain in known:  # its step is gone; the difference in weights will be said
            return plain, known[plain], []
        hint = (
            "type it into the model field to fetch it, then drop the picture again"
            if error is None
            else "start the page with --models and the folder that holds it"
        )
        raise ValueError(f"the model {name} that made this picture is not here; {hint}")


def _halt(stop: threading.Event, last: sampling.Progress | None) -> None:
    if stop.is_set():
        raise sampling.Stopped(
            "Stopped before the first step" if last is None else f"Stopped after step {last.done} of {last.total}; nothing was saved"
        )


def columns_for(count: int) -> int:
    """Pictures side by side: five up to twenty, then eight."""
    return min(5 if count <= 20 else 8, max(1, count))


def _preview(model: Model, progress: sampling.Progress) -> "Image":
    """The data as seen from this step, as a contact sheet of the micro-batch."""
    values = model.codec.decode(progress.step.data_hat).cpu()
    real = [k for k, row in enumerate(progress.rows) if row is not None]
    if model.task.together:
        return model.task.sheet(values[real])
    shown = real[:PREVIEW_ROWS]
    return model.task.sheet(values[shown], columns=columns_for(len(shown)))
