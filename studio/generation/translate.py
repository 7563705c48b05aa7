"""`studio translate`: pictures through a bridge, one file each, with the recipe inside and a sheet of before
and after.

A picture's seed comes from its file name, so it does not matter what is translated beside it. A file that was
translated with the same recipe is left as it is, so a run that was cut off goes on; a file that does not
decode is listed and the rest is done.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guidance.grammar import CUSTOM
from studio.data import notes
from studio.data.decode import TooLarge, decode
from studio.data.depth import Misfit, Reading
from studio.data.labels import NO_LABEL
from studio.data.walk import suffixes, walk
from studio.model.model import Model
from studio.runtime import files
from studio.runtime.recipes import read_recipe
from studio.runtime.seeds import seed_of
from studio.runtime.untrusted import why_not
from studio.sampling.samples import save_png
from studio.sampling.sheets import before_and_after

SHEET = "before-after.png"
BATCH = 32  # pictures that are translated at once


@dataclass(frozen=True)
class Translated:
    """``written`` and ``kept`` (translated before) files; ``failed``: file name to reason; ``notes``: what
    was changed or left out of files."""

    written: list[Path]
    kept: list[Path]
    failed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def gather(inputs: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """Pictures with their names below the output folder: of a file its name, of a folder the path within it.
    Raises ``ValueError`` for none."""
    found: list[tuple[Path, Path]] = []
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            inside = [p for p in walk(path).files if p.name != SHEET]
            if not inside:
                raise ValueError(f"{path} holds no pictures ({', '.join(suffixes())}); check the path")
            found += [(p, p.relative_to(path).with_suffix(".png")) for p in inside]
        elif path.is_file():
            found.append((path, Path(path.name).with_suffix(".png")))
        else:
            raise ValueError(
                f"got input {path}, which does not exist; expected pictures or folders of pictures"
            )
    seen: dict[Path, Path] = {}
    for path, name in found:
        if name in seen:
            raise ValueError(
                f"{seen[name]} and {path} would both become {name}; translate them into different folders"
            )
        seen[name] = path
    return found


def read(
    path: Path,
    shape: Sequence[int],
    resize: bool,
    reading: Reading | None = None,
    told: dict[str, str] | None = None,
) -> Tensor:
    """(C, H, W) uint8, as the training data was read. Raises ``ValueError`` for a picture that does not
    decode, or is of another size or kind unless ``resize``, which converts as the training data is converted:
    scaled to cover both sides, the middle cut out. Transparency is no other kind: it shows the
    background."""
    try:
        values = decode(
            path,
            shape[1:] if resize else None,
            shape[0] if resize or shape[0] == 4 else None,
            reading,
            0,
            told,
        )
    except (Misfit, TooLarge) as error:
        raise ValueError(str(error).removeprefix(f"{path} ")) from None
    except Exception as error:  # whatever a damaged file makes PIL raise
        raise ValueError(f"does not decode ({why_not(error)})") from None
    if values.shape != tuple(shape):
        channels, height, width = values.shape
        raise ValueError(
            f"got {width}×{height} with {channels} channels, expected {shape[2]}×{shape[1]} with {shape[0]}"
            + ("" if resize else "; pass --resize to convert")
        )
    return torch.from_numpy(values.copy())


def translate(
    model: Model,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    num_steps: int | None = None,
    sampler: str | None = None,
    direction: str = "forward",
    seed: int = 0,
    label: Any = None,
    guidance: Any = "default",
    conditions: Mapping[str, Any] | None = None,
    mask: Any = None,
    resize: bool = False,
    batch: int = BATCH,
    deterministic: bool = False,
    overwrite: bool = False,
    on_step: Callable[[Any], Any] | None = None,
) -> Translated:
    """Translate pictures into the folder ``out``. ``label``: a class for all of them, where the model has
    classes; ``guidance``, ``conditions`` and ``deterministic`` as in ``Model.sample``. ``mask`` (a file or
    (H, W) bool): white may change, the rest of every source is kept. ``on_step`` is told of the steps of all
    batches. Raises ``ValueError`` where nothing
    could be translated, ``FileExistsError`` for a file that another recipe has made, unless ``overwrite``."""
    if not model.info.starts_from:
        raise ValueError(
            f"{model.name} starts from noise and translates nothing; use `studio sample {model.name} "
            "--init PICTURE`"
        )
    if not model.task.one_each:
        raise ValueError(
            f"{model.name} makes {model.task.says}, not picture files; use model.translate(values) in Python"
        )
    folder, found = Path(out), gather(inputs)
    sources: dict[Path, Tensor] = {}
    told: dict[Path, dict[str, str]] = {}
    failed: dict[str, str] = {}
    for path, name in found:
        try:
            told[name] = {}
            sources[name] = read(path, model.sample_shape, resize, model.reading, told[name])
        except ValueError as error:
            failed[str(path)] = str(error)
    if not sources:
        first = next(iter(failed.items()))
        raise ValueError(f"none of {len(found)} pictures can be translated; {first[0]}: {first[1]}")
    if batch < 1:
        raise ValueError(f"got batch={batch}, expected at least 1")
    asked = any(k in (conditions or {}) and k not in model.info.numeric for k in ("label", "class"))
    options: dict[str, Any] = dict(
        num_steps=num_steps,
        sampler=sampler,
        direction=direction,
        mask=mask,
        labels=NO_LABEL if label is None and not asked else label,
        guidance=guidance,
        conditions=conditions,
        deterministic=deterministic,
        batch=batch,
    )
    origin: dict[str, Any] = (
        {}
        if mask is None
        else {"mask": str(mask)}
        if isinstance(mask, str | Path)
        else {"as_values": ["mask"]}
    )
    probe = next(iter(sources.values()))[None]
    # refuses what does not fit before anything is written
    request, rules = model.request(seeds=[0], sources=probe, **options)
    recipe = model.recipes(request, origin | ({"resize": True} if resize else {}), rules)[0]
    for place in sorted({(folder / name).parent for name in sources} | {folder}):
        files.check_writable(place, need=len(sources) * probe.numel() * 2)
    kept, todo = [], []
    for path, name in found:
        if name not in sources:
            continue
        own = {
            **recipe,
            "seed": seed_of(name, seed),
            "seed_base": seed,
            "source": str(path),
            "source_hash": _hash(sources[name]),
        }
        target = folder / name
        if target.exists() and _same(target, own):
            kept.append(target)
        elif target.exists() and not overwrite:
            raise FileExistsError(
                f"{target} exists and was not made by this call; choose another --out or pass --overwrite"
            )
        else:
            todo.append((name, own))
    written = []
    batches = range(0, len(todo), batch)
    try:
        for a in batches:
            part = todo[a : a + batch]
            seeds = [own["seed"] for _, own in part]
            made = model.translate(
                torch.stack([sources[name] for name, _ in part]),
                seeds=seeds,
                on_step=on_step and _of_all(on_step, a // batch, len(batches)),
                **options,
            )
            for (name, own), picture in zip(part, made.pictures):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                save_png(folder / name, picture, own)
                written.append(folder / name)
    finally:  # also of a run that was stopped
        _sheet(model, folder, sources)
    those = [(str(name), told[name]) for name in sources]
    return Translated(
        written,
        kept,
        failed,
        (*notes.of_frames(those, ""), *notes.of_pictures(those, model.reading.background, "")),
    )


def _of_all(on_step: Callable[[Any], Any], before: int, batches: int) -> Callable[[Any], Any]:
    """The same, told of the steps of all batches, of which some are ``before``."""
    return lambda p: on_step(replace(p, done=before * p.total + p.done, total=batches * p.total))


def _hash(values: Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]


def _same(path: Path, recipe: dict[str, Any]) -> bool:
    """Whether a file is what a recipe makes, wherever its source lay and however it became those values."""
    try:
        there = read_recipe(path)
    except (ValueError, OSError):
        return False
    # it does not say all that the file was made with
    if CUSTOM in (recipe["guidance"], recipe["sampler"]) or "as_values" in recipe:
        return False
    apart = ("source", "resize")
    return {k: v for k, v in there.items() if k not in apart} == {
        k: v for k, v in recipe.items() if k not in apart
    }


def _sheet(model: Model, folder: Path, sources: dict[Path, Tensor], limit: int = 40) -> None:
    """The first pictures before and after, read from the files; none where there are no files."""
    names = [n for n in sources if (folder / n).exists()][:limit]
    if not names:
        return
    after = torch.stack(
        [torch.from_numpy(decode(folder / n, None, model.sample_shape[0]).copy()) for n in names]
    )
    sheet = before_and_after(model.task, torch.stack([sources[n] for n in names]), after)
    with files.replacing(folder / SHEET) as draft:
        sheet.save(draft, format="PNG")
