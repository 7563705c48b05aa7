"""The classifier two-sample test of the benchmark sbibm (Lueckmann et al. 2101.04653), for many pairs of
samples at once: how often a network that was trained on the other folds tells which of two samples a row is
of. 0.5: it cannot; 1: always.

As there: rows are standardised by the first sample, there are five folds, and the network is scikit-learn's,
two hidden layers of ten times as many units as a row has numbers, trained by Adam at 0.001 (batches of 200, a
weight decay of 0.0001) until its own loss has not fallen by 0.0001 for more than ten passes. Here they learn
side by side, which takes a fraction of the time.
"""

import torch
from torch import Tensor

FOLDS, BATCH, DECAY, RATE = 5, 200, 1e-4, 1e-3
LEAST, PATIENCE = 1e-4, 10  # how far the loss must fall, and for how many passes it may fail to


def c2st(first: Tensor, second: Tensor, *, most: int = 10_000, seed: int = 1) -> Tensor:
    """(S,) shares of rows that are told right, of pairs of samples (S, N, d) each, N a multiple of five.
    ``most``: passes at most."""
    mean, std = first.mean(1, keepdim=True), first.std(1, keepdim=True)
    rows = torch.cat([(first - mean) / std, (second - mean) / std], 1).float()
    pairs, n, d = rows.shape
    random = torch.Generator().manual_seed(seed)
    folds = torch.randperm(n, generator=random).view(FOLDS, -1)
    learnt = torch.stack([folds[[j for j in range(FOLDS) if j != k]].flatten() for k in range(FOLDS)])
    x, asked = (rows[:, k].flatten(0, 1) for k in (learnt, folds))  # (S · FOLDS, rows, d)
    y, truth = ((k >= n // 2).repeat(pairs, 1) for k in (learnt, folds))
    y, size = y.float(), learnt.shape[1]
    weights = _first((d, 10 * d, 10 * d, 1), len(x), random)
    optimiser = torch.optim.Adam(weights, lr=RATE, fused=True)
    right, left = torch.zeros(len(x)), torch.arange(len(x))  # of all networks; those that still learn
    best, fails = torch.full((len(x),), torch.inf), torch.zeros(len(x))
    for k in range(most):
        total = torch.zeros(len(left))
        for batch in torch.randperm(size, generator=random).split(BATCH):
            answers = _answers(x[:, batch], weights)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                answers, y[:, batch], reduction="none"
            ).mean(1)
            loss = loss + sum(w.square().sum((1, 2)) for w in weights[::2]) * (DECAY / 2 / len(batch))
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimiser.step()
            total += loss.detach() * len(batch) / size
        fails = torch.where(total > best - LEAST, fails + 1, 0)
        best = torch.minimum(best, total)
        done = fails > PATIENCE if k < most - 1 else torch.ones_like(fails, dtype=torch.bool)
        if not done.any():
            continue
        with torch.no_grad():
            at = left[done]
            guess = _answers(asked[at], [w[done] for w in weights]) > 0
            right[at] = (guess == truth[at]).float().mean(1)
        if done.all():
            break
        stay = ~done
        left, best, fails, x, y = (part[stay] for part in (left, best, fails, x, y))
        kept = [w.detach()[stay].requires_grad_() for w in weights]
        states = [{key: v[stay] if v.ndim else v for key, v in optimiser.state[w].items()} for w in weights]
        weights, optimiser = kept, torch.optim.Adam(kept, lr=RATE, fused=True)
        optimiser.state.update(zip(weights, states))
    return right.view(pairs, FOLDS).mean(1)


def _first(widths: tuple[int, ...], count: int, random: torch.Generator) -> list[Tensor]:
    """Weights and biases of ``count`` networks."""
    shapes = [shape for a, b in zip(widths, widths[1:]) for shape in ((a, b, a + b), (1, b, a + b))]
    return [
        ((torch.rand((count, *shape), generator=random) * 2 - 1) * (6 / total) ** 0.5).requires_grad_()
        for *shape, total in shapes
    ]


def _answers(x: Tensor, weights: list[Tensor]) -> Tensor:
    """(count, N) of x (count, N, d)."""
    for k in range(0, len(weights), 2):
        x = torch.baddbmm(weights[k + 1], x if k == 0 else x.relu(), weights[k])
    return x[..., 0]
