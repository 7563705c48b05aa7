"""`studio sweep`: every combination of a few settings, each sampled with the same seeds and measured;
resumable, one folder.

A job's file is named by a hash of all that it depends on, so a sweep that was stopped goes on, and one with
further values keeps what it has.
"""

import csv
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import guidance
from backbones.registry import suggest
from guidance import grammar
from guidance.grammar import value_of
from studio.evaluation.judges import Asked, names_of
from studio.evaluation.reference import located
from studio.evaluation.results import Result, load_result, table
from studio.evaluation.ruler import ruler_for
from studio.evaluation.run import generated, planned
from studio.evaluation.sets import SampleSet, of_data
from studio.generation.label_rules import parse_rule
from studio.generation.plan import class_counts
from studio.model.model import Model
from studio.runtime import files
from studio.sampling import sampler_spec
from studio.sampling.samples import save_png, sheet_recipe
from studio.sampling.sheets import contact_sheet, heat_map

PLAIN = ("num_steps", "sampler", "guidance")
MARK = "sweep.json"


@dataclass(frozen=True)
class Axis:
    """``cfg.scale`` and its values as they were written."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """``place``: index on each axis; ``settings``: the axis values by key; ``options``: what the model is
    sampled with; ``plan``: the hash of the plan that it follows, if any."""

    place: tuple[int, ...]
    settings: dict[str, str]
    options: dict[str, Any]
    plan: str = ""


def parse_axis(text: str) -> Axis:
    """``"cfg.scale=1,1.5,2"``; commas inside brackets belong to a value, and ``;`` separates values that hold
    commas. Raises ``ValueError``."""
    key, eq, rest = text.partition("=")
    key = key.strip().replace("-", "_")
    values = [v.strip() for v in (rest.split(";") if ";" in rest else _split(rest))]
    if not eq or not key or not rest.strip() or not all(values):
        raise ValueError(
            f"got axis {text!r}, expected KEY=VALUE,VALUE such as cfg.scale=1,1.5,2 or num_steps=10,20"
        )
    if len(set(values)) < len(values):
        raise ValueError(f"got a value twice in axis {text!r}, expected each once")
    return Axis(key, tuple(values))


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def applied(options: Mapping[str, Any], key: str, text: str) -> dict[str, Any]:
    """``options`` with one setting changed. Raises ``ValueError`` for a key that nothing here has."""
    changed = dict(options)
    head, dot, tail = key.partition(".")
    if key in PLAIN:
        changed[key] = value_of(text) if key == "num_steps" else "" if text == "none" else text
        if key == "num_steps" and not isinstance(changed[key], int):
            raise ValueError(f"got num_steps={text}, expected a whole number")
    elif head == "sampler" and dot:
        name, given = sampler_spec.parse(str(options["sampler"]))
        changed["sampler"] = sampler_spec.line(
            name, {k: v for k, v in given.items() if k != tail} | {tail: value_of(text)}
        )
    elif head == "set" and dot:
        changed["conditions"] = {**(options.get("conditions") or {}), tail: text}
    elif dot and head in guidance.REGISTRY:
        trees = grammar.parse(str(options["guidance"] or ""), guidance.REGISTRY)
        if not any(t["name"] == head for t in trees):
            trees.append({"name": head})
        for t in trees:
            if t["name"] == head:
                t[tail] = value_of(text)
        guidance.parse(trees)
        changed["guidance"] = guidance.describe(trees)
    else:
        known = [*PLAIN, "sampler.OPTION", "set.CONDITION", *(f"{r}.OPTION" for r in guidance.REGISTRY)]
        raise ValueError(
            f"got the setting {key!r} to sweep, expected one of {', '.join(known)}{suggest(key, known)}"
        )
    return changed


def jobs_of(
    model: Model,
    axes: Sequence[Axis],
    *,
    guidance_line: str | None = "default",
    sampler: str | None = None,
    num_steps: int | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> list[Job]:
    """All combinations, checked. Raises ``ValueError`` for the first one that the model cannot be sampled
    with."""
    if not axes:
        raise ValueError("got no axis, expected at least --x KEY=VALUE,VALUE")
    if len({a.key for a in axes}) < len(axes):
        raise ValueError("got one setting on two axes, expected different ones")
    defaults = model.config.sample
    base: dict[str, Any] = {
        "guidance": defaults.guidance if guidance_line == "default" else guidance_line or "",
        "sampler": sampler_spec.resolved(sampler_spec.said(sampler), model.fit),
        "num_steps": num_steps or defaults.num_steps,
        "conditions": dict(conditions or {}),
    }
    jobs = []
    for place in itertools.product(*(range(len(a.values)) for a in axes)):
        settings = {a.key: a.values[i] for a, i in zip(axes, place)}
        options = base
        # a whole line first, then its options
        for key, value in sorted(settings.items(), key=lambda kv: "." in kv[0]):
            options = applied(options, key, value)
        request, _ = model.request(seeds=[0], labels=None, **options)
        options = {**options, "sampler": request.sampler}  # completed, as results depend on all of it
        jobs.append(Job(place, settings, options, "" if request.plan is None else request.plan.hash))
    return jobs


def sweep(
    model: Model,
    out: str | Path,
    axes: Sequence[Axis],
    *,
    ref: str | Path | None = None,
    metrics: str | None = None,
    features: Any = None,
    inception: str | None = None,
    num: int = 1000,
    labels: str | None = None,
    images: int = 0,
    allow_small: bool = False,
    **base: Any,
) -> Iterator[tuple[Job, Result | None, int, int]]:
    """Yield (job, result, done, total) as they are finished; at the end ``sweep.csv``, a heat map per measure
    and, with ``images`` pictures a job, a contact sheet lie in ``out``. Without ``ref`` the model's own
    training data is the reference; with ``images`` and neither ``ref`` nor ``metrics`` nothing is measured.
    Raises before anything is written for settings that do not fit."""
    jobs = jobs_of(model, axes, **base)
    if num < 1 or images < 0:
        raise ValueError(f"got num={num} and images={images}, expected at least 1 and 0")
    folder = Path(out)
    there = list(folder.iterdir()) if folder.is_dir() else []
    if there and not (folder / MARK).is_file():
        raise FileExistsError(f"{folder} holds something else (no {MARK}); choose another --out")
    files.check_writable(folder)
    if images:
        model.task.ready()
        _few(labels, model, images)
    ruler = None
    if ref is not None or metrics is not None or not images:
        coming = [planned(model, num=num, labels=labels, **job.options)[0] for job in jobs][0]
        ruler = ruler_for(
            coming,
            _real(model, ref),
            Asked(names_of(metrics), features, inception, allow_small, made=False),
        )
    elif features is not None or inception is not None:
        raise ValueError(
            "got an extractor for a sweep that measures nothing; give --metrics or --ref as well, or "
            "leave it out"
        )
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    files.write_json(
        folder / MARK,
        {
            "model": model.name,
            "model_hash": model.hash,
            "axes": {a.key: list(a.values) for a in axes},
            "num": num,
        },
    )
    extractor = None if ruler is None else ruler.seen_by
    common = [
        model.hash,
        num,
        labels,
        None if ruler is None else ruler.digest,
        metrics,
        extractor,
        allow_small,
    ]
    stems = [
        folder
        / "jobs"
        / hashlib.sha256(
            json.dumps([common, job.options, *([job.plan] if job.plan else [])], sort_keys=True).encode()
        ).hexdigest()[:16]
        for job in jobs
    ]
    results: list[Result | None] = []
    for job, path in zip(jobs, stems):
        result = load_result(path.with_suffix(".json")) if path.with_suffix(".json").is_file() else None
        if ruler is not None and result is None:
            result = ruler.measure(generated(*planned(model, num=num, labels=labels, **job.options)))
            result = Result(
                ", ".join(f"{k}={v}" for k, v in job.settings.items()),
                result.values,
                result.floor,
                result.failed,
                result.protocol,
            )
            result.save(path.with_suffix(".json"))
        if images and not path.with_suffix(".png").is_file():
            samples = model.sample(seeds=range(images), labels=_few(labels, model, images), **job.options)
            save_png(
                path.with_suffix(".png"),
                samples.grid(columns=images, captions=False),
                sheet_recipe(samples.recipes),
            )
        results.append(result)
        if len(results) == len(jobs):
            _write(folder, axes, jobs, results)
            if images:
                contact_sheet(
                    folder / "sheet.png", axes, {j.place: p.with_suffix(".png") for j, p in zip(jobs, stems)}
                )
        yield job, result, len(results), len(jobs)


def _real(model: Model, ref: str | Path | None) -> Path | SampleSet:
    """What to measure against: what was asked for, otherwise the model's own training data."""
    if ref is not None:
        return located(ref, model.reading)
    try:
        return of_data(model.config.data, str(model.config.data.get("name")))
    except ValueError as error:
        raise ValueError(
            f"the data that {model.name} was trained on is not here ({error}); give another with --ref"
        ) from None


def _few(labels: str | None, model: Model, count: int) -> Any:
    return parse_rule(labels, model.classes, count, lambda: class_counts(model)).of(
        range(count), range(count)
    )


def _write(folder: Path, axes: Sequence[Axis], jobs: Sequence[Job], results: Sequence[Result | None]) -> None:
    """``sweep.csv``, ``table.md`` and a heat map per measure."""
    columns = list(dict.fromkeys(k for r in results if r is not None for k in r.values))
    with files.replacing(folder / "sweep.csv") as draft, open(draft, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([a.key for a in axes] + columns)
        for job, result in zip(jobs, results):
            writer.writerow(
                [job.settings[a.key] for a in axes]
                + [result.values.get(c, "") if result else "" for c in columns]
            )
    measured = [r for r in results if r is not None]
    if not measured:
        return
    files.write_text(folder / "table.md", table(measured) + "\n")
    for column in columns:
        grid = np.full([len(a.values) for a in axes], np.nan)
        for job, result in zip(jobs, results):
            if result is not None and column in result.values:
                grid[job.place] = result.values[column]
        heat_map(folder / f"heat-{column}.png", column, axes, grid)
