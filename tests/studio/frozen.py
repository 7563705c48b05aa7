"""Runs as an earlier version left them, in tests/golden/frozen: each was killed after its third step of six,
and lies beside what it ends with; and two samples of each bundled model.

    python tests/studio/frozen.py labels graph dsbm lora own bundled    (makes what is not there yet; what is
                                                                        there is never made again)
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from tiny import dit_config, points_config, write_pictures  # noqa: E402

import studio  # noqa: E402
import studio.checkpoints.find  # noqa: E402
from studio.data.arrays import Arrays, Data  # noqa: E402

HOME = Path(__file__).parents[1] / "golden" / "frozen"
STEPS, KILLED = 6, 3
KEPT: dict[str, Any] = {
    "steps": STEPS,
    "log_every": 1,
    "save_every": KILLED,
    "keep_last": 9,
    "weak_snapshot": False,
    "eval_every": 0,
}
DIT: dict[str, Any] = {"name": "dit", "hidden_size": 8, "depth": 1, "num_heads": 2, "patch_size": 4}


class Own(nn.Module):
    """A network of one's own, with running statistics."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.label, self.norm, self.inner = (
                nn.Embedding(4, 1),
                nn.BatchNorm2d(1),
                nn.Conv2d(1, 1, 3, padding=1),
            )

    def forward(self, x: Tensor, t: Tensor, cond: Any, ctx: Any = None) -> Tensor:
        return self.inner(self.norm(x)) + self.label(torch.where(cond.label < 0, 3, cond.label)).view(
            -1, 1, 1, 1
        )


def chains() -> Data:
    """Forty molecules of up to four atoms in a row."""
    rng, size, atoms = np.random.default_rng(1), 4, ("C", "N", "O")
    values = np.zeros((40, size, size + 1), np.uint8)
    for row in values:
        n = int(rng.integers(2, size + 1))
        row[:n, 0] = rng.integers(1, len(atoms) + 1, n)
        for i in range(n - 1):
            row[i, 2 + i] = row[i + 1, 1 + i] = 1
    counts = np.bincount((values[..., 0] > 0).sum(1), minlength=size + 1) / len(values)
    codec = {
        "name": "graph",
        "atoms": atoms,
        "size": size,
        "counts": tuple(counts.tolist()),
        "aromatic": False,
    }
    return Data("chains", "points", (size, size + 1), Arrays(values), None, (), codec, "chains")


def labels(**options: Any) -> Any:
    return studio.train(
        dit_config(Path("pictures.npz"), optimizer="muon", flip=True, **KEPT) | {"backbone": DIT}, **options
    )


def graph(**options: Any) -> Any:
    tree = {
        "name": "chains",
        "backbone": {"name": "graph_dit", "hidden_size": 8, "depth": 1, "num_heads": 2},
        "objective": {"path": {"name": "graph", "num": 10}},
        "train": {**KEPT, "batch_size": 8, "warmup": 2, "dtype": "fp32", "preview": False},
        "sample": {"sampler": "graph", "num_steps": 5, "guidance": ""},
    }
    return studio.train(tree, data=chains(), **options)


def dsbm(**options: Any) -> Any:
    tree = points_config("moons", **KEPT)
    tree["backbone"] = {"name": "mlp", "width": 8, "depth": 1}
    tree["data"] |= {"source": "eight_gaussians"}
    tree["objective"] = {
        "path": {"name": "brownian", "sigma": 0.6},
        "parameterization": "drift",
        "coupling": "independent",
    }
    tree["procedure"] = {"name": "dsbm", "shares": (1, 1, 1), "num_pairs": 48, "num_steps": 3, "refresh": 2}
    return studio.train(tree, **options)


def lora(**options: Any) -> Any:
    """On the run ``labels``."""
    tree = dit_config(Path("pictures.npz"), **KEPT) | {
        "backbone": DIT,
        "lora": {"rank": 1, "targets": ["qkv"]},
    }
    return studio.train(tree, start_from=None if options.get("resume") else str(HOME / "labels"), **options)


def own(**options: Any) -> Any:
    values = torch.randint(
        0, 256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    tree = {**dit_config(Path("none"), **KEPT), "data": {}}
    return studio.train(tree, data=[(v, i % 3) for i, v in enumerate(values)], backbone=Own(), **options)


RUNS = {"labels": labels, "graph": graph, "dsbm": dsbm, "lora": lora, "own": own}


@contextmanager
def beside_the_data(folder: Path) -> Iterator[None]:
    """The pictures that some of the runs name without a path."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        write_pictures(Path("pictures.npz"), count=32)
        yield
    finally:
        os.chdir(here)


def weights(run: Path, step: int = STEPS) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by file and name."""
    from safetensors.torch import load_file

    return {
        f"{p.stem}/{k}": v
        for p in sorted((run / "checkpoints" / f"{step:09d}").glob("*.safetensors"))
        for k, v in load_file(p).items()
    }


def make(name: str) -> None:
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as place, beside_the_data(Path(place)):
        run = RUNS[name](out="run", quiet=True).folder
        save_file(weights(run), run / "end.safetensors")
        shutil.rmtree(run / "checkpoints" / f"{STEPS:09d}")
        for left in (".lock", "curve.png"):
            (run / left).unlink(missing_ok=True)
        for file in run.rglob("*.json"):  # no place of the machine that made it
            file.write_text(file.read_text().replace(f"{HOME}/", ""))
        shutil.copytree(run, HOME / name)


def kept() -> dict[str, Tensor]:
    """What bundled models made when they came, by their names."""
    from safetensors.torch import load_file

    return {k: v for path in sorted(HOME.glob("bundled*.safetensors")) for k, v in load_file(path).items()}


def sampled(name: str) -> Tensor:
    """Two samples of a bundled model at its own recipe; of a bridge from two smooth pictures."""
    model = studio.load(name, dtype="fp32", device="cpu")
    if not model.info.starts_from:
        return model.sample(seeds=[0, 1], deterministic=True).values
    c, h, w = model.sample_shape
    ramp = (torch.arange(h * w).view(1, h, w) % 256).expand(c, h, w)
    sources = torch.stack([ramp, 255 - ramp]).to(torch.uint8)
    return model.translate(sources, seeds=[0, 1]).values


if __name__ == "__main__":
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    for asked in sys.argv[1:]:
        if asked == "bundled":  # those that are new
            for name in sorted({*studio.checkpoints.find.bundled()} - {*kept()}):
                save_file({name: sampled(name).contiguous()}, HOME / f"bundled-{name}.safetensors")
        elif asked in RUNS and not (HOME / asked).exists():
            make(asked)
