"""Weights inside what training wraps around a network: parallel and compiled modules, averaged copies,
containers of checkpoints.

A tree of dicts is flattened to dotted names. Words that wrappers put anywhere into a name (``_orig_mod``,
also block by block; ``module``, ``_fsdp_wrapped_module``) are taken out. A network then begins wherever a
tensor that it must have is found, whatever stands before it: ``ema_model.``, ``state_dict.model.``,
``params_ema.``. What has the word ema there, or a count of averaged models beside it, is an average.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TRANSPARENT = frozenset(
    {
        "_orig_mod",
        "module",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
        "_ddp_module",
    }
)
# what averages keep of themselves
COUNTERS = frozenset({"n_averaged", "num_updates", "initted", "step", "decay", "optimization_step"})
AVERAGE = re.compile(r"ema\d*|shadow|swa|averaged?|avg")
MARKS = {  # tensors that a network of a family must have; the first that is there is looked for
    "dit": ("x_embedder.proj.weight", "final_layer.linear.weight"),
    "sit": ("x_embedder.proj.weight", "final_layer.linear.weight"),
    "dis": ("patch_embed.proj.weight", "final_layer.linear.weight"),
    "rwkv": ("patch_embed.proj.weight", "final_layer.linear.weight"),
    "graph_dit": ("x_embedder.weight",),
}


@dataclass(frozen=True)
class Part:
    """A network's ``tensors`` by its own names. ``prefix``: what stood before them; ``average``: whether they
    are one."""

    prefix: str
    tensors: dict[str, Tensor]
    average: bool

    @property
    def name(self) -> str:
        """``ema``, ``model``, or ``state-dict`` where nothing says which of them."""
        bare = self.prefix in ("", "state_dict.")
        return "ema" if self.average else "state-dict" if bare else "model"


def _leaves(tree: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _plain(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in TRANSPARENT)


def parts_of(tree: Mapping[str, Any], marks: Sequence[str]) -> tuple[list[Part], tuple[str, ...]]:
    """Every network in a tree, and the first words of tensors that belong to none (optimizers' left out).
    Raises ``ValueError`` where taking wrappers out leaves two different tensors of one name."""
    flat: dict[str, Any] = {}
    for name, value in _leaves(tree):
        if isinstance(value, Tensor):
            plain = _plain(name)
            if plain in flat and not (flat[plain].shape == value.shape and torch.equal(flat[plain], value)):
                raise ValueError(
                    f"the checkpoint has two different tensors {plain} inside different wrappers; keep "
                    "one of them"
                )
            flat[plain] = value
    mark = next((m for m in marks if any(n == m or n.endswith(f".{m}") for n in flat)), None)
    if mark is None:
        return [], ()
    found = sorted({n.removesuffix(mark) for n in flat if n == mark or n.endswith(f".{mark}")}, key=len)
    parts, counted = (
        [],
        {
            _plain(name).rpartition(".")[0] + "."
            for name, _ in _leaves(tree)
            if name.rpartition(".")[2] == "n_averaged"
        },
    )
    inside: set[str] = set()
    for prefix in found:
        others = [p for p in found if p != prefix and p.startswith(prefix)]
        own = {
            n.removeprefix(prefix): v
            for n, v in flat.items()
            if n.startswith(prefix) and not any(n.startswith(p) for p in others)
        }
        if not prefix:  # a bare state-dict: further dicts beside it are not its own
            nested = {str(k) for k, v in tree.items() if isinstance(v, Mapping)}
            own = {n: v for n, v in own.items() if n.partition(".")[0] not in nested or n in tree}
        own = {n: v for n, v in own.items() if n not in COUNTERS}
        inside |= {prefix + n for n in own}
        average = (
            any(AVERAGE.fullmatch(word) for word in re.split(r"[._]", prefix)) or (prefix or ".") in counted
        )
        parts.append(Part(prefix, own, average))
    rest = {
        n.partition(".")[0] if not n.startswith("state_dict.") else n.split(".")[1]
        for n in flat
        if n not in inside
    }
    kept_out = tuple(
        sorted(
            w
            for w in rest
            if w not in COUNTERS and not re.match("opt|lr_|sched|scaler|rng|callbacks|loops", w)
        )
    )
    return parts, kept_out


def unwrapped(state: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The state-dict of one network: its average where there is one. As it is where no network is found."""
    parts, _ = parts_of(state, MARKS[family])
    chosen = [p for p in parts if p.average] or parts
    return chosen[0].tensors if len(chosen) == 1 else dict(state)
