"""Noise-unconditional models (Sun et al. 2502.13129): what is lost when the network is not told the noise
level?

``conditioning: none`` keeps everything, the sampler's schedule and EDM's scales too, but the network's clock
stands still. It then learns the mean over all levels that its input could be at. In many dimensions the level
can be read off the input, so little should be lost; in two it cannot.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samplers import Denoiser, build_objective
from studio.data import load_data
from studio.metrics.point_sets import wasserstein2
from studio.metrics.time_posterior import of_data, of_gaussian
from studio.reproduce import page as pages
from studio.reproduce import pictures, toy
from studio.reproduce.jobs import Job, Outcome, Page, Result

VP, EDM_TIMES = {"name": "vp", "schedule": "linear"}, {"name": "log_normal", "mean": -1.2, "std": 1.2}
CHURN = "edm_heun(s_churn=10)"
RECIPES: dict[str, dict[str, Any]] = {
    "noise": {"objective": {"path": VP, "parameterization": "noise"}, "samplers": ("ddim", "ddpm")},
    "data": {"objective": {"path": VP, "parameterization": "data"}, "samplers": ("ddim", "ddpm")},
    "velocity": {
        "objective": {"path": "linear", "parameterization": "velocity"},
        "samplers": ("ab2", "euler_maruyama"),
    },
    "edm": {
        "objective": {"path": "edm", "parameterization": "edm", "times": EDM_TIMES},
        "samplers": ("edm_heun", CHURN),
    },
}
STEPS = {"ddim": 20, "ab2": 20, "ddpm": 40, "euler_maruyama": 40, "edm_heun": 10, CHURN: 20}
WITH, WITHOUT = "time", "none"
KINDS = ("deterministic", "stochastic")
SCALE = 3.6  # about the standard deviation of the eight Gaussians; the networks see data of scale 1
DIMS, STD = (2, 16, 64, 784, 3072), 0.5  # of Gaussians whose noisy samples are asked for their time
CLOCK = {"noise": 1000.0, "data": 1000.0, "velocity": 1000.0, "edm": 1.0}


def objective_of(recipe: str, conditioning: str, *, sigma_data: float) -> dict[str, Any]:
    """A recipe's objective with or without t. EDM's scales take the data's standard deviation."""
    made = RECIPES[recipe]["objective"]
    options = {"sigma_data": sigma_data} if recipe == "edm" else {}
    return {
        **made,
        "parameterization": {"name": made["parameterization"], "conditioning": conditioning, **options},
    }


def points(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One recipe on the eight Gaussians with one seed: W2 of each sampler."""
    import torch

    torch.set_num_threads(1)
    objective, seed = build_objective(**settings["objective"]), settings["seed"]
    net = toy.ToyNet(seed=seed, clock=settings["clock"])
    pool = toy.ends("normal", "eight_gaussians", seed, settings["steps"] * settings["batch"], scale=SCALE)
    toy.train(objective, net, pool, steps=settings["steps"], batch=settings["batch"])
    denoiser = Denoiser(net.eval().requires_grad_(False), objective.path, objective.parameterization)
    test = toy.ends("normal", "eight_gaussians", seed, settings["count"], toy.TEST)
    values: dict[str, Any] = {
        "floor": toy.floor("eight_gaussians", seed=seed, count=settings["count"]),
        "threads": 1,
        "dtype": "fp32",
    }
    arrays = {"true": test.data.numpy()} if seed == 0 else {}
    for sampler, steps in settings["samplers"]:
        made = SCALE * toy.sample(
            denoiser, objective.path.prior_scale * test.source, sampler, steps, seed=seed
        )
        values[f"w2@{sampler}@{steps}"] = wasserstein2(made, test.data)
        if seed == 0:
            arrays[f"{sampler}@{steps}"] = made.numpy()
    return values, arrays


def clock(settings: Mapping[str, Any], work: Path) -> Outcome:
    """How well a noisy sample tells its time: the deviation of t given z, of Gaussians of several dimensions
    exactly, of the points and of the pictures by a kernel estimate."""
    draws = settings["draws"]
    gaussians = {f"gaussian@{d}": of_gaussian(d, STD, draws=8 * draws) for d in settings["dims"]}
    dots = toy.ends("normal", "eight_gaussians", 0, settings["count"], scale=SCALE).data.numpy()
    shown = load_data({"name": "fashion-mnist"}).train.values[: settings["count"]] / 127.5 - 1
    return {**gaussians, "points": of_data(dots, draws=draws), "pictures": of_data(shown, draws=draws)}, {}


def jobs(quick: bool) -> list[Job]:
    """Points first, then pictures. Minutes are for two cores."""
    size = {"steps": 40, "batch": 64, "count": 160} if quick else {"steps": 6000, "batch": 256, "count": 1500}
    length = {"steps": 4, "batch_size": 16, "num": 40} if quick else {"steps": 850, "num": 2000}
    asked = {
        "draws": 20 if quick else 500,
        "count": 200 if quick else 4000,
        "dims": DIMS[: 2 if quick else None],
    }
    made = [Job("clock", clock, asked, 1)]
    for group, seeds, minutes in (("points", 3, 0.3), ("pictures", 2, 5.1)):
        for seed in range(1 if quick else seeds):
            for recipe, options in RECIPES.items():
                samplers = [[s, 3 if quick else STEPS[s]] for s in options["samplers"]]
                for conditioning in (WITH, WITHOUT):
                    settings: dict[str, Any] = {"seed": seed, "samplers": samplers}
                    if group == "points":
                        settings |= {
                            "objective": objective_of(recipe, conditioning, sigma_data=1.0),
                            "clock": CLOCK[recipe],
                            **size,
                        }
                    else:
                        settings |= {
                            "objective": objective_of(recipe, conditioning, sigma_data=0.7),
                            **length,
                        }
                    run = points if group == "points" else pictures.run
                    made.append(Job(f"{group}-{recipe}-{conditioning}-{seed}", run, settings, minutes))
    return made


def numbers(
    results: Mapping[str, Result], group: str, recipe: str, conditioning: str, kind: int, measure: str
) -> list[float]:
    """Of all seeds; ``kind`` 0 is the deterministic sampler, 1 the stochastic one."""
    found = [r for r in results.values() if r.name.rpartition("-")[0] == f"{group}-{recipe}-{conditioning}"]
    picked = [(r, r.settings["samplers"][kind]) for r in sorted(found, key=lambda r: r.settings["seed"])]
    return [float(r.values[f"{measure}@{sampler}@{steps}"]) for r, (sampler, steps) in picked]


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("seed",))
    first = results["points-noise-time-0"]
    seen = {
        f"{recipe}, {name}: {s}": results[f"points-{recipe}-{c}-0"].arrays[f"{s}@{n}"]
        for c, name in ((WITH, "with t"), (WITHOUT, "without"))
        for recipe in RECIPES
        for s, n in results[f"points-{recipe}-{c}-0"].settings["samplers"]
    }
    pages.scatters(folder / "points-samples.png", seen, first.arrays["true"], columns=8)
    rows = {
        f"{recipe}, {name}": results[f"pictures-{recipe}-{c}-0"].arrays["pictures"]
        for recipe in RECIPES
        for c, name in ((WITH, "with t"), (WITHOUT, "without"))
    }
    pages.pictures(folder / "pictures-samples.png", rows)
    picture = results["pictures-noise-time-0"]
    floors = [r.values["floor"] for r in results.values() if r.name.startswith("points-noise-time")]
    return "\n\n".join(
        [
            INTRO,
            told_times(results["clock"]),
            f"## Fashion-MNIST\n\nA DiT 128 wide, {picture.settings['steps']} steps a run, no guidance, "
            f"{picture.settings['num']} samples with balanced classes, Fréchet distance to the 12,000 "
            "training "
            "pictures in the features of the shipped `lenet-fashion` (not FID); two real sets of that "
            f"size: {picture.values['fd_real']:.3f}.",
            _section(results, "pictures", "fd", "Fréchet distance", folder),
            "![samples of seed 0, stochastic samplers](pictures-samples.png)",
            f"## Points\n\nN(0, I) → eight Gaussians in the plane, MLP 3×64, {first.settings['steps']} "
            f"steps; W2 of {first.settings['count']} samples to as many held-out points; two true "
            f"sets: {pages.shown(floors)}.",
            _section(results, "points", "w2", "W2", folder),
            "![samples of seed 0, true points in grey](points-samples.png)",
            _verdict(results),
        ]
    )


def told_times(result: Result) -> str:
    """The section on how well a noisy sample tells its time."""
    rows = [
        {"of": f"N(0, {STD}² I) in {d} dimensions", "told": f"{result.values[f'gaussian@{d}']:.3f}"}
        for d in result.settings["dims"]
    ]
    rows += [
        {"of": "eight Gaussians in the plane", "told": f"{result.values['points']:.3f}"},
        {"of": "Fashion-MNIST, 784 dimensions", "told": f"{result.values['pictures']:.3f}"},
    ]
    return "\n\n".join(
        [
            "## What a noisy sample tells of its time",
            "Of z = (1 − t) x + t ε with t uniform, the deviation of t given z, averaged over z: at 0 the "
            "network need not be told t, at 0.289 nothing tells it. Exact for Gaussians, a kernel estimate "
            f"for data (`studio diagnose time-posterior`, {result.settings['draws']} noisy samples).",
            pages.table(rows, {"of": "x", "told": "deviation of t given z"}),
        ]
    )


def _section(results: Mapping[str, Result], group: str, measure: str, what: str, folder: Path) -> str:
    """Table, plot and sentences of points or pictures."""
    rows, told, groups = [], [], {}
    for recipe in RECIPES:
        for kind, how in enumerate(KINDS):
            sampler, steps = results[f"{group}-{recipe}-{WITH}-0"].settings["samplers"][kind]
            a, b = (numbers(results, group, recipe, c, kind, measure) for c in (WITHOUT, WITH))
            rows.append(
                {
                    "network": recipe,
                    "sampler": f"{sampler}, {steps} steps",
                    "kind": how,
                    "with": b,
                    "without": a,
                    "ratio": f"{ratio(a, b):.2f}",
                }
            )
            told.append("- " + pages.compare("without t", a, "with t", b, f"{recipe}, {sampler}: {what}"))
            groups[f"{recipe}\n{how}"] = {"with t": b, "without t": a}
    pages.bars(folder / f"{group}.png", groups, y=what)
    heads = {
        "network": "network emits",
        "sampler": "sampler",
        "kind": "",
        "with": f"{what} with t",
        "without": "without t",
        "ratio": "without / with",
    }
    return "\n".join([pages.table(rows, heads), "", *told, "", f"![{what} with and without t]({group}.png)"])


def ratio(a: list[float], b: list[float]) -> float:
    """Of the means."""
    return pages.mean_error(a)[0] / pages.mean_error(b)[0]


def _verdict(results: Mapping[str, Result]) -> str:
    """What the ratios say of the paper's three statements."""
    factors = {
        (g, r, k): ratio(*(numbers(results, g, r, c, k, m) for c in (WITHOUT, WITH)))
        for g, m in (("pictures", "fd"), ("points", "w2"))
        for r in RECIPES
        for k in range(len(KINDS))
    }
    order = sorted(RECIPES, key=lambda r: factors["pictures", r, 0])
    listed = ", ".join(f"{r} (×{factors['pictures', r, 0]:.2f})" for r in order)
    told = [f"On pictures with deterministic samplers, from least to most lost without t: {listed}."]
    for recipe in RECIPES:
        det, sto = (factors["pictures", recipe, k] for k in range(2))
        word = "less" if sto < det else "more"
        told.append(
            f"On pictures, {recipe} loses {word} with the stochastic sampler (×{sto:.2f}) than with the "
            f"deterministic one (×{det:.2f})."
        )
    worst = {g: max(v for (group, _, _), v in factors.items() if group == g) for g in ("pictures", "points")}
    mean = {
        g: sum(v for (group, _, _), v in factors.items() if group == g) / (2 * len(RECIPES))
        for g in ("pictures", "points")
    }
    more = "more" if mean["points"] > mean["pictures"] else "less"
    told.append(
        f"In the plane removing t costs {more} than on pictures: ×{mean['points']:.2f} against "
        f"×{mean['pictures']:.2f} on average, ×{worst['points']:.2f} against "
        f"×{worst['pictures']:.2f} at most. W2 and Fréchet distance are different measures, so compare "
        "these factors with care."
    )
    return "## In short\n\nRatios of mean values over seeds, without t over with t:\n\n" + "\n".join(
        f"- {t}" for t in told
    )


INTRO = """The network is trained and sampled as usual but for one thing: it is not told t. What it then \
learns is the mean of its target over all noise levels that the
input could be at. In many dimensions the level can be read off the input, so the paper expects little to \
be lost on pictures, most where errors pile up in
deterministic samplers of noise-predicting networks, least for flow matching. In two dimensions the levels \
overlap, and it should hurt. EDM without c_noise keeps
its input and output scales, which are the sampler's, and is not the paper's uEDM, whose scales differ too."""

page = Page("Networks that are not told the noise level", jobs, write)
