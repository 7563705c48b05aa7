"""Graph DiT against torch-molecule's: the same training molecules, conditions, parameters (± 5 %) and minutes, asked for the same targets; two threads, one run.

    python -m benchmarks.graph_dit [--quick] [--minutes 25] [--seeds 2]

``validity_ours``, ``validity_peer``: share of 1,000 whole graphs that RDKit sanitises without any correction. ``fcd_*``: to the held-out molecules. ``mae_*``: mean |obtained − asked| over valid
molecules, each property divided by its standard deviation, then their mean; each side at whichever of its guidance scales has the lowest. ``generate_speedup``: molecules a second, ours over theirs, at equal steps;
``memory_ratio``: peak memory of generation at the same batch, ours over theirs. Both sides are decoded by our code and by their own. A second row repairs the peer's time, which it feeds one
way in training and another in sampling. The peer gets drop_condition 0.1, since its guidance means nothing with 0, its default.

Speed and memory are measured in every form, with networks as they are at their start. What needs training comes from the long form; ``--quick`` prints it from
docs/results/graph-dit/long.json, marked as such. The peer's environment is made on first use, in the user's cache.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import finish, parser_of, peak_mb, table
from studio.data import load_data
from studio.files import cache_home
from studio.reproduce import graph_control
from studio.reproduce.graph_control import SCALES, held_out, made

LONG = Path("docs") / "results" / "graph-dit" / "long.json"
OURS = {"hidden_size": 192, "depth": 6, "num_heads": 6}
PEER = {"depth": 6, "heads": 8, "width": 160}
BATCH = 32


def environment() -> Path:
    """The peer's python, made on first use: its own packages, and torch and RDKit of this environment."""
    home = cache_home() / "peers" / "torch-molecule-0.2.0"
    python = home / "bin" / "python"
    if not (home / ".ready").is_file():
        print(f"making the peer's environment in {home}", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        shared = next(Path(p) for p in sys.path if p.endswith("site-packages"))
        own = Path(
            subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True).stdout.strip()
        )
        (own / "shared.pth").write_text(f"{shared}\n")
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "pandas", "scikit-learn", "joblib", "tqdm", "torch_geometric"], check=True)
        subprocess.run([*pip, "--no-deps", "torch-molecule==0.2.0"], check=True)
        (home / ".ready").touch()
    return python


class Peer:
    """The other side, in a process of its environment; ``settings``: data, seed and timesteps, or the path of a ``saved`` model."""

    def __init__(self, threads: int, seed: int = 0, **settings: Any):
        script = Path(__file__).with_name("graph_dit_peer.py")
        self.process = subprocess.Popen([str(environment()), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(do="make", threads=threads, seed=seed, batch=128, **settings, **PEER)

    def ask(self, **job: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the peer ended early; what it said stands above")
        return json.loads(answer)

    def close(self) -> None:
        self.process.communicate()


def training_file(data: Any, folder: Path, limit: int | None = None) -> Path:
    """SMILES and labels (standardised, as ours gets them) for the peer."""
    from studio.chem import decode
    from studio.chem.toolkit import canonical

    values = data.train.values[:limit]
    smiles = [canonical(m) for m in (decode.plain(v, data.codec["atoms"]) for v in values) if m is not None]
    if len(smiles) != len(values):
        raise RuntimeError("a training molecule does not give its SMILES back")
    np.savez(folder / "train.npz", smiles=np.array(smiles), labels=data.train.numeric[:limit].astype(np.float32))
    return folder / "train.npz"


def ours_of(config: dict[str, Any], folder: Path, data: Any) -> Any:
    import studio

    run = studio.train(config, data=data, out=folder, quiet=True)
    return run.load()


def config(seed: int, minutes: float | None, num: int) -> dict[str, Any]:
    from studio.config import load_config

    tree = load_config("moses-graph-dit").tree()
    tree["backbone"] |= OURS
    tree["objective"]["path"] |= {"num": num}
    tree["sample"] |= {"num_steps": min(num, tree["sample"]["num_steps"])}
    length = {"steps": 1, "minutes": None} if minutes is None else {"steps": None, "minutes": minutes}
    tree["train"] |= {**length, "eval_every": 0, "save_every": 0, "preview": False, "weak_snapshot": False}
    return {**tree, "seed": seed}


def arrays(answer: dict[str, Any], atoms: tuple[str, ...], size: int) -> np.ndarray:
    """The peer's graphs in our layout (N, n, n + 1)."""
    values = np.zeros((len(answer["graphs"]), size, size + 1), np.uint8)
    for row, (kinds, bonds) in zip(values, answer["graphs"]):
        n = len(kinds)
        row[:n, 0] = [list(atoms).index(answer["atoms"][k]) + 1 for k in kinds]
        row[:n, 1 : n + 1] = np.array(bonds) * (1 - np.eye(n, dtype=int))
    return values


def judged(mols: list[Any], asked: np.ndarray, std: np.ndarray, real: list[str]) -> dict[str, float]:
    """As the page judges them, and the Fréchet ChemNet distance."""
    from studio.chem import metrics

    found, _ = graph_control.judged(mols, asked, std)
    return {**found, "fcd": metrics.fcd(metrics.smiles_of(mols), real)} if found["valid"] > 0 else found


def speed(options: Any, folder: Path) -> dict[str, float]:
    """Networks as they are at their start, equal steps, equal batch. Each side generates in a process of its own that has only loaded the model."""
    count, steps = (32, 20) if options.quick else (128, 100)
    data, asked = load_data(dict(graph_control.DATA)), held_out(count)
    model = ours_of(config(0, None, max(steps, 2)), folder / "ours", data)
    np.save(folder / "asked.npy", asked)
    side = [sys.executable, "-m", "benchmarks.graph_dit", "--side", str(folder), str(steps), "--threads", str(options.threads)]
    child = subprocess.run(side, stdout=subprocess.PIPE, text=True, check=True)
    ours = json.loads(child.stdout.strip().splitlines()[-1])
    peer = Peer(options.threads, data=str(training_file(data, folder, 600)), timesteps=steps)
    trained = peer.ask(do="train", minutes=0)
    peer.ask(do="save", path=str(folder / "peer.pt"))
    peer.close()
    peer = Peer(options.threads, saved=str(folder / "peer.pt"))
    labels = ((asked - np.array(data.numeric_mean)) / np.array(data.numeric_std)).tolist()
    peer.ask(do="generate", labels=labels[:BATCH], scale=2.0, repaired=False, seed=0, batch=BATCH)
    theirs = peer.ask(do="generate", labels=labels, scale=2.0, repaired=False, seed=0, batch=BATCH)
    peer.close()
    parameters = sum(p.numel() for p in model.denoiser.net.parameters())
    table(
        f"Generation, {count} molecules, batch {BATCH}, {steps} guided steps, {options.threads} threads",
        {"torch-molecule": theirs["seconds"], "ours": ours["seconds"]}, unit="s", scale=1.0,
    )  # fmt: skip
    table("Peak memory", {"torch-molecule": theirs["peak_mb"], "ours": ours["peak_mb"]}, unit="MB", scale=1.0)
    print(f"  parameters: torch-molecule {trained['parameters']:,}, ours {parameters:,}")
    return {
        "generate_speedup": theirs["seconds"] / ours["seconds"],
        "memory_ratio": ours["peak_mb"] / theirs["peak_mb"],
        "parameters": parameters / trained["parameters"],
    }


def side(folder: Path, steps: int) -> None:
    """Ours, for `speed`."""
    import studio

    model, asked = studio.load(folder / "ours"), np.load(folder / "asked.npy")
    made(model, asked[:BATCH], scale=2.0, steps=steps, batch=BATCH)
    _, seconds = made(model, asked, scale=2.0, steps=steps, batch=BATCH)
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}))


def long_form(options: Any, folder: Path) -> dict[str, Any]:
    """Train and judge both sides for each seed."""
    from studio.chem import metrics
    from studio.chem.toolkit import read_smiles

    num = 1000
    data, asked = load_data(dict(graph_control.DATA)), held_out(num)
    std, atoms, size = np.array(data.numeric_std), data.codec["atoms"], data.codec["size"]
    labels = ((asked - np.array(data.numeric_mean)) / std).tolist()
    real = [s for s in metrics.smiles_of(metrics.decoded(data.held_out.values, atoms)) if s is not None]
    file, rows = training_file(data, folder), []
    for seed in range(options.seeds):
        model = ours_of(config(seed, options.minutes, 500), folder / f"ours-{seed}", data)
        for scale in SCALES:
            values, seconds = made(model, asked, scale=scale, steps=500, seed=seed)
            for how, correct in (("our decoding", False), ("corrected", True)):
                mols = metrics.decoded(values, atoms, correct=correct)
                rows.append({"side": "ours", "seed": seed, "scale": scale, "decoded": how, "seconds": seconds, **judged(mols, asked, std, real)})
                print(json.dumps(rows[-1]), flush=True)
        peer = Peer(options.threads, seed, data=str(file), timesteps=500)
        trained = peer.ask(do="train", minutes=options.minutes)
        print(json.dumps({"peer": trained}), flush=True)
        for repaired in (False, True):
            for scale in SCALES:
                answer = peer.ask(do="generate", labels=labels, scale=scale, repaired=repaired, seed=seed, batch=128)
                own = [None if s is None else _molecule(s, read_smiles) for s in answer["smiles"]]
                for how, mols in (("our decoding", metrics.decoded(arrays(answer, atoms, size), atoms)), ("their decoding", own)):
                    who = "torch-molecule, time repaired" if repaired else "torch-molecule"
                    rows.append(
                        {
                            "side": who,
                            "seed": seed,
                            "scale": scale,
                            "decoded": how,
                            "seconds": answer["seconds"],
                            "steps": trained["steps"],
                            **judged(mols, asked, std, real),
                        }
                    )
                    print(json.dumps(rows[-1]), flush=True)
        peer.close()
    return {
        "minutes": options.minutes,
        "seeds": options.seeds,
        "molecules": num,
        "threads": options.threads,
        "torch": torch.__version__.split("+")[0],
        "rows": rows,
    }


def _molecule(smiles: str, read: Any) -> Any:
    try:
        return read(smiles)
    except ValueError:
        return None


def summary(found: dict[str, Any]) -> dict[str, float]:
    """Means over seeds at each side's own best scale (the lowest error), decoded by our code without correction."""
    out: dict[str, float] = {}
    for side_name, key in (("ours", "ours"), ("torch-molecule", "peer"), ("torch-molecule, time repaired", "peer_repaired")):
        own = [r for r in found["rows"] if r["side"] == side_name and r["decoded"] == "our decoding"]
        by_scale = {s: [r for r in own if r["scale"] == s] for s in sorted({r["scale"] for r in own})}
        best = min(by_scale, key=lambda s: float(np.nanmean([r["mae"] for r in by_scale[s]])))
        for measure, name in (("valid", "validity"), ("fcd", "fcd"), ("mae", "mae")):
            out[f"{name}_{key}"] = float(np.nanmean([r.get(measure, float("nan")) for r in by_scale[best]]))
        out[f"scale_{key}"] = best
    return out


def main() -> None:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=25.0, help="of training for each side and seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--side", nargs=2, help="our side of the speed comparison, for a process of its own")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        return side(Path(options.side[0]), int(options.side[1]))
    with tempfile.TemporaryDirectory() as home:
        ratios = speed(options, Path(home))
        if not options.quick:
            found = long_form(options, Path(home))
            LONG.parent.mkdir(parents=True, exist_ok=True)
            LONG.write_text(json.dumps(found, indent=1))
    source: dict[str, Any] = {}
    if LONG.is_file():
        source = summary(json.loads(LONG.read_text()))
        print(f"\nTrained sides, from {LONG}:" if options.quick else "\nTrained sides:")
        for key, value in source.items():
            print(f"  {key:<28}{value:8.3f}")
    else:
        print(f"\nNo trained sides yet: {LONG} is written by the long form")
    finish({**ratios, **source})


if __name__ == "__main__":
    sys.exit(main())
