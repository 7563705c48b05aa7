"""Fine-tuning: where a run begins, and low-rank adapters (Hu et al. 2106.09685) through peft.

A fine-tuned model names its base with the hash of its weights. Classes or numbers that differ from the base's
get a table of their own, of which only the null comes from the base, so that without a condition the model
begins as the base does.

    lora: {rank: 8, targets: [qkv, proj, fc1, fc2]}       W ← W + (alpha/rank) B A; everything else is frozen
                                                          but for new tables
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backbones.encoders import ClassEncoder, NamedEncoders, NumericEncoder
from backbones.graph_conditions import Conditions
from studio.checkpoints.build import Info
from studio.checkpoints.find import bundled, parted
from studio.model.loaded import Loaded

TARGETS = ("qkv", "proj", "fc1", "fc2")
OPTIONS = {"rank", "alpha", "targets", "tables"}


def check_lora(lora: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` for an option that does not exist or does not fit."""
    unknown = set(lora) - OPTIONS
    if unknown:
        raise ValueError(
            f"got the unknown lora option {sorted(unknown)[0]!r}, expected rank, alpha or targets"
        )
    rank = lora.get("rank", 8)
    if not isinstance(rank, int) or rank < 1:
        raise ValueError(f"got lora.rank={rank!r}, expected a whole number of at least 1")


def entry_of(base: Loaded) -> dict[str, str]:
    """How ``meta.json`` names a base: where it is, which of its weights, and their hash."""
    step = parted(base.name)[1]
    lasting = base.name.startswith("hf:") or base.name in bundled()
    name = base.name if lasting else str(base.folder.resolve()) + (f"@{step}" if step is not None else "")
    return {"model": name, "weights": base.weights, "hash": base.hash}


def tables(net: nn.Module, info: Info, base: Info) -> tuple[str, ...]:
    """Names of the condition encoders whose classes, numbers or further conditions are not the base's."""
    kinds = ([ClassEncoder] if info.classes != base.classes else []) + (
        [NumericEncoder, Conditions] if info.numeric != base.numeric else []
    )
    further = [f.form for f in info.fields] != [f.form for f in base.fields]
    named = {n: m for n, m in net.named_modules() if isinstance(m, NamedEncoders)}
    return tuple(
        name
        for name, module in net.named_modules()
        if (further and name in named)
        or (type(module) in kinds and not name.startswith(tuple(f"{n}." for n in named)))
    )


def encoders(net: nn.Module) -> set[str]:
    """Names of the encoders of classes and numbers."""
    return {
        name
        for name, module in net.named_modules()
        if isinstance(module, ClassEncoder | NumericEncoder | Conditions | NamedEncoders)
    }


def identities(net: nn.Module) -> set[str]:
    """Names of parts that change nothing before they have learned."""
    return {
        f"{name}.{part}".removeprefix(".")
        for name, module in net.named_modules()
        for part in getattr(module, "identity", ())
    }


def begin(net: nn.Module, base: Loaded, fresh: tuple[str, ...]) -> None:
    """Copy the base's weights into a network of the same form, but for the tables in ``fresh``, which get its
    null row only. Condition encoders that only one of the two has at all are left as they are, and so are
    parts that begin as the ``identity``, as a network names them. Raises ``ValueError`` where another tensor
    has another shape or is not in both."""
    donor, own = base.denoiser.net.state_dict(), net.state_dict()
    alone_in_one = encoders(net) ^ encoders(base.denoiser.net) | identities(net)
    apart = tuple(f"{name}." for name in (*fresh, *alone_in_one))
    taken = {
        k: v for k, v in donor.items() if k in own and not k.startswith(tuple(f"{name}." for name in fresh))
    }
    wrong = next((k for k, v in taken.items() if own[k].shape != v.shape), None)
    alone = next((k for k in sorted(donor.keys() ^ own.keys()) if not k.startswith(apart)), None)
    if wrong or alone:
        got = (
            f"{wrong} has shape {tuple(donor[wrong].shape)}, expected {tuple(own[wrong].shape)}"
            if wrong
            else f"{alone} is in {'the base' if alone in donor else 'the new network'} alone"
        )
        raise ValueError(f"{base.name} does not fit: {got}; use the same backbone section")
    net.load_state_dict(taken, strict=False)
    for name in fresh:
        key = f"{name}.embedding_table.weight"
        table = net.get_submodule(name)
        if (
            isinstance(table, ClassEncoder)
            and table.null
            and key in donor
            and donor[key].shape[1:] == own[key].shape[1:]
        ):
            with torch.no_grad():
                table.embedding_table.weight[-1].copy_(donor[key][-1])


def adapt(net: nn.Module, lora: Mapping[str, Any], *, seed: int = 0) -> None:
    """Put adapters into a network and freeze the rest but for ``lora["tables"]``. Raises ``ValueError`` for a
    target that no layer has, ``ImportError`` without peft."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ImportError(
            "lora needs peft, which is not installed; pip install 'drift-studio[lora]', or leave the "
            "lora section out"
        ) from None
    check_lora(lora)
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    layers = {name.rpartition(".")[2] for name in linear}
    targets = list(lora.get("targets", [t for t in TARGETS if t in layers] or sorted(layers)))
    absent = [t for t in targets if t not in layers]
    if absent:
        raise ValueError(
            f"got lora.targets with {absent[0]!r}, expected names of linear layers: "
            f"{', '.join(sorted(layers))}"
        )
    rank = int(lora.get("rank", 8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(
            LoraConfig(
                r=rank,
                lora_alpha=lora.get("alpha", 2 * rank),
                target_modules=[n for n in linear if n.rpartition(".")[2] in targets],
            ),
            net,
        )
    for name, p in net.named_parameters():
        p.requires_grad_("lora_" in name or name.startswith(tuple(f"{t}." for t in lora.get("tables", ()))))


def adapter(net: nn.Module) -> dict[str, Tensor]:
    """What an adapted network has learned: its low-rank matrices and its new tables."""
    return {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}


def merged(net: nn.Module) -> nn.Module:
    """The network with its adapters added to the weights, in place, of the form it had without them."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(net.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, module.base_layer)
    return net
