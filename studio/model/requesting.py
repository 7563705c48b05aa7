"""A loaded model that can be asked: requests are checked, guidance finds the models that it borrows, and a
run's steps are iterated."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

import guidance as guidance_floor
from guidance.rules import Rule
from samplers.denoiser import Denoiser, Queryable
from samplers.reparameterised import Reparameterised
from studio import sampling
from studio.model import guiding_models
from studio.model.checked_request import checked_request
from studio.model.loaded import Loaded
from studio.model.recipes import recipes_of
from studio.sampling.forms import Conditions, Entries, Guidance, Labels, Picture, Seeds, Solver


@dataclass(frozen=True, repr=False)
class Requesting(Loaded):
    """``loader`` finds by name what guidance borrows."""

    loader: Callable[..., Loaded] = field(kw_only=True, compare=False)

    def request(
        self,
        *,
        labels: Labels = None,
        seeds: Seeds = None,
        num_steps: int | None = None,
        guidance: Guidance = "default",
        sampler: Solver = None,
        conditions: Conditions = None,
        init: Picture = None,
        strength: float | None = None,
        mask: Picture = None,
        known: Entries = None,
        given: Entries = None,
        noise: Any = None,
        batch: int = 64,
        deterministic: bool = False,
        sources: Tensor | None = None,
        direction: str = "forward",
        files: bool = True,
    ) -> tuple[sampling.Request, list[Rule] | None]:
        """A checked request for the options of `sample`, and the guidance as rules where no line describes
        them (`guidance.grammar.CUSTOM`). ``files``: whether conditions may name files, which a stranger may
        not. Raises ``ValueError`` for anything that does not fit."""
        return checked_request(
            self,
            labels=labels,
            seeds=seeds,
            num_steps=num_steps,
            guidance=guidance,
            sampler=sampler,
            conditions=conditions,
            init=init,
            strength=strength,
            mask=mask,
            known=known,
            given=given,
            noise=noise,
            batch=batch,
            deterministic=deterministic,
            sources=sources,
            direction=direction,
            files=files,
            rules_of=self.rules,
        )

    def rules(self, spec: Any) -> list[Rule]:
        """The rules of a guidance line, number or list, with the models they name loaded (once for this
        model)."""
        return guiding_models.resolve(self, guidance_floor.parse(spec), self.loader)

    def lent(self, spec: Any) -> dict[str, str]:
        """Names and hashes of the models that a guidance line, or rules, borrow by name."""
        names = {
            m
            for m in (getattr(rule, "model", None) for rule in guidance_floor.parse(spec))
            if isinstance(m, str)
        }
        return {name: model.hash for name, model in self.loans.models.items() if name in names}

    def stream(
        self,
        request: sampling.Request,
        rules: Sequence[Rule] | None = None,
        *,
        denoiser: Denoiser | Reparameterised | None = None,
        taps: dict[str, Any] | None = None,
        around: Callable[[Queryable], Queryable] | None = None,
    ) -> Generator[sampling.Progress, None, None]:
        """Iterate the solver's steps; see `studio.sampling.stream`. ``rules`` replaces the request's
        guidance, ``denoiser`` the model's own."""
        chosen = self.rules(request.guidance if rules is None else rules)
        return sampling.stream(
            denoiser or self.denoiser,
            self.info.shape,
            self.codec,
            request,
            device=self.device,
            rules=chosen,
            taps=taps,
            around=around,
        )

    def recipes(
        self,
        request: sampling.Request,
        origin: Mapping[str, Any] | None = None,
        rules: Sequence[Rule] | None = None,
    ) -> tuple[dict[str, Any], ...]:
        """One dict per sample: everything that made it. ``rules``: those of a request that no line
        describes."""
        lent = self.lent(request.guidance if rules is None else rules)
        return recipes_of(self, request, origin or {}, lent)
