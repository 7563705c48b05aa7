"""What the page does, without the page: finds and keeps models, runs one job at a time, stops it, and saves
what it made."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from studio.checkpoints import find, plans
from studio.checkpoints.find import Card, list_models
from studio.jobs import limits, numbers
from studio.jobs.estimate import Estimate, estimate
from studio.jobs.index import Index
from studio.jobs.recipe import FILES, Recipe
from studio.jobs.result import Result
from studio.jobs.run import PREVIEW_EVERY, Run, Update
from studio.jobs.saving import fresh, saved
from studio.jobs.seen import free, given
from studio.jobs.uploads import SOURCES
from studio.model import catalog, lenders
from studio.model.loading import load
from studio.model.model import Model
from studio.model.work import known
from studio.runtime import files, signals
from studio.runtime.devices import DTYPE_NAMES, pick_device, pick_dtype
from studio.runtime.seeds import AT_ONCE, parse_seeds
from studio.sampling import Request
from studio.tasks.base import Task

KEEP_MODELS = 2
BATCH, POINTS_BATCH = 64, 1024  # samples computed at once; one solver step of them is how long Stop may take


class Engine:
    """``roots``: folders with models; ``out``: where pictures go; ``device`` and ``dtype`` as in
    `studio.load`."""

    def __init__(
        self,
        roots: Sequence[str | Path] = ("runs",),
        out: str | Path = "outputs",
        *,
        device: str = "auto",
        dtype: str = "auto",
    ):
        self.roots, self.out, self.device, self.dtype = (
            tuple(roots),
            Path(out).expanduser().resolve(),
            device,
            dtype,
        )
        self._models: OrderedDict[tuple[Any, ...], Model] = OrderedDict()
        self._loading = threading.RLock()  # a job samples while someone looks at what another made

    @cached_property
    def index(self) -> Index:
        """Of what was asked for and made; begun when it is first used."""
        return Index(self.out)

    def check(self) -> None:
        """Raises ``ValueError`` or ``OSError`` when the device, the number format or the output folder cannot
        be had."""
        pick_dtype(self.dtype, pick_device(self.device))
        files.check_writable(self.out)

    def place(self) -> str:
        """Device and number format in a few letters."""
        where = pick_device(self.device)
        return f"{where} · {DTYPE_NAMES[pick_dtype(self.dtype, where)]}"

    def shelf(self) -> dict[str, Card]:
        """All models by the text that finds them: bundled ones and those below the roots."""
        return {catalog.name_of(c): c for c in list_models(self.roots)}

    def card(self, name: str) -> Card:
        """Of a model of the shelf. Raises ``ValueError`` for any other, of which nothing is opened."""
        return find.card(self._listed(name))

    def _listed(self, name: str) -> str:
        """The name itself. Raises ``ValueError`` where it is none of the shelf's."""
        if not find.is_listed(name, self.roots):
            raise ValueError(
                f"got model {limits.brief(name)}, expected one that this page lists; start it with --models "
                "and the folder that holds it"
            )
        return name

    def cards(self) -> dict[str, Card]:
        """Models that start from noise."""
        return {name: c for name, c in self.shelf().items() if not c.starts_from}

    def bridges(self) -> dict[str, Card]:
        """Models that start from pictures."""
        return {name: c for name, c in self.shelf().items() if c.starts_from and catalog.one_file_each(c)}

    def model(self, name: str, *, weights: str = "auto", dtype: str = "auto") -> Model:
        """A loaded model; the two used last are kept. A checkpoint written since is loaded anew. Raises
        ``ValueError`` as `card` does, also for what its guidance borrows."""
        shown = self.card(name)
        key_name, path = catalog.weights_file(shown, weights)
        kind = self.dtype if dtype == "auto" else dtype
        key = (str(name), key_name, kind, path, path.stat().st_mtime_ns)
        with self._loading:
            return self._kept(key, name, weights, kind)

    def _kept(self, key: tuple[Any, ...], name: str, weights: str, kind: str) -> Model:
        if key not in self._models:
            while len(self._models) >= KEEP_MODELS:
                self._models.popitem(last=False)
            model = load(name, weights=weights, device=self.device, dtype=kind)
            self._models[key] = replace(model, loader=self._lent)
        self._models.move_to_end(key)
        return self._models[key]

    def holds(self, name: str) -> bool:
        """Whether a model is loaded, whichever of its weights."""
        return any(key[0] == str(name) for key in list(self._models))

    def _lent(self, name: str, **options: Any) -> Model:
        """A model that guidance borrows."""
        self.card(name)
        return load(name, **options)

    def begin(self, recipe: Recipe, folder: Path | None = None) -> Run:
        """A run, checked, in a folder of its own, or the one where it was begun before. Raises ``ValueError``
        or ``OSError`` for what cannot be done, before anything is written."""
        recipe.check()
        self.check_lent(recipe.model, recipe.guidance or "")
        files.check_writable(self.out)
        first = not self.holds(recipe.model)
        model, request, start = self.asked(recipe, folder)
        if folder is None or (folder / "recipe.json").exists():  # what is saved is not written over
            folder = self.fresh(model.config.name)
        return Run(model, request, folder, {k: str(path) for k, path in start.items()}, first)

    def asked(self, recipe: Recipe, folder: Path | None) -> tuple[Model, Request, dict[str, Path]]:
        """The model of a run, what it is asked, and the pictures that it is asked by, which lie in the
        ``folder`` of the job. Raises ``ValueError`` for what cannot be done."""
        model = self.model(recipe.model, weights=recipe.weights, dtype=recipe.dtype)
        model = model.planned(recipe.plan or plans.NONE)
        start: dict[str, Any] = self.start(recipe, folder)
        request, _ = model.request(
            **recipe.options(model.classes, [f.name for f in model.info.fields]),
            **start,
            files=False,
            batch=batch_of(model.task),
        )
        return model, request, start

    def start(self, recipe: Recipe, folder: Path | None) -> dict[str, Path]:
        """What a run starts from, of the model's size, as it lies with the uploads of a job's ``folder``: a
        start and its mask, or what is known of samples; nothing where none was asked for. Raises
        ``ValueError`` for what cannot be one, or is not there."""
        named = {name: found for name in FILES if (found := getattr(recipe, name))}
        if not named:
            return {}
        if folder is None:
            first = limits.brief(next(iter(named.values())))
            raise ValueError(
                f"this run starts from the file {first}, which was not given with it; a recipe holds "
                "no pixels and no numbers: give it again"
            )
        shown, files = self.card(recipe.model), {k: folder / SOURCES / file for k, file in named.items()}
        if not catalog.takes_numbers(shown):
            raise ValueError(f"{shown.name} cannot start from a file; leave it out, or pick another model")
        if recipe.given:
            numbers.known(shown, files["known"], files["given"], len(parse_seeds(recipe.seeds, most=AT_ONCE)))
            return files
        found = {"init": given(shown, files["init"])}
        return found | ({"mask": free(shown, files["mask"])} if recipe.mask else {})

    def estimate(self, recipe: Recipe) -> Estimate:
        """What a run will take, by what earlier ones took. Raises ``ValueError`` as `begin`; opens no
        weights."""
        self._listed(recipe.model)
        return estimate(
            recipe,
            self.index,
            device=self.device,
            dtype=self.dtype,
            batch=batch_of,
            lent=lambda name: known(self._listed(name)),
            first=not self.holds(recipe.model),
        )

    def check_lent(self, model: str, guidance: str) -> None:
        """Raises ``ValueError`` for guidance by a model that does not fit, or that the page does not list."""
        lenders.check_lent(self._listed(model), guidance, lambda name: known(self._listed(name)))

    def run(
        self,
        recipe: Recipe,
        stop: threading.Event | None = None,
        *,
        preview: bool = True,
        every: float = PREVIEW_EVERY,
    ) -> Iterator[Update | Result]:
        """`begin` and `follow` at once."""
        yield from self.follow(self.begin(recipe), stop, preview=lambda: preview, every=every)

    def follow(
        self,
        run: Run,
        stop: threading.Event | None = None,
        *,
        preview: Callable[[], bool] = lambda: True,
        every: float = PREVIEW_EVERY,
        kept: Callable[[int], Any] = lambda count: None,
        left: Callable[[], bool] = lambda: False,
    ) -> Iterator[Update | Result]:
        """Sample and save: updates at most once in ``every`` seconds, then one `Result`.

        Samples that were finished are saved however the run ends: stopped by ``stop`` it gives them as its
        `Result` (`studio.runtime.signals.Stopped` is raised where there are none, or where ``left`` says that
        another process will go on), and an error says where they lie.
        """
        try:
            yield from run.updates(stop or threading.Event(), preview=preview, every=every, kept=kept)
            made = saved(run)
            assert made is not None
        except signals.Stopped as stopped:
            if left() or (kept_ := saved(run)) is None:
                raise
            how = str(stopped).partition(";")[0]
            made = replace(kept_, stopped=f"{how}; {_finished(kept_)}")
        except GeneratorExit:  # whoever asked has gone
            saved(run)
            raise
        except OSError as error:  # a full disk: what is safe stays where it is
            raise _left(run, error) from error
        except (ValueError, RuntimeError) as error:
            if (kept_ := saved(run)) is None:
                raise
            raise ValueError(f"{error}; {_finished(kept_)}") from error
        finally:
            with contextlib.suppress(OSError):
                run.folder.rmdir()  # nothing came of it
        yield made

    def fresh(self, name: str) -> Path:
        """A new folder for a run, below ``out``."""
        return fresh(self.out, name)


def batch_of(task: Task) -> int:
    """Samples that are computed at once."""
    return POINTS_BATCH if task.together else BATCH


def _left(run: Run, error: OSError) -> Exception:
    """The error, and where the finished micro-batches lie."""
    count = len(run.parts.read())
    where = f"; {count} of {len(run.values)} samples are kept in {run.parts.folder}" if count else ""
    return OSError(f"cannot save to {run.folder}: {error.strerror or error}{where}; make room and ask again")


def _finished(kept: Result) -> str:
    return f"the {len(kept.recipes)} finished of {kept.asked} are saved in {kept.folder}"
