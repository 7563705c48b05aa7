"""Protein backbones (FoldingDiff, Wu et al. 2209.15611) in twenty minutes on two cores: do the angles of
neighbours go together as in real chains, are helices as long, and do placed atoms keep out of each other's
way?

Every measure stands beside the same of as many held-out real chains, and of residues drawn each by itself,
which match the Ramachandran plot and nothing else.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.config import load_config
from studio.data import Data, load_data
from studio.model.loading import load as load_model
from studio.model.model import Model
from studio.recipes.protein import drawing, measures, pdb
from studio.recipes.protein.placing import place, real
from studio.reproduce import page as pages
from studio.reproduce.jobs import Job, Outcome, Page, Result, Unfinished
from studio.training.run import train

MODEL, DATA = "protein", "protein-backbones"
NUM = 200  # chains on both sides
SHOWN = 48  # chains kept of each job
LOOP = 8  # residues that are left out between known ends
FILLED = {"filled": "made by the bundled model", "others": "of another chain"}
TRANS = np.deg2rad(150)  # beyond which an ω is trans
COLUMNS = {
    "ramachandran": "(φ, ψ)",
    "pairs": "(ψ, next φ)",
    "helices": "helix lengths",
    "ca_ca": "trans Cα–Cα, Å",
    "clashes": "clashes per 100 residues",
    "clash_free": "chains without",
    "radius": "radius / 2.2 n^0.38 Å",
    "nearest": "nearest training chain, ° of φ and ψ",
}


def parts() -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out chains (N, 128, 6)."""
    data: Data = load_data({"name": DATA})
    return data.train.values.astype(np.float64), data.held_out.values.astype(np.float64)


def judged(angles: np.ndarray) -> dict[str, float]:
    """Chains against all that were trained on."""
    known, _ = parts()
    found = {
        name: measures.total_variation(histogram(angles), histogram(known))
        for name, histogram in measures.HISTOGRAMS.items()
    }
    near = measures.nearest(angles, known)
    return {
        **found,
        **measures.shape(angles),
        **apart(angles),
        "nearest": float(near.min()),
        "nearest_of_six": float(measures.nearest(angles, known, of=range(6)).min()),
        "within_10": float((near < 10).sum()),
    }


def apart(angles: np.ndarray) -> dict[str, float]:
    """Mean distance of the Cα of neighbours whose ω is trans, in Å, and the share of those within 3.80 ±
    0.06, as PDB files of the chains say."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for chain, atoms, there in zip(angles, place(angles), real(angles)):
            pdb.write(Path(folder) / "x.pdb", atoms[there])
            (read,) = pdb.read(Path(folder) / "x.pdb")
            trans = np.abs(chain[there][:-1, 2]) > TRANS
            found.append(np.linalg.norm(np.diff(read[:, 1], axis=0), axis=-1)[trans])
    every = np.concatenate(found)
    return {"ca_ca": float(every.mean()), "ca_ca_near": float((np.abs(every - 3.80) < 0.06).mean())}


def floors(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Held-out chains, or as many of residues drawn each by itself from those that were trained on."""
    known, others = parts()
    rng = np.random.default_rng(settings["seed"])
    angles = others[rng.permutation(len(others))[: settings["num"]]]
    if not settings["real"]:
        residues = known[~np.isnan(known).any(-1)]
        drawn = residues[rng.integers(len(residues), size=angles.shape[:2])]
        angles = np.where(np.isnan(angles), np.nan, drawn)
    return judged(angles), {"angles": angles[:SHOWN].astype(np.float16)}


def samples(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Of ``model``, or of one that is trained for ``minutes`` with the seed."""
    model = load_model(settings["model"]) if "model" in settings else trained(settings, work)
    first = settings["seed"] * settings["num"]
    made = model.sample(seeds=range(first, first + settings["num"]))
    angles = made.values.double().numpy()
    about = {"threads": torch.get_num_threads(), "sampling_seconds": made.seconds}
    return {**judged(angles), **about}, {"angles": angles[:SHOWN].astype(np.float16)}


def trained(settings: Mapping[str, Any], work: Path) -> Model:
    """By the shipped config."""
    tree = load_config("protein").tree()
    tree["seed"] = settings["seed"]
    length = {k: settings[k] for k in ("minutes", "steps") if k in settings}
    tree["train"] |= {"minutes": None, "steps": None, "preview": False, **length}
    tree["backbone"] |= settings.get("backbone", {})
    folder = work / "run"
    run = train(tree, out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
    if run.interrupted:
        raise Unfinished(f"stopped at step {run.step}")
    return run.load()


def loops(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Held-out chains of which `LOOP` residues in the middle are made anew between their known ends, or
    (``model`` empty) taken from the middle of another one. ``moved``: of how many known angles the bits are
    others; ``loop_rms``: root mean squares of φ and ψ against the chain's own, in degrees, the median;
    ``gap``: how far from its place the first Cα after the loop comes to lie, where the chain begins at the
    same place, in Å, the median."""
    _, others = parts()
    rng = np.random.default_rng(settings["seed"])
    angles = others[rng.permutation(len(others))[: settings["num"]]].astype(np.float32)
    first = (real(angles).sum(1) - LOOP) // 2
    inside = np.arange(angles.shape[1]) - first[:, None]
    loop = (0 <= inside) & (inside < LOOP)
    if settings["model"]:
        known = np.repeat(~loop & real(angles), angles.shape[2]).reshape(angles.shape)
        lengths = real(angles).sum(1)
        made = load_model(settings["model"]).sample(
            known=known, given=angles, conditions={"length": lengths}, seeds=range(len(angles))
        )
        filled = np.full_like(angles, np.nan)
        filled[:, : made.values.shape[1]] = made.values.numpy()
    else:
        filled = angles.copy()
        filled[loop] = np.roll(angles[loop].reshape(len(angles), LOOP, -1), 1, 0).reshape(-1, angles.shape[2])
    there = real(angles) & ~loop
    moved = int((filled[there].view(np.uint32) != angles[there].view(np.uint32)).sum())
    turned = np.angle(np.exp(1j * (filled - angles)[loop][:, :2].astype(np.float64)))
    each = np.rad2deg(np.sqrt(np.square(turned).reshape(len(angles), -1).mean(1)))
    row = np.arange(len(angles))
    after = [place(chain)[row, first + LOOP, 1] for chain in (filled, angles)]
    gap = np.linalg.norm(after[0] - after[1], axis=-1)
    return {"moved": moved, "loop_rms": float(np.median(each)), "gap": float(np.median(gap))}, {}


def jobs(quick: bool) -> list[Job]:
    """Floors, the bundled model, then three of one's own. Minutes are for two cores."""
    num = 20 if quick else NUM
    made = []
    for seed in range(1 if quick else 3):
        for name, is_real in (("real", True), ("independent", False)):
            made.append(Job(f"{name}-{seed}", floors, {"seed": seed, "num": num, "real": is_real}, 0.2))
    for seed in range(1 if quick else 3):
        made.append(Job(f"bundled-{seed}", samples, {"seed": seed, "num": num, "model": MODEL}, 2))
    for name, model in (("others", ""), ("filled", MODEL)):
        made.append(Job(f"loops-{name}", loops, {"seed": 0, "num": num // 2, "model": model}, 1))
    small = {"backbone": {"hidden_size": 16, "depth": 1, "num_heads": 2}, "steps": 4}
    length: dict[str, Any] = small if quick else {"minutes": 17}
    for seed in range(1 if quick else 3):
        made.append(Job(f"trained-{seed}", samples, {"seed": seed, "num": num, **length}, 20))
    return made


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("seed",))
    names = {
        "real": "held-out chains",
        "independent": "independent residues",
        "bundled": "the bundled model",
        "trained": "trained anew",
    }
    found = {kind: [r for r in results.values() if r.name.rpartition("-")[0] == kind] for kind in names}
    rows = [
        {"chains": called, **{k: [r.values[k] for r in found[kind]] for k in COLUMNS}}
        for kind, called in names.items()
    ]
    seen = {called: found[kind][0].arrays["angles"] for kind, called in names.items()}
    ramachandran(folder / "ramachandran.png", seen)
    for kind in ("real", "bundled"):
        drawing.sheet(found[kind][0].arrays["angles"].astype(np.float64)).save(folder / f"{kind}.png")
    near = {kind: sum(int(r.values["within_10"]) for r in found[kind]) for kind in ("bundled", "real")}
    return "\n\n".join(
        [
            INTRO.format(num=results["real-0"].settings["num"]),
            pages.table(rows, {"chains": "chains", **COLUMNS}),
            f"Of the bundled model's chains {near['bundled']} lie within 10° rms of φ and ψ of a training "
            f"chain of their length, of the held-out ones {near['real']}.",
            f"Loops of {LOOP} residues between known ends of {results['loops-filled'].settings['num']} "
            "held-out chains:",
            pages.table(
                [{"loop": called, **results[f"loops-{name}"].values} for name, called in FILLED.items()],
                {
                    "loop": "loop",
                    "moved": "known angles with other bits",
                    "loop_rms": "rms of φ and ψ, °",
                    "gap": "gap after the loop, Å",
                },
            ),
            "![φ and ψ](ramachandran.png)",
            "![held-out chains](real.png)",
            "![samples of the bundled model](bundled.png)",
        ]
    )


def ramachandran(path: Path, panels: Mapping[str, np.ndarray]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(panels), 3.7), dpi=110, layout="constrained")
    for axes, (name, angles) in zip(figure.subplots(1, len(panels)), panels.items()):
        drawing.scatter(axes, angles, name)
    pages.save(figure, path)


INTRO = (
    "{num} chains a row and seed, means over seeds with standard errors. The first three columns are total "
    "variations, of 18 × 18 bins and of the lengths of runs of 4 to 30 residues in the right-handed helical "
    "region, all against the 3,150 chains that were trained on. Lengths of samples are drawn as in the data. "
    "Clashes: Cα of residues three or more apart that are nearer than 3.6 Å. *Trained anew* is 17 minutes on "
    "this machine. What the published system is known for, the share of its chains that a sequence can be "
    "designed for, needs two further networks and is not measured here."
)

page = Page("Protein backbones on the torus", jobs, write)
