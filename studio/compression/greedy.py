"""The published search (Yuan et al. 2406.08552, algorithm 1): at each evaluation, layer after layer, the
first letter that keeps the whole network's output within a share of the threshold that grows with depth."""

from collections.abc import Callable, Sequence

from torch import Tensor

from backbones.caching.plan import ATTENTION, BOTH, BRANCHES, FULL, Plan
from backbones.types import RunContext
from samplers.prediction import Prediction
from studio.compression.local import both_asked, row_by_row
from studio.compression.trial import Trial, without_trace

MOST = 10.0  # an element's relative deviation counts up to here


def relative(a: Tensor, b: Tensor, *, signed: bool = False) -> float:
    """The mean of |a − b| / (max(|a|, |b|) + 1e-6), each at most 10, as the paper has it (appendix A.2).
    ``signed``: the largest of a and b themselves below the line, as in the authors' code, to which the
    published thresholds belong."""
    most = a.maximum(b) if signed else a.abs().maximum(b.abs())
    return float(((a - b) / (most + 1e-6)).abs().clamp(0, MOST).mean())


def searched(trial: Trial, base: Plan, threshold: float, *, signed: bool = False) -> tuple[Plan, Tensor]:
    """``base`` with attention by the greedy search, and the last states of the run in which it was found."""

    def choose(ask: Callable[[RunContext], Prediction], ctx: RunContext, row: int) -> str:
        so_far = ctx.plan or base

        def output(letters: str) -> Tensor:
            plan = so_far.with_(attention=(*so_far.attention[:row], letters, *so_far.attention[row + 1 :]))
            return ask(without_trace(ctx, plan=plan)).value

        usable = [m for m in ATTENTION[:-1] if both_asked(trial, base, row) or m not in (BRANCHES, BOTH)]
        whole = output(FULL * base.layers)
        return decided(
            base.layers, usable, threshold, lambda tried: relative(whole, output(tried), signed=signed)
        )

    return row_by_row(trial, base, choose)


def decided(layers: int, usable: Sequence[str], threshold: float, loss: Callable[[str], float]) -> str:
    """The letters of an evaluation: layer after layer the first one whose ``loss(letters)``, those after it
    full, is below (layer + 1) / layers of the threshold."""
    letters = FULL * layers
    for layer in range(layers):
        for letter in usable:
            tried = letters[:layer] + letter + letters[layer + 1 :]
            if loss(tried) < threshold * (layer + 1) / layers:
                letters = tried
                break
    return letters
