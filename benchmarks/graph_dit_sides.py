"""The two sides of `benchmarks.graph_dit`: our config, and torch-molecule in an environment and a process of
its own."""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np

from studio.config import load_config
from studio.runtime.files import cache_home

OURS = {"hidden_size": 192, "depth": 6, "num_heads": 6}
PEER = {"depth": 6, "heads": 8, "width": 160}


def environment() -> Path:
    """The peer's python, made on first use: its own packages, and torch and RDKit of this environment."""
    home = cache_home() / "peers" / "torch-molecule-0.2.0"
    python = home / "bin" / "python"
    if not (home / ".ready").is_file():
        print(f"making the peer's environment in {home}", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        shared = next(Path(p) for p in sys.path if p.endswith("site-packages"))
        own = Path(
            subprocess.run(
                [python, "-c", "import site; print(site.getsitepackages()[0])"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
        )
        (own / "shared.pth").write_text(f"{shared}\n")
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "pandas", "scikit-learn", "joblib", "tqdm", "torch_geometric"], check=True)
        subprocess.run([*pip, "--no-deps", "torch-molecule==0.2.0"], check=True)
        (home / ".ready").touch()
    return python


class Peer:
    """The other side, in a process of its environment; ``settings``: data, seed and timesteps, or the path of
    a ``saved`` model."""

    def __init__(self, threads: int, seed: int = 0, **settings: Any):
        script = Path(__file__).with_name("graph_dit_peer.py")
        self.process = subprocess.Popen(
            [str(environment()), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
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
    np.savez(
        folder / "train.npz", smiles=np.array(smiles), labels=data.train.numeric[:limit].astype(np.float32)
    )
    return folder / "train.npz"


def config(seed: int, minutes: float | None, num: int) -> dict[str, Any]:
    """The bundled model's config in the peer's size, batches and steps of noise, for so short a training."""
    tree = load_config("moses-graph-dit").tree()
    tree["backbone"] |= OURS
    tree["objective"]["path"] |= {"num": num}
    tree["sample"] |= {"num_steps": min(num, tree["sample"]["num_steps"])}
    length = {"steps": 1, "minutes": None} if minutes is None else {"steps": None, "minutes": minutes}
    tree["train"] |= {
        **length,
        "eval_every": 0,
        "save_every": 500,
        "keep_last": 1,
        "preview": False,
        "weak_snapshot": False,
        "batch_size": 128,
        "weight_decay": 0.05,
    }
    return {**tree, "seed": seed}


def arrays(answer: dict[str, Any], atoms: tuple[str, ...], size: int) -> np.ndarray:
    """The peer's graphs in our layout (N, n, n + 1)."""
    values = np.zeros((len(answer["graphs"]), size, size + 1), np.uint8)
    for row, (kinds, bonds) in zip(values, answer["graphs"]):
        n = len(kinds)
        row[:n, 0] = [list(atoms).index(answer["atoms"][k]) + 1 for k in kinds]
        row[:n, 1 : n + 1] = np.array(bonds) * (1 - np.eye(n, dtype=int))
    return values
