"""What ``make demo`` runs: a minute of training on the bundled pictures, a guided grid from it and one from
the bundled model."""

import shutil
import sys
from pathlib import Path

OUT = Path("demo")


def main() -> None:
    from studio.checkpoints.find import bundled
    from studio.model.loading import load
    from studio.runtime.devices import set_threads
    from studio.training.run import train

    set_threads(None)
    print("Training a small DiT on Fashion-MNIST for one minute ...", file=sys.stderr)
    shutil.rmtree(OUT, ignore_errors=True)  # ours alone: made by this command, remade by it
    run = train("demo", out=OUT / "run")
    wanted = [(str(run.folder), "one-minute")] + [(name, name) for name in bundled() if name == "fashion-dit"]
    print()
    for model, name in wanted:
        loaded = load(model)
        seeds = range(40)
        samples = loaded.sample(labels=[s % 10 for s in seeds], seeds=seeds)
        samples.save(OUT / name)
        print(
            f"{OUT / name / 'grid.png'}   40 guided samples of {model} in {samples.seconds:.1f} s, each "
            "picture beside it with its recipe inside"
        )
    print(
        "\nNext:\n"
        "  .venv/bin/studio sample fashion-dit --out pictures --labels Sandal --guidance cfg=2     "
        "pictures of one class\n"
        "  .venv/bin/studio train images:YOUR_FOLDER data.size=32 train.minutes=30                 your "
        "own pictures, a folder per class\n"
        "  make ui                                                                                 the "
        "page in the browser\n"
        "  make test                                                                               the tests"
    )


if __name__ == "__main__":
    main()
