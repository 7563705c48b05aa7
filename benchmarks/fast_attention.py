"""DiTFastAttn on a DiT of 384 × 8 in pixels, patch 2: attention compressed layer by layer and step by step,
at 1,024 and at 4,096 tokens, against the same model without a plan.

    python -m studio train emoji-dit                          # once: 32 × 32, and then as its config says
    python -m benchmarks.fast_attention [--quick] [--models 64 128]
    python -m benchmarks.fast_attention --full                # fashion-dit: distances of 2,000 pairs, kept

Of each model the plan ``attention`` (`studio compress --methods attention`, error .10, searched first where
there is none). ``attention_flops_cut``: the share of the products of scores and values that is left out, the
smaller; ``picture_error``: how far the worst picture moves, over two seeds of one class, the larger;
``speedup_4096``: times of steps without and with the plan, each kind of step by its median and its count.
``fd_rise`` (the upper end of a 95 % interval of |change| over the unplanned distance) and ``feature_error``
(mean squared distance of paired features over that between seeds) come from what ``--full`` has kept, and are
left out where weights or plan are others. ``trained``: the held-out velocity loss at 32 × 32 over that of the
best linear predictor at each t, which has to be at most half.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import studio
from backbones import Cond
from backbones.caching.plan import Plan
from backbones.host import instructions, model_name
from benchmarks.common import finish, parser_of, table
from studio.checkpoints import plans
from studio.compression import compress
from studio.compression.trial import pairs, rms
from studio.data import load_data
from studio.model.model import Model

NAME, BUDGET = "attention", "error=0.1"
SETTINGS: dict[str, Any] = {"num_steps": 50, "sampler": "euler", "guidance": "cfg=2"}
FULL = Path("docs/results/fast-attention.json")
PICTURES = {1024: 8, 4096: 2}
TIMES = [0.1, 0.3, 0.5, 0.7, 0.9]


def planned(model: Model, **settings: Any) -> plans.Saved:
    there = plans.listed(model.folder, model.hash)
    if NAME not in there:
        compress(
            model,
            BUDGET,
            name=NAME,
            methods=["attention"],
            calibration=2,
            on_trial=lambda text: print(text, file=sys.stderr, flush=True),
            **settings,
        )
        there = plans.listed(model.folder, model.hash)
    return plans.read(there[NAME])


def timed(model: Model, request: Any) -> tuple[Tensor, list[float]]:
    """The last state, and seconds of each step."""
    took, state = [], None
    steps: Iterator[Any] = model.stream(request)
    start = time.perf_counter()
    for progress in steps:
        took.append(time.perf_counter() - start)
        state, start = progress.step.x, time.perf_counter()
    assert state is not None
    return state, took


def by_kind(took: list[float], plan: Plan | None) -> float:
    """Seconds of a run: each kind of step by its median. The first one, which warms up, is left out of the
    medians where there are others of its kind."""
    kinds: dict[str, list[float]] = {}
    for i, seconds in enumerate(took):
        kinds.setdefault("" if plan is None else plan.attention[i], []).append(seconds)
    first = "" if plan is None else plan.attention[0]
    return sum(
        len(t) * statistics.median(t[1:] if kind == first and len(t) > 1 else t) for kind, t in kinds.items()
    )


def measured(model: Model, count: int) -> dict[str, float]:
    saved = planned(model, **SETTINGS)
    seeds, labels = pairs(count, model.classes)
    request, _ = model.request(
        seeds=[1000 + s for s in seeds], labels=list(labels or ()), batch=count, **SETTINGS
    )
    plain, usual = timed(model, request)
    moved, fast = timed(model, replace(request, plan=saved.plan))
    apart = rms(plain[0::2] - plain[1::2]).repeat_interleave(2)
    seconds = {"without a plan": by_kind(usual, None), "with it": by_kind(fast, saved.plan)}
    tokens = (model.info.shape[-1] // 2) ** 2
    table(f"{tokens} tokens, {count} pictures, 50 guided steps", seconds, unit="s", scale=1.0)
    return {
        "flops_cut": 1 - float(saved.measured["attention_flops"]),
        "error": float((rms(moved - plain) / apart).max()),
        "speedup": seconds["without a plan"] / seconds["with it"],
    }


def linear_share(model: Model) -> float:
    """The network's held-out velocity loss over that of the best linear predictor, summed over `TIMES`: with
    data of covariance C and mean m, x_t = t d + (1 − t) n is told apart along C's eigenvectors."""
    data = load_data(model.config.data)
    values = torch.from_numpy(np.asarray(data.train.values)).float().flatten(1) / 127.5 - 1
    held = torch.from_numpy(np.asarray(data.held_out.values)).float() / 127.5 - 1
    mean = values.mean(0)
    _, scale, axes = torch.linalg.svd(values - mean, full_matrices=False)
    variance = scale.square() / len(values)  # along the axes; none beyond them
    labels = torch.from_numpy(data.held_out.labels)
    ours = linear = 0.0
    noise = torch.randn(held.shape, generator=torch.Generator().manual_seed(0))
    for t in TIMES:
        x = t * held + (1 - t) * noise
        told = (x.flatten(1) - t * mean) @ axes.T  # (N, axes)
        gain = variance * t / (t * t * variance + (1 - t) ** 2)
        d_hat = (mean + (told * gain) @ axes).view_as(held)
        wanted = held - noise
        linear += float(((d_hat - x) / (1 - t) - wanted).square().mean())
        with torch.no_grad():
            made = torch.cat(
                [
                    model.denoiser.predict(x[a : a + 64], t, Cond(label=labels[a : a + 64])).to("velocity")
                    for a in range(0, len(x), 64)
                ]
            )
        ours += float((made - wanted).square().mean())
    return ours / linear


def full() -> None:
    """Distances of 2,000 paired samples of `fashion-dit`, kept in `FULL`."""
    from studio.evaluation import compare
    from studio.metrics.features import build_extractor

    model = studio.load("fashion-dit", device="cpu")
    settings = {**SETTINGS, "guidance": "cfg=1.25,interval=0.1:0.9"}
    saved, seen = planned(model, **settings), build_extractor("lenet")
    features = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("none", NAME):
            out = Path(folder) / name
            studio.generate("fashion-dit", out, num=2000, plan=name, format="npz", **settings)
            with np.load(out / "samples.npz") as file:
                values = torch.from_numpy(file["arr_0"]).permute(0, 3, 1, 2)
            features[name] = next(iter(seen(values).values())).float()
        found = compare(Path(folder) / "none", Path(folder) / NAME, "fashion-mnist", metrics="fd")
    away = (features[NAME] - features["none"]).square().sum(1).mean()
    other = (features["none"] - features["none"].roll(10, 0)).square().sum(1).mean()  # of the same classes
    tree = {
        "model": model.hash,
        "plan": saved.plan.hash,
        "fd_rise": max(map(abs, found.interval["fd"])) / found.values["fd"][0],
        "feature_error": float(away / other),
        "comparison": found.tree(),
    }
    FULL.parent.mkdir(parents=True, exist_ok=True)
    FULL.write_text(json.dumps(tree, indent=1) + "\n")
    print(json.dumps(tree))


def kept() -> tuple[dict[str, float], dict[str, Any]]:
    """What ``--full`` has found, where it is of today's weights and plan."""
    if not FULL.is_file():
        return {}, {}
    tree, model = json.loads(FULL.read_text()), studio.load("fashion-dit", device="cpu")
    there = plans.listed(model.folder, model.hash)
    if tree["model"] != model.hash or NAME in there and plans.read(there[NAME]).plan.hash != tree["plan"]:
        print(f"{FULL} is of other weights or another plan: run --full again", file=sys.stderr)
        return {}, {}
    keys = ["fd_rise", "feature_error"]
    return {k: tree[k] for k in keys}, {"file": str(FULL), "keys": keys}


def main() -> None:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs=2, default=["runs/emoji-dit-64", "runs/emoji-dit-128"])
    parser.add_argument("--base", default="runs/emoji-dit", help="The model at 32 × 32.")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{model_name()} ({instructions()}), {args.threads} threads")
    if args.full:
        return full()
    missing = [m for m in (args.base, *args.models) if not Path(m).is_dir()]
    if missing:
        print(
            f"error: there is no {missing[0]}; make it as configs/emoji-dit.yaml says, beginning with: "
            "studio train emoji-dit",
            file=sys.stderr,
        )
        raise SystemExit(2)
    found = {
        tokens: measured(studio.load(path, device="cpu"), PICTURES[tokens])
        for tokens, path in zip(PICTURES, args.models)
    }
    ratios, source = kept()
    finish(
        {
            "attention_flops_cut": min(f["flops_cut"] for f in found.values()),
            "picture_error": max(f["error"] for f in found.values()),
            "speedup_1024": found[1024]["speedup"],
            "speedup_4096": found[4096]["speedup"],
            "trained": linear_share(studio.load(args.base, device="cpu")),
            **ratios,
        },
        source or None,
    )


if __name__ == "__main__":
    main()
