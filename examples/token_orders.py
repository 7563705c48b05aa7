"""What the order of revealing does to samples of a model of the bundled Markov chain: their cost under the
true chain, and the entropy of what follows a token, both in nats.

    python examples/token_orders.py RUN
"""

import sys

import numpy as np

import studio
from studio.data.tokens import TRANSITIONS, chain, entropy_rate, stationary
from studio.metrics.token_sets import entropy, frequencies


def cost(rows: np.ndarray) -> float:
    first, steps = stationary()[rows[:, 0]], TRANSITIONS[rows[:, :-1], rows[:, 1:]]
    return float(-(np.log(first).sum() + np.log(steps).sum()) / rows.size)


def follows(rows: np.ndarray) -> float:
    pairs = frequencies(rows, 4, 2)
    return entropy(pairs) - entropy(pairs.reshape(4, 4).sum(1))


def main(run: str) -> None:
    model, length = studio.load(run, device="cpu"), 32
    real = chain(range(1_000_000, 1_001_000), length)
    print(f"the chain: {entropy_rate():.3f} nats; 1,000 rows of it cost {cost(real):.3f}")
    for order in ("ancestral", "random", "gumbel", "confidence"):
        for steps in (4, 8, 32):
            made = model.sample(seeds=range(500), num_steps=steps, sampler=f"masked(order={order})")
            rows = made.values.numpy()
            print(f"{order:10} {steps:2} steps: cost {cost(rows):.3f}, entropy {follows(rows):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
