"""All guidance rules on one plot: Fréchet distance against recall and class accuracy as the scale grows, what
each costs, and each at its best scale."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from studio.model.export import export
from studio.reproduce import page as pages
from studio.reproduce import steered
from studio.reproduce.jobs import Job, Outcome, Page, Result, Unfinished
from studio.training.run import train

MODEL = "fashion-dit"
RULES: dict[str, tuple[str, tuple[float, ...]]] = {
    "none": ("", (1.0,)),
    "cfg": ("cfg={w:g}", (1.25, 1.5, 2.0, 3.0)),
    "interval": ("cfg={w:g},interval=0.2:0.8", (1.5, 2.0, 3.0)),
    "linear-schedule": ("cfg(scale={w:g},schedule=linear)", (1.25, 1.5, 2.0)),
    "rescale": ("cfg={w:g},rescale=0.7", (1.5, 2.0, 3.0)),
    "tcfg": ("tcfg,cfg={w:g}", (1.5, 2.0, 3.0)),
    "apg": ("apg(scale={w:g},norm_threshold=10,momentum=-0.5)", (1.5, 2.0, 3.0)),
    "cfg_zero_star": ("cfg_zero_star={w:g}", (1.25, 1.5, 2.0)),
    "cfg_plus_plus": ("cfg_plus_plus={w:g}", (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)),
    "prior": ("prior=fashion-ddpm,cfg={w:g}", (1.25, 1.5, 2.0)),
}
WEAK = ("autoguidance(scale={w:g},model={home}/weak-{seed}.model)", (1.5, 2.0, 3.0))
SAMPLERS = {"cfg_plus_plus": "ddim"}
# of a point on two cores, the others 1.4
MINUTES = {"none": 0.8, "interval": 1.05, "linear-schedule": 1.25, "apg": 1.2, "cfg_zero_star": 1.2}


def weak(settings: Mapping[str, Any], work: Path) -> Outcome:
    """A weaker `fashion-dit`: its config for a sixteenth of its steps, kept beside the jobs."""
    folder = work / "run"
    length = [f"train.{k}={v}" for k, v in settings.items() if k in ("steps", "batch_size")]
    changes = [
        *length,
        f"seed={settings['seed']}",
        "train.preview=false",
        "train.eval_every=0",
        "train.save_every=500",
    ]
    trained = train(MODEL, changes, out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
    if trained.interrupted:
        raise Unfinished(f"stopped at step {trained.step}")
    export(str(folder), work.parent / f"weak-{settings['seed']}.model", overwrite=True)
    return {"steps": trained.step, "threads": torch.get_num_threads()}, {}


def points(quick: bool) -> dict[str, list[tuple[str, str, float]]]:
    """Of each rule: name of the job, guidance line, scale."""
    rules = {
        **RULES,
        **{
            f"autoguidance-{seed}": (WEAK[0].replace("{seed}", str(seed)), WEAK[1])
            for seed in range(1 if quick else 2)
        },
    }
    return {
        rule: [
            (f"{rule}-{w:g}", line.replace("{w:g}", f"{w:g}"), w) for w in (scales[:1] if quick else scales)
        ]
        for rule, (line, scales) in rules.items()
    }


def jobs(quick: bool) -> list[Job]:
    length: dict[str, Any] = {"steps": 3, "batch_size": 8} if quick else {"steps": 570}
    made = [Job(f"weak-{seed}", weak, {"seed": seed, **length}, 2.1) for seed in range(1 if quick else 2)]
    size = {"num": 40, "steps": 3} if quick else {"num": 2000, "steps": 20}
    for rule, places in points(quick).items():
        sampler = {"sampler": SAMPLERS[rule]} if rule in SAMPLERS else {}
        made += [
            Job(
                name,
                steered.point,
                {"model": MODEL, "guidance": line, **sampler, **size},
                MINUTES.get(rule, 1.4),
            )
            for name, line, _ in places
        ]
    ways = {
        rule: {"guidance": places[-1][1], **({"sampler": SAMPLERS[rule]} if rule in SAMPLERS else {})}
        for rule, places in points(quick).items()
    }
    made.append(
        Job(
            "cost",
            steered.cost,
            {
                "model": MODEL,
                "ways": ways,
                "count": 8 if quick else 32,
                "steps": size["steps"],
                "rounds": 1 if quick else 3,
            },
            2.5,
        )
    )
    for rule, places in points(quick).items():
        if rule in ("none", "linear-schedule", "rescale", "autoguidance-1"):
            continue  # three of a kind with cfg, and the second seed
        among = [name for name, _, _ in places]
        made.append(
            Job(
                f"best-{rule}",
                steered.best,
                {"among": among, "num": 60 if quick else 10000},
                3.9 * MINUTES.get(rule, 1.4),
            )
        )
    return made


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("guidance", "sampler"))
    quick = "batch_size" in results["weak-0"].settings
    places = points(quick)
    _plot(
        folder / "frontier.png",
        {rule: [results[name].values for name, _, _ in found] for rule, found in places.items()},
        results["none-1"].values["fd_real"],
    )
    cost = results["cost"].values
    rows, best = [], {}
    for rule, found in places.items():
        lowest = min(found, key=lambda place: results[place[0]].values["fd"])
        best[rule] = results[lowest[0]]
        for name, line, _ in found:
            values = results[name].values
            shown = line.replace("{home}/", "") or "none"
            rows.append(
                {
                    "rule": rule,
                    "line": f"`{shown}`",
                    **{k: values.get(k) for k in steered.METRICS},
                    "cost": f"{cost[rule]:.2f}",
                }
            )
    large = [
        {
            "rule": name.removeprefix("best-"),
            "line": f"`{results[r.values['chosen']].settings['guidance'].replace('{home}/', '')}`",
            **{k: r.values.get(k) for k in steered.METRICS},
        }
        for name, r in results.items()
        if name.startswith("best-")
    ]
    heads = {"rule": "rule", "line": "guidance", **steered.METRICS}
    pages.pictures(folder / "samples.png", {rule: r.arrays["pictures"] for rule, r in best.items()})
    size = results["none-1"].settings
    return "\n\n".join(
        [
            INTRO.format(num=size["num"], steps=size["steps"], real=results["none-1"].values["fd_real"]),
            pages.table(rows, {**heads, "cost": "time / no guidance"}),
            "![Fréchet distance against recall and accuracy](frontier.png)",
            f"## Each rule at its best scale, {results['best-cfg'].settings['num']:,} samples\n\nTwo "
            f"real sets of that size: {results['best-cfg'].values['fd_real']:.3f}.",
            pages.table(large, heads),
            _verdict(results, large),
            "![the same seeds and classes, each rule at its best scale](samples.png)",
        ]
    )


def _verdict(results: Mapping[str, Result], large: list[dict[str, Any]]) -> str:
    """What plain guidance at its own best scale is compared with."""
    plain = results["best-cfg"].values["fd"]
    others = {row["rule"]: float(row["fd"]) for row in large if row["rule"] != "cfg"}
    best = min(others, key=lambda rule: others[rule])
    told = [
        f"Plain guidance at its own best scale: {plain:.3f}. "
        + ", ".join(f"{rule} {fd:.3f} ({fd / plain - 1:+.0%})" for rule, fd in others.items())
        + "."
    ]
    told.append(
        f"The best rule, {best}, is {1 - others[best] / plain:.0%} below plain guidance."
        if others[best] < plain
        else "No rule is below plain guidance at its own best scale."
    )
    if "interval" in others:
        told.append(
            f"The interval is {'below' if others['interval'] < plain else 'not below'} plain guidance and "
            "spares the second call outside it."
        )
    return "\n".join(f"- {t}" for t in told)


def _plot(path: Path, rules: Mapping[str, list[dict[str, Any]]], real: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained")
    for k, (key, text) in enumerate((("recall", "recall"), ("acc", "class accuracy"))):
        ax = figure.add_subplot(1, 2, k + 1)
        for i, (rule, values) in enumerate(rules.items()):
            ax.plot(
                [v[key] for v in values],
                [v["fd"] for v in values],
                marker="osv^D<>pX*Ph"[i % 12],
                markersize=5,
                label=rule,
                color=f"C{i % 10}",
                linestyle="-" if i < 10 else "--",
            )
        ax.axhline(real, color="black", linestyle=":", linewidth=1, label="real against real")
        ax.set(xlabel=text, ylabel="Fréchet distance (lenet)", yscale="log")
        if k == 0:
            ax.legend(fontsize=7)
    pages.save(figure, path)


INTRO = """`fashion-dit` under every rule, {num:,} samples with balanced classes at {steps} steps a point, \
the same seeds for all. Fréchet distance is in the features
of the shipped `lenet-fashion` (not FID), to the 12,000 training pictures; two real sets of that size: \
{real:.3f}. A rule is a curve as its scale grows, so compare curves,
not points: a lower distance at the same recall or accuracy. `autoguidance` uses a model trained for a \
sixteenth of the steps (two seeds of it), `prior` the unconditional
prediction of `fashion-ddpm`, which lives on another path. Time is that of sampling over that without \
guidance, all rules in turns
in one process, the largest scale of each (`cfg_plus_plus` under `ddim`, the others under the model's own \
sampler)."""

page = Page("Guidance rules on one frontier", jobs, write)
