"""What views of samples ask of the model that made them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backbones.types import RunContext
from studio import sampling
from studio.data import load_data
from studio.model.model import Model
from studio.sampling import engine


@dataclass(frozen=True)
class Asked:
    """A `studio.tasks.views.Maker`: a model and the request that it answered."""

    model: Model
    request: sampling.Request

    def data(self, count: int) -> Tensor | None:
        """(M, ...) at most ``count`` training samples, spread over all of them, of the classes that were
        sampled; None where the data cannot be read here."""
        try:
            known = load_data(self.model.config.data).train
        except (ValueError, OSError, ImportError):
            return None
        places = np.unique(np.linspace(0, len(known) - 1, min(count, len(known))).astype(int))
        found = [known[int(i)] for i in places]
        asked = {label for label in self.request.labels or () if label >= 0}
        values = [torch.as_tensor(value) for value, label in found if not asked or label in asked]
        return torch.stack(values) if values else None

    def velocity(self, values: Tensor, t: float) -> Tensor:
        """(N, ...) of samples (N, ...): how far the guided flow carries them in a unit of time, by the
        conditions of the first sample."""
        model = self.model
        asked = engine.guided(model.denoiser, self.request, model.rules(self.request.guidance))
        cond = engine.cond_of(self.request, [0] * len(values), model.device)
        states = model.codec.encode(values).to(model.device)
        ctx = RunContext(attention=self.request.attention)
        with torch.no_grad():
            moved = asked.predict(states, t, cond, ctx).to("velocity")
        return (model.codec.decode(states + moved) - model.codec.decode(states)).cpu()
