"""Graph DiT against torch-molecule's: the same training molecules, conditions, parameters (± 5 %) and
minutes, asked for the same targets; two threads, one run.

    python -m benchmarks.graph_dit [--quick] [--minutes 25] [--seeds 2] [--jobs runs/graph-dit]

``validity_ours``, ``validity_peer``: share of 1,000 whole graphs that RDKit sanitises without any correction
(``connected_*``: and that are in one piece). ``fcd_*``: to the held-out molecules. ``mae_*``: mean |obtained
− asked| over valid molecules, each property divided by its standard deviation, then their mean; each side at
its own best guidance scale, 200 steps of noise and of sampling on both. ``*_corrected_*``: after the
published correction; ``*_own_decoding_*``: by the peer's own code; means over the seeds with enough valid
molecules to judge, null for none. ``generate_speedup``: molecules a second, ours over theirs, at equal steps;
``memory_ratio``: peak memory of the process that generates at the same batch, ours over theirs, torch and
RDKit in both (``added_memory_ratio``: what generation adds to a process with the model loaded). Both sides
are decoded by our code and by their own. A further row repairs the peer's time, which it feeds one way in
training and another in sampling. The peer gets drop_condition 0.1, since its guidance means nothing with 0,
its default.

Speed and memory are measured in every form, with networks as they are at their start. What needs training
comes from the long form, which takes hours and goes on where it was stopped; ``--quick`` prints it from
docs/results/graph-dit/long.json, marked ``"source"``. The peer's environment is made on first use, in the
user's cache.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import studio
from benchmarks import graph_dit_long
from benchmarks.common import finish, held_mb, parser_of, peak_mb, table
from benchmarks.graph_dit_sides import Peer, config, training_file
from studio.data import load_data
from studio.reproduce import graph_control
from studio.reproduce.graph_control import held_out, made

LONG = Path("docs") / "results" / "graph-dit" / "long.json"
BATCH, ROUNDS = 128, 3


def speed(options: Any, folder: Path) -> dict[str, float]:
    """Networks as they are at their start, equal steps, equal batch, in turn. Each side generates in a
    process of its own that has only loaded the model."""
    count, steps = (128, 10) if options.quick else (128, 100)
    data, asked = load_data(dict(graph_control.DATA)), held_out(count)
    # its own form of the data
    model = studio.train(config(0, None, max(steps, 2)), out=folder / "ours", quiet=True).load()
    np.save(folder / "asked.npy", asked)
    command = [
        sys.executable,
        "-m",
        "benchmarks.graph_dit",
        "--side",
        str(folder),
        str(steps),
        "--threads",
        str(options.threads),
    ]
    own = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    peer = Peer(options.threads, data=str(training_file(data, folder, 600)), timesteps=steps)
    trained = peer.ask(do="train", minutes=0)
    peer.ask(do="save", path=str(folder / "peer.pt"))
    peer.close()
    peer = Peer(options.threads, saved=str(folder / "peer.pt"))
    labels = ((asked - np.array(data.numeric_mean)) / np.array(data.numeric_std)).tolist()

    def ours(count: int) -> dict[str, float]:
        assert own.stdin is not None and own.stdout is not None
        print(count, file=own.stdin, flush=True)
        return json.loads(own.stdout.readline())

    def theirs(count: int) -> dict[str, float]:
        return peer.ask(do="generate", labels=labels[:count], scale=2.0, repaired=False, seed=0, batch=BATCH)

    sides = {"torch-molecule": theirs, "ours": ours}
    before = {name: ask(BATCH)["before_mb"] for name, ask in sides.items()}  # the first round warms up
    # in turn: the machine's pace changes
    rounds = [{name: ask(count) for name, ask in sides.items()} for _ in range(ROUNDS)]
    own.communicate()
    peer.close()
    seconds = {name: statistics.median(r[name]["seconds"] for r in rounds) for name in sides}
    peaks = {name: rounds[-1][name]["peak_mb"] for name in sides}
    grown = {name: peaks[name] - before[name] for name in sides}
    parameters = sum(p.numel() for p in model.denoiser.net.parameters())
    table(
        f"Generation, {count} molecules, batch {BATCH}, {steps} guided steps, {options.threads} threads; "
        f"median of {ROUNDS}",
        seconds,
        unit="s",
        scale=1.0,
    )
    table("Peak memory of the process", peaks, unit="MB", scale=1.0)
    table(
        "of which generation (less what the process held with the model loaded)", grown, unit="MB", scale=1.0
    )
    print(f"  parameters: torch-molecule {trained['parameters']:,}, ours {parameters:,}")
    return {
        "generate_speedup": seconds["torch-molecule"] / seconds["ours"],
        "memory_ratio": peaks["ours"] / peaks["torch-molecule"],
        "added_memory_ratio": grown["ours"] / grown["torch-molecule"],
        "parameters": parameters / trained["parameters"],
    }


def side(folder: Path, steps: int) -> None:
    """Ours, for `speed`: a line in is how many molecules to make."""
    model, asked = studio.load(folder / "ours"), np.load(folder / "asked.npy")
    before = held_mb()
    for line in sys.stdin:
        _, seconds = made(model, asked[: int(line)], scale=2.0, steps=steps, batch=BATCH)
        print(json.dumps({"seconds": seconds, "before_mb": before, "peak_mb": peak_mb()}), flush=True)


def main() -> None:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=25.0, help="of training for each side and seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--jobs",
        type=Path,
        default=Path("runs") / "graph-dit",
        help="where the long form keeps what it has done",
    )
    parser.add_argument("--side", nargs=2, help="our side of the speed comparison, for a process of its own")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        return side(Path(options.side[0]), int(options.side[1]))
    with tempfile.TemporaryDirectory() as home:
        ratios = speed(options, Path(home))
    if not options.quick:
        found = graph_dit_long.run(options.jobs, minutes=options.minutes, seeds=options.seeds)
        if found is None:
            sys.exit("stopped; the same command goes on")
        LONG.parent.mkdir(parents=True, exist_ok=True)
        LONG.write_text(json.dumps(found, indent=1))
    source: dict[str, Any] = {}
    if LONG.is_file():
        source = graph_dit_long.summary(json.loads(LONG.read_text()))
        print(f"\nTrained sides, from {LONG}:" if options.quick else "\nTrained sides:")
        for key, value in source.items():
            print(f"  {key:<28}{value:8.3f}")
    else:
        print(f"\nNo trained sides yet: {LONG} is written by the long form")
    finish(
        {**ratios, **source}, {"file": str(LONG), "keys": list(source)} if source and options.quick else None
    )


if __name__ == "__main__":
    sys.exit(main())
