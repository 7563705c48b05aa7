"""What a folder of generated samples is: index i ↔ (seed, label), and the manifest that pins everything the
samples depend on.

Sample i depends on ``seed(i)``, ``label(i)`` and the pinned settings only.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from backbones.registry import whole
from guidance.grammar import CUSTOM
from studio import sampling
from studio.checkpoints import own_network
from studio.data import load_data
from studio.data.conditions import LONGEST
from studio.data.labels import labels_text, word
from studio.generation import identity
from studio.generation.identity import MAYBE, OWN
from studio.generation.label_rules import Labels, file_rule, parse_rule
from studio.model.model import Model
from studio.runtime import files, recipes
from studio.runtime.devices import DTYPE_NAMES
from studio.runtime.seeds import parse_seeds
from studio.runtime.strict_json import strict, to_json
from studio.runtime.version import __version__
from studio.sampling import commands, sampler_spec

MANIFEST = "manifest.json"
FORMAT = 1
GROWING = ("num", "seeds", "labels")  # of what a manifest pins: a set may grow
SETTINGS = (
    "sampler",
    "num_steps",
    "guidance",
    "labels",
    "seeds",
    "weights",
    "dtype",
    "model_hash",
    "conditions",
    "path",
)
_RULE = re.compile(r"none|balanced|random|data|file [0-9a-f]+|list -?[0-9]{1,6}(,-?[0-9]{1,6})*")


@dataclass(frozen=True)
class Plan:
    """Everything about a set of ``num`` samples but where it is written and how fast. ``request`` is the
    checked form of one sample."""

    model: Model
    num: int
    seeds: tuple[int, ...]
    labels: Labels
    request: sampling.Request
    threads: int | None = None

    def batch(self, index: Sequence[int]) -> sampling.Request:
        """The request for these samples."""
        seeds = tuple(self.seeds[i] for i in index)
        return self.request.of([0] * len(seeds), seeds, self.labels.of(index, seeds))

    def pinned(self) -> dict[str, Any]:
        """What the manifest pins. Batch size, device and the number of processes are not among it."""
        model, r = self.model, self.request
        fixed = sampling.fixed_rows(model.denoiser, model.info.shape)
        recipe = model.recipes(self.batch([0]))[0]
        tree = model.config.tree()
        return {
            "model_hash": model.hash,
            "weights": model.weights,
            "backbone": tree["backbone"],
            "objective": tree["objective"],
            "path": model.path or OWN,
            **({"borrowed": lent} if (lent := model.lent(r.guidance)) else {}),
            "shape": list(model.info.shape),
            "num": self.num,
            "seeds": ranges(self.seeds),
            "labels": self.labels.rule,
            "conditions": recipe.get("conditions", {}),
            **({k: recipe[k] for k in ("plan", "plan_hash")} if "plan" in recipe else {}),
            **({"fields": recipe["fields"]} if "fields" in recipe else {}),
            "sampler": r.sampler,
            "num_steps": r.num_steps,
            "guidance": r.guidance,
            "dtype": DTYPE_NAMES[model.denoiser.dtype or torch.float32],
            "deterministic": {"micro_batch": fixed, "threads": self.threads} if r.deterministic else None,
            "studio": __version__,
            "torch": torch.__version__.split("+")[0],
        }


def settings_of(pinned: Mapping[str, Any]) -> dict[str, Any]:
    """What a measure tells of how a set was made, by what its manifest pins."""
    return {k: pinned.get(k) for k in SETTINGS} | {k: pinned[k] for k in ("fields", "plan") if k in pinned}


def class_counts(model: Model) -> tuple[int, ...]:
    """How many training samples of each class a model has seen: as recorded, or counted where the very data
    is here; empty where that is not known."""
    if model.info.class_counts:
        return model.info.class_counts
    try:
        data = load_data(model.config.data)
    except (ValueError, OSError, ImportError):
        return ()
    return data.class_counts if data.hash and data.hash == model.info.data_hash else ()


def ranges(seeds: Sequence[int]) -> str:
    """``0-49999`` or ``0-7,12``."""
    out: list[str] = []
    start = 0
    for i in range(1, len(seeds) + 1):
        if i == len(seeds) or seeds[i] != seeds[i - 1] + 1:
            out.append(str(seeds[start]) if i - start == 1 else f"{seeds[start]}-{seeds[i - 1]}")
            start = i
    return ",".join(out)


def make_plan(
    model: Model,
    *,
    num: int | None,
    seeds: Any = None,
    labels: Any = None,
    conditions: Mapping[str, Any] | None = None,
    num_steps: int | None = None,
    guidance: Any = "default",
    sampler: Any = None,
    batch: int = 64,
    deterministic: bool = False,
    threads: int | None = None,
) -> Plan:
    """A checked `Plan`. Raises ``ValueError`` for anything that does not fit, before anything is written."""
    if num is None and seeds is None:
        raise ValueError("got neither num nor seeds, expected how many samples to make, such as --num 50000")
    num = None if num is None else whole(num, "num")
    chosen = parse_seeds(seeds) if seeds is not None else tuple(range(num or 0))
    if num is not None and len(chosen) < num:
        raise ValueError(
            f"got {len(chosen)} seeds for num={num}, expected as many; leave --num or --seeds out"
        )
    chosen = chosen[:num]
    if len(set(chosen)) < len(chosen):
        raise ValueError("got a seed twice, expected distinct seeds: equal seeds make equal samples")
    rule = parse_rule(labels, model.classes, len(chosen), lambda: class_counts(model))
    request, _ = model.request(
        labels=rule.of([0], chosen[:1]),
        seeds=chosen[:1],
        num_steps=num_steps,
        guidance=guidance,
        sampler=sampler,
        conditions=conditions,
        batch=batch,
        deterministic=deterministic,
    )
    if request.guidance == CUSTOM:
        raise ValueError(
            "got guidance as objects that no line describes, expected rules of the registry or a line "
            "such as 'cfg=2.0', which the manifest records"
        )
    if request.sampler == CUSTOM:
        raise ValueError(
            "got a sampler as an object that no line describes, expected one of the registry or a line "
            "such as 'heun', for the manifest to record"
        )
    if unkept := request.unkept():
        raise ValueError(
            f"got values of {' and '.join(unkept)} that no recipe keeps, expected ones that the manifest can "
            f"record, of at most {LONGEST:,} characters"
        )
    if model.path == CUSTOM:
        raise ValueError(
            "got a model on a path that no text describes, expected one of the registry, such as "
            "model.on_path('trig'), which the manifest records"
        )
    return Plan(model, len(chosen), chosen, rule, request, threads if deterministic else None)


def continued(plan: Plan, folder: Path, typed: str | None) -> Plan:
    """The plan with its sampler as an older set in the folder has it, where this call asks for the same: in
    the same words, or completed."""
    if not (folder / MANIFEST).is_file():
        return plan
    there, fit = str(read_manifest(folder)["pinned"].get("sampler")), plan.model.fit
    try:
        older = sampler_spec.as_recorded(there, fit)
        same_words = typed is not None and sampler_spec.parse(typed) == sampler_spec.parse(there)
    except ValueError:
        return plan  # `claim` says what it has
    if older == there or not (
        same_words or sampler_spec.parse(older) == sampler_spec.parse(plan.request.sampler)
    ):
        return plan
    return replace(plan, request=replace(plan.request, sampler=there))


def check_claim(folder: Path, plan: Plan, *, ours: bool = False) -> bool | None:
    """Whether the set in the folder grows by the plan; False where it is the very same, None where there is
    none. Raises ``ValueError`` with the difference, ``FileExistsError`` for a folder of something else
    (``ours``: it was one of samples until just now)."""
    path = folder / MANIFEST
    files.check_writable(folder)
    if not path.is_file():
        if (
            not ours
            and folder.exists()
            and any(p for p in folder.iterdir() if not p.name.startswith(f".{MANIFEST}."))
        ):
            raise FileExistsError(f"{folder} holds something else (no {MANIFEST}); choose another --out")
        return None
    there, wanted = MAYBE | read_manifest(folder)["pinned"], MAYBE | strict(plan.pinned())
    if _grows(there, wanted, plan):
        return True
    differing = [k for k in {**there, **wanted} if there.get(k) != wanted.get(k)]
    if differing:
        shown = "; ".join(f"{k}: it has {there.get(k)!r}, this call {wanted.get(k)!r}" for k in differing)
        raise ValueError(
            f"{folder} was begun with other settings ({shown}); use the same, another --out, or "
            "--overwrite to start again"
        )
    return False


def claim(folder: Path, plan: Plan, *, ours: bool = False) -> None:
    """Write the manifest, or check the one that is there; of a set that only grows it is brought up to date.
    Raises what `check_claim` does."""
    path, grows = folder / MANIFEST, check_claim(folder, plan, ours=ours)
    wanted = strict(plan.pinned())
    if grows is None:
        folder.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=folder, prefix=f".{MANIFEST}.")
        with os.fdopen(handle, "w") as out:
            out.write(
                to_json(
                    {
                        "format": FORMAT,
                        "model": plan.model.name,
                        "task": plan.model.task.name,
                        "classes": list(plan.model.classes),
                        "sealed": True,  # its pictures bear digests
                        "pinned": wanted,
                    },
                    indent=1,
                )
                + "\n"
            )
        os.chmod(draft, 0o644)
        try:
            os.link(draft, path)
        except FileExistsError:  # another machine was faster
            grows = check_claim(folder, plan)
        except OSError:  # no hard links on this file system
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
    if grows:
        manifest = read_manifest(folder)
        pinned = {**manifest["pinned"], **{k: wanted[k] for k in GROWING}}
        earlier = [*manifest.get("earlier", []), identity.digest(manifest["pinned"])]
        files.write_json(path, {**manifest, "pinned": pinned, "earlier": earlier})


def _grows(there: Mapping[str, Any], wanted: Mapping[str, Any], plan: Plan) -> bool:
    """Whether the plan is the set that is there and more samples behind it: each of those keeps its seed and
    label."""
    num, seeds, labels = (there.get(k) for k in GROWING)
    if (
        type(num) is not int
        or not 0 < num < plan.num
        or any(there.get(k) != wanted.get(k) for k in {**there, **wanted} if k not in GROWING)
    ):
        return False
    same = labels == plan.labels.rule or (
        plan.labels.rule.startswith("file ") and labels == file_rule(plan.labels.values[:num])
    )
    return same and seeds == ranges(plan.seeds[:num])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises ``ValueError`` for a manifest that is damaged or newer than this version."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        version, pinned = manifest["format"], manifest["pinned"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"{folder / MANIFEST} is not readable ({error!r}); restore it, or choose another --out"
        ) from None
    if not isinstance(version, int) or version > FORMAT or not isinstance(pinned, dict):
        raise ValueError(
            f"{folder / MANIFEST} has format {version}, this version reads up to {FORMAT}; upgrade "
            "drift-studio"
        )
    return manifest


def command_of_manifest(manifest: dict[str, Any], folder: Path) -> str:
    """The command that goes on with a folder. Raises `NoCommand` where labels came from a file, of which a
    digest is known, and ``ValueError`` for a manifest whose entries are not of their types."""
    p, classes = manifest["pinned"], manifest.get("classes", [])
    tests: dict[str, bool] = {
        "num": type(p.get("num")) is int,
        "seeds": isinstance(p.get("seeds"), str),
        "labels": bool(_RULE.fullmatch(str(p.get("labels")))),
        "classes": isinstance(classes, list) and all(isinstance(c, str) for c in classes),
        "deterministic": p.get("deterministic") is None
        or isinstance(p["deterministic"], dict)
        and type(p["deterministic"].get("threads")) in (int, type(None)),
    }
    try:
        wrong = next((f"{name} is {p.get(name)!r}" for name, good in tests.items() if not good), "")
        recipe = recipes.complete(
            {"model": manifest.get("model"), **{k: v for k, v in p.items() if k != "deterministic"}},
            commands.SHARED,
        )
    except ValueError as error:
        wrong = str(error)
    if wrong:
        raise ValueError(f"{folder / MANIFEST} is damaged: {recipes.shown(wrong)}; restore it")
    if network := own_network.called_here(str(recipe["model"])):
        way = (
            f"studio.generate({own_network.loaded(recipe['model'], network)}, {str(folder)!r}, "
            f"num={p['num']}, ...) with the same settings"
        )
        raise recipes.NoCommand(f"its network is a module of your own; in Python: {way}")
    kind, _, rest = p["labels"].partition(" ")
    if kind == "file":
        raise recipes.NoCommand(
            "its labels came from a file, which the manifest knows by its digest only; give the same "
            "command with --labels FILE"
        )
    numbers = [int(k) for k in rest.split(",")] if kind == "list" else []
    said = (
        labels_text(numbers, classes if max(numbers) < len(classes) else {})
        if numbers
        else word(kind, classes)
    )
    options: list[tuple[str, Any]] = [
        ("--out", folder),
        ("--num", p["num"]),
        ("--seeds", p["seeds"] if p["seeds"] != f"0-{p['num'] - 1}" else None),
        ("--labels", None if kind in ("none", "balanced") else said),
        *commands.settings(recipe),
        ("--path", commands.path_text(None if recipe.get("path") == OWN else recipe.get("path"))),
        ("--deterministic", bool(p.get("deterministic"))),
        ("--threads", p["deterministic"]["threads"] if p.get("deterministic") else None),
    ]
    return recipes.line_of("generate", [recipe["model"]], options)
