"""Conditions of any name: they are dropped, nulled and taken in rows as the others are, and every backbone is
asked by them."""

from typing import Any

import pytest
import torch
from torch import Tensor

import backbones
from backbones import Cond, NoiseSource
from backbones.encoders import REGISTRY, NamedEncoders

FIELDS = (
    {"name": "wind", "encoder": "numbers", "count": 2},
    {"name": "the season.", "encoder": "class", "num_classes": 4},
    {"name": "map", "encoder": "picture", "channels": 3},
    {"name": "seen", "encoder": "set", "features": 2},
    {"name": "caption", "encoder": "words", "vocabulary": 5},
    {"name": "states", "encoder": "vectors", "features": 3},
    {"name": "past", "encoder": "field", "sides": [5, 6], "channels": 2},
)
PICTURES = dict(input_size=8, patch_size=2, in_channels=1, hidden_size=32, num_classes=0, fields=FIELDS)
NETS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "dit": (dict(**PICTURES, depth=2, num_heads=2), (1, 8, 8)),
    "dis": (dict(**PICTURES, depth=2), (1, 8, 8)),
    "rwkv": (dict(**PICTURES, depth=3), (1, 8, 8)),
    "mlp": (dict(dim=2, width=32, fields=FIELDS), (2,)),
    "graph_dit": (
        dict(max_atoms=4, atom_types=2, hidden_size=32, depth=1, num_heads=2, fields=FIELDS),
        (4, 22),
    ),
}


def cond(seed: int = 0) -> Cond:
    g = torch.Generator().manual_seed(seed)
    return Cond.of(
        {
            "wind": torch.randn(3, 2, generator=g),
            "the season.": torch.randint(0, 4, (3,), generator=g),
            "map": torch.randn(3, 3, 9, 7, generator=g),
            "seen": torch.randn(3, 4, 2, generator=g),
            "caption": torch.randint(-1, 6, (3, 4), generator=g).clamp(min=0),
            "states": torch.randn(3, 4, 3, generator=g),
            "past": torch.randn(3, 2, 5, 6, generator=g),
            "valid": torch.ones(3, 4, dtype=torch.bool),
        }
    )


def net_of(name: str) -> tuple[torch.nn.Module, Tensor, Tensor]:
    options, shape = NETS[name]
    torch.manual_seed(0)
    net = backbones.build(name, **options)
    with torch.no_grad():
        for p in net.parameters():  # outputs begin at zero
            p.add_(0.1 * torch.randn(p.shape))
    return net.eval(), torch.randn(3, *shape), torch.tensor([0.1, 0.5, 0.9])


@pytest.mark.parametrize("name", NETS)
def test_every_backbone_reads_each_condition_and_its_null(name: str) -> None:
    net, x, t = net_of(name)
    asked = cond()
    with torch.no_grad():
        out, null = net(x, t, asked), net(x, t, asked.null())
        assert torch.allclose(net(x, t, Cond(valid=asked.valid)), null, atol=1e-6)  # absent is missing
        for field in asked.named:
            one = Cond(valid=asked.valid, named={**asked.null().named, field: asked.named[field]})
            moved = (net(x, t, one) - null).flatten(1).abs().amax(1)
            assert bool((moved > 1e-4).all()), field
        rows = net(x[1:2], t[1:2], asked.index(slice(1, 2)))
    assert torch.allclose(rows, out[1:2], atol=1e-5) and not torch.allclose(out, null)


def test_a_network_without_them_has_the_weights_that_it_had() -> None:
    options = {**NETS["dit"][0], "fields": ()}
    torch.manual_seed(3)
    bare = backbones.build("dit", **options).state_dict()
    torch.manual_seed(3)
    more = backbones.build("dit", **NETS["dit"][0]).state_dict()
    assert all(torch.equal(more[k], v) for k, v in bare.items())
    assert {k.split(".")[0] for k in more.keys() - bare.keys()} == {"f_embedders"}


def test_gradients_reach_the_null_of_what_is_missing() -> None:
    net, x, t = net_of("mlp")
    net(x, t, cond().null()).square().sum().backward()
    for module, null in zip(net.f_embedders, ("nulls", "embedding_table.weight", *["null"] * 5)):
        assert module.get_parameter(null).grad.abs().sum() > 0


def test_names_values_and_what_is_of_the_sample() -> None:
    given = cond()
    assert given.names == tuple(f["name"] for f in FIELDS) and given.valid is not None
    assert given.get("wind") is given.named["wind"] and given.get("label") is None is given.get("absent")
    null = given.null()
    assert null.named["wind"].isnan().all() and bool((null.named["the season."] == -1).all())
    assert null.valid is given.valid or torch.equal(null.valid, given.valid)
    both = given.beside(null)
    assert torch.equal(both.named["map"][:3], given.named["map"]) and len(both.named["map"]) == 6


def test_dropped_with_the_others_and_each_by_itself() -> None:
    rows = 400
    many = Cond(
        label=torch.arange(rows) % 3,
        named={"a": torch.randn(rows, 2), "b": torch.arange(rows) % 5},
    )
    noise = NoiseSource(range(rows))
    together = many.drop(0.3, noise)
    lost = together.label == -1
    assert 0.2 < lost.double().mean() < 0.4
    assert torch.equal(lost, together.named["a"].isnan().all(1)) and torch.equal(
        lost, together.named["b"] == -1
    )
    apart = many.drop(0.0, noise, each=0.3)
    a, b = apart.named["a"].isnan().all(1), apart.named["b"] == -1
    assert 0.2 < a.double().mean() < 0.4 and 0.2 < b.double().mean() < 0.4
    assert 0.04 < (a & b).double().mean() < 0.15 and torch.equal(apart.label, many.label)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(
        ValueError, match=f"got condition encoder 'sound', expected one of {', '.join(sorted(REGISTRY))}"
    ):
        NamedEncoders([{"name": "a", "encoder": "sound"}], 8)
    with pytest.raises(ValueError, match="condition encoder 'numbers' lacks count"):
        NamedEncoders([{"name": "a", "encoder": "numbers"}], 8)
