"""Where a model of noise starts: `fashion-ddpm` under every sampler in 20 steps, from the path's own
beginning with unbounded data predictions, and with the studio's defaults (started further down, bounded)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.reproduce import page as pages
from studio.reproduce.ddpm import MODEL, SHOWN, name_of, run
from studio.reproduce.jobs import Job, Page, Result
from studio.sampling import sampler_spec
from studio.sampling.sampler_spec import LAMBDA_MIN

QUERIES = {  # a step
    "euler": 1,
    "ab2": 1,
    "midpoint": 2,
    "heun": 2,
    "rk4": 4,
    "ddim(recompute_noise=true)": 1,
    "ddpm(variance=learned_range)": 1,
    "dpmpp_2m": 1,
    "edm_heun": 2,
    "euler_maruyama": 1,
    "torchdiffeq(method=rk4)": 4,
    **{
        f"diffusers(scheduler={s}Scheduler)": 1
        for s in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep")
    },
    "diffusers(scheduler=HeunDiscreteScheduler)": 2,
}
BOUNDS: dict[str, dict[str, Any]] = {
    "before": {"lambda_min": None, "clip": None},
    "after": {"lambda_min": LAMBDA_MIN, "clip": 1.0},
}
EDGE = "at 0 or 255"


def jobs(quick: bool) -> list[Job]:
    num, steps = (40, 3) if quick else (250, 20)
    made = []
    for sampler, queries in list(QUERIES.items())[:1] if quick else QUERIES.items():
        name, options = sampler_spec.parse(sampler)
        label = name_of(sampler) + ("-rk4" if name == "torchdiffeq" else "")
        for bounds, chosen in BOUNDS.items():
            line = sampler_spec.line(name, {**options, **chosen})
            settings = {"sampler": line, "steps": steps, "num": num, "bounds": bounds, "of": sampler}
            made.append(Job(f"{label}-{bounds}", run, settings, 0.08 * steps * queries))
    return made


def write(results: Mapping[str, Result], folder: Path) -> str:
    rows: dict[str, dict[str, Any]] = {}
    for r in results.values():
        of, bounds = r.settings["of"], r.settings["bounds"]
        row = rows.setdefault(of, {"sampler": of})
        row |= {
            bounds: r.values["fd"],
            f"{bounds}, {EDGE}": r.values["edge"],
            f"{bounds}, accuracy": r.values["acc"],
        }
    columns = [f"{b}{what}" for what in ("", f", {EDGE}", ", accuracy") for b in BOUNDS]
    pages.write_csv(folder / "table.csv", list(results.values()), ("sampler", "steps", "bounds"))
    pages.pictures(folder / "grid.png", {name: r.arrays["pictures"] for name, r in results.items()})
    first = next(iter(results.values()))
    better = [of for of, row in rows.items() if row["after"] < row["before"]]
    return "\n\n".join(
        [
            f"The bundled `{MODEL}` (noise prediction, cosine table) with its default guidance, "
            f"{first.settings['num']:,} samples with balanced classes in "
            f"{first.settings['steps']} steps (of one query or more) under every sampler, the same seeds. "
            "*before*: from the path's own beginning "
            "(alpha = 4.9e-5), data predictions unbounded; *after*: grids start at log-SNR/2 = "
            f"{LAMBDA_MIN} and data predictions are bounded to the "
            "data's range, the default for a model of noise. Fréchet distance to the 12,000 training "
            "pictures in the features of the shipped "
            f"`lenet-fashion` (not FID); real pictures at that number: {first.values['fd_real']:.3f}. "
            f"*{EDGE}*: the share of such pixels in the {SHOWN} "
            "samples that are shown; *accuracy*: how often that network names the class that was asked for.",
            pages.table([*rows.values()], {"sampler": "sampler", **{c: c for c in columns}}),
            f"- Nearer to the data after than before: {len(better)} of {len(rows)} samplers.",
            "![the same seeds and classes under every sampler, before and after](grid.png)",
        ]
    )


page = Page("Where a model of noise starts", jobs, write)
