"""Optimisers and their schedule: fused AdamW, and Muon for the matrices inside blocks with AdamW for the
rest."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from studio.config import AUTO, TrainConfig
from studio.runtime.devices import DTYPE_NAMES, fast_bf16

MOMENTUM = "momentum"
WARMUP_SHARE, WARMUP_STEPS = 0.05, 200  # of a run whose config leaves it open


def orthogonalise(g: Tensor, steps: int = 5, *, dtype: torch.dtype | None = None) -> Tensor:
    """(n, r, c) matrices to their nearest semi-orthogonal ones, roughly: Newton–Schulz with the quintic of
    Jordan et al. (Muon, 2024), in ``dtype``, by default bf16 where the hardware has it (emulated it takes ten
    times as long as in fp32).

    Singular values land in about [0.7, 1.2].
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[-2] > g.shape[-1]
    x = (g.mT if tall else g).to(dtype or quick_dtype(g.device))
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def quick_dtype(device: torch.device) -> torch.dtype:
    """In which products are quick there."""
    return torch.bfloat16 if fast_bf16(device) else torch.float32


class Muon:
    """Momentum, Nesterov, orthogonalised; update × 0.2·√(larger side) so that AdamW's learning rates and
    decay carry over. Matrices of one shape are handled as one batch; convolution kernels count as (out,
    in·k·k). A run keeps the precision of its products wherever it goes on."""

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ):
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in params:
            self.groups.setdefault((p.shape[0], p.numel() // p.shape[0]), []).append(p)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.buffers = {
            shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self.groups.items()
        }
        self.dtype = quick_dtype(next(iter(self.buffers.values())).device)
        self.param_groups: list[dict[str, Any]] = [
            {"params": [p for ps in self.groups.values() for p in ps], "lr": lr, "initial_lr": lr}
        ]

    @torch.no_grad()
    def step(self) -> None:
        lr = self.param_groups[0]["lr"]
        for shape, everything in self.groups.items():
            # a phase may train one network of several
            rows = [i for i, p in enumerate(everything) if p.grad is not None]
            if not rows:
                continue
            params: list[Tensor] = [everything[i] for i in rows]
            grads = torch.stack([p.grad.reshape(shape) for p in params if p.grad is not None])  # (n, r, c)
            whole = len(rows) == len(everything)
            buffer = (self.buffers[shape] if whole else self.buffers[shape][rows]).lerp_(
                grads, 1 - self.momentum
            )
            if not whole:
                self.buffers[shape][rows] = buffer
            update = orthogonalise(grads.lerp_(buffer, self.momentum), dtype=self.dtype).to(grads.dtype)
            if self.weight_decay:
                torch._foreach_mul_(params, 1 - lr * self.weight_decay)
            torch._foreach_add_(
                params,
                [u.view_as(p) for u, p in zip(update.unbind(0), params)],
                alpha=-lr * 0.2 * math.sqrt(max(shape)),
            )

    def zero_grad(self) -> None:
        for params in self.groups.values():
            for p in params:
                p.grad = None

    @torch.no_grad()
    def forget(self, params: set[int]) -> None:
        """Start the momentum of some parameters, by id, again."""
        for shape, everything in self.groups.items():
            self.buffers[shape][[i for i, p in enumerate(everything) if id(p) in params]] = 0

    def momenta(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Each parameter and its momentum, a view (r, c)."""
        return [pair for shape, params in self.groups.items() for pair in zip(params, self.buffers[shape])]

    def of_order(self, state: dict[str, Any]) -> list[tuple[nn.Parameter, dict[str, Tensor]]]:
        """What a state by order, as earlier versions wrote it, holds of each parameter."""
        return [
            (p, {MOMENTUM: row})
            for (r, c), params in self.groups.items()
            for p, row in zip(params, state["buffers"][f"{r}x{c}"], strict=True)
        ]


INSIDE = ("blocks.", "temporal.")  # parts of networks whose matrices are Muon's


def build_optimizers(networks: dict[str, nn.Module], config: TrainConfig) -> list[Any]:
    """AdamW over everything, or Muon over the matrices and kernels inside blocks (`INSIDE` in their name) and
    AdamW over the rest."""
    named = [
        (f"{n}.{k}", p) for n, net in networks.items() for k, p in net.named_parameters() if p.requires_grad
    ]
    matrices = [
        p
        for k, p in named
        if config.optimizer == "muon" and any(part in k for part in INSIDE) and p.ndim >= 2
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    built: list[Any] = []
    if rest:
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in rest)
        adamw = torch.optim.AdamW(
            rest, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused
        )
        adamw.param_groups[0]["initial_lr"] = config.lr
        built.append(adamw)
    if matrices:
        built.append(Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay))
    return built


def forget(optimizers: Iterable[Any], params: Iterable[nn.Parameter]) -> None:
    """Start the moments of parameters again."""
    chosen = {id(p) for p in params}
    for optimizer in optimizers:
        if isinstance(optimizer, Muon):
            optimizer.forget(chosen)
            continue
        for p in [p for p in optimizer.state if id(p) in chosen]:
            del optimizer.state[p]


def state_of(networks: Mapping[str, nn.Module], optimizers: Iterable[Any]) -> dict[str, Any]:
    """What optimisers keep, by the parameter's name (``network.key``), so that no later order of modules
    hands it to another."""
    names = _names(networks)
    kept: dict[str, Any] = {"parameters": {}}
    for optimizer in optimizers:
        if isinstance(optimizer, Muon):
            kept["parameters"] |= {names[id(p)]: {MOMENTUM: row.clone()} for p, row in optimizer.momenta()}
            kept["muon"] = DTYPE_NAMES[optimizer.dtype]
        else:
            kept["parameters"] |= {names[id(p)]: dict(state) for p, state in optimizer.state.items()}
    return kept


@torch.no_grad()
def load_state(networks: Mapping[str, nn.Module], optimizers: Sequence[Any], kept: Any) -> None:
    """Give optimisers what `state_of` told, or the list by order of earlier versions. Rates, betas and decay
    stay the config's. Raises ``ValueError`` for what another optimiser kept, or for other parameters."""
    names = _names(networks)
    if isinstance(kept, list):
        kept = _by_name(names, optimizers, kept)
    found = kept["parameters"]
    strange = sorted(found.keys() - set(names.values()))
    if strange:
        raise ValueError(f"got the moments of {strange[0]}, which the network does not have")
    for optimizer in optimizers:
        if isinstance(optimizer, Muon):
            if "muon" not in kept or any(
                MOMENTUM not in found.get(names[id(p)], {}) for p, _ in optimizer.momenta()
            ):
                raise ValueError("got no momentum of the matrices inside blocks")
            optimizer.dtype = {name: kind for kind, name in DTYPE_NAMES.items()}[kept["muon"]]
            for p, row in optimizer.momenta():
                row.copy_(_of_shape(found[names[id(p)]][MOMENTUM], row, names[id(p)]))
            continue
        state = optimizer.state_dict()
        params = [p for group in optimizer.param_groups for p in group["params"]]
        if any(MOMENTUM in found.get(names[id(p)], {}) for p in params):
            raise ValueError("got the momentum of Muon for parameters that AdamW trains now")
        state["state"] = {i: found[names[id(p)]] for i, p in enumerate(params) if names[id(p)] in found}
        for i, entry in state["state"].items():
            _of_shape(entry["exp_avg"], params[i], names[id(params[i])])
        optimizer.load_state_dict(state)


def _names(networks: Mapping[str, nn.Module]) -> dict[int, str]:
    return {id(p): f"{n}.{k}" for n, net in networks.items() for k, p in net.named_parameters()}


def _by_name(names: Mapping[int, str], optimizers: Sequence[Any], saved: Sequence[Any]) -> dict[str, Any]:
    if len(saved) != len(optimizers) or any(
        isinstance(o, Muon) != ("buffers" in s) for o, s in zip(optimizers, saved)
    ):
        raise ValueError(f"got the states of {len(saved)} optimisers, expected {len(optimizers)}")
    kept: dict[str, Any] = {"parameters": {}}
    for optimizer, state in zip(optimizers, saved):
        if isinstance(optimizer, Muon):
            kept["parameters"] |= {names[id(p)]: entry for p, entry in optimizer.of_order(state)}
            kept["muon"] = state.get("dtype", "bf16")  # earlier versions know none but bf16
        else:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            kept["parameters"] |= {names[id(params[i])]: entry for i, entry in state["state"].items()}
    return kept


def _of_shape(value: Tensor, like: Tensor, name: str) -> Tensor:
    if value.shape != like.shape:
        raise ValueError(
            f"got moments of shape {tuple(value.shape)} for {name}, expected {tuple(like.shape)}"
        )
    return value


def warmup_done(config: TrainConfig, step: int, progress: float) -> float:
    """How much of the warm-up is behind a step (from 0), at most 1. Left to itself it is a share of the run,
    so that a short run is not all warm-up."""
    if config.warmup == AUTO:
        if config.steps:
            return min(1.0, (step + 1) / min(WARMUP_STEPS, max(1.0, WARMUP_SHARE * config.steps)))
        return min(1.0, max((step + 1) / WARMUP_STEPS, progress / WARMUP_SHARE))
    return min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0


def lr_factor(config: TrainConfig, step: int, progress: float) -> float:
    """Factor of the learning rates at a step (from 0) and a share of the run in [0, 1]: linear warm-up times
    a half cosine to ``final_lr``."""
    warm = warmup_done(config, step, progress)
    if config.schedule == "constant":
        return warm
    return warm * (
        config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    )
