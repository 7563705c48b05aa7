"""Moments go to the parameter that they belong to, by its name: whatever order a later network lists them
in."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from studio.config import TrainConfig
from studio.training.optim import build_optimizers, load_state, state_of

MUON, ADAMW = TrainConfig(optimizer="muon", lr=0.01), TrainConfig(optimizer="adamw", lr=0.01)


def network(order: tuple[str, ...] = ("first", "second", "head")) -> nn.Module:
    """Two blocks of one shape and a head, listed in an order; the weights of a part are the same in every
    order."""
    parts: dict[str, nn.Module] = {}
    for seed, name in enumerate(("first", "second", "head")):
        torch.manual_seed(seed)
        parts[name] = nn.Linear(6, 6 if name != "head" else 2)
    return nn.ModuleDict(
        {"blocks": nn.ModuleDict({n: parts[n] for n in order if n != "head"}), "head": parts["head"]}
    )


def steps(net: Any, optimizers: list[Any], count: int) -> None:
    for k in range(count):
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(k))
        hidden = torch.tanh(net["blocks"]["first"](x)) + 0.5 * torch.sin(net["blocks"]["second"](x))
        net["head"](hidden).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in net.named_parameters()}


@pytest.mark.parametrize("config", [MUON, ADAMW], ids=["muon", "adamw"])
def test_a_network_that_lists_its_parts_in_another_order_goes_on_the_same(config: TrainConfig) -> None:
    whole = network()
    steps(whole, build_optimizers({"net": whole}, config), 3)
    half = network()
    optimizers = build_optimizers({"net": half}, config)
    steps(half, optimizers, 3)
    kept = copy.deepcopy(state_of({"net": half}, optimizers))
    assert set(kept["parameters"]) == {f"net.{k}" for k, _ in half.named_parameters()}
    other = network(("second", "first", "head"))
    assert [k for k, _ in other.named_parameters()] != [k for k, _ in half.named_parameters()]
    other.load_state_dict(half.state_dict())
    again = build_optimizers({"net": other}, config)
    load_state({"net": other}, again, kept)
    steps(half, optimizers, 2)
    steps(other, again, 2)
    for name, value in weights(half).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("config", [MUON, ADAMW], ids=["muon", "adamw"])
def test_the_lists_of_earlier_versions_are_read_by_their_order(config: TrainConfig) -> None:
    net = network()
    optimizers = build_optimizers({"net": net}, config)
    steps(net, optimizers, 3)
    saved: list[dict[str, Any]] = []
    for optimizer in optimizers:
        buffers = getattr(optimizer, "buffers", None)
        saved.append(
            copy.deepcopy(optimizer.state_dict())
            if buffers is None
            else {"buffers": {f"{r}x{c}": b.clone() for (r, c), b in buffers.items()}}
        )
    fresh = network()
    fresh.load_state_dict(net.state_dict())
    again = build_optimizers({"net": fresh}, config)
    load_state({"net": fresh}, again, saved)
    if config is MUON:
        assert again[1].dtype == torch.bfloat16  # the only one that those knew
        again[1].dtype = optimizers[1].dtype
    steps(net, optimizers, 2)
    steps(fresh, again, 2)
    for name, value in weights(net).items():
        torch.testing.assert_close(weights(fresh)[name], value, rtol=0, atol=0, msg=name)


def test_what_another_optimiser_kept_is_refused() -> None:
    net = network()
    muon, adamw = build_optimizers({"net": net}, MUON), build_optimizers({"net": net}, ADAMW)
    steps(net, muon, 1)
    by_muon = state_of({"net": net}, muon)
    steps(net, adamw, 1)
    by_adamw = state_of({"net": net}, adamw)
    with pytest.raises(ValueError, match="momentum of Muon"):
        load_state({"net": net}, adamw, by_muon)
    with pytest.raises(ValueError, match="no momentum"):
        load_state({"net": net}, muon, by_adamw)
    with pytest.raises(ValueError, match="states of 1 optimisers, expected 2"):
        load_state({"net": net}, muon, [adamw[0].state_dict()])
    with pytest.raises(ValueError, match=r"moments of net\.gone"):
        load_state({"net": net}, muon, {**by_muon, "parameters": {**by_muon["parameters"], "net.gone": {}}})
    wide = {
        **by_muon,
        "parameters": {
            **by_muon["parameters"],
            "net.head.weight": {
                k: v[:1] if v.ndim else v for k, v in by_muon["parameters"]["net.head.weight"].items()
            },
        },
    }
    with pytest.raises(ValueError, match=r"shape \(1, 6\) for net\.head\.weight"):
        load_state({"net": net}, muon, wide)


def test_rates_are_the_configs_of_now() -> None:
    net = network()
    optimizers = build_optimizers({"net": net}, ADAMW)
    steps(net, optimizers, 1)
    again = build_optimizers({"net": net}, TrainConfig(optimizer="adamw", lr=0.5))
    load_state({"net": net}, again, state_of({"net": net}, optimizers))
    assert again[0].param_groups[0]["lr"] == 0.5
