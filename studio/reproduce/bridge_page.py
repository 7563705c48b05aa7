"""The page of `studio.reproduce.bridge`: its tables, pictures and what they show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.reproduce import gaussians, restoring
from studio.reproduce import page as pages
from studio.reproduce.bridge import jobs
from studio.reproduce.jobs import Page, Result


def of(results: Mapping[str, Result], group: str, key: str) -> list[float]:
    """A number of all seeds of a group of jobs, in their order."""
    found = [
        (r.settings.get("seed", 0), r.values)
        for r in results.values()
        if r.name == group or r.name.rpartition("-")[0] == group
    ]
    return [float(values[key]) for _, values in sorted(found, key=lambda pair: pair[0]) if key in values]


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("method", "seed"))
    dims = sorted({r.settings["dim"] for r in results.values() if "dim" in r.settings})
    return "\n\n".join(
        [
            INTRO,
            *(_gaussian(results, dim) for dim in dims),
            _points(results, folder),
            _restore(results, folder),
            _emoji(results, folder),
        ]
    )


def _gaussian(results: Mapping[str, Result], dim: int) -> str:
    heads = {
        "mean": "mean",
        "cov": "cov",
        "cross": "cross (SDE)",
        "pairing": "pairing",
        "mean_flow": "mean (flow)",
        "cov_flow": "cov (flow)",
    }
    rows = []
    for method in ("exact", *gaussians.METHODS):
        row: dict[str, Any] = {"method": method} | {
            k: of(results, f"gaussian-{dim}-{method}", k) or None for k in heads
        }
        if method in ("cfm", "ot", "sb-cfm"):
            row["cross"] = None  # a flow is no coupling of its own
        rows.append(row)
    told = [
        pages.compare(
            m,
            of(results, f"gaussian-{dim}-{m}", "cov"),
            "sb-cfm",
            of(results, f"gaussian-{dim}-sb-cfm", "cov"),
            "Covariance error",
        )
        for m in ("sf2m", "dsbm-imf", "dsbm-ipf")
    ]
    heading = f"## Gaussians in {dim} dimensions"
    return "\n".join(
        [heading, "", pages.table(rows, {"method": "method", **heads}), "", *(f"- {t}" for t in told)]
    )


def _points(results: Mapping[str, Result], folder: Path) -> str:
    heads = {"w2_bridge_sde": "W2, SDE", "w2_heun": "W2, flow", "pe": "path energy of the flow"}
    rows = [
        {"method": m} | {k: of(results, f"points-{m}", k) or None for k in heads} for m in gaussians.METHODS
    ]
    seen = {m: results[f"points-{m}-0"].arrays for m in gaussians.METHODS}
    panels = {
        f"{m}, {'SDE' if 'bridge_sde' in a else 'flow'}": a.get("bridge_sde", a["heun"])
        for m, a in seen.items()
    }
    pages.scatters(folder / "points.png", panels, seen["cfm"]["true"], columns=3)
    floor, ends = of(results, "points-cfm", "floor"), of(results, "points-cfm", "w2sq_ends")
    told = [
        pages.compare(
            m,
            of(results, f"points-{m}", "w2_heun"),
            "CFM",
            of(results, "points-cfm", "w2_heun"),
            "W2 of the flow",
        )
        for m in list(gaussians.METHODS)[1:]
    ]
    return "\n".join(
        [
            "## Moons → eight Gaussians",
            "",
            f"W2 of two true sets: {pages.shown(floor)}; W2² of source and data: {pages.shown(ends, 2)}.",
            "",
            pages.table(rows, {"method": "method", **heads}),
            "",
            *(f"- {t}" for t in told),
            "",
            "![samples, true points in grey](points.png)",
        ]
    )


def _restore(results: Mapping[str, Result], folder: Path) -> str:
    floor = results["restore-untrained"].values
    first = results["restore-i2sb-0"].settings
    few = first["few"]
    parts = [
        "## Restoring Fashion-MNIST (paired, I²SB)",
        "",
        RESTORE.format(num=first["num"], steps=first["steps"]),
        "",
    ]
    for kind, title, plain in (
        ("down", "4× down-sampled", "bicubic"),
        ("hole", "a hole in the middle", "mean fill"),
    ):
        rows = [{"method": plain, "steps": "–", "psnr": floor[f"{kind}-psnr"], "fd": floor[f"{kind}-fd"]}]
        for method in (*restoring.HEADS, *(["bundled"] if "restore-bundled" in results else [])):
            group = f"restore-{method}"
            for steps in results[group if group in results else f"{group}-0"].settings["few"]:
                rows.append(
                    {
                        "method": method,
                        "steps": steps,
                        "psnr": of(results, group, f"{kind}-psnr@{steps}"),
                        "fd": of(results, group, f"{kind}-fd@{steps}"),
                    }
                )
        told = [
            pages.compare(
                f"i2sb in {few[-1]} steps",
                of(results, "restore-i2sb", f"{kind}-{k}@{few[-1]}"),
                "the regression",
                of(results, "restore-regression", f"{kind}-{k}@1"),
                what,
            )
            for k, what in (("psnr", "PSNR"), ("fd", "Fréchet distance"))
        ]
        parts += [
            f"### {title}",
            "",
            pages.table(
                rows, {"method": "method", "steps": "steps", "psnr": "PSNR, dB", "fd": "Fréchet distance"}
            ),
            "",
            *(f"- {t}" for t in told),
            "",
        ]
    shown = {
        "damaged": "restore-untrained",
        "regression": "restore-regression-0",
        f"i2sb, {few[-1]} steps": "restore-i2sb-0",
        "clean": "restore-untrained",
    }
    for kind in restoring.KINDS:
        keys = (kind, f"{kind}@1", f"{kind}@{few[-1]}", "clean")
        pages.pictures(
            folder / f"restore-{kind}.png",
            {name: results[job].arrays[key] for (name, job), key in zip(shown.items(), keys)},
        )
        parts.append(f"![{kind}](restore-{kind}.png)\n")
    parts.append(f"Two sets of real pictures (test against training): {floor['fd_real']:.3f}.")
    return "\n".join(parts)


def _emoji(results: Mapping[str, Result], folder: Path) -> str:
    floor = results["emoji-untrained"].values
    ways = [f"{s}@{n}" for s, n in results["emoji-sf2m-0"].settings["ways"]]
    rows: list[dict[str, Any]] = [
        {"method": who, "way": "–"} | {k: floor[f"{k}_{who}"] for k in ("rmse", "found", "energy")}
        for who in ("identity", "random")
    ]
    methods = ["sf2m", "cfm", "dsbm", *(["bundled"] if "emoji-bundled" in results else [])]
    for method in methods:
        rows += [
            {"method": method, "way": way}
            | {k: of(results, f"emoji-{method}", f"{k}@{way}") for k in ("rmse", "found", "energy")}
            for way in ways
        ]
    # the bundled model's own sampler is the SDE
    shown = {m: ways[-1] if m == "bundled" or len(ways) == 1 else ways[-2] for m in methods}
    told = []
    for method, way in shown.items():
        values = of(results, f"emoji-{method}", f"rmse@{way}")
        told.append(
            pages.compare(
                method,
                values,
                "identity",
                [floor["rmse_identity"]] * len(values),
                f"Distance to the true partner ({way})",
            )
        )
    pages.pictures(
        folder / "emoji.png",
        {"Noto": results["emoji-untrained"].arrays["noto"]}
        | {
            f"{m}, {way.partition('(')[0]}": results[
                f"emoji-{m}" if m == "bundled" else f"emoji-{m}-0"
            ].arrays[way]
            for m, way in shown.items()
        }
        | {"Twemoji": results["emoji-untrained"].arrays["twemoji"]},
    )
    heads = {
        "method": "method",
        "way": "sampler@steps",
        "rmse": "RMSE to the partner",
        "found": "partner found",
        "energy": "energy distance",
    }
    return "\n".join(
        [
            "## Noto → Twemoji (unpaired)",
            "",
            EMOJI_TEXT.format(held_out=floor["held_out"], steps=results["emoji-sf2m-0"].settings["steps"]),
            "",
            pages.table(rows, heads),
            "",
            *(f"- {t}" for t in told),
            "",
            "![emoji](emoji.png)",
        ]
    )


INTRO = """A Schrödinger bridge is the stochastic process that carries one distribution to another and is \
nearest to a given Brownian motion. `sb-cfm` and `sf2m`
pair each batch by entropic transport (reg = 2 sigma² on squared distances) and regress the flow, or flow \
and score; `dsbm` alternates two drifts, each trained on
pairs that the other has simulated (from independent pairs, `imf`, or from the reference process, `ipf`); \
`cfm` and `ot` are flows without noise.

Errors between Gaussians are against the closed form, the largest over t = 0, ¼, ½, ¾, 1 from 10⁵ fresh \
sources: of a mean's coordinate (absolute), of a covariance and
of the cross-covariance of the two ends (relative, Frobenius). `exact` walks the closed form's own drift, \
so it shows what sampling alone costs. The network is an MLP
of two residual blocks of 128, 3,000 steps of batch 512, twice as many for the two networks of `dsbm`, in \
twelve phases with 50,000 pairs in five dimensions, eight with 20,000 in twenty."""
RESTORE = """{num} test pictures, each damaged in two ways; one network for both. All are trained for \
{steps} steps on the same pairs: `i2sb` and its noiseless form
predict the way that is left, the regression the picture itself. `bundled` is the model `fashion-restore`. \
A regression may win PSNR, since it predicts the mean of all pictures that fit; that is what it is for."""
EMOJI_TEXT = """3,382 emoji of each studio, never told which belong together, {steps} steps; {held_out} \
pairs whose base code points were held out tell how near a translation comes to the
partner's drawing. Much of that distance cannot be known from the Noto drawing: another pose, another \
colour."""
page = Page("Schrödinger bridges", jobs, write)
