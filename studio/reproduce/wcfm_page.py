"""The page of `studio.reproduce.wcfm`: its tables, pictures and what they show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.reproduce import page as pages
from studio.reproduce.jobs import Page, Result
from studio.reproduce.wcfm import EULER, LABELLED, METHODS, PAIRS, PICTURED, TITLES, jobs, of


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("seed",))
    parts = [
        INTRO,
        *(_pair(results, pair, folder) for pair in PAIRS),
        _labels(results),
        _tilt(results["tilt"]),
        _pictures(results, folder),
    ]
    return "\n\n".join(parts)


def _pair(results: Mapping[str, Result], pair: str, folder: Path) -> str:
    group = f"points-{pair}"
    heads = {f"w2_euler{n}": f"W2, Euler {n}" for n in EULER} | {
        "w2_converged": "W2, RK4×50",
        "pe": "PE",
        "npe": "NPE",
        "ess": "ESS",
        "tilt_source": "tilt of sources",
        "tilt_data": "tilt of data",
    }
    rows = [{"method": m} | {k: of(results, group, m, k) or None for k in heads} for m in METHODS]
    floors, ends = of(results, group, "cfm", "floor"), of(results, group, "cfm", "w2sq_ends")
    curves = {m: (EULER, [of(results, group, m, f"w2_euler{n}") for n in EULER]) for m in METHODS}
    pages.lines(
        folder / f"{group}.png",
        {TITLES[pair]: curves},
        x="Euler steps",
        y="W2 to held-out points",
        levels={TITLES[pair]: pages.mean_error(floors)[0]},
    )
    seen = {m: results[f"{group}-{m}-0"].arrays for m in METHODS}
    pages.scatters(
        folder / f"{group}-samples.png",
        {f"{m}, Euler 4": a["euler4"] for m, a in seen.items()},
        seen["cfm"]["true"],
    )
    told = [
        pages.compare(m, of(results, group, m, key), "cfm", of(results, group, "cfm", key), what)
        for m in ("ot", "gibbs-2", "gibbs-3", "gibbs-5", "balanced-1")
        for key, what in (("w2_euler4", "W2 after four Euler steps"), ("w2_converged", "W2 converged"))
    ]
    told.append(
        pages.compare(
            "balanced-1",
            of(results, group, "balanced-1", "w2_converged"),
            "OT",
            of(results, group, "ot", "w2_converged"),
            "W2 converged",
        )
    )
    few, fine = (
        {
            m: pages.mean_error(of(results, group, m, k))[0]
            / pages.mean_error(of(results, group, "cfm", k))[0]
            for m in ("ot", "gibbs-3", "balanced-1")
        }
        for k in ("w2_euler4", "w2_converged")
    )
    short = "; ".join(f"{m} ×{few[m]:.2f} after four Euler steps and ×{fine[m]:.2f} converged" for m in few)
    told.insert(0, f"W2 over that of cfm, means of all seeds: {short}.")
    low = [
        m
        for m in METHODS
        if pages.mean_error(of(results, group, m, "pe"))[0] < pages.mean_error(ends)[0] * 0.95
    ]
    told.append(
        f"A path energy more than 5 % below W2² of the ends ({pages.shown(ends, 2)}), which no model with "
        f"the right ends can have: {', '.join(low)}."
        if low
        else "No method has a path energy more than 5 % below W2² of the ends."
    )
    return "\n".join(
        [
            f"## Points: {TITLES[pair]}",
            "",
            f"W2 of two true sets: {pages.shown(floors)}. W2² of source and data: {pages.shown(ends, 2)}.",
            "",
            pages.table(rows, {"method": "method", **heads}),
            "",
            *(f"- {t}" for t in told),
            "",
            f"![W2 against steps]({group}.png)",
            "",
            f"![samples after four Euler steps, true points in grey]({group}-samples.png)",
        ]
    )


def _labels(results: Mapping[str, Result]) -> str:
    heads = {
        f"{k}_{n}": f"{text}, {how}"
        for n, how in (("euler4", "Euler 4"), ("converged", "RK4×50"))
        for k, text in (("accuracy", "right class"), ("w2_class", "W2 within the class"))
    }
    rows = [{"method": m} | {k: of(results, "labelled", m, k) for k in heads} for m in LABELLED]
    told = [
        pages.compare(
            "ot-ignore",
            of(results, "labelled", "ot-ignore", key),
            other,
            of(results, "labelled", other, key),
            what,
        )
        for other in ("ot-per-class", "cfm")
        for key, what in (
            ("accuracy_converged", "Share in the right class"),
            ("w2_class_converged", "W2 within the class"),
        )
    ]
    return "\n".join(
        [
            "## Points with labels",
            "",
            "N(0, I) → eight Gaussians, the network told which. Transport that ignores labels teaches "
            "each class to start from a part of the noise.",
            "",
            "Two true sets: W2 within the class "
            f"{pages.shown(of(results, 'labelled', 'cfm', 'w2_class_real'))}.",
            "",
            pages.table(rows, {"method": "method", **heads}),
            "",
            *(f"- {t}" for t in told),
        ]
    )


def _tilt(result: Result) -> str:
    v = result.values
    row = {k: f"{v[k]:.1%}" for k in ("source", "picture", "interaction")} | {
        "picture_by_norm": f"{v['picture_by_norm']:.1%}"
    }
    heads = {
        "source": "source alone",
        "picture": "picture alone",
        "interaction": "the pair",
        "picture_by_norm": "of the picture's part, linear in its norm",
    }
    apart = v["source"] + v["picture"]
    verdict = "mostly a reweighting of sources and pictures" if apart > 0.5 else "mostly a choice among pairs"
    return "\n".join(
        [
            "## What the weight is about on pictures",
            "",
            f"The variance of log w over {result.settings['count']} × {result.settings['count']} pairs of "
            f"noise and Fashion-MNIST pictures in [−1, 1], at eps = {v['eps']:.3g} "
            f"(effective sample size {result.settings['ess']}); its standard deviation is {v['sd']:.3g}.",
            "",
            pages.table([row], heads),
            "",
            f"- {apart:.1%} of it does not depend on who is paired with whom: here the weight is {verdict}.",
        ]
    )


def _pictures(results: Mapping[str, Result], folder: Path) -> str:
    first = results["pictures-cfm-0"]
    few = [n for _, n in first.settings["samplers"]]
    heads = {"steps": "training steps"} | {f"fd@euler@{n}": f"Euler {n}" for n in few}
    rows: list[dict[str, Any]] = [
        {"method": m} | {k: of(results, "pictures", m, k) for k in heads} for m in PICTURED
    ]
    for row in rows:
        row["steps"] = f"{pages.mean_error(row['steps'])[0]:.0f}"
    curves = {m: (few, [of(results, "pictures", m, f"fd@euler@{n}") for n in few]) for m in PICTURED}
    title = "Fashion-MNIST, equal minutes"
    pages.lines(
        folder / "pictures.png",
        {title: curves},
        x="Euler steps",
        y="Fréchet distance (lenet)",
        levels={title: first.values["fd_real"]},
    )
    pages.pictures(
        folder / "pictures-samples.png", {m: results[f"pictures-{m}-0"].arrays["pictures"] for m in PICTURED}
    )
    told = [
        pages.compare(
            m,
            of(results, "pictures", m, f"fd@euler@{n}"),
            "cfm",
            of(results, "pictures", "cfm", f"fd@euler@{n}"),
            f"Fréchet distance after {n} steps",
        )
        for m in list(PICTURED)[1:]
        for n in (few[0], few[-1])
    ]
    length = (
        f"{first.settings['minutes']:g} minutes"
        if "minutes" in first.settings
        else f"{first.settings['steps']} steps"
    )
    return "\n".join(
        [
            "## Fashion-MNIST",
            "",
            f"A DiT 128 wide, {length} a run, otherwise the recipe of `fashion-dit`, no guidance, "
            f"{first.settings['num']} samples with balanced classes, Fréchet distance to the "
            "12,000 training pictures in the features of the shipped `lenet-fashion` (not FID); two real "
            f"sets of that size: {first.values['fd_real']:.3f}. "
            "Weights have effective sample size 0.7; transport is within classes.",
            "",
            pages.table(rows, {"method": "method", **heads}),
            "",
            *(f"- {t}" for t in told),
            "",
            "![Fréchet distance against steps](pictures.png)",
            "",
            f"![samples of seed 0, Euler {few[-1]}](pictures-samples.png)",
        ]
    )


INTRO = """W-CFM keeps sources and data independently paired and multiplies each pair's loss by exp(−|x − \
y|/eps). That is flow matching on an entropic
transport plan, but between *tilted* ends: points that are close to everything count more. `balanced` \
(ours, not in the paper) removes the tilt inside each
batch by Sinkhorn scalings. `cfm` is the independent pairing, `ot` the exact transport of the batch, \
`gibbs-3` W-CFM at eps 3, `balanced-1` the balanced form at 1.

In the plane: an MLP 3×64 with SELU, Adam 1e-3 (constant for 70 %, then linearly to 0), batch 256, the same \
weights at the start, batches and times for all
methods of a seed. W2 is exact, 1,500 samples against 1,500 held-out points. **NPE is no measure of quality \
by itself**: a tilt lowers the path energy PE *through*
W2² of the ends, so it stands beside PE and W2. ESS is the effective sample size of the weights, tilts are \
relative variances inside a batch."""
page = Page("Weighted conditional flow matching: straight, cheap, tilted", jobs, write)
