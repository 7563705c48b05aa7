"""Folders of `studio generate` as sets of samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio.checkpoints import checkpoint
from studio.checkpoints.build import Info
from studio.checkpoints.find import choose_weights, locate, spot_of
from studio.evaluation.picture_files import PictureFiles
from studio.evaluation.sample_files import arrays
from studio.evaluation.samples import SampleSet
from studio.generation.identity import differing
from studio.generation.plan import read_manifest, settings_of
from studio.generation.tar import Shards
from studio.runtime.files import sha256
from studio.runtime.recipes import read_recipe
from studio.runtime.seeds import parse_seeds


def generated(folder: Path) -> SampleSet:
    manifest = read_manifest(folder)
    pinned = manifest["pinned"]
    num = int(pinned["num"])
    about = settings_of(pinned)
    task = str(manifest.get("task", ""))
    about |= {"model": manifest.get("model"), "deterministic": pinned.get("deterministic") is not None}
    found = sorted(folder.glob("[0-9]*/[0-9]*.png"), key=lambda p: int(p.stem))
    if found:
        if len(found) != num:
            raise ValueError(
                f"{folder} holds {len(found)} of {num} samples; run the same studio generate again until "
                "it is complete"
            )
        recipes = _recipes(found, pinned)
        labels = np.array([r["label"] for r in recipes]) if "label" in recipes[0] else None
        model = _model(manifest)
        names = _names(manifest, recipes, model)
        return SampleSet(
            str(folder),
            PictureFiles(found),
            labels,
            names,
            about,
            folder=folder,
            reading=None if model is None else model.reading,
            task=task,
        )
    if any(folder.glob("[0-9]*.tar")):
        return _archives(folder, manifest, about, task)
    if not (folder / "samples.npz").is_file():
        raise ValueError(f"{folder} holds none of its {num} samples yet; run the same studio generate again")
    made = arrays(folder / "samples.npz", task)
    if len(made) != num:
        raise ValueError(
            f"{folder / 'samples.npz'} holds {len(made)} of {num} samples; run the same studio generate again"
        )
    return SampleSet(
        str(folder),
        made.values,
        made.labels,
        made.classes or _names(manifest, (), _model(manifest)),
        about,
        folder=folder,
        legend=made.legend,
        asked=asked_of(about["conditions"], num),
        task=made.task,
    )


def _archives(folder: Path, manifest: Mapping[str, Any], about: dict[str, Any], task: str) -> SampleSet:
    pinned, values = manifest["pinned"], Shards(folder)
    if len(values) != pinned["num"]:
        raise ValueError(
            f"{folder} holds {len(values)} of {pinned['num']} samples; run the same studio generate again "
            "until it is complete"
        )
    recipes, seeds = [values.recipe(i) for i in range(len(values))], parse_seeds(pinned["seeds"])
    for i, recipe in enumerate(recipes):
        wrong = ([] if values.numbers[i] == i and recipe.get("seed") == seeds[i] else ["seed"]) + differing(
            recipe, pinned
        )
        if wrong:
            raise ValueError(
                f"sample {i} of {folder} is none of its set: it was made with another {wrong[0]}; run the "
                "same studio generate again"
            )
    labels, model = (
        np.array([r["label"] for r in recipes]) if "label" in recipes[0] else None,
        _model(manifest),
    )
    reading = None if model is None else model.reading
    return SampleSet(
        str(folder),
        values,
        labels,
        _names(manifest, recipes, model),
        about,
        folder=folder,
        reading=reading,
        task=task,
    )


def _model(manifest: Mapping[str, Any]) -> Info | None:
    """What is known of the model that made a set, where it is still here."""
    try:
        folder, step = locate(str(manifest.get("model")))
        _, weights = choose_weights(spot_of(folder, step), manifest["pinned"]["weights"])
        same = sha256(weights)[:16] == manifest["pinned"]["model_hash"]
        return Info.from_meta(checkpoint.read_meta(folder)) if same else None
    except (ValueError, OSError, KeyError):
        return None


def _names(
    manifest: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]], model: Info | None
) -> tuple[str, ...]:
    """Names of the classes: as the manifest has them; for an older one as the recipes do, or the model where
    it is still there."""
    if manifest.get("classes"):
        return tuple(map(str, manifest["classes"]))
    named = {r["label"]: str(r["class"]) for r in recipes if r.get("label", -1) >= 0 and "class" in r}
    if named:
        return tuple(named.get(k, str(k)) for k in range(max(named) + 1))
    return () if model is None else model.classes


def _recipes(found: Sequence[Path], pinned: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the pictures of a set. Raises ``ValueError`` for one that was made otherwise than its manifest
    says."""
    recipes, seeds = [read_recipe(p) for p in found], parse_seeds(pinned["seeds"])
    for path, recipe in zip(found, recipes):
        place = int(path.stem)
        wrong = ([] if place < len(seeds) and recipe.get("seed") == seeds[place] else ["seed"]) + differing(
            recipe, pinned
        )
        if wrong:
            raise ValueError(
                f"{path} is no sample of its set: it was made with another {wrong[0]}; run the same "
                "studio generate again"
            )
    return recipes


def asked_of(conditions: Mapping[str, Any] | None, num: int) -> dict[str, np.ndarray]:
    """Numbers that all of a set was asked to have."""
    found = {k: v for k, v in (conditions or {}).items() if isinstance(v, int | float | str)}
    columns = {}
    for name, value in found.items():
        try:
            columns[name] = np.full(num, float(value))
        except ValueError:  # a word
            continue
    return columns
