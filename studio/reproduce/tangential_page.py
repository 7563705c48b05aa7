"""The page of `studio.reproduce.tangential`: its tables, pictures and what they show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.reproduce import page as pages
from studio.reproduce import steered
from studio.reproduce.jobs import Page, Result
from studio.reproduce.tangential import MODELS, SCALES, SPACES, jobs

HEADS = {
    "space": "TCFG in the space of",
    "scale": "w",
    "half": "to CFG((1 + w)/2)",
    "same": "to CFG(w)",
    "cfg": "between the two CFGs",
}


def of(results: Mapping[str, Result], group: str, key: str) -> list[float]:
    """A number of all seeds."""
    return [float(r.values[key]) for r in results.values() if r.name.rpartition("-")[0] == group]


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("model", "guidance", "seed"))
    return "\n\n".join(
        [INTRO, _high(results), _moons(results), *(_model(results, model, folder) for model in MODELS)]
    )


def _high(results: Mapping[str, Result]) -> str:
    scales = results["high-0"].settings["scales"]
    rows = [
        {
            "space": space,
            "scale": f"{w:g}",
            "half": of(results, "high", f"{space}-half@{w}"),
            "same": of(results, "high", f"{space}-same@{w}"),
            "cfg": of(results, "high", f"cfg@{w}"),
        }
        for space in SPACES[:3]
        for w in scales
    ]
    told = [
        pages.compare(
            "TCFG(w)",
            of(results, "high", f"noise-half@{w}"),
            "CFG((1 + w)/2) from CFG(w)",
            of(results, "high", f"cfg@{w}"),
            f"Distance to CFG((1 + w)/2) at w = {w:g}",
        )
        for w in scales
    ]
    size = results["high-0"].settings
    return "\n".join(
        [
            f"## Exact scores in {size['dim']} dimensions",
            "",
            f"Ten Gaussians of deviation 0.3, {size['steps']} DDIM steps, relative distance between "
            "samples of the same noise.",
            "",
            pages.table(rows, HEADS),
            "",
            *(f"- {t}" for t in told),
        ]
    )


def _moons(results: Mapping[str, Result]) -> str:
    scales = results["moons-0"].settings["scales"]
    names = {"cfg": "CFG(w)", "tcfg": "TCFG(w)", "half": "CFG((1 + w)/2)"}
    rows: list[dict[str, Any]] = [
        {"method": "no guidance", "scale": "–", "w2": of(results, "moons", "w2-plain")}
    ]
    rows += [
        {
            "method": text,
            "scale": f"{w:g}",
            "w2": of(results, "moons", f"w2-{k}@{w}"),
            "own": of(results, "moons", f"own-{k}@{w}"),
        }
        for w in scales
        for k, text in names.items()
    ]
    heads = {"method": "method", "scale": "w", "w2": "W2 to the moon", "own": "nearer to it"}
    told = [
        pages.compare(
            "TCFG(w)",
            of(results, "moons", f"w2-tcfg@{w}"),
            f"{names[k]}",
            of(results, "moons", f"w2-{k}@{w}"),
            f"W2 at w = {w:g}",
        )
        for w in scales
        for k in ("cfg", "half")
    ]
    return "\n".join(
        ["## Two moons, exact scores", "", pages.table(rows, heads), "", *(f"- {t}" for t in told)]
    )


def _model(results: Mapping[str, Result], model: str, folder: Path) -> str:
    found = {
        r.settings["guidance"]: r
        for r in results.values()
        if r.settings.get("model") == model and "guidance" in r.settings
    }
    first = next(iter(found.values()))
    rows = [
        {"line": f"`{line}`", **{k: r.values.get(k) for k in steered.METRICS}} for line, r in found.items()
    ]
    curves = {
        name: (xs, [[found[line.format(w)].values["fd"]] for w in xs])
        for name, line in (("CFG", "cfg={:g}"), ("TCFG", "tcfg,cfg={:g}"))
        for xs in ([w for w in sorted({*SCALES, *((1 + w) / 2 for w in SCALES)}) if line.format(w) in found],)
    }
    shifted = ([(1 + w) / 2 for w in curves["TCFG"][0]], curves["TCFG"][1])
    pages.lines(
        folder / f"{model}.png",
        {model: {**curves, "TCFG, drawn at (1 + w)/2": shifted}},
        x="scale",
        y="Fréchet distance (lenet)",
        levels={model: first.values["fd_real"]},
    )
    pages.pictures(
        folder / f"{model}-samples.png",
        {line: r.arrays["pictures"] for line, r in found.items() if "=1." not in line or len(found) < 8},
    )
    same = results[f"alike-{model}"]
    alike_rows = [
        {
            "space": space,
            "scale": f"{w:g}",
            "half": same.values[f"{space}-half@{w}"],
            "same": same.values[f"{space}-same@{w}"],
            "cfg": same.values[f"cfg@{w}"],
        }
        for space in SPACES
        for w in same.settings["scales"]
    ]
    best = {name: min(zip(ys, xs)) for name, (xs, ys) in curves.items()}
    told = "; ".join(f"{name} {y[0]:.3f} at w = {x:g}" for name, (y, x) in best.items())
    return "\n".join(
        [
            f"## {model}",
            "",
            f"{first.settings['num']:,} samples with balanced classes at {first.settings['steps']} "
            f"steps, the same seeds everywhere; two real sets: {first.values['fd_real']:.3f}.",
            "",
            pages.table(rows, {"line": "guidance", **steered.METRICS}),
            "",
            f"- Lowest Fréchet distance: {told}.",
            "",
            f"Mean difference of {same.settings['count']} pictures of the same seeds, in grey levels of 255:",
            "",
            pages.table(alike_rows, HEADS),
            "",
            f"![Fréchet distance against the scale]({model}.png)",
            "",
            f"![the same seeds and classes]({model}-samples.png)",
        ]
    )


INTRO = """TCFG keeps of the unconditional prediction only its part along the first singular vector of the \
pair. Where conditional and unconditional prediction have the
same norm this part is exactly their mean, and TCFG at scale w is plain guidance at (1 + w)/2; predictions \
of the noise nearly have, predictions of data or velocity
do not. So TCFG is compared with plain guidance at the same scale *and* at the matched one. Fréchet \
distances are in the features of the shipped
`lenet-fashion` (not FID), to the 12,000 training pictures."""
page = Page("Tangential damping at matched strength", jobs, write)
