"""`studio train images:DIR train.minutes=10` with nothing else against six settings picked by hand: the same
minutes, size, objective and held-out pictures.

The pictures are those of `first_pictures`. Settings run one at a time, each in a process of its own; a call
that was interrupted goes on where it was, and what is finished is not run again. The long form takes 10
minutes a setting and writes its table to docs/results/first_run.txt; ``--quick`` takes 40 seconds for two of
them.

The loss is that of the averaged weights on the held-out pictures, over ten stretches of time and `DRAWS`
draws of noise, the same for all.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import finish, parser_of
from benchmarks.first_pictures import CLASSES, PER_CLASS, make

SEED, DRAWS = 0, 8
HOME, RESULTS = Path("runs/benchmarks/first_run"), Path("docs/results/first_run.txt")
DIT = ["backbone.name=dit", "train.flip=true"]
STEM = [*DIT, "backbone.stem_blocks=2"]
BY_HAND = {  # {patch} makes about eight tokens along a side
    "stem 192, Muon, batch 64": [
        *STEM,
        "backbone.hidden_size=192",
        "backbone.depth=4",
        "backbone.num_heads=3",
        "backbone.stem_channels={stem}",
        "train.batch_size=64",
    ],
    "stem 192, Muon, batch 16": [
        *STEM,
        "backbone.hidden_size=192",
        "backbone.depth=4",
        "backbone.num_heads=3",
        "backbone.stem_channels={stem}",
        "train.batch_size=16",
    ],
    "stem 96, AdamW 2e-3, batch 32": [
        *STEM,
        "backbone.hidden_size=96",
        "backbone.depth=4",
        "backbone.num_heads=2",
        "backbone.stem_channels={stem}",
        "train.batch_size=32",
        "train.optimizer=adamw",
        "train.lr=0.002",
    ],
    "Mi, Muon, batch 16": [*DIT, "backbone.size=Mi/{patch}", "train.batch_size=16"],
    "Ti, Muon, batch 64": [*DIT, "backbone.size=Ti/{patch}", "train.batch_size=64"],
    "Ti, AdamW 1e-3, batch 16, no flip": [
        "backbone.name=dit",
        "backbone.size=Ti/{patch}",
        "train.batch_size=16",
        "train.optimizer=adamw",
        "train.flip=false",
    ],
}
QUICK = "stem 192, Muon, batch 16"
COMMON = ["data.channels=3", "data.crop=centre"]


def filled(typed: list[str], size: int) -> list[str]:
    """A setting by hand for pictures of a size."""
    levels = next((k for k in (1, 2, 3) if size / 2**k <= 12), 3)
    words = {"stem": "[32] [24,64] [24,48,96]".split()[levels - 1], "patch": str(2**levels)}
    return [*(t.format(**words) if "{" in t else t for t in typed), *COMMON, f"data.size={size}"]


def train(
    name: str, folder: Path, data: Path, minutes: float, typed: list[str], threads: int
) -> dict[str, Any]:
    """One run to its end, or the result that is there; its settings, steps and held-out loss."""
    result = folder.with_suffix(".json")
    if result.is_file():
        return json.loads(result.read_text())
    going_on = ["--resume"] if (folder / "config.yaml").is_file() else []
    command = [
        sys.executable,
        "-m",
        "studio",
        "train",
        f"images:{data}",
        f"train.minutes={minutes:g}",
        *typed,
        "--out",
        folder,
        "--threads",
        threads,
        *going_on,
    ]
    began = time.monotonic()
    print(f"\n{name}", file=sys.stderr, flush=True)
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
    found = {
        "name": name,
        "typed": typed,
        "whole_seconds": round(time.monotonic() - began, 1),
        **judged(folder),
    }
    draft = result.with_suffix(".tmp")
    draft.write_text(json.dumps(found, indent=1) + "\n")
    draft.replace(result)
    return found


def judged(folder: Path) -> dict[str, Any]:
    """The held-out loss of a run's averaged weights, and how it was trained."""
    import studio
    from studio.checkpoints.build import objective_of
    from studio.checkpoints.checkpoint import listing
    from studio.codecs.codec import build_codec
    from studio.data import load_data
    from studio.data.loader import held_out
    from studio.training.held_out import held_out_loss

    model = studio.load(folder, device="cpu", dtype="fp32")
    kept = held_out(load_data(model.config.data), 10_000)
    assert kept is not None, "no picture is held out"
    net, codec, device = model.denoiser.net, build_codec(model.info.codec), torch.device("cpu")
    bins = [
        held_out_loss(
            net,
            objective_of(model.config),
            codec,
            kept.values,
            kept.cond,
            seed=1000 + k,
            device=device,
            dtype=torch.float32,
        )
        for k in range(DRAWS)
    ]
    backbone = {
        k: v
        for k, v in model.config.backbone.items()
        if k in ("size", "hidden_size", "depth", "stem_channels", "patch_size")
    }
    train = model.config.train
    return {
        "held_out": sum(map(sum, bins)) / sum(map(len, bins)),
        "steps": int(listing(folder)[-1].name),
        "pictures": len(kept.values),
        "size": model.info.shape[-1],
        "setting": {
            **backbone,
            "optimizer": train.optimizer,
            "lr": train.lr,
            "batch_size": train.batch_size,
            "flip": train.flip,
        },
    }


def lines_of(rows: list[dict[str, Any]], minutes: float, threads: int) -> list[str]:
    best = min((r for r in rows[1:]), key=lambda r: r["held_out"])
    lines = [
        f"{len(CLASSES)} classes × {PER_CLASS} pictures of mixed sizes, {rows[0]['pictures']} of them "
        f"held out, read at {rows[0]['size']}×{rows[0]['size']}; "
        f"{minutes:g} minutes a setting, {threads} threads; held-out loss of the averaged weights",
        "",
        f"{'setting':<38}{'held out':>10}{'over best':>11}{'steps':>8}  as trained",
    ]
    for r in rows:
        setting = " ".join(f"{k}={v}" for k, v in r["setting"].items()).replace("'", "")
        lines.append(
            f"{r['name']:<38}{r['held_out']:>10.4f}{r['held_out'] / best['held_out']:>11.3f}{r['steps']:>8} "
            f" {setting}"
        )
    return lines


def main() -> None:
    options = parser_of(__doc__ or "").parse_args()
    minutes = 40 / 60 if options.quick else 10.0
    home = HOME / ("quick" if options.quick else "long")
    torch.set_num_threads(options.threads)
    data = make(HOME / "pictures", SEED)
    chosen = {QUICK: BY_HAND[QUICK]} if options.quick else BY_HAND
    rows = [train("nothing typed", home / "default", data, minutes, [], options.threads)]
    for k, (name, typed) in enumerate(chosen.items()):
        rows.append(
            train(name, home / f"hand-{k}", data, minutes, filled(typed, rows[0]["size"]), options.threads)
        )
    lines = lines_of(rows, minutes, options.threads)
    print("\n".join(lines))
    if not options.quick:
        RESULTS.write_text("\n".join(["python -m benchmarks.first_run", "", *lines]) + "\n")
    best = min(r["held_out"] for r in rows[1:])
    finish({"default_over_best": rows[0]["held_out"] / best})


if __name__ == "__main__":
    main()
