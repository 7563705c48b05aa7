"""DiS and Diffusion-RWKV against the originals: whole networks, parts, and what is refused of their
weights."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import backbones
from backbones import Cond
from backbones.dis import SIZES as DIS_SIZES
from backbones.dis import DiS
from backbones.recurrences.shift import q_shift
from backbones.rwkv import SIZES as RWKV_SIZES
from backbones.rwkv import DiffusionRWKV

CASES = {"dis_a_class": "dis", "drwkv_a_class": "rwkv", "drwkv_c_T256": "rwkv"}


def loaded(
    golden: Callable[[str], Any], name: str, compat: bool = True
) -> tuple[Any, dict[str, Tensor], dict[str, Any]]:
    g, notes = golden(name)
    weights = {k.removeprefix("weights."): v for k, v in g.items() if k.startswith("weights.")}
    return backbones.from_original(CASES[name], weights, notes["config"], compat=compat), g, notes


def worst(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).detach().abs().max() / want.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_recorded_networks(golden: Callable[[str], Any], strict: Callable[[float], float], name: str) -> None:
    """float32 to 2e-5, float64 to 1e-8 (1e-6 where the kernel's constant counts); Diffusion-RWKV as the
    released kernel computes and as the paper says."""
    for compat in (True, False):
        net, g, _ = loaded(golden, name, compat)
        kind = "y" if CASES[name] == "dis" else "y_kernel" if compat else "y_paper"
        cond, t = Cond(label=g["input.y"]), g["input.t"]
        for gradients in (True, False):  # without them, other loops run
            with torch.set_grad_enabled(gradients):
                assert not net.training and worst(net(g["input.x"], t, cond), g[f"output.{kind}_f64"]) <= 2e-5
        exact = net.double()(g["input.x"].double(), t, cond)
        assert worst(exact, g[f"output.{kind}_f64"]) <= strict(1e-9 if kind == "y_kernel" else 1e-12)


def test_recorded_parts(golden: Callable[[str], Any]) -> None:
    net, g, _ = loaded(golden, "dis_a_class")
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            assert worst(net.in_blocks[0].mixer(g["input.mixer0"], None), g["output.mixer0"]) <= 2e-5
    net, g, _ = loaded(golden, "drwkv_a_class")
    assert torch.equal(q_shift(g["input.q_shift"], (8, 8)), g["output.q_shift"])


@pytest.mark.parametrize("name", ["dis_a_class", "drwkv_a_class"])
def test_guided_as_the_original_does(golden: Callable[[str], Any], name: str) -> None:
    """Its wrapper: the second half of the batch is the null label, three channels are guided."""
    net, g, notes = loaded(golden, name)
    x, t, y = g["input.cfg.x"], g["input.cfg.t"], g["input.cfg.y"]
    half = len(x) // 2
    out = net(torch.cat([x[:half], x[:half]]), t, Cond(label=y))
    c, u = out[:half, :3], out[half:, :3]
    guided = u + notes["cfg_scale"] * (c - u)
    want = g["output.cfg" if name.startswith("dis") else "output.cfg_kernel"]
    assert worst(torch.cat([torch.cat([guided, guided]), out[:, 3:]], 1), want) <= 2e-5


def test_other_weights_and_arguments_are_refused(golden: Callable[[str], Any]) -> None:
    _, g, notes = loaded(golden, "dis_a_class")
    weights = {k.removeprefix("weights."): v for k, v in g.items() if k.startswith("weights.")}
    with pytest.raises(ValueError, match="the weights do not fit Diffusion-RWKV"):
        backbones.from_original("rwkv", weights, {**notes["config"], "depth": 5})
    with pytest.raises(ValueError, match=r"the weights do not fit DiS .*\[1, 66, 32\]|size mismatch"):
        backbones.from_original("dis", weights, {**notes["config"], "img_size": 16})
    with pytest.raises(ValueError, match="got the unknown DiS arguments .'heads'"):
        backbones.from_original("dis", weights, {**notes["config"], "heads": 4})
    with pytest.raises(ValueError, match="the DiS config lacks depth"):
        backbones.from_original("dis", weights, {k: v for k, v in notes["config"].items() if k != "depth"})
    poisoned = {**weights, "norm_f.weight": torch.full((32,), torch.nan)}
    net = backbones.from_original("dis", poisoned, json.loads(json.dumps(notes["config"])))
    # passed on, not hidden
    assert bool(net(g["input.x"], g["input.t"], Cond(label=g["input.y"])).isnan().all())


@pytest.mark.parametrize("size", ["S", "B", "H", *(pytest.param(s, marks=pytest.mark.slow) for s in "ML")])
@pytest.mark.parametrize(
    "net, sizes, millions",
    [
        (DiS, DIS_SIZES, {"S": 29.13, "B": 121.16, "M": 231.41, "L": 407.25, "H": 906.97}),
        (DiffusionRWKV, RWKV_SIZES, {"S": 39.32, "B": 74.79, "M": 132.62, "L": 439.35, "H": 780.31}),
    ],
)
def test_published_sizes(net: Any, sizes: dict[str, Any], millions: dict[str, float], size: str) -> None:
    assert set(sizes) == set(millions)
    with torch.device("meta"):
        made = net(size=f"{size}/2", input_size=32, in_channels=4, num_classes=1000, learn_sigma=True)
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(millions[size], abs=0.006)


@pytest.mark.parametrize(
    "made", [lambda **o: DiS(depth=2, **o), lambda **o: DiffusionRWKV(depth=3, **o)], ids=["dis", "rwkv"]
)
def test_grids(made: Callable[..., Any]) -> None:
    """Not square, larger than trained on, more than 1,024 tokens; the native one untouched; sides that
    patches do not fill are refused."""
    torch.manual_seed(0)
    net = made(input_size=(8, 12), in_channels=2, hidden_size=16, num_classes=3, patch_size=2).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    cond, t = Cond(label=torch.tensor([0, -1])), torch.tensor([1.0, 500.0])
    for size in ((8, 12), (12, 8), (16, 20), (70, 66)):
        out = net(torch.randn(2, 2, *size), t, cond)
        assert out.shape == (2, 2, *size) and bool(out.isfinite().all())
    with pytest.raises(ValueError, match="got pictures of 9×12, expected multiples of the patch size 2"):
        net(torch.randn(2, 2, 9, 12), t, cond)
    with pytest.raises(ValueError, match="multiples of the patch size"):
        made(input_size=(9, 12), in_channels=2, hidden_size=16)


def test_depths_are_checked() -> None:
    with pytest.raises(ValueError, match="got DiS of depth 3, expected an even number"):
        DiS(depth=3, hidden_size=16)
    with pytest.raises(ValueError, match="got Diffusion-RWKV of depth 4, expected an odd number"):
        DiffusionRWKV(depth=4, hidden_size=16)
    with pytest.raises(ValueError, match="got DiS size 'XL/2', expected S|B|M|L|H/PATCH"):
        DiS(size="XL/2")


def test_drop_path_acts_in_training_only_and_keeps_the_mean() -> None:
    net = DiffusionRWKV(input_size=8, in_channels=1, hidden_size=16, depth=3, num_classes=0, drop_path=0.6)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(p.numel()))
    x, t = (
        torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)).expand(64, 1, 8, 8),
        torch.full((64,), 10.0),
    )
    net.train()
    torch.manual_seed(0)
    trained = net(x, t)
    assert float((trained[0] - trained[1:]).abs().max()) > 1e-4
    net.eval()
    still = net(x, t)
    assert torch.equal(still[0], still[1])


def test_low_precision_keeps_the_recurrences_exact() -> None:
    """Under bf16 autocast both networks stay within a few percent of float64; their recurrences run in
    float32."""
    for net in (
        DiS(input_size=8, in_channels=1, hidden_size=64, depth=2, num_classes=3),
        DiffusionRWKV(input_size=8, in_channels=1, hidden_size=64, depth=3, num_classes=3),
    ):
        g = torch.Generator().manual_seed(0)
        for name, p in net.named_parameters():
            if p.ndim > 1 and "log" not in name:
                torch.nn.init.normal_(p, std=0.1, generator=g)
        net = net.eval().requires_grad_(False)
        x, t, cond = (
            torch.randn(2, 1, 8, 8, generator=g),
            torch.tensor([10.0, 700.0]),
            Cond(label=torch.tensor([0, 2])),
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = net(x, t, cond)
        exact = net.double()(x.double(), t, cond)
        assert float((low.double() - exact).norm() / exact.norm()) < 0.03


@pytest.mark.parametrize(
    "made", [lambda **o: DiS(depth=2, **o), lambda **o: DiffusionRWKV(depth=3, **o)], ids=["dis", "rwkv"]
)
def test_with_a_convolutional_stem(made: Callable[..., Any]) -> None:
    """It starts at zero, trains every weight, and takes other grids."""
    net = made(
        input_size=(8, 16),
        in_channels=2,
        hidden_size=16,
        num_classes=3,
        stem_channels=(4, 8),
        stem_blocks=1,
        learn_sigma=True,
    )
    x, t, cond = torch.randn(2, 2, 8, 16), torch.tensor([1.0, 500.0]), Cond(label=torch.tensor([0, 2]))
    assert (
        net.patch_size == 4
        and net.grid == (2, 4)
        and not net(x, t, cond).any()
        and net(x, t, cond).shape == (2, 4, 8, 16)
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(p.numel()))
    net(x, t, Cond(label=torch.tensor([0, -1]))).square().sum().backward()
    assert all(
        p.grad is not None and bool(p.grad.isfinite().all()) and bool(p.grad.any()) for p in net.parameters()
    )
    assert net(torch.randn(2, 2, 12, 12), t, cond).shape == (2, 4, 12, 12)
