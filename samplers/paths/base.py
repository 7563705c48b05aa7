"""What samplers, guidance and training ask of a path, and what a path need not say for itself.

`Path` is what all have; those without factors or levels of noise say so where they are asked for them.
`GaussianPath` adds places among the levels.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers import spaces
from samplers.batch import Ends, State
from samplers.paths.clock import Clock
from samplers.paths.coefficients import Coefficients, Time, as_time, check_steps, no_spacing

Restore = Callable[[Tensor, float], Tensor]


class Path(Protocol):
    """``native`` is what its users call the model's output, ``space`` what its states are made of (a name of
    `samplers.spaces.REGISTRY`, or a space); ``t_start`` where sampling begins; ``prior_scale`` the noise's
    scale there; ``clock`` the variable in which its ODE is solved. ``starts``: what runs start from.
    ``sampler``: the name of the one to take, where not any will do. ``levels``: whether it is a
    `GaussianPath`; ``moments``: whether only the moments of its steps are known, and no flow; ``sums``: the
    spaces of its predictions in which sums mean something, empty where in all; ``tabled``: whether its levels
    are the entries of a VP table. ``view``: the class by which a model on another path of that view is asked
    on this one (`samplers.reparameterised`). ``karras``: options of Karras' grid, where that is the path's.
    ``grid`` runs from ``begin`` (``t_start`` unless given) to 1."""

    native: str
    space: Any
    t_start: float
    prior_scale: float
    clock: Clock
    starts: str
    sampler: str
    levels: bool
    moments: bool
    sums: tuple[str, ...]
    tabled: bool
    view: str
    karras: Mapping[str, float]

    @property
    def last_trained(self) -> float:
        """The time nearest to the data that a network on it was trained at."""
        ...

    def coefficients(self, t: Time) -> Coefficients:
        """Factors of data and source. Raises ``ValueError`` where the path has none, as the next two do where
        it has no levels of noise."""
        ...

    def log_snr(self, t: Time) -> Tensor: ...
    def time_of(self, log_snr: Time) -> Tensor:
        """The inverse of ``log_snr``."""
        ...

    def convert(self, prediction: Any, to: str) -> Tensor:
        """A prediction made on this path, read in another space than its own. Raises ``ValueError`` for
        what does not follow from it."""
        ...

    def restorer(self, given: Tensor, known: Tensor, cond: Cond, noise: Noise) -> Restore:
        """The function that puts known entries (masks and values (B, ...)) back at a time, as noisy as the
        rest: always by the same draw."""
        ...

    def open_end(self, s: float) -> bool:
        """Whether s is a place where the ODE's slope has no limit or the network no input."""
        ...

    def same_as(self, other: Any) -> bool:
        """Whether both pass the same states at the same times, and tell a network the same."""
        ...

    def network_time(self, t: Time) -> Tensor: ...
    def spread(self, t: Time) -> float: ...
    def grid(
        self, num_steps: int, spacing: str | None = None, *, begin: float | None = None
    ) -> list[float]: ...


class GaussianPath(Path, Protocol):
    """x = alpha·data + sigma·noise."""

    def nearest(self, log_snr: Time) -> Tensor:
        """The time of a level where training may look: on a table its nearest entry."""
        ...

    def first(self, begin: float) -> float:
        """The first time of a grid that begins there: on a table an entry."""
        ...


class AnyPath:
    """Base of paths of one's own: straight time, no sources but the space's own draws, predictions that are
    read as they are. A subclass says its ``native`` and its ``space`` and writes ``state``; and ``convert``
    where what its network says is not what a sampler asks."""

    native: str = "velocity"
    space: Any = "euclid"
    t_start, prior_scale, clock = 0.0, 1.0, Clock()
    starts, sampler, levels, moments, tabled = "noise", "", False, False, False
    sums: tuple[str, ...] = ()
    view = ""
    karras: Mapping[str, float] = {}
    heads: Mapping[str, str] = {name: f"samplers.heads.plain:{name}" for name in ("velocity", "data")}
    weights: Mapping[str, str] = {"even": "samplers.weights:Even"}
    weight = "even"
    fixed: tuple[str, ...] = ()  # of an objective's options, those that it does not have

    @property
    def head(self) -> str:
        """The parameterisation that it takes unless told otherwise."""
        return self.native

    def state(self, space: Any, pairs: Any, t: Tensor, noise: Noise) -> State:
        """A place between the pairs (``source``, ``data``, ``cond``) at times (B,), and what can be learned
        there."""
        raise TypeError(f"{type(self).__name__} has no state: subclass AnyPath and write it")

    def on(self, space: Any) -> Self:
        """The same path on a space of its name that has options of its own, such as another prior."""
        ours = spaces.of(self.space)
        if type(ours) is type(space) and vars(ours) == vars(space):
            return self
        other = copy.copy(self)
        other.space = space
        return other

    def convert(self, prediction: Any, to: str) -> Tensor:
        raise ValueError(
            f"got a prediction of {prediction.space}, from which {to} does not follow on this path; choose "
            f"a sampler and rules that read {prediction.space}"
        )

    def restorer(self, given: Tensor, known: Tensor, cond: Cond, noise: Noise) -> Restore:
        """As training sees them: by ``state``, from one draw of the space (stream ``known``)."""
        space = spaces.of(self.space)
        start, _ = space.start(
            noise, given.shape[1:], cond, scale=self.prior_scale, stream="known", dtype=given.dtype
        )
        ends = Ends(start.to(given.device), given, Cond(valid=cond.valid))

        def restore(x: Tensor, t: float) -> Tensor:
            if t == 1:
                return torch.where(known, given, x)
            times = torch.full((len(x),), t, dtype=torch.float64, device=x.device)
            return torch.where(known, self.state(space, ends, times, noise).x, x)

        return restore

    def coefficients(self, t: Time) -> Coefficients:
        """Raises ``ValueError``, but on paths with factors of data and of a source."""
        raise ValueError(
            f"the path {type(self).__name__} has no factors of data and noise, and so no levels; choose "
            f"{f'the sampler {self.sampler}, and rules' if self.sampler else 'a sampler and rules'} that "
            "do without"
        )

    def log_snr(self, t: Time) -> Tensor:
        """As ``coefficients``."""
        return self.coefficients(t).alpha

    def time_of(self, log_snr: Time) -> Tensor:
        """As ``coefficients``."""
        return self.coefficients(0.0).alpha

    @property
    def last_trained(self) -> float:
        """The time nearest to the data that a network on it was trained at."""
        return 1.0

    def open_end(self, s: float) -> bool:
        return False

    def same_as(self, other: Any) -> bool:
        """Of one kind with the same numbers."""
        return other is self or (type(other) is type(self) and _alike(vars(self), vars(other)))

    def spread(self, t: Time) -> float:
        """How large a state is, data of deviation 1: a run that begins further down the path is given a
        smaller one."""
        return 1.0

    def even(self, u: Tensor, bend: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """(B,) times of training for u even in [0, 1), on a clock that ``bend`` bends."""
        t = self.t_start + (1 - self.t_start) * u
        return t if bend is None else bend(t)

    def trained_time(self, t: Tensor) -> Tensor:
        """Drawn times moved to where training may look: everywhere."""
        return t

    def coupling(self, spec: str | Mapping[str, Any]) -> str | Mapping[str, Any] | None:
        """What pairs its ends where a config says ``spec``; None: data alone."""
        return spec

    @torch.no_grad()
    def energy(self, pairs: Any, t: Tensor) -> Tensor | None:
        """(B,) squared norm of the velocity of the pairs, where that is what is learned."""
        return None

    def network_time(self, t: Time) -> Tensor:
        return 1000 * as_time(t)

    def grid(self, num_steps: int, spacing: str | None = None, *, begin: float | None = None) -> list[float]:
        """Even times from 0 to 1."""
        check_steps(num_steps)
        no_spacing(spacing, type(self).__name__.removesuffix("Path").lower())
        return [i / num_steps for i in range(num_steps + 1)]


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Mapping):
        return ours.keys() == theirs.keys() and all(_alike(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, Tensor):
        return ours.shape == theirs.shape and torch.equal(ours, theirs)
    return bool(ours == theirs)
