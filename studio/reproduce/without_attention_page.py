"""The page of `studio.reproduce.without_attention`: its tables, pictures and what they show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from studio.reproduce import page as pages
from studio.reproduce.jobs import Page, Result
from studio.reproduce.without_attention import NETWORKS, SHARES, jobs


def of(results: Mapping[str, Result], group: str, key: str) -> list[float]:
    """A number of all seeds."""
    return [float(r.values[key]) for r in results.values() if r.name.rpartition("-")[0] == group]


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("network", "seed"))
    first = results["fashion-DiT-0"]
    parts = [
        INTRO.format(
            sizes=", ".join(
                f"{n} {of(results, f'fashion-{n}', 'parameters')[0] / 1e6:.2f} M" for n in NETWORKS
            ),
            real=first.values["fd_real"],
            num=first.settings["num"],
        )
    ]
    groups = {
        "fashion": ("Fashion-MNIST, 28×28", ("fd", "Fréchet distance")),
        "emoji": ("Twemoji, 32×32", ("energy", "energy distance")),
    }
    for group, (title, (key, text)) in groups.items():
        if f"{group}-DiT-0" in results:
            parts.append(_section(results, group, title, key, text, folder))
    return "\n\n".join(parts)


def _section(results: Mapping[str, Result], group: str, title: str, key: str, text: str, folder: Path) -> str:
    measures = {key: text, **({"acc": "class accuracy"} if group == "fashion" else {})}
    rows = []
    for network in NETWORKS:
        name = f"{group}-{network}"
        row: dict[str, Any] = {
            "network": network,
            **{f"{key}@{s}": of(results, name, f"{key}@{s}") for s in SHARES},
        }
        row |= {"acc": of(results, name, "acc@1.0")} if group == "fashion" else {}
        row |= {
            "held_out": of(results, name, "held_out"),
            "steps": f"{np.mean(of(results, name, 'steps')):.0f}",
        }
        rows.append(
            {
                **row,
                "ms": f"{1e3 * np.mean(of(results, name, 'seconds_per_step')):.0f}",
                "kept": f"{np.mean(of(results, name, 'kept')):.0f}",
            }
        )
    _curves(results, group, measures, folder / f"{group}.png")
    pages.pictures(
        folder / f"{group}-samples.png", {n: results[f"{group}-{n}-0"].arrays["pictures"] for n in NETWORKS}
    )
    heads = {
        "network": "network",
        **{f"{key}@{s}": f"{text} at {s:.0%} of the minutes" for s in SHARES},
        **({"acc": "class accuracy"} if group == "fashion" else {}),
        "held_out": "held-out loss",
        "steps": "steps",
        "ms": "ms a step",
        "kept": "MB kept a step",
    }
    told = [
        pages.compare(
            n,
            of(results, f"{group}-{n}", f"{key}@1.0"),
            "DiT",
            of(results, f"{group}-DiT", f"{key}@1.0"),
            f"{text[0].upper()}{text[1:]} at the end",
        )
        for n in NETWORKS
        if n != "DiT"
    ]
    chosen_by = (f"{key}@1.0", text) if group == "fashion" else ("held_out", "held-out loss")
    real = EMOJI_NOTE.format(of(results, "emoji-DiT", "energy_real")[0]) if group == "emoji" else ""
    return "\n".join(
        [
            f"## {title}",
            "",
            f"{results[f'{group}-DiT-0'].settings.get('minutes', 0):g} minutes a run.{real}",
            "",
            pages.table(rows, heads),
            "",
            *(f"- {t}" for t in told),
            f"- {_by_step(results, group)}",
            f"- {_verdict(results, group, *chosen_by)}",
            "",
            f"![curves against minutes and steps]({group}.png)",
            "",
            f"![the same seeds]({group}-samples.png)",
        ]
    )


def _curves(results: Mapping[str, Result], group: str, measures: Mapping[str, str], path: Path) -> None:
    """Measures and the held-out loss, a row each, against minutes and against steps; a line for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 3.4 * (len(measures) + 1)), dpi=110, layout="constrained")
    axes = figure.subplots(len(measures) + 1, 2, sharey="row")
    for result in (r for r in results.values() if r.name.startswith(group)):
        network, v = result.settings["network"], result.values
        style: dict[str, Any] = {
            "color": f"C{list(NETWORKS).index(network)}",
            "marker": "osv"[list(NETWORKS).index(network)],
            "markersize": 4,
        }
        style |= {"label": network} if result.settings["seed"] == 0 else {"linestyle": "--"}
        for row, key in enumerate(measures):
            for column, by in enumerate(("minutes", "step")):
                axes[row, column].plot(
                    [v[f"{by}@{s}"] for s in SHARES], [v[f"{key}@{s}"] for s in SHARES], **style
                )
        for column in (0, 1):
            axes[-1, column].plot(
                result.arrays["losses"][:, 1 - column], result.arrays["losses"][:, 2], **style
            )
    for row, name in enumerate([*measures.values(), "held-out loss"]):
        axes[row, 0].set(ylabel=name, xlabel="minutes", yscale="linear" if "accuracy" in name else "log")
        axes[row, 1].set(xlabel="steps")
        axes[row, 0].yaxis.set_major_formatter("{x:g}")
        axes[row, 0].yaxis.set_minor_formatter("{x:g}")
        axes[row, 0].legend(fontsize=7)
    pages.save(figure, path)


def _by_step(results: Mapping[str, Result], group: str) -> str:
    """Held-out losses after the last number of steps at which all runs were looked at."""
    curves = {
        n: [r.arrays["losses"] for r in results.values() if r.name.rpartition("-")[0] == f"{group}-{n}"]
        for n in NETWORKS
    }
    step = max(
        set.intersection(*(set(c[:, 0].tolist()) for own in curves.values() for c in own)), default=None
    )
    if step is None:
        return "No number of steps was reached by all."
    told = ", ".join(
        f"{n} {pages.shown([float(c[c[:, 0] == step][0, 2]) for c in own])}" for n, own in curves.items()
    )
    return f"Held-out loss after equal steps, {step:.0f}: {told}."


def _verdict(results: Mapping[str, Result], group: str, key: str, text: str) -> str:
    """Which to choose at this size, by the numbers."""
    ends = {n: float(np.mean(of(results, f"{group}-{n}", key))) for n in NETWORKS}
    cost = {n: float(np.mean(of(results, f"{group}-{n}", "seconds_per_step"))) for n in NETWORKS}
    best = min(ends, key=lambda n: ends[n])
    others = ", ".join(
        f"{n} {ends[n] / ends[best]:.2f} times that at {cost[n] / cost[best]:.2f} times the cost of a step"
        for n in NETWORKS
        if n != best
    )
    return (
        "To choose at this size and on two cores, by the means of the seeds (above stands which "
        f"differences are clear): {best}, the lowest {text} at equal minutes; {others}."
    )


INTRO = """{sizes}: three trunks in the same convolutional frame, trained for the same wall-clock minutes \
on the same data with the same objective and optimiser. Fréchet distance and
accuracy are of {num:,} samples with balanced classes without guidance, in the features of the shipped \
`lenet-fashion` (not FID); two real sets of that size: {real:.3f}. At 49 tokens (28×28)
and 64 (32×32) attention is cheap, so this says what a step teaches, not what long sequences cost; for that \
see the page `linear-cost`."""
EMOJI_NOTE = """ Real drawings held out against those trained on: {:.4f}. The energy distance of so few and \
so different drawings is a rough measure that need not fall while the loss
does; the choice below goes by the held-out loss."""
page = Page("Backbones with and without attention", jobs, write)
