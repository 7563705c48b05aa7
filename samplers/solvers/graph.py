"""Steps on graphs: draw the next state from p(z_s | z_t), an atom and a bond at a time (Vignac et al.
2209.14734, algorithm 2).

A state changes in few places at a step, so what was drawn amiss early stays. ``renoise`` is the share of
every draw that forgets what the block was and noises the clean block as predicted instead, q(z_s | ẑ_0). Of
one block at a time that keeps the law exactly, its noise being independent of everything else given its clean
value; of many at once it takes them for independent given z_t, as every step does. Until time ``until``; then
the steps are ancestral, and few blocks change at once.
"""

from typing import Any

from torch import Tensor

from backbones.types import Noise
from samplers.paths.graph import LEAST
from samplers.solvers.base import Predict, Sampler
from samplers.spaces.packing import draw, softmax


class GraphAncestral(Sampler):
    """``temperature`` below 1 sharpens every draw, at the cost of variety. ``renoise`` in [0, 1] and
    ``until`` in (0, 1]: see the module."""

    spaces = ("graph",)
    resamples = False
    differentiable = False

    def __init__(self, *, temperature: float = 1.0, renoise: float = 0.0, until: float = 0.9):
        super().__init__()
        if not temperature > 0:
            raise ValueError(
                f"got temperature={temperature}, expected a positive number (1 = as the model says)"
            )
        if not 0 <= renoise <= 1 or not 0 < until <= 1:
            raise ValueError(
                f"got renoise={renoise} and until={until}, expected a share from 0 to 1 and a time above "
                "0, at most 1"
            )
        self.temperature, self.renoise, self.until = temperature, renoise, until

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        if noise is None:
            raise ValueError("the sampler graph draws in every step; pass noise=NoiseSource(seeds)")
        prediction: Any = predict(x, t)
        path, valid = prediction.path, prediction.valid
        forget = self.renoise if s < self.until else 0.0
        p: Any = path.following(prediction) if forget < 1 else 0.0
        if forget:
            p = (1 - forget) * p + forget * path.noised(prediction.to("probs"), s, valid)
        if self.temperature != 1:
            p = softmax(p.clamp_min(LEAST).log() / self.temperature, path.types)
        loops = path.mode == "reference" and s < 1
        return draw(p, noise, valid, path.types, stream="step", loops=loops)  # type: ignore[arg-type]
