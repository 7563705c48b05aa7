"""The networks of a run and what changes their weights: optimisers, averages, phases that begin one anew."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backbones.types import RunContext
from studio.checkpoints.build import built_buffers
from studio.training.batches import Ready, seed_of
from studio.training.ema import EMA
from studio.training.optim import build_optimizers, forget, load_state, lr_factor, state_of
from studio.training.procedure import Phase, Update
from studio.training.processes import Group
from studio.training.resolve import Resolved


class Learner:
    """``networks``: the live ones by name. ``updates`` counts those of each network's weights."""

    def __init__(
        self, resolved: Resolved, networks: Mapping[str, nn.Module], group: Group, dtype: torch.dtype
    ):
        config, cfg = resolved.config, resolved.config.train
        self.seed, self.accumulate, self.group, self.dtype = config.seed, cfg.accumulate, group, dtype
        self.specs = resolved.procedure.networks(config)
        self.networks = {name: net.to(group.device) for name, net in networks.items()}
        for name, net in self.networks.items():
            if self.specs[name].frozen:
                net.requires_grad_(False).eval()
        trained = {n: m for n, m in self.networks.items() if not self.specs[n].frozen}
        self.compiled: dict[str, Any] = {
            n: torch.compile(m) if cfg.compile else m for n, m in self.networks.items()
        }
        # the way through which trained networks are asked: their gradients meet there
        self.wrapped: dict[str, Any] = {
            n: group.accelerator.prepare_model(self.compiled[n]) if group.world > 1 else self.compiled[n]
            for n in trained
        }
        group.share_buffers(list(self.networks.values()))
        self.averaged = [n for n in trained if self.specs[n].average]
        self.ema = EMA(
            {n: self.networks[n] for n in self.averaged},
            cfg.ema,
            known=built_buffers(config, resolved.procedure),
        )
        # holds averages for evaluation
        self.shown: dict[str, nn.Module] = {
            n: copy.deepcopy(m).eval().requires_grad_(False) if n in trained else m
            for n, m in self.networks.items()
        }
        self.settings = dict(resolved.procedure.optimisers(config))
        self.optimizers = {name: build_optimizers(trained, asked) for name, asked in self.settings.items()}
        self.updates = dict.fromkeys(self.networks, 0)
        self.one_count = False  # one of all together, in runs of earlier versions
        self.first: dict[str, dict[str, Tensor]] = {}  # weights to begin anew from
        self._moving = {
            n: (
                [p for p in m.parameters() if p.requires_grad],
                [(part, part.training) for part in m.modules()],  # a part may have a mode of its own
            )
            for n, m in trained.items()
        }
        self._focus: tuple[str, ...] = tuple(trained)

    # ---- what is trained -------------------------------------------------------------------------

    def focus(self, names: Sequence[str] | None = None) -> None:
        """Freeze all networks but these, and put them in eval mode; None: none of those that are trained."""
        chosen = tuple(self._moving) if names is None else tuple(names)
        if chosen == self._focus:
            return
        self._focus = chosen
        for name, (params, modes) in self._moving.items():
            for p in params:
                p.requires_grad_(name in chosen)
            for part, training in modes:
                part.training = training and name in chosen

    def remember_first(self, phases: Sequence[Phase]) -> None:
        """Keep the weights of networks that a phase begins anew; called before a run is gone on with."""
        for name in {n for phase in phases for n in phase.fresh}:
            self.first[name] = {k: v.detach().clone() for k, v in self.networks[name].state_dict().items()}

    def restart(self, names: Sequence[str]) -> None:
        """Begin networks anew: their weights, and with them their averages and moments (runs of earlier
        versions keep those)."""
        for name in names:
            self.networks[name].load_state_dict(self.first[name])
            if not self.one_count:
                if name in self.averaged:
                    self.ema.restart(name)
                for optimizers in self.optimizers.values():
                    forget(optimizers, self.networks[name].parameters())
                self.updates[name] = 0

    # ---- one update ------------------------------------------------------------------------------

    def backward(
        self, update: Update, number: int, draw: int, work: Sequence[Ready], ctx: RunContext
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Gradients of an update's loss over its micro-batches; its mean, and what it logs, detached.
        ``draw`` counts the update's draws in the run."""
        self.focus(update.train)
        nets = {**self.compiled, **{n: self.wrapped[n] for n in update.train}}
        total, logs = torch.zeros((), device=self.group.device), dict[str, list[Tensor]]()
        for k, ready in enumerate(work):
            last = k + 1 == self.accumulate
            with contextlib.ExitStack() as stack:
                for name in () if last else update.train:
                    stack.enter_context(self.group.accelerator.no_sync(nets[name]))
                with self.generator(number, draw, k), self.autocast():
                    given = {} if ready.pairs is None else {"pairs": ready.pairs}
                    loss = update.loss(nets, ready.batch, ready.noise, ctx, **given)
                    mean = loss.per_sample.mean() / self.accumulate
                self.group.accelerator.backward(mean)
            total += mean.detach()
            for name, value in loss.logs.items():
                logs.setdefault(name, []).append(value.detach())
        return total, logs

    def apply(self, update: Update, step: int, progress: float) -> None:
        """Change the weights by the gradients that are there, and the averages."""
        settings, optimizers = self.settings[update.optimiser], self.optimizers[update.optimiser]
        factor = lr_factor(settings, step, progress)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        scaler = self.group.accelerator.scaler
        if scaler is not None:
            for optimizer in optimizers:
                scaler.unscale_(optimizer)
        if settings.clip:
            torch.nn.utils.clip_grad_norm_(
                [p for n in update.train for p in self.networks[n].parameters()], settings.clip, foreach=True
            )
        for optimizer in optimizers:
            scaler.step(optimizer) if scaler is not None else optimizer.step()
            optimizer.zero_grad()
        if scaler is not None:
            scaler.update()
        self.group.share_buffers([self.networks[n] for n in update.train])
        for name in self.networks if self.one_count else update.train:
            self.updates[name] += 1
        for name in update.train:
            if name in self.averaged:
                self.ema.update(self.updates[name], (name,))

    def look_for_unused(self, update: Update, number: int, ready: Ready) -> None:
        """Before an update's first step on several processes: a backward pass by itself, which leaves no
        trace."""
        self.focus(update.train)
        trained = [self.networks[n] for n in update.train]
        kept = [(b, b.clone()) for net in trained for b in net.buffers()]
        with self.generator(number, 0, 0), self.autocast():
            given = {} if ready.pairs is None else {"pairs": ready.pairs}
            update.loss(
                self.networks, ready.batch, ready.noise, RunContext(), **given
            ).per_sample.mean().backward()
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
        for net in trained:
            self.group.refuse_unused(net)
            net.zero_grad()

    def autocast(self) -> Any:
        low = self.dtype if self.dtype != torch.float32 else None
        return torch.autocast(self.group.device.type, dtype=low, enabled=low is not None)

    @contextlib.contextmanager
    def generator(self, number: int, draw: int, k: int) -> Iterator[None]:
        """torch's own generator for layers that draw from it (dropout in a network of yours): a function of
        (seed, update, draw); the caller's is put back."""
        accelerator = self.group.accelerator
        place = (draw * self.accumulate + k) * accelerator.num_processes + accelerator.process_index
        kind = self.group.device.type
        # torch.manual_seed looks for every accelerator, which takes milliseconds
        seed = torch.default_generator.manual_seed if kind == "cpu" else torch.manual_seed
        with torch.random.fork_rng(devices=[self.group.device] if kind == "cuda" else []):
            seed((seed_of(self.seed, number) * 0x9E3779B1 + place) % 2**63)
            yield

    # ---- averages and state ----------------------------------------------------------------------

    @property
    def profiles(self) -> list[str]:
        return list(self.ema.shadow)

    def average(self, profile: str | None = None) -> dict[str, nn.Module]:
        """All networks with an average in place of the weights, by default the first; the weights themselves
        where there is none. Good until it is asked again."""
        profile = next(iter(self.ema.shadow), None) if profile is None else profile
        for name in self._moving:
            if profile is None or name not in self.averaged:
                self.shown[name].load_state_dict(self.networks[name].state_dict())
        if profile is not None:
            self.ema.copy_to(profile, {n: self.shown[n] for n in self.averaged})
        return self.shown

    def finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for net in self.networks.values() for p in net.parameters())

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside weights and averages."""
        others = {k: state_of(self.networks, v) for k, v in self.optimizers.items() if k != "main"}
        scaler = self.group.accelerator.scaler
        return {
            "updates": self.updates,
            "one_count": self.one_count,
            "optimizers": state_of(self.networks, self.optimizers.get("main", [])),
            **({"other_optimizers": others} if others else {}),
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load(self, state: Mapping[str, Any], averages: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from a checkpoint's, whose weights are in place. Raises ``ValueError`` for what another
        optimiser kept."""
        for profile, tensors in averages.items():
            self.ema.load(profile, tensors)
        for name, kept in {"main": state["optimizers"], **state.get("other_optimizers", {})}.items():
            load_state(self.networks, self.optimizers.get(name, []), kept)
        scaler = self.group.accelerator.scaler
        if state["scaler"] is not None and scaler is not None:
            scaler.load_state_dict(state["scaler"])
        self.updates = state.get("updates", dict.fromkeys(self.networks, state["step"]))
        self.one_count = state.get("one_count", "updates" not in state and len(self.networks) > 1)
