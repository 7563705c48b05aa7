"""`studio generate`: list what is missing, share it out, compute, write, and say whether everything is there.

Work is split by index: over machines by ``shard``, over the processes of torchrun or accelerate by rank, and
otherwise over local worker processes. Each process looks at its own share only; a worker dies with the
process that started it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from studio.generation import store as stores
from studio.generation import workers as local
from studio.generation.engine import work
from studio.generation.group import Group
from studio.generation.plan import MANIFEST, Plan, claim, read_manifest
from studio.generation.prepare import number, prepared
from studio.model.model import Model
from studio.runtime.devices import cores, set_threads
from studio.runtime.progress import CountingBar
from studio.runtime.signals import StopSignal
from studio.sampling.forms import Conditions, Guidance, Labels, Seeds, Solver


@dataclass(frozen=True)
class Generated:
    """``missing`` samples of this call's share are not there (0 when it ran through); ``elsewhere`` belong to
    other shards and are not there yet; ``written`` were made by this call in ``seconds``; ``foreign`` files
    were moved aside; ``interrupted``: stopped by Ctrl-C or SIGTERM."""

    folder: str
    num: int
    written: int
    missing: int
    elsewhere: int
    seconds: float
    samples_per_second: float
    foreign: int
    npz: str | None
    interrupted: bool

    def tree(self) -> dict[str, Any]:
        return asdict(self)


def generate(
    model: str | Model,
    out: str | Path,
    *,
    num: int | None = None,
    seeds: Seeds = None,
    labels: Labels = None,
    conditions: Conditions = None,
    num_steps: int | None = None,
    guidance: Guidance = "default",
    sampler: Solver = None,
    batch: int | str = "auto",
    format: str | None = None,
    deterministic: bool = False,
    overwrite: bool = False,
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    workers: int | str = "auto",
    shard: str | None = None,
    path: str = "",
    plan: str = "none",
    cache_limit: int | str | None = None,
    attention: str = "auto",
    quiet: bool = False,
    on_progress: Callable[[int, int], Any] | None = None,
) -> Generated:
    """Make ``num`` samples in the folder ``out``, or those of them that are not there yet.

    A set that is there may grow: a larger ``num`` keeps what it has.

    - ``num``: how many, by default as many as there are seeds.
    - ``seeds``: "0-49999", by default 0 … num − 1.
    - ``labels``: balanced (the default), random, data (as often as in training), a list repeated in turn, or
      a file.
    - ``conditions``, ``num_steps``, ``guidance``, ``sampler``, ``deterministic``: as in `Model.sample`.
    - ``batch``: samples computed at once, "auto" or a number.
    - ``format``: png, npz, both, or tar (archives of a thousand PNGs, their digests beside them); points and
      molecules are always npz, molecules also .smi, .csv, .sdf and a sheet.
    - ``overwrite``: remove the set that is there and start again.
    - ``weights``, ``device``, ``dtype``, ``attention``: as in `studio.load`.
    - ``threads``: of each process.
    - ``workers``: local processes, "auto" or a number.
    - ``shard``: "3/8" is the third of eight machines, "env" what ``RANK`` and ``WORLD_SIZE`` or Slurm's
      variables say.
    - ``path``: sample on another path than the model's own, as `Model.on_path`.
    - ``plan``: what need not be computed at every step, as `Model.planned`; ``cache_limit``: what it keeps
      may take so many bytes in each process, "500MB" or a number.
    - ``quiet``: no bar; ``on_progress``: called with how many samples are made, and of how many.

    Raises ``ValueError`` and ``FileExistsError`` before anything is written, for settings that do not fit or
    differ from the manifest's.
    """
    p = prepared(
        model,
        out,
        num=num,
        seeds=seeds,
        labels=labels,
        conditions=conditions,
        num_steps=num_steps,
        guidance=guidance,
        sampler=sampler,
        batch=batch,
        format=format,
        deterministic=deterministic,
        overwrite=overwrite,
        weights=weights,
        device=device,
        dtype=dtype,
        threads=threads,
        workers=workers,
        shard=shard,
        path=path,
        plan=plan,
        cache_limit=cache_limit,
        attention=attention,
    )
    made, store, folder, form, rank, world, threads = (
        p.plan,
        p.store,
        p.folder,
        p.form,
        p.rank,
        p.world,
        p.threads,
    )
    group = Group(rank, world)
    foreign = group.first((lambda: _open(folder, made, overwrite, store, form)) if rank == 0 else None)
    store.hear(read_manifest(folder))
    whole = form == "npz" and stores.npz_is_whole(folder / "samples.npz", made, older=store.older)
    wanted = stores.units(made, store, p.part)
    mine = stores.deal(wanted, world, store.run(len(wanted), world))[rank]
    # each process looks at its own share: nobody waits for another's
    todo = [] if whole else store.absent(mine)
    left = sum(stores.size_of(u, store, made) for u in todo)
    count = p.processes(left)
    bar = CountingBar("generating", left, unit="samples", quiet=quiet or rank > 0, on_progress=on_progress)
    if shard is None and world == 1 and int(number("WORLD_SIZE") or 1) > 1:
        bar.note(
            "RANK and WORLD_SIZE are set, but no launcher has started this: it makes all samples; pass "
            "--shard env to share them out"
        )
    started, before = time.perf_counter(), torch.get_num_threads()
    with StopSignal() as signal:
        if count > 1:
            interrupted = local.run(
                p.job,
                stores.deal(todo, count, store.run(len(todo), count)),
                bar.add,
                lambda: signal.asked,
                bar.note,
            )
        else:
            if threads or world > 1:
                set_threads(threads or max(1, cores() // world))
            try:
                interrupted = work(
                    made, store, todo, stop=lambda: signal.asked, on_written=bar.add, note=bar.note
                )
            finally:
                torch.set_num_threads(before)
    bar.close()
    # waits for everybody to be done, as long as that takes
    written, missing = group.sum(bar.done), group.sum(left - bar.done)
    seconds = time.perf_counter() - started
    elsewhere, npz = group.share(
        _finish(folder, form, made, store, wanted, written, missing, whole) if rank == 0 else None
    )
    group.end()
    rate = round(written / seconds, 2) if written else 0.0
    return Generated(
        str(folder), made.num, written, missing, elsewhere, round(seconds, 3), rate, foreign, npz, interrupted
    )


def _finish(
    folder: Path,
    form: str,
    plan: Plan,
    store: stores.Store,
    wanted: Sequence[int],
    written: int,
    missing: int,
    whole: bool,
) -> tuple[int, str | None]:
    """Samples that are missing elsewhere; and the .npz and what the task lists, which are written when every
    sample is there."""
    store.join()
    others = (
        range(0)
        if whole or len(wanted) == len(every := stores.units(plan, store))
        else stores.without(every, wanted)
    )
    plain = form in ("png", "tar")
    complete = plain and not whole
    # files are made of what is looked at; to count, it is enough that it is there
    rest = store.lacking(others) if complete else store.absent(others)
    elsewhere = sum(stores.size_of(u, store, plan) for u in rest)
    npz, made = folder / "samples.npz", False
    if not plain and not missing and not elsewhere:
        if not whole and (written or form == "npz" or not stores.npz_is_whole(npz, plan, older=store.older)):
            stores.write_npz(npz, store, plan)
            made = True
        listing = plan.model.task.listing
        if listing and (made or not all((folder / n).is_file() for n in listing)):
            stores.write_listing(folder, store, plan)
        if form == "npz":
            stores.remove_parts(folder)
    return elsewhere, str(npz) if npz.is_file() and not missing + elsewhere else None


def _open(folder: Path, plan: Plan, overwrite: bool, store: stores.Store, form: str) -> int:
    """Claim the folder; how many files that are not the set's were moved aside."""
    again = overwrite and (folder / MANIFEST).is_file()
    if again:
        read_manifest(folder)
        stores.remove(folder, plan.model.task.listing)
    claim(folder, plan, ours=again)
    store.hear(read_manifest(folder))
    store.grown()
    if form == "npz" and store.earlier:
        stores.unpack(folder / "samples.npz", store, plan)
    store.join()
    return len(stores.set_aside(store, plan, folder))
