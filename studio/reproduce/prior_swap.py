"""Unconditional-prior swap (2503.20240): a base on five classes of Fashion-MNIST is fine-tuned on the other
five with 10 % condition dropout; which unconditional prediction guides the result best, its own, the base's,
or a weak snapshot's (autoguidance), and how does it depend on the length of the fine-tuning and on its data?
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from studio.model.export import export
from studio.reproduce import page as pages
from studio.reproduce import pictures, steered
from studio.reproduce.jobs import Job, Outcome, Page, Result, Unfinished
from studio.training.run import train

BASE, NEW = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
OBJECTIVE = {
    "path": "linear",
    "parameterization": "velocity",
    "times": {"name": "logit_normal", "mean": -0.4, "std": 1.0},
    "cond_drop": 0.1,
}
LENGTHS, SIZES, SCALES = (100, 300, 1000, 3000), (6000, 500), (1.5, 2.5)
RULES = {
    "own": "cfg={w:g}",
    "base": "prior=base,cfg={w:g}",
    "autoguidance": "autoguidance(scale={w:g},model={home}/tuned-{size}-{seed}-100.model)",
}


def base(settings: Mapping[str, Any], work: Path) -> Outcome:
    """The base model of a seed, kept beside the jobs."""
    config = pictures.config({**settings, "objective": OBJECTIVE}) | {
        "data": {"name": pictures.DATA, "classes": BASE}
    }
    folder = work / "run"
    trained = train(config, out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
    if trained.interrupted:
        raise Unfinished(f"stopped at step {trained.step}")
    export(str(folder), work.parent / f"base-{settings['seed']}.model", overwrite=True)
    return {"steps": trained.step, "threads": torch.get_num_threads()}, {}


def tuned(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One fine-tuning at a constant rate, kept at each of its lengths beside the jobs."""
    seed, size, folder = settings["seed"], settings["size"], work / "run"
    config = pictures.config({**settings, "objective": OBJECTIVE, "steps": settings["lengths"][0]})
    config["data"] = {"name": pictures.DATA, "classes": NEW, "count": size}
    config["train"] |= {"schedule": "constant", "warmup": 20, "lr": 5e-4, "muon_lr": 1e-3, "save_every": 0}
    for length in settings["lengths"]:
        resume = (folder / "config.yaml").is_file()
        start = None if resume else str(work.parent / f"base-{seed}.model")
        trained = train(
            config, [f"train.steps={length}"], out=folder, resume=resume, start_from=start, quiet=True
        )
        if trained.interrupted:
            raise Unfinished(f"stopped at step {trained.step}")
        export(str(folder), work.parent / f"tuned-{size}-{seed}-{length}.model", overwrite=True)
    return {"steps": settings["lengths"][-1], "threads": torch.get_num_threads()}, {}


def place(size: int, seed: int, length: int, rule: str, w: float) -> tuple[str, str]:
    """Name of the job and its guidance line."""
    line = (
        RULES[rule].replace("{w:g}", f"{w:g}").replace("{size}", str(size)).replace("{seed}", str(seed))
        if rule != "none"
        else ""
    )
    return f"{size}-{length}-{rule}{f'-{w:g}' if rule != 'none' else ''}-{seed}", line


def grid(quick: bool) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...], range]:
    """Lengths, sizes, scales and seeds."""
    return ((3, 6), (60,), SCALES[:1], range(1)) if quick else (LENGTHS, SIZES, SCALES, range(2))


def jobs(quick: bool) -> list[Job]:
    lengths, sizes, scales, seeds = grid(quick)
    batch = {"batch_size": 8} if quick else {}
    made = [Job(f"base-{s}", base, {"seed": s, **batch, "steps": 4 if quick else 950}, 4.2) for s in seeds]
    made += [
        Job(f"tuned-{n}-{s}", tuned, {"seed": s, "size": n, "lengths": list(lengths), **batch}, 2.5)
        for s in seeds
        for n in sizes
    ]
    for seed in seeds:
        for size in sizes:
            for length in lengths:
                for rule in ("none", *RULES):
                    if rule == "autoguidance" and (length == lengths[0] or quick):
                        continue  # the shortest is the weak model itself
                    for w in scales if rule != "none" else (1.0,):
                        name, line = place(size, seed, length, rule, w)
                        settings = {
                            "model": f"{{home}}/tuned-{size}-{seed}-{length}.model",
                            "guidance": line,
                            "num": 40 if quick else 2000,
                            "steps": 3 if quick else 20,
                            "data": {"name": pictures.DATA, "classes": NEW},
                            "metrics": ["fd", "pr"],
                            "seed": seed,
                        }
                        made.append(Job(name, steered.point, settings, 0.25 if rule == "none" else 0.42))
    if not quick:
        for rule in RULES:
            among = [place(SIZES[0], 0, LENGTHS[-1], rule, w)[0] for w in SCALES]
            made.append(Job(f"best-{rule}", steered.best, {"among": among, "num": 10000}, 2.2))
    return made


def lowest(
    results: Mapping[str, Result], size: int, length: int, rule: str, scales: tuple[float, ...], seed: int
) -> tuple[float, str]:
    """The lowest Fréchet distance of a rule over its scales, and where; nothing (NaN) where it was not
    run."""
    names = [place(size, seed, length, rule, w)[0] for w in (scales if rule != "none" else (1.0,))]
    found = [(float(results[n].values["fd"]), n) for n in names if n in results]
    return min(found) if found else (float("nan"), "")


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("guidance", "seed"))
    quick = "best-own" not in results
    lengths, sizes, scales, seeds = grid(quick)
    first = results[place(sizes[0], 0, lengths[0], "none", 1.0)[0]]
    parts = [
        INTRO.format(num=first.settings["num"], steps=first.settings["steps"], real=first.values["fd_real"])
    ]
    panels: dict[str, Any] = {}
    for size in sizes:
        rows: list[dict[str, Any]] = []
        told = []
        curves: dict[str, Any] = {}
        for rule in ("none", *RULES):
            values = [
                [lowest(results, size, length, rule, scales, s)[0] for s in seeds] for length in lengths
            ]
            known = [(length, v) for length, v in zip(lengths, values) if v[0] == v[0]]
            rows.append({"rule": rule, **{str(length): v for length, v in known}})
            if known:
                curves[rule] = ([length for length, _ in known], [v for _, v in known])
        for length in lengths:
            own, other = (
                [lowest(results, size, length, rule, scales, s)[0] for s in seeds] for rule in ("own", "base")
            )
            told.append(
                pages.compare(
                    "the base's",
                    other,
                    "its own",
                    own,
                    f"Fréchet distance at {length} steps, unconditional prediction",
                )
            )
        panels[f"{size} pictures"] = curves
        heads = {"rule": "unconditional prediction"} | {str(length): f"{length} steps" for length in lengths}
        parts.append(
            "\n".join(
                [
                    f"## Fine-tuned on {size:,} pictures",
                    "",
                    pages.table(rows, heads),
                    "",
                    *(f"- {t}" for t in told),
                ]
            )
        )
    pages.lines(folder / "lengths.png", panels, x="steps of fine-tuning", y="Fréchet distance (lenet)")
    parts.append("![Fréchet distance against the length of fine-tuning](lengths.png)")
    if not quick:
        rows = [
            {
                "rule": rule,
                "chosen": results[f"best-{rule}"].values["chosen"],
                **{k: results[f"best-{rule}"].values.get(k) for k in ("fd", "precision", "recall")},
            }
            for rule in RULES
        ]
        heads = {
            "rule": "rule",
            "chosen": "at",
            "fd": "Fréchet distance",
            "precision": "precision",
            "recall": "recall",
        }
        parts.append(
            f"## Each at its best scale, longest run, {results['best-own'].settings['num']:,} samples\n\n"
            + pages.table(rows, heads)
        )
    shown = {
        f"{rule}, {length} steps": results[name].arrays["pictures"]
        for length in (lengths[0], lengths[-1])
        for rule in ("none", "own", "base")
        for _, name in [lowest(results, sizes[0], length, rule, scales, 0)]
    }
    pages.pictures(folder / "samples.png", shown)
    parts.append("![the same seeds and classes](samples.png)")
    return "\n\n".join(parts)


INTRO = """A small DiT learns five classes of Fashion-MNIST for 950 steps; two seeds of it are fine-tuned \
on the other five with a tenth of the conditions dropped, at a
constant rate, and looked at after each length. Every entry is the better of two scales (1.5 and 2.5), \
{num:,} samples with balanced classes at {steps} steps, the same seeds everywhere;
Fréchet distance in the features of the shipped `lenet-fashion` (not FID) to all 6,000 training pictures of \
the five new classes; two real sets: {real:.3f}. `none` is without
guidance, `autoguidance` is away from the model after its first hundred steps."""

page = Page("Whose unconditional prediction?", jobs, write)
