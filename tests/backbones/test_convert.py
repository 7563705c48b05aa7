"""Weights of others and back: same keys, same function."""

from typing import Any

import pytest
import torch
from torch import Tensor

import backbones
from backbones import Cond, DiT
from backbones.originals.diffusers import dit_from_diffusers, dit_to_diffusers
from backbones.originals.dit import dit_to_original

CONFIG = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 32,
    "depth": 3,
    "num_heads": 4,
    "num_classes": 7,
    "learn_sigma": True,
}
X = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
T, Y = torch.tensor([0, 400, 999]), torch.tensor([1, 7, 3])


def random(net: Any) -> Any:
    torch.manual_seed(3)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.15)
    return net.eval()


def ours(**options: Any) -> DiT:
    return random(DiT(**CONFIG | options))


def run(net: Any) -> Tensor:
    with torch.no_grad():
        return net(X, T, Cond(label=Y))


def theirs(model: Any) -> Tensor:
    with torch.no_grad():
        return model(X, timestep=T, class_labels=Y).sample


def test_original_round_trip() -> None:
    net = ours()
    state = dit_to_original(net)
    again = backbones.from_original("dit", state, CONFIG)
    assert torch.equal(run(again), run(net)) and not again.training
    for name, value in dit_to_original(again).items():
        assert torch.equal(value, state[name]), name
    names = {
        "pos_embed",
        "x_embedder.proj.weight",
        "t_embedder.mlp.2.bias",
        "y_embedder.embedding_table.weight",
        "blocks.2.adaLN_modulation.1.bias",
        "blocks.0.attn.qkv.weight",
        "blocks.1.mlp.fc2.bias",
        "final_layer.linear.weight",
        "final_layer.adaLN_modulation.1.weight",
    }
    assert names <= set(state) and not any("modulation.weight" == k for k in state)
    assert state["blocks.1.adaLN_modulation.1.weight"].shape == (6 * 32, 32)


def test_original_without_a_null_class() -> None:
    net = random(DiT(**CONFIG | {"learn_sigma": False}, null_class=False))
    state = dit_to_original(net)
    assert len(state["y_embedder.embedding_table.weight"]) == 7
    again = backbones.from_original("dit", state, CONFIG | {"learn_sigma": False, "class_dropout_prob": 0.0})
    label = Cond(label=torch.tensor([0, 6, 3]))
    assert torch.equal(again(X, T, label), net(X, T, label))


def test_original_defaults_are_the_papers() -> None:
    with torch.device("meta"):
        state = dit_to_original(DiT(size="XL/2", learn_sigma=True))
        net = backbones.from_original("dit", state, {})
    assert len(net.blocks) == 28 and net.out_channels == 8 and net.num_classes == 1000


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_to_diffusers(learn_sigma: bool) -> None:
    net = ours(frequency_shift=1, mlp_norm_eps=1e-5, learn_sigma=learn_sigma)
    model = dit_to_diffusers(net)
    assert type(model).__name__ == "DiTTransformer2DModel"
    assert float((theirs(model) - run(net)).abs().max()) <= 1e-5
    assert float((run(dit_from_diffusers(model)) - run(net)).abs().max()) <= 1e-6


def test_from_diffusers() -> None:
    from diffusers import DiTTransformer2DModel

    model = random(
        DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=3,
            sample_size=8,
            patch_size=2,
            num_embeds_ada_norm=7,
        )
    )
    first = model.transformer_blocks[0].norm1.emb.state_dict()
    for block in model.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(first)
    net = dit_from_diffusers(model)
    assert float((run(net) - theirs(model)).abs().max()) <= 1e-5
    model.transformer_blocks[1].norm1.emb.timestep_embedder.linear_1.weight.data[0, 0] += 1
    with pytest.raises(ValueError, match="copies of timestep_embedder.linear_1 differ"):
        dit_from_diffusers(model)


def test_refusals() -> None:
    state = dit_to_original(ours())
    short = {k: v for k, v in state.items() if k != "blocks.2.adaLN_modulation.1.weight"}
    odd = {k: v for k, v in state.items() if k != "blocks.1.attn.proj.bias"} | {
        "blocks.1.attn.proj.bais": torch.zeros(32)
    }
    for call, message in (
        (
            lambda: backbones.from_original("unet", state, CONFIG),
            "got family 'unet', expected one of dis, dit, graph_dit, rwkv",
        ),
        (
            lambda: backbones.from_original("dit", state, CONFIG | {"width": 3}),
            r"unknown DiT arguments \['width'\]",
        ),
        (
            lambda: backbones.from_original("dit", short, CONFIG),
            "lack blocks.2.adaLN_modulation.1.weight; expected an adaLN-Zero DiT of depth 3",
        ),
        (
            lambda: backbones.from_original("dit", odd, CONFIG),
            r"missing \['blocks.1.attn.proj.bias'\], unexpected \['blocks.1.attn.proj.bais'\]",
        ),
        (lambda: backbones.from_original("dit", state, CONFIG | {"num_classes": 8}), "do not fit"),
        (lambda: dit_to_original(ours(num_classes=0)), "cannot be written as one"),
        (lambda: dit_to_original(ours(num_numeric=2)), "cannot be written as one"),
        (lambda: dit_to_original(ours(stem_channels=(8,))), "cannot be written as one"),
        (lambda: dit_to_original(ours(input_size=(8,), rotary=True)), "is of pictures"),
        (lambda: dit_to_original(ours(input_size=(2, 8, 8))), "is of pictures"),
        (lambda: dit_to_original(ours(known=True)), "nor known entries"),
        (lambda: dit_to_original(ours(periodic=True)), "nor angles"),
        (
            lambda: dit_to_diffusers(ours()),
            "needs frequency_shift=1, a square grid and a null class; got frequency_shift=0",
        ),
        (lambda: dit_to_diffusers(ours(frequency_shift=1, input_size=(8, 16))), r"grid \(4, 8\)"),
        (lambda: dit_to_diffusers(ours(frequency_shift=1, num_classes=0)), "null class"),
        (lambda: dit_to_diffusers(ours(frequency_shift=1, mlp_ratio=2.0)), "an MLP ratio of 4, got 2"),
        (
            lambda: dit_to_diffusers(ours(frequency_shift=1, mlp_norm_eps=1e-5, stem_channels=(8,))),
            "cannot be written as one",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
