"""Steps on graphs: draw the next state from p(z_s | z_t), an atom and a bond at a time (Vignac et al. 2209.14734, algorithm 2)."""

from typing import Any

from torch import Tensor

from backbones.types import Noise
from samplers.base import Predict, Sampler
from samplers.graph import softmax
from samplers.graph_noise import draw


class GraphAncestral(Sampler):
    """``temperature`` below 1 sharpens every draw, at the cost of variety."""

    families = ("graph",)

    def __init__(self, *, temperature: float = 1.0):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"got temperature={temperature}, expected a positive number (1 = as the model says)")
        self.temperature = temperature

    def step(self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]) -> Tensor:
        if noise is None:
            raise ValueError("the sampler graph draws in every step; pass noise=NoiseSource(seeds)")
        prediction = predict(x, t)
        path, valid = prediction.path, prediction.valid  # type: ignore[attr-defined]
        p = softmax(prediction.to("logp") / self.temperature, path.types)
        return draw(p, noise, valid, path.types, stream="step", loops=path.mode == "reference" and s < 1)  # type: ignore[arg-type]
