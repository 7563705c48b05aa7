"""Checkpoints of others as training leaves them: inside wrappers in any order and depth, in any container,
without what is fixed, in half precision, in shards."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import backbones
import studio
from backbones import Cond, DiT
from backbones.originals.diffusers import dit_to_diffusers
from backbones.originals.dit import dit_to_original
from studio.convert.convert import convert
from studio.runtime import pretrained

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES: dict[str, Any] = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 4,
    "num_classes": 7,
    "learn_sigma": True,
}
HEADS = ["num_heads=4", "codec=pixels"]
State = dict[str, Tensor]


def network(seed: int = 3) -> DiT:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = DiT(**SIZES)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.1)
    return net.eval().requires_grad_(False)


AVERAGE, RAW = dit_to_original(network(3)), dit_to_original(network(4))


def named(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + k: v for k, v in state.items()}


def module_of(state: Mapping[str, Tensor]) -> nn.Module:
    """A tree of modules whose state-dict this is, for torch's own wrappers."""
    root = nn.Module()
    for name, value in state.items():
        place, *words = root, *name.split(".")
        for word in words[:-1]:
            if word not in dict(place.named_children()):
                place.add_module(word, nn.Module())
            place = getattr(place, word)
        place.register_parameter(words[-1], nn.Parameter(value.clone(), requires_grad=False))
    return root


def compiled_blocks(state: Mapping[str, Tensor]) -> State:
    root = module_of(state)
    for name, block in root.get_submodule("blocks").named_children():
        root.get_submodule("blocks").add_module(name, torch.compile(block))  # type: ignore[arg-type]
    return dict(nn.DataParallel(root).state_dict())


CHECKPOINTS: dict[str, tuple[Callable[[], Mapping[str, Any]], str]] = {
    "compiled": (lambda: torch.compile(module_of(AVERAGE)).state_dict(), "state-dict"),
    "compiled in parallel": (
        lambda: nn.DataParallel(torch.compile(module_of(AVERAGE))).state_dict(),
        "state-dict",
    ),  # type: ignore[arg-type]
    "parallel and compiled": (
        lambda: torch.compile(nn.DataParallel(module_of(AVERAGE))).state_dict(),
        "state-dict",
    ),  # type: ignore[attr-defined]
    "block by block": (lambda: compiled_blocks(AVERAGE), "state-dict"),
    "sharded by block": (
        lambda: {
            k.replace("blocks.0.", "blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module."): v
            for k, v in named(AVERAGE, "_fsdp_wrapped_module.").items()
        },
        "state-dict",
    ),
    "averaged": (lambda: AveragedModel(nn.DataParallel(module_of(AVERAGE))).state_dict(), "ema"),
    "average beside": (
        lambda: {
            "initted": torch.tensor(True),
            "step": torch.tensor(9),
            **named(RAW, "online_model."),
            **named(AVERAGE, "ema_model."),
        },
        "ema",
    ),
    "state_dict": (lambda: {"state_dict": AVERAGE, "epoch": 3}, "state-dict"),
    "lightning": (
        lambda: {
            "state_dict": {**named(AVERAGE, "model._orig_mod."), "loss.scale": torch.ones(3)},
            "hyper_parameters": {"num_heads": 4},
            "optimizer_states": [{}],
            "callbacks": {},
        },
        "model",
    ),
    "lightning ema": (
        lambda: {
            "state_dict": {**named(RAW, "model."), **named(AVERAGE, "ema_model.module.")},
            "pytorch-lightning_version": "2",
        },
        "ema",
    ),
    "model_state_dict": (
        lambda: {
            "model_state_dict": named(AVERAGE, "module."),
            "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(2)}}},
        },
        "model",
    ),
    "ema_state_dict": (
        lambda: {"model_state_dict": RAW, "ema_state_dict": named(AVERAGE, "module."), "scaler": {}},
        "ema",
    ),
    "params_ema": (lambda: {"params": RAW, "params_ema": AVERAGE}, "ema"),
    "nested": (
        lambda: {
            "ema": {
                "state_dict": named(AVERAGE, "_orig_mod.module."),
                "decay": 0.999,
                "num_updates": torch.tensor(4),
            },
            "model": named(RAW, "module."),
        },
        "ema",
    ),
    "deep": (lambda: {"trainer": {"networks": {"denoiser": named(AVERAGE, "module.net.")}}}, "model"),
}


@pytest.mark.parametrize("form", CHECKPOINTS)
def test_a_network_is_found_in_every_wrapper(form: str, tmp_path: Path) -> None:
    tree, part = CHECKPOINTS[form]
    torch.save(dict(tree()), tmp_path / "x.pt")
    found = convert(f"dit:{tmp_path / 'x.pt'}", tmp_path / "out", overrides=HEADS)
    assert {k: v.tolist() for k, v in load_file(found / "model.safetensors").items()} == {
        k: v.tolist() for k, v in network(3).state_dict().items()
    }
    meta = json.loads((found / "meta.json").read_text())
    assert meta["weights"] == part and ("left out beside them: loss" in meta["read_as"]) == (
        form == "lightning"
    )


@pytest.mark.parametrize(
    "form", ["average beside", "lightning ema", "ema_state_dict", "params_ema", "nested"]
)
def test_live_weights_where_they_are_asked_for(form: str, tmp_path: Path) -> None:
    torch.save(dict(CHECKPOINTS[form][0]()), tmp_path / "x.pt")
    found = convert(f"dit:{tmp_path / 'x.pt'}", tmp_path / "out", overrides=[*HEADS, "weights=raw"])
    assert torch.equal(
        load_file(found / "model.safetensors")["t_embedder.mlp.0.weight"], RAW["t_embedder.mlp.0.weight"]
    )


def test_several_networks_are_not_chosen_from(tmp_path: Path) -> None:
    torch.save({"ema_0.999": AVERAGE, "ema_0.9999": RAW}, tmp_path / "x.pt")
    with pytest.raises(
        ValueError, match=r"holds 2 networks of which each could be meant \(ema_0.999, ema_0.9999\)"
    ):
        convert(f"dit:{tmp_path / 'x.pt'}", tmp_path / "out", overrides=HEADS)
    torch.save({**AVERAGE, **{f"module.{k}": v for k, v in RAW.items()}}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match="two different tensors"):
        convert(f"dit:{tmp_path / 'y.pt'}", tmp_path / "out", overrides=HEADS)
    assert not (tmp_path / "out").exists()


CASES = {"dis_a_class": "dis", "drwkv_a_class": "rwkv", "graphdit_a_regression": "graph_dit", "dit_a": "dit"}


@pytest.mark.parametrize("name", CASES)
def test_every_family(name: str, golden: Callable[[str], Any]) -> None:
    """The same keys come out, whatever the family, and `backbones.from_original` takes them as they are."""
    from backbones.wrapped import unwrapped

    g, notes = golden(name)
    weights = {k.removeprefix("weights."): v for k, v in g.items() if k.startswith("weights.")}
    wrapped = {
        "ema": {"module": named(weights, "_orig_mod.")},
        "model": {k: v + 1 for k, v in weights.items()},
        "epoch": 3,
    }
    assert {k: v.data_ptr() for k, v in unwrapped(wrapped, CASES[name]).items()} == {
        k: v.data_ptr() for k, v in weights.items()
    }
    one, two = (
        backbones.from_original(CASES[name], w, notes["config"]).state_dict() for w in (weights, wrapped)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("name", ["dis_a_class", "drwkv_a_class"])
def test_other_families_become_models(name: str, golden: Callable[[str], Any], tmp_path: Path) -> None:
    g, notes = golden(name)
    weights = {k.removeprefix("weights."): v for k, v in g.items() if k.startswith("weights.")}
    torch.save(
        {
            "state_dict": {
                **named({k: v + 1 for k, v in weights.items()}, "model."),
                **named(weights, "ema_model._orig_mod."),
            }
        },
        tmp_path / "x.ckpt",
    )
    model = studio.load(
        convert(f"{CASES[name]}:{tmp_path / 'x.ckpt'}", tmp_path / "out", overrides=["codec=pixels"]),
        dtype="fp32",
        device="cpu",
    )
    x, t, cond = g["input.x"], g["input.t"], Cond(label=g["input.y"])
    torch.testing.assert_close(
        model.denoiser.net(x, t, cond),
        backbones.from_original(CASES[name], weights, notes["config"])(x, t, cond),
    )


# ---- what is fixed, and precision ----------------------------------------------------------------


@pytest.mark.parametrize("family", ["dit", "sit"])
@pytest.mark.parametrize("told", [dict(input_size=8), dict(latent_size=8), dict(image_size=64), {}])
def test_missing_fixed_positions_are_made(family: str, told: dict[str, Any], tmp_path: Path) -> None:
    bare = {k: v for k, v in AVERAGE.items() if k != "pos_embed"}
    torch.save({"ema": bare, "args": argparse.Namespace(**told)}, tmp_path / "x.pt")
    if not told:
        with pytest.raises(ValueError, match=r"lacks pos_embed, which is fixed .* --config input_size=32"):
            convert(f"{family}:{tmp_path / 'x.pt'}", tmp_path / "out", overrides=["num_heads=4"])
    extra = [] if told else ["input_size=8"]
    found = convert(f"{family}:{tmp_path / 'x.pt'}", tmp_path / "out", overrides=["num_heads=4", *extra])
    assert torch.equal(load_file(found / "model.safetensors")["pos_embed"], network().pos_embed)


def test_positions_of_the_live_weights_serve_the_average(tmp_path: Path) -> None:
    torch.save(
        {"ema": {k: v for k, v in AVERAGE.items() if k != "pos_embed"}, "model": RAW}, tmp_path / "x.pt"
    )
    found = convert(f"dit:{tmp_path / 'x.pt'}", tmp_path / "out", overrides=HEADS)
    assert torch.equal(load_file(found / "model.safetensors")["pos_embed"], RAW["pos_embed"])
    config = {k: v for k, v in SIZES.items()}
    net = backbones.from_original("dit", {k: v for k, v in AVERAGE.items() if k != "pos_embed"}, config)
    assert torch.equal(net.state_dict()["pos_embed"], network().pos_embed)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_stays(kind: torch.dtype, tmp_path: Path) -> None:
    save_file(
        {f"module.{k}": v.to(kind).contiguous() for k, v in AVERAGE.items() if k != "pos_embed"},
        tmp_path / "x.safetensors",
    )
    found = convert(f"dit:{tmp_path / 'x.safetensors'}", tmp_path / "out", overrides=[*HEADS, "input_size=8"])
    assert {v.dtype for v in load_file(found / "model.safetensors").values()} == {kind}
    assert json.loads((found / "meta.json").read_text())["storage"] == str(kind).removeprefix("torch.")


# ---- folders of diffusers ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """A transformer that diffusers saved, and what it is read as."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = dit_to_diffusers(DiT(**SIZES | {"in_channels": 3}, frequency_shift=1, mlp_norm_eps=1e-5))
    folder = tmp_path_factory.mktemp("theirs") / "plain"
    net.save_pretrained(folder)
    return folder, load_file(convert(f"diffusers:{folder}", folder.with_name("read")) / "model.safetensors")


def rewritten(folder: Path, out: Path, files: Callable[[State, Path], None]) -> Path:
    out.mkdir()
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    files(load_file(folder / pretrained.WEIGHTS[0]), out)
    return out


def shards(state: State, out: Path, variant: str = "", kind: str = "safetensors") -> None:
    names = sorted(state)
    for n, part in enumerate((names[:7], names[7:20], names[20:]), 1):
        path = out / f"diffusion_pytorch_model{variant}-{n:05d}-of-00003.{kind}"
        save_file({k: state[k] for k in part}, path) if kind == "safetensors" else torch.save(
            {k: state[k] for k in part}, path
        )


LAYOUTS: dict[str, Callable[[State, Path], None]] = {
    "sharded": shards,
    "sharded bf16": lambda s, out: shards({k: v.bfloat16() for k, v in s.items()}, out, ".bf16"),
    "sharded bin": lambda s, out: shards(s, out, kind="bin"),
    "fp16": lambda s, out: save_file(
        {k: v.half() for k, v in s.items()}, out / "diffusion_pytorch_model.fp16.safetensors"
    ),
    "bf16": lambda s, out: save_file(
        {k: v.bfloat16() for k, v in s.items()}, out / "diffusion_pytorch_model.bf16.safetensors"
    ),
    "fp16 bin": lambda s, out: torch.save(
        {k: v.half() for k, v in s.items()}, out / "diffusion_pytorch_model.fp16.bin"
    ),
    "non_ema": lambda s, out: save_file(s, out / "diffusion_pytorch_model.non_ema.safetensors"),
    "wrapped": lambda s, out: save_file(
        named(s, "module._orig_mod."), out / "diffusion_pytorch_model.safetensors"
    ),
    "average first": lambda s, out: (
        [
            save_file({k: v + n for k, v in s.items()}, out / f"diffusion_pytorch_model{name}.safetensors")
            for n, name in enumerate(("", ".non_ema"))
        ]
        and None
    ),
    "without positions": lambda s, out: save_file(
        {k: v for k, v in s.items() if k != "pos_embed.pos_embed"},
        out / "diffusion_pytorch_model.safetensors",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_diffusers(layout: str, transformer: tuple[Path, State], tmp_path: Path) -> None:
    folder, plain = transformer
    source = rewritten(folder, tmp_path / "theirs", LAYOUTS[layout])
    found = convert(f"diffusers:{source}", tmp_path / "out")
    kind = torch.bfloat16 if "bf16" in layout else torch.float16 if "fp16" in layout else torch.float32
    state, meta = load_file(found / "model.safetensors"), json.loads((found / "meta.json").read_text())
    assert {v.dtype for v in state.values()} == {kind} and meta["storage"] == str(kind).removeprefix("torch.")
    assert all(torch.equal(v, plain[k].to(kind)) for k, v in state.items())
    assert meta["weights"] == ("raw" if layout == "non_ema" else "transformer")


def test_a_shard_that_is_missing_is_named(transformer: tuple[Path, State], tmp_path: Path) -> None:
    source = rewritten(transformer[0], tmp_path / "theirs", shards)
    (source / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks part 2 of 3 of its weights"):
        convert(f"diffusers:{source}", tmp_path / "out")
    assert not (tmp_path / "out").exists()
