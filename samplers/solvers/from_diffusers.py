"""The schedulers of Hugging Face diffusers as samplers.

A scheduler steps a state of its own on a scale of its own: VP (alpha² + sigma² = 1), VE (alpha = 1) or flow
(alpha + sigma = 1). Only the noise level ℓ = sigma/alpha is common, so each of its steps is taken from the
model's path to its scale and back: x' = x·√(alpha'² + sigma'²)/√(alpha² + sigma²) at equal ℓ, and the model
is asked on its own path. Schedulers with a table of betas get the model's, or its path cut into a thousand
entries that reach from its first level to its last. One that would start at more noise than the path has
starts at the path's own first level, or is refused where it was told to.

Schedulers compute in float32. Each run makes its own, so no state is shared; draws come from the
``NoiseSource``, as numbers where the scheduler takes them (``variance_noise``) and else as one seeded
generator a sample.
"""

import inspect
import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from backbones.registry import check_options, suggest
from backbones.types import Noise
from samplers.paths import check_steps, sigma_of
from samplers.prediction import Prediction
from samplers.solvers.base import Predict, Sampler
from samplers.solvers.schedulers import KNOWN, MODELS_OWN, STEPS_OWN, Options, ancestral_levels, new, table


class Diffusers(Sampler):
    """``scheduler``: a class name of diffusers. Its own options, and those of its ``step`` (eta, s_churn,
    ...), are given beside: ``build("diffusers", scheduler="UniPCMultistepScheduler",
    use_karras_sigmas=True)``. ``clip`` and ``threshold`` are ours and bound what the scheduler is given; its
    own clipping is off unless asked for. ``lambda_min`` ends its table of levels. Quirks are kept on VP
    tables, where diffusers' users know them: DDIM's scheduler steps by T//n whatever the spacing, so with
    linspace, or n that does not divide T, it is off its own levels there."""

    resamples = False

    def __init__(
        self,
        *,
        scheduler: str = "DPMSolverMultistepScheduler",
        spacing: str | None = None,
        lambda_min: float | None = None,
        clip: float | None = None,
        threshold: float | None = None,
        options: dict[str, Any] | None = None,
    ):
        super().__init__(spacing=spacing, lambda_min=lambda_min, clip=clip, threshold=threshold)
        if scheduler not in KNOWN:
            raise ValueError(
                f"got scheduler {scheduler!r}, expected one of "
                f"{', '.join(KNOWN)}{suggest(scheduler, KNOWN)}; others step more than once in a place, "
                "need "
                "models of another kind, or draw noise that can't be given to them"
            )
        import diffusers

        self.scheduler, self.kind, self.asked = scheduler, getattr(diffusers, scheduler), dict(options or {})
        self.scale, self.by_step, self.random = KNOWN[scheduler]
        chosen, where = dict(options or {}), f"scheduler {scheduler!r}"
        for name in MODELS_OWN:
            if name in chosen:
                raise ValueError(
                    f"got {name} for the {where}, but the table of noise levels is the model's; leave it out"
                )
        self.stepping = stepping = inspect.signature(self.kind.step).parameters
        self.step_options = {
            k: chosen.pop(k) for k in list(chosen) if k in stepping and k not in (*STEPS_OWN, "self")
        }
        self.takes_noise = "variance_noise" in stepping
        self.accepts = inspect.signature(self.kind.__init__).parameters
        # the latter is what singlestep solvers set for themselves, with a message
        own = {"clip_sample": False, "lower_order_final": True}
        self.options: dict[str, Any] = {k: v for k, v in own.items() if k in self.accepts}
        for name in set(chosen) - set(self.accepts):
            if near := suggest(name, inspect.signature(type(self)).parameters):
                raise ValueError(f"got the unknown option {name!r} for the {where}{near}")
        self.options |= check_options(self.kind, chosen, where)
        defaults = {k: p.default for k, p in self.accepts.items()} | {
            k: stepping[k].default for k in stepping
        }
        self.draws = self.random({**defaults, **self.options, **self.step_options})

    @classmethod
    def gather(cls, options: Options) -> dict[str, Any]:
        """Flat options as keyword arguments: what is not ours is the scheduler's."""
        ours = {k: v for k, v in options.items() if k in inspect.signature(cls).parameters}
        rest = {k: v for k, v in options.items() if k not in ours}
        return ours | ({"options": {**(ours.get("options") or {}), **rest}} if rest else {})

    def make(self, path: Any, num_steps: int) -> Any:
        """A scheduler for this path, set to its steps."""
        options, begin = dict(self.options), self.begin_time(path)
        top = float(sigma_of(path, begin))
        if "trained_betas" in self.accepts:
            bar = table(path, begin)
            options |= {
                "num_train_timesteps": len(bar),
                "trained_betas": (1 - bar / torch.cat([bar.new_ones(1), bar[:-1]])).tolist(),
            }
            if float(bar[-1]) == 0:
                if "rescale_betas_zero_snr" not in self.accepts:
                    raise ValueError(
                        f"the {self.scheduler} can't start from a table that ends in pure noise; choose "
                        "DDIMScheduler or another one"
                    )
                # which such a table is left alone by, and which keeps its logarithms finite
                options["rescale_betas_zero_snr"] = True
                if self.by_step:
                    # noise says nothing of the data at the first step
                    options = {"prediction_type": "sample"} | options
        if self.spacing is not None and "timestep_spacing" in self.accepts:
            options["timestep_spacing"] = self.spacing
        elif self.by_step and "timestep_spacing" in self.accepts and not path.tabled:
            # their own default leaves out the noisiest entries, which VP alone forgives
            options = {"timestep_spacing": "trailing"} | options
        low = float(sigma_of(path, path.last_trained))
        if path.karras and self.scale == "edm":
            options = dict(path.karras) | ({} if self.lambda_min is None else {"sigma_max": top}) | options
        elif self.scale == "edm":
            own = {k: self.accepts[k].default for k in ("sigma_min", "sigma_max")}
            options = {
                "sigma_min": max(own["sigma_min"], low),
                "sigma_max": min(own["sigma_max"], top),
            } | options
        made = new(self.kind, options)
        if self.scale == "flow":
            made.sigma_min = max(float(made.sigma_min), low / (1 + low))
            if self.lambda_min is not None:  # it has no table that could end there
                highest, shift = top / (1 + top), made.config.shift
                # it is shifted again
                made.sigma_max = min(float(made.sigma_max), highest / (shift - (shift - 1) * highest))
        made.set_timesteps(num_steps)
        if not self.by_step:
            self._within(made, top)
        return made

    def _within(self, made: Any, top: float) -> None:
        """No level above the path's first. Raises ``ValueError`` where an option asks for one."""
        calls = len(made.timesteps)
        if hasattr(made, "sigmas_down") and not bool((made.sigmas_interpol[: calls - 1] > 0).all()):
            ancestral_levels(made)
        if self._scale(made) == "flow":  # these start at nothing but noise, which not every path has
            if math.isfinite(top):
                made.sigmas = made.sigmas.clamp(max=top / (1 + top))
        elif (first := float(made.sigmas.max())) > top * 1.001:
            raise ValueError(
                f"got a start at noise level {first:.6g} from the {self.scheduler}, expected at most "
                f"{top:.6g}, where this model's path begins; try a "
                "lower sigma_max, or leave it out"
            )

    def grid(self, path: Any, num_steps: int) -> list[float]:
        check_steps(num_steps)
        super().grid(path, num_steps)  # refuses what the path refuses
        made = self.make(path, num_steps)
        order = getattr(made, "order", 1)
        times = [self._time(made, path, i) for i in range(0, len(made.timesteps), order)] + [1.0]
        if len(times) != num_steps + 1 or not all(a < b for a, b in zip(times[:-1], times[1:])):
            raise ValueError(
                f"the {self.scheduler} takes {len(times) - 1} steps for the {num_steps} that were asked "
                "for, not all of them forward on this model's path; "
                "ask for another number, another spacing or another scheduler"
            )
        return times

    def begin(self, path: Any, times: list[float], start: int) -> list[Any]:
        made = self.make(path, len(times) - 1)
        if hasattr(made, "set_begin_index"):
            made.set_begin_index(start * getattr(made, "order", 1))
        return [made, start, path, start]

    def evaluations(self, path: Any, times: list[float]) -> tuple[int, ...]:
        made = self.make(path, len(times) - 1)
        order, calls = getattr(made, "order", 1), len(made.timesteps)
        return tuple(min(order, calls - first) for first in range(0, calls, order))

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        made, index, path, begun = history
        history[1] = index + 1
        order, calls = getattr(made, "order", 1), len(made.timesteps)
        first = index * order
        state = x * self._factor(made, path, t, self._level(made, first))
        for call in range(first, min(first + order, calls)):
            level = self._level(made, call)
            if call == first:
                prediction = predict(x, t)
            else:
                between = self._time(made, path, call)
                prediction = predict(state / self._factor(made, path, between, level), between)
            output = self._output(made, prediction, state, level)
            # some count their steps in it
            made.scale_model_input(state, made.timesteps[call]) if hasattr(
                made, "scale_model_input"
            ) else None
            # it steps by T//n, which need not lead to its next entry
            if self.scheduler.startswith("DDIM") and not path.tabled:
                ahead = int(made.timesteps[call + 1]) if call + 1 < calls else -1
                made.num_inference_steps = Fraction(
                    len(made.alphas_cumprod), int(made.timesteps[call]) - ahead
                )
            state = self._advance(made, output, made.timesteps[call], state, noise, index - begun).to(x.dtype)
        if first + order >= calls:
            return state  # the scheduler's answer is the sample, whatever noise it has left in it
        return state / self._factor(made, path, s, self._level(made, first + order))

    def _advance(
        self, made: Any, output: Tensor, timestep: Tensor, state: Tensor, noise: Noise | None, past: int
    ) -> Tensor:
        """One call of the scheduler, ``past`` steps after its first; raises ``ValueError`` if it draws noise
        that was not given to it."""
        given: dict[str, Any] = dict(self.step_options)
        # a multistep formula that counts from its table's first step even where the run began later
        if "order" in self.stepping:
            given["order"] = min(given.get("order", self.stepping["order"].default), past + 1)
        if self.draws:
            if noise is None:
                raise ValueError(
                    f"the {self.scheduler} adds noise in its steps; pass noise=NoiseSource(seeds)"
                )
            if self.takes_noise:
                given["variance_noise"] = noise.normal(state.shape[1:], stream="step", dtype=state.dtype).to(
                    state.device
                )
            else:
                bits = noise.normal((1,), stream="step", dtype=torch.float64).view(torch.int64)[:, 0] & (
                    2**63 - 1
                )
                given["generator"] = [torch.Generator().manual_seed(int(b)) for b in bits.tolist()]
        before = torch.get_rng_state()
        out = made.step(output, timestep, state, return_dict=False, **given)[0]
        if not torch.equal(before, torch.get_rng_state()):
            raise ValueError(
                f"the {self.scheduler} drew from torch's own generator with these options; choose others, "
                "or one of our samplers"
            )
        return out

    # ---- the two scales --------------------------------------------------------------------------

    def _level(self, made: Any, call: int) -> float:
        """sigma/alpha of the state that the scheduler expects at its call-th time step."""
        if self.by_step:
            bar = float(made.alphas_cumprod[int(made.timesteps[call])])
            return math.sqrt((1 - bar) / bar) if bar > 0 else math.inf
        if call % getattr(made, "order", 1) == 1 and hasattr(made, "sigmas_interpol"):
            # of two calls at one place the ancestral one names the level between under the first, the other
            # under the second
            return float(made.sigmas_interpol[call - 1 if hasattr(made, "sigmas_down") else call])
        return self._of_sigma(made, float(made.sigmas[call]))

    def _of_sigma(self, made: Any, sigma: float) -> float:
        if self._scale(made) != "flow":
            return sigma
        return math.inf if sigma >= 1 else sigma / (1 - sigma)

    def _scale(self, made: Any) -> str:
        return "flow" if getattr(made.config, "use_flow_sigmas", False) else self.scale

    def _time(self, made: Any, path: Any, call: int) -> float:
        """The path's time of a call; a table's own entry where the scheduler names one."""
        begin = self.begin_time(path)
        level, top = self._level(made, call), float(sigma_of(path, begin))
        if math.isfinite(top) and abs(level / top - 1) < 1e-4:
            return begin  # but for float32, where the state is drawn
        t = min(max(float(path.time_of(_log_snr(level))), begin), 1.0)
        if path.tabled:
            k = float(made.timesteps[call])
            if k.is_integer() and 0 <= k < path.size and abs(float(path.index(t)) - k) < 0.005:
                return path.time(int(k))
        return t

    def _factor(self, made: Any, path: Any, t: float, level: float) -> float:
        """By which a state at t is larger on the scheduler's scale."""
        scale, c = self._scale(made), path.coefficients(t)
        there = (
            1.0
            if scale == "vp" or math.isinf(level)
            else math.hypot(1, level) / (1 + level if scale == "flow" else 1)
        )
        return there / float(torch.hypot(c.alpha, c.sigma))

    def _output(self, made: Any, prediction: Prediction, state: Tensor, level: float) -> Tensor:
        """What the scheduler takes for the network's output, in the form its ``prediction_type`` names."""
        kind = getattr(made.config, "prediction_type", "flow_prediction")
        data, eps = prediction.to("data"), prediction.to("noise")
        if self.scale == "edm":  # it undoes EDM's preconditioning
            spread = made.config.sigma_data
            total = level**2 + spread**2
            out = (data - spread**2 / total * state) / (level * spread / math.sqrt(total))
            return -out if kind == "v_prediction" else out
        if kind == "v_prediction":
            out = eps / math.hypot(1, level) - data / math.hypot(1, 1 / level)
        else:
            forms = {"epsilon": eps, "sample": data, "flow_prediction": eps - data}
            if kind not in forms:
                raise ValueError(
                    f"got prediction_type {kind!r}, expected epsilon, sample, v_prediction or "
                    "flow_prediction; leave it out"
                )
            out = forms[kind]
        learned = getattr(made.config, "variance_type", None) in ("learned", "learned_range")
        return torch.cat([out, prediction.head("variance")], 1) if learned else out


def _log_snr(level: float) -> float:
    return math.inf if level == 0 else -2 * math.log(level)
