"""Weights of others become model folders and go back: same tensors, same function, same samples; what cannot
be expressed is refused with its reason before anything is written. All networks are small and random."""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers  # what is asked of it is loaded where it is used
import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from tiny import differences, files_below, tiny_vae
from torch import Tensor
from typer.testing import CliRunner

import backbones
import studio
from backbones import Cond, DiT, NoiseSource
from backbones.encoders import TimeEncoder, sinusoid
from backbones.originals.diffusers import shifted_time_embedding
from backbones.originals.dit import dit_to_original, original_shapes
from samplers.paths import VPPath
from studio.checkpoints.build import Info
from studio.checkpoints.find import card
from studio.cli.convert import convert as command
from studio.cli.options import WIDTH
from studio.config import from_tree
from studio.convert.convert import class_names, convert
from studio.convert.diffusers import _objective
from studio.convert.dit import PUBLISHED
from studio.model.model import Model
from studio.runtime import files, pretrained
from studio.sampling.sampler_spec import build_sampler

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 4,
    "num_classes": 7,
    "learn_sigma": True,
}
X = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
T, Y = torch.tensor([0, 400, 999]), torch.tensor([1, 7, 3])
SEEDS, LABELS = (3, 4, 5), (1, 0, 6)
# a model that diffusers expresses as it is
THEIRS = ("backbone.frequency_shift=1", "backbone.mlp_norm_eps=1e-5")


def network(seed: int = 3, **options: Any) -> DiT:
    """A DiT with weights of a size that makes every part matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = DiT(**SIZES | options)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.1)
    return net.eval().requires_grad_(False)


def run(net: Any, x: Tensor = X) -> Tensor:
    with torch.no_grad():
        return net(x, T, Cond(label=Y))


def load(folder: Path) -> Model:
    return studio.load(folder, device="cpu", dtype="fp32")


def weights(model: Model) -> dict[str, Tensor]:
    return dict(model.denoiser.net.state_dict())


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vae(tmp_path_factory.mktemp("vae") / "vae")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint as the original's script leaves it."""
    ema, raw = dit_to_original(network()), dit_to_original(network(4))
    args = argparse.Namespace(model="DiT-tiny", image_size=16, num_classes=7, vae="ema", epochs=1400)
    path = tmp_path_factory.mktemp("official") / "0400000.pt"
    torch.save(
        {"model": raw, "ema": ema, "opt": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "args": args}, path
    )
    return path


@pytest.fixture(scope="module")
def latent(official: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That checkpoint as a model folder with a VAE."""
    return convert(
        f"dit:{official}",
        tmp_path_factory.mktemp("models") / "latent",
        overrides=["num_heads=4"],
        vae=str(vae),
    )


@pytest.fixture(scope="module")
def ours(official: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in a model with diffusers' frequencies, and names that have commas."""
    folder = tmp_path_factory.mktemp("models")
    names = folder / "names.txt"
    names.write_text(
        "\n".join(
            [
                "tench, Tinca tinca",
                "crane",
                "dog, hound",
                "cat, Felis",
                "crane, lifting device",
                "dog, canine",
                "eel",
            ]
        )
    )
    overrides = [
        "num_heads=4",
        f"classes={names}",
        "sample.sampler=ddim(spacing=leading)",
        "sample.num_steps=10",
        *THEIRS,
    ]
    return convert(f"dit:{official}", folder / "ours", overrides=overrides, vae=str(vae))


# ---- the original layout -------------------------------------------------------------------------


def test_published_sizes_tell_their_heads() -> None:
    assert PUBLISHED == {(384, 12): 6, (768, 12): 12, (1024, 24): 16, (1152, 28): 16}
    with torch.device("meta"):
        state = dit_to_original(DiT(size="XL/2", learn_sigma=True, input_size=64))
    assert original_shapes(state) == {
        "input_size": 64,
        "patch_size": 2,
        "in_channels": 4,
        "hidden_size": 1152,
        "depth": 28,
        "mlp_ratio": 4.0,
        "num_classes": 1000,
        "learn_sigma": True,
    }


def test_a_training_checkpoint_becomes_a_model(official: Path, latent: Path) -> None:
    assert sorted(files_below(latent)) == [
        "codec/config.json",
        "codec/diffusion_pytorch_model.safetensors",
        "config.yaml",
        "meta.json",
        "model.safetensors",
    ]
    model = load(latent)
    assert torch.equal(run(model.denoiser.net), run(network()))  # the average, bit for bit
    assert differences(dit_to_original(model.denoiser.net), dit_to_original(network())) == []
    assert (model.info.shape, model.sample_shape, model.classes) == ((4, 8, 8), (3, 16, 16), tuple("0123456"))
    shown = card(latent)
    assert (shown.name, shown.backbone, shown.task, shown.weights, shown.step) == (
        "0400000",
        "dit",
        "image",
        ("ema",),
        None,
    )
    meta = json.loads((latent / "meta.json").read_text())
    assert meta["source"] == f"dit:{official}" and meta["weights"] == "ema" and meta["storage"] == "float32"
    assert meta["parameters"] == sum(p.numel() for p in network().parameters())
    assert meta["files"].keys() == {"model.safetensors", "codec/diffusion_pytorch_model.safetensors"}


def test_it_samples_as_the_authors_do(latent: Path) -> None:
    model = load(latent)
    sample, path = model.config.sample, model.denoiser.path
    assert (sample.sampler, sample.num_steps, sample.guidance) == (
        "ddpm(lambda_min=none,clip=none,spacing=linspace,variance=learned_range)",
        50,
        "cfg(scale=4.0,channels=3)",
    )
    assert isinstance(path, VPPath) and path.entries(50, "linspace") == path.respaced("50")
    torch.testing.assert_close(path.betas, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    pictures = model.sample(seeds=SEEDS, labels=LABELS, num_steps=4)
    assert pictures.values.shape == (3, 3, 16, 16) and pictures.values.dtype == torch.uint8
    assert pictures.pictures[0].size == (16, 16) and pictures.recipes[2]["class"] == "6"
    alone = model.sample(seeds=[4], labels=[0], num_steps=4, deterministic=True)
    assert torch.equal(
        alone.values[0], model.sample(seeds=SEEDS, labels=LABELS, num_steps=4, deterministic=True).values[1]
    )


def test_a_picture_to_start_from_is_encoded(latent: Path) -> None:
    model, init = load(latent), torch.full((3, 16, 16), 90, dtype=torch.uint8)
    assert model.sample(seeds=[1], labels=[2], init=init, strength=0.5, num_steps=4).values.shape == (
        1,
        3,
        16,
        16,
    )
    with pytest.raises(ValueError, match=r"expected \(3, 16, 16\) \(C, H, W\)"):
        model.sample(seeds=[1], init=torch.zeros(4, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    "layout", ["bare", "ema", "raw", "model", "parallel", "safetensors", "half", "legacy"]
)
def test_layouts(layout: str, official: Path, tmp_path: Path) -> None:
    ema, raw = dit_to_original(network()), dit_to_original(network(4))
    source, extra, want = tmp_path / "w.pt", [], network()
    if layout == "bare":
        torch.save(ema, source)
    elif layout == "ema":
        source = official
    elif layout == "raw":
        source, extra, want = official, ["weights=raw"], network(4)
    elif layout == "model":
        torch.save({"model": raw, "ema": None}, source)
        want = network(4)
    elif layout == "parallel":
        torch.save({"model": {f"module.{k}": v for k, v in raw.items()}}, source)
        want = network(4)
    elif layout == "safetensors":
        source = tmp_path / "w.safetensors"
        save_file({k: v.contiguous() for k, v in ema.items()}, source)
    elif layout == "half":
        torch.save({k: v.half() for k, v in ema.items()}, source)
        want = network().half().float()
    else:
        torch.save(ema, source, _use_new_zipfile_serialization=False)
    folder = convert(f"dit:{source}", tmp_path / "out", overrides=["num_heads=4", *extra])
    model = load(folder)
    assert torch.equal(run(model.denoiser.net), run(want))
    assert load_file(folder / "model.safetensors")["modulation.weight"].dtype == (
        torch.float16 if layout == "half" else torch.float32
    )


def test_a_model_without_its_vae(
    official: Path, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDIO_VAE", raising=False)
    model = load(convert(f"dit:{official}", tmp_path / "out", overrides=["num_heads=4"]))
    assert model.info.codec == {"name": "vae", "folder": "codec", "scale": 0.18215}
    with pytest.raises(ValueError, match=f"a VAE, which is not in {tmp_path}/out/codec; .*STUDIO_VAE=DIR"):
        model.sample(seeds=[1], num_steps=1)
    monkeypatch.setenv("STUDIO_VAE", str(vae))
    assert model.sample(seeds=[1], num_steps=1).values.shape == (1, 3, 16, 16)


def test_a_model_in_pixels_and_without_a_null_class(tmp_path: Path) -> None:
    net = network(in_channels=3, learn_sigma=False, null_class=False)
    torch.save(
        {"ema": dit_to_original(net), "args": argparse.Namespace(num_classes=7)}, tmp_path / "pixels.pt"
    )
    model = load(convert(f"dit:{tmp_path / 'pixels.pt'}", tmp_path / "out", overrides=["num_heads=4"]))
    assert (
        model.info.codec == {"name": "pixels"}
        and model.config.sample.guidance == ""
        and len(model.classes) == 7
    )
    assert (
        model.config.sample.sampler == "ddpm(lambda_min=none,clip=none,spacing=linspace,variance=fixed_large)"
    )
    assert model.sample(seeds=SEEDS, num_steps=2).values.shape == (3, 3, 8, 8)
    torch.save(dit_to_original(net), tmp_path / "bare.pt")  # nothing tells that there is no null class
    assert (
        len(load(convert(f"dit:{tmp_path / 'bare.pt'}", tmp_path / "a", overrides=["num_heads=4"])).classes)
        == 6
    )
    assert (
        len(
            load(
                convert(
                    f"dit:{tmp_path / 'bare.pt'}", tmp_path / "b", overrides=["num_heads=4", "num_classes=7"]
                )
            ).classes
        )
        == 7
    )


def test_overrides_of_the_config(official: Path, tmp_path: Path) -> None:
    folder = convert(
        f"dit:{official}",
        tmp_path / "out",
        overrides=["num-heads=4", "name=mine", "sample.num_steps=9", "sample.guidance=cfg=1.5"],
    )
    config = load(folder).config
    assert (config.name, config.sample.num_steps, config.sample.guidance) == ("mine", 9, "cfg=1.5")


# ---- names ---------------------------------------------------------------------------------------


def test_class_names(tmp_path: Path) -> None:
    assert class_names(3, None) == (("0", "1", "2"), {})
    lines, listed, mapped = tmp_path / "n.txt", tmp_path / "n.json", tmp_path / "model_index.json"
    lines.write_text("ant\n\nbee\ncow\n")
    listed.write_text('["ant", "bee", "cow"]')
    mapped.write_text(
        json.dumps({"_class_name": "DiTPipeline", "id2label": {"0": "ant", "2": "cow", "1": "bee"}})
    )
    for path in (lines, listed, mapped):
        assert class_names(3, str(path)) == (("ant", "bee", "cow"), {})
    names, meta = class_names(
        4, {"0": "tench, Tinca tinca", "1": "crane", "2": "crane", "3": "eel, sand eel"}
    )
    assert names == ("tench", "crane (1)", "crane (2)", "eel") and meta["id2label"]["3"] == "eel, sand eel"
    for source, message in (
        ({"0": "ant", "1": "bee"}, "got 2 class names, the network has 3 classes"),
        ({"0": "ant", "1": "bee", "3": "cow"}, "got 2 class names, the network has 3"),
        (str(tmp_path / "nothing.txt"), "which is not readable"),
    ):
        with pytest.raises(ValueError, match=message):
            class_names(3, source)


def test_names_of_a_file(ours: Path) -> None:
    model = load(ours)
    assert model.classes == (
        "tench",
        "crane",
        "dog, hound",
        "cat",
        "crane, lifting device",
        "dog, canine",
        "eel",
    )
    assert model.sample(seeds=[1], labels="tench", num_steps=1).recipes[0]["label"] == 0


# ---- what is refused -----------------------------------------------------------------------------


class Foreign:
    """An object that has no place in a checkpoint."""


def bad_checkpoints(folder: Path) -> dict[str, Path]:
    state = dit_to_original(network())
    held: dict[str, Any] = {
        "object": {"ema": state, "opt": Foreign()},
        "path in args": {"ema": state, "args": argparse.Namespace(out=Path("results"))},
        "list": [state],
        "empty": {},
        "diffusers": {"transformer_blocks.0.attn1.to_q.weight": torch.zeros(2, 2)},
        "no final": {k: v for k, v in state.items() if k != "final_layer.linear.weight"},
        "no gate": {k: v for k, v in state.items() if k != "blocks.1.adaLN_modulation.1.bias"},
        "no proj": {k: v for k, v in state.items() if k != "blocks.1.attn.proj.bias"},
        "extra": state | {"cls_token": torch.zeros(1)},
        "odd grid": state | {"pos_embed": torch.zeros(1, 15, 32)},
        "flat": state | {"pos_embed": torch.zeros(16, 32)},
        "channels": state | {"final_layer.linear.weight": torch.zeros(48, 32)},
        "width": state | {"blocks.0.attn.proj.weight": torch.zeros(32, 16)},
    }
    for name, value in held.items():
        torch.save(value, folder / f"{name}.pt")
    whole = (folder / "no final.pt").read_bytes()
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "cut.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "cut.safetensors").read_bytes()[:5000])
    (folder / "text.pt").write_text("version https://git-lfs.github.com/spec/v1")
    (folder / "weights.npz").write_bytes(b"")
    return {p.name: p for p in folder.iterdir()}


def test_checkpoints_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    there = bad_checkpoints(tmp_path / "in")
    for name, message in (
        ("missing.pt", "missing.pt is not there, expected a file of weights"),
        ("weights.npz", "weights.npz, expected a file of weights: .safetensors or .pt"),
        ("cut.pt", "cut.pt is not a readable checkpoint.*cut off"),
        ("cut.safetensors", "cut.safetensors is not a readable safetensors file"),
        ("text.pt", "text.pt is not a readable checkpoint"),
        (
            "object.pt",
            r"object.pt holds a \w*.?test_convert_models.Foreign beside its tensors, and objects are "
            r"never loaded",
        ),
        ("path in args.pt", "holds a pathlib.* beside its tensors"),
        ("list.pt", "holds a list, expected a state-dict"),
        ("empty.pt", "is no state-dict of tensors .it is empty"),
        ("diffusers.pt", "lack x_embedder.proj.weight, expected a DiT in its original layout"),
        ("no final.pt", "lack final_layer.linear.weight, expected a DiT"),
        ("no gate.pt", "lack blocks.1.adaLN_modulation.1.bias"),
        ("no proj.pt", "lack blocks.1.attn.proj.bias"),
        ("extra.pt", "hold cls_token, which our dit does not have"),
        ("odd grid.pt", "pos_embed has 15 tokens, which is not the square grid"),
        ("flat.pt", r"pos_embed has shape \(16, 32\), expected 3 dimensions"),
        (
            "channels.pt",
            "final_layer.linear.weight has 48 rows, expected 16 for 4 channels, or twice as many",
        ),
        ("width.pt", r"blocks.0.attn.proj.weight has shape \(32, 16\), expected \(32, 32\)"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(f"dit:{there.get(name, tmp_path / name)}", tmp_path / "out", overrides=["num_heads=4"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_calls_that_cannot_be_followed(official: Path, vae: Path, tmp_path: Path) -> None:
    narrow = tiny_vae(tmp_path / "narrow", latent_channels=3)
    good = ["num_heads=4"]
    for source, options, message in (
        (
            str(official),
            {},
            "expected dit:PATH, diffusers:PATH.* or hf:org/name; to write a model of ours for others, "
            "pass --to diffusers",
        ),
        ("dut:x.pt", {}, "got family 'dut', expected one of .*did you mean 'dit'"),
        (
            f"dit:{official}",
            {},
            r"do not tell their number of heads, and width 32 with depth 2 .*XL: 1152×28.*num_heads=N",
        ),
        (
            f"dit:{official}",
            {"overrides": ["num_head=4"]},
            "unknown option 'num_head'.*did you mean 'num_heads'",
        ),
        (
            f"dit:{official}",
            {"overrides": [*good, "sample.num_step=3"]},
            "unknown key 'num_step'.*did you mean 'num_steps'",
        ),
        (f"dit:{official}", {"overrides": ["num_heads"]}, "expected key=value, such as num_heads=6"),
        (f"dit:{official}", {"overrides": ["num_heads=many"]}, "option 'num_heads' got 'many'"),
        (f"dit:{official}", {"overrides": ["num_heads=5"]}, "width 32 and 5 heads"),
        (
            f"dit:{official}",
            {"overrides": [*good, "num_classes=9"]},
            "num_classes=9, the label table has 8 rows; expected 7 .* or 8",
        ),
        (f"dit:{official}", {"overrides": [*good, "input_size=9"]}, "not the square grid of a side of 9"),
        (f"dit:{official}", {"overrides": [*good, "sample.sampler=ab3"]}, "did you mean 'ab2'"),
        (f"dit:{official}", {"overrides": [*good, "sample.guidance=cgf=3"]}, "did you mean 'cfg'"),
        (
            f"dit:{official}",
            {"overrides": [*good, "objective.parameterization.name=velocity"]},
            "unknown option 'variance'",
        ),
        (
            f"dit:{official}",
            {"overrides": [*good, "objective.parameterization.variance=null"]},
            "learned variance needs a network with learn_sigma",
        ),
        (
            f"dit:{official}",
            {"overrides": good, "vae": str(narrow)},
            "latents have 3 channels, the network takes 4",
        ),
        (
            f"dit:{official}",
            {"overrides": [*good, "codec=pixels"], "vae": str(vae)},
            "got a VAE and codec=pixels",
        ),
        (
            f"dit:{official}",
            {"overrides": good, "vae": str(tmp_path)},
            "expected the folder of a diffusers AutoencoderKL",
        ),
        (
            f"dit:{official}",
            {"overrides": good, "to": "diffusers"},
            "expected a MODEL of ours; make it one first: studio convert dit:",
        ),
        (f"diffusers:{tmp_path / 'none'}", {}, "neither transformer/config.json nor config.json"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(source, tmp_path / "out", **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["narrow"]


def test_folders_that_hold_something(official: Path, tmp_path: Path) -> None:
    source, options = f"dit:{official}", {"overrides": ["num_heads=4"]}
    mine = tmp_path / "mine"
    mine.mkdir()
    assert convert(source, mine, **options) == mine  # an empty folder is free
    before = files_below(mine)
    with pytest.raises(
        FileExistsError, match="mine holds something already; choose another --out or pass --overwrite"
    ):
        convert(source, mine, **options)
    with pytest.raises(ValueError, match="number of heads"):
        convert(source, mine, overwrite=True)
    assert files_below(mine) == before
    convert(source, mine, overrides=["num_heads=2"], overwrite=True)
    assert files_below(mine) != before and not list(tmp_path.glob(".*"))
    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="choose another --out$"):
        convert(source, letters, overwrite=True, **options)
    with pytest.raises(FileExistsError, match="is a file, expected a folder"):
        convert(source, letters / "letter.txt", overwrite=True, **options)
    shutil.copy(official, mine / "weights.pt")
    for call in (
        lambda: convert(f"dit:{mine / 'weights.pt'}", mine, overwrite=True, **options),
        lambda: convert(str(mine), mine, to="diffusers", overwrite=True, overrides=["steps=50"]),
    ):
        with pytest.raises(ValueError, match="which is read from; choose another --out"):
            call()
    assert (mine / "weights.pt").is_file()
    training = tmp_path / "run"
    (training / "checkpoints" / "000000048").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/000000048/net.safetensors"):
        (training / name).write_text("")
    with pytest.raises(FileExistsError, match="choose another --out$"):  # a run is never removed
        convert(source, training, overwrite=True, **options)
    assert len(files_below(training)) == 2


def test_a_write_that_fails_leaves_nothing(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files, "save_tensors", full)
    with pytest.raises(OSError, match="disk full"):
        convert(f"dit:{official}", tmp_path / "out", overrides=["num_heads=4"])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(files, "SPARE_BYTES", 1 << 60)
    with pytest.raises(ValueError, match="cannot write .* MB to"):
        convert(f"dit:{official}", tmp_path / "out", overrides=["num_heads=4"])


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def offline(repo: str, **options: Any) -> str:
        asked.append(repo)
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        ValueError,
        match=r"hf:org/DiT-XL-2-256 could not be fetched \(ConnectionError\); download the folder "
        r"elsewhere and give its path",
    ):
        convert("hf:org/DiT-XL-2-256", tmp_path / "out")
    assert asked == ["org/DiT-XL-2-256"] and list(tmp_path.iterdir()) == []


# ---- from diffusers ------------------------------------------------------------------------------


def transformer(classes: int = 1000, **options: Any) -> "diffusers.DiTTransformer2DModel":
    """A random one whose blocks share their embedders, as all published ones do."""
    config = dict(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(8)
        model = diffusers.DiTTransformer2DModel(**config | dict(num_embeds_ada_norm=classes) | options)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.1)
    first = model.transformer_blocks[0].norm1.emb.state_dict()
    for block in model.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(first)
    return model.eval()


def pipeline_run(
    pipe: "diffusers.DiTPipeline",
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    *,
    labels: tuple[int, ...] = LABELS,
    scale: float = 3.0,
    steps: int = 10,
) -> tuple[Tensor, Tensor]:
    """Latents and pictures (0…1) of the pipeline from the noise that our model starts from."""
    noise = NoiseSource(SEEDS).normal(model.info.shape, stream="prior")
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda **_: noise.clone())
    seen: list[Tensor] = []
    decode = pipe.vae.decode
    monkeypatch.setattr(pipe.vae, "decode", lambda z: (seen.append(z), decode(z))[1])
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        class_labels=list(labels), guidance_scale=scale, num_inference_steps=steps, output_type="pt"
    ).images
    return seen[0] * pipe.vae.config.scaling_factor, images


def our_run(
    model: Model, *, scale: float = 3.0, steps: int = 10, sampler: str | None = None
) -> tuple[Tensor, Tensor]:
    request, _ = model.request(
        seeds=SEEDS, labels=list(LABELS), guidance=f"cfg={scale}", num_steps=steps, sampler=sampler
    )
    *_, last = model.stream(request)
    x = last.step.x[[last.rows.index(i) for i in range(len(SEEDS))]]
    return x, model.codec.decode(x)


def close(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> float:
    """The largest difference of latents in their standard deviations (random networks leave the unit scale);
    pictures agree to their last place."""
    assert float(theirs[0].std()) > 0.1
    assert ((ours[1].float() - theirs[1] * 255).abs() <= 0.51).all()
    return float((ours[0] - theirs[0]).abs().max() / theirs[0].std())


@pytest.fixture(scope="module")
def pipeline(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of 1,000 classes as diffusers writes it, with the names that its authors added by hand."""
    folder = tmp_path_factory.mktemp("theirs") / "DiT-256"
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    diffusers.DiTPipeline(
        transformer=transformer(), vae=diffusers.AutoencoderKL.from_pretrained(vae), scheduler=scheduler
    ).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    names = {str(i): f"thing {i}, Res {i}" for i in range(1000)}
    (folder / "model_index.json").write_text(json.dumps({**index, "id2label": names}))
    return folder


def test_a_pipeline_becomes_a_model_with_the_same_samples(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(convert(f"diffusers:{pipeline}", tmp_path / "out"))
    assert (model.config.name, model.config.sample.sampler, model.config.sample.guidance) == (
        "DiT-256",
        "ddim(lambda_min=none,clip=none,spacing=leading)",
        "cfg=4.0",
    )
    assert model.classes[7] == "thing 7" and model.codec.scale == 0.3 and model.sample_shape == (3, 16, 16)
    assert model.config.objective["path"] == {
        "name": "vp",
        "schedule": "linear",
        "num": 1000,
        "start": 1e-4,
        "end": 0.02,
    }
    pipe = diffusers.DiTPipeline.from_pretrained(pipeline)
    for scale in (1.0, 3.0):
        assert close(our_run(model, scale=scale), pipeline_run(pipe, model, monkeypatch, scale=scale)) <= 1e-4
    again = convert(str(tmp_path / "out"), tmp_path / "back", to="diffusers")
    theirs, back = (
        load_file(f / "transformer" / "diffusion_pytorch_model.safetensors") for f in (pipeline, again)
    )
    assert differences(theirs, back) == []
    one, two = (json.loads((f / "model_index.json").read_text()) for f in (pipeline, again))
    assert one["id2label"] == two["id2label"]  # the synonyms too


def test_older_and_barer_folders(pipeline: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(pipeline / "transformer", tmp_path / "bare")
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(
        json.dumps(
            {
                **config,
                "_class_name": "Transformer2DModel",
                "num_vector_embeds": None,
                "cross_attention_dim": None,
            }
        )
    )
    torch.save(load_file(bare / "diffusion_pytorch_model.safetensors"), bare / "diffusion_pytorch_model.bin")
    (bare / "diffusion_pytorch_model.safetensors").unlink()
    model, whole = (load(convert(f"diffusers:{f}", tmp_path / n)) for f, n in ((bare, "a"), (pipeline, "b")))
    assert differences(weights(model), weights(whole)) == []
    assert (
        model.classes[3] == "3"
        and model.info.codec["name"] == "vae"
        and model.config.sample.sampler == "ddim(lambda_min=none,clip=none,spacing=leading)"
    )
    original = convert(
        f"diffusers:{bare}",
        tmp_path / "c",
        overrides=["backbone.frequency_shift=0", "backbone.mlp_norm_eps=1e-6"],
    )
    assert load(original).denoiser.net.t_embedder.shift == 0


def test_sources_of_the_hub(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda repo, **options: (calls.append(options), str(pipeline))[1]
    )
    model = load(convert("hf:org/DiT-256", tmp_path / "out"))
    assert (
        len(model.classes) == 1000
        and len(calls) == 1
        and "transformer/*" in calls[0]["allow_patterns"]
        and calls[0]["ignore_patterns"] == ["*.bin"]
    )
    old = shutil.copytree(pipeline, tmp_path / "old")
    (old / "vae" / "diffusion_pytorch_model.safetensors").rename(old / "vae" / "diffusion_pytorch_model.bin")
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda repo, **options: (calls.append(options), str(old))[1]
    )
    # one of its modules has .bin only
    assert (
        pretrained.fetch("org/old", ["*"]) == old and len(calls) == 3 and "ignore_patterns" not in calls[-1]
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "prediction_type": "v_prediction",
        },
        {
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "sample",
            "timestep_spacing": "trailing",
            "clip_sample": False,
        },
        {
            "num_train_timesteps": 200,
            "beta_end": 0.05,
            "rescale_betas_zero_snr": True,
            "clip_sample_range": 2.5,
        },
    ],
)
@pytest.mark.parametrize("kind", ["DDIMScheduler", "DDPMScheduler"])
def test_schedulers_become_objectives(kind: str, options: dict[str, Any]) -> None:
    scheduler = getattr(diffusers, kind)(**options)
    section, line = _objective({"_class_name": kind, **scheduler.config}, learned=False)
    denoiser = studio.checkpoints.build.denoiser_of(from_tree({"objective": section}), torch.nn.Identity())
    assert isinstance(denoiser.path, VPPath)
    torch.testing.assert_close(
        denoiser.path.alpha_bar, scheduler.alphas_cumprod.double(), rtol=2e-4, atol=1e-7
    )
    scheduler.set_timesteps(10)
    sampler = build_sampler(line)
    grid = sampler.times(denoiser.path, 10)
    assert [round(float(denoiser.path.network_time(t))) for t in grid[:-1]] == scheduler.timesteps.tolist()
    assert sampler.clip == (scheduler.config.clip_sample_range if scheduler.config.clip_sample else None)
    torch.manual_seed(0)
    x, out = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    if kind == "DDIMScheduler":  # one step, the same prediction
        k = int(scheduler.timesteps[4])
        want = scheduler.step(out, k, x).prev_sample
        net = lambda x, t, cond, ctx: out  # noqa: E731
        got = sampler.step(
            x,
            grid[4],
            grid[5],
            lambda x, t: denoiser.parameterization.predict(net, x, t, Cond(), denoiser.path),
            None,
            [],
        )
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


def test_pipelines_that_cannot_be_read(pipeline: Path, vae: Path, tmp_path: Path) -> None:
    def changed(file: str, **change: Any) -> Path:
        folder = shutil.copytree(pipeline, tmp_path / "in" / "pipeline", dirs_exist_ok=True)
        path = folder / file
        path.write_text(
            json.dumps({k: v for k, v in (json.loads(path.read_text()) | change).items() if v != "drop"})
        )
        return folder

    scheduler, config, index = (
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "model_index.json",
    )
    for file, change, message in (
        (
            index,
            {"_class_name": "StableDiffusionPipeline"},
            "is a StableDiffusionPipeline, expected a DiTPipeline",
        ),
        (index, {"id2label": {"0": "ant"}}, "got 1 class names, the network has 1000 classes"),
        (config, {"_class_name": "UNet2DModel"}, "is a UNet2DModel, expected a DiTTransformer2DModel"),
        (config, {"activation_fn": "geglu"}, "has shape|lacks|holds"),
        (config, {"norm_type": "layer_norm"}, "does not describe a DiTTransformer2DModel"),
        (config, {"activation_fn": "gelu"}, "activation_fn='gelu', ours has 'gelu-approximate'"),
        (config, {"out_channels": 12}, "proj_out_2.weight has shape"),
        (config, {"num_layers": 3}, "lacks transformer_blocks.2"),
        (config, {"num_layers": 1}, "holds transformer_blocks.1"),
        (
            scheduler,
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "got the scheduler FlowMatchEulerDiscreteScheduler",
        ),
        (scheduler, {"beta_schedule": "laplace"}, "got beta_schedule 'laplace'"),
        (scheduler, {"prediction_type": "flow_prediction"}, "got prediction_type 'flow_prediction'"),
        (scheduler, {"trained_betas": [0.1, 0.2]}, r"with trained_betas=\[0.1, 0.2\]"),
        (scheduler, {"thresholding": True}, "with thresholding=True"),
        (scheduler, {"set_alpha_to_one": False}, "with set_alpha_to_one=False"),
        (scheduler, {"steps_offset": 1}, "with steps_offset=1"),
        (
            scheduler,
            {"_class_name": "DDPMScheduler", "variance_type": "learned"},
            "got variance_type 'learned'",
        ),
        (scheduler, {"timestep_spacing": "odd"}, "got spacing 'odd'"),
        ("vae/config.json", {"shift_factor": 1.0}, "moves its latents"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(f"diffusers:{changed(file, **change)}", tmp_path / "out")
        shutil.rmtree(tmp_path / "in")
    model = transformer()
    model.transformer_blocks[1].norm1.emb.timestep_embedder.linear_1.weight.data[0, 0] += 1
    model.save_pretrained(tmp_path / "in")
    with pytest.raises(ValueError, match="copies of timestep_embedder.linear_1 differ"):
        convert(f"diffusers:{tmp_path / 'in'}", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


# ---- to diffusers --------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_pipeline_gives_our_samples(
    scale: float, spacing: str, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(ours, tmp_path / "model")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("spacing=leading", f"spacing={spacing}"))
    pipe = diffusers.DiTPipeline.from_pretrained(convert(str(folder), tmp_path / "theirs", to="diffusers"))
    model = load(folder)
    # every synonym
    assert pipe.labels["Tinca tinca"] == 0 and pipe.labels["hound"] == 2 and len(pipe.labels) == 10
    assert close(our_run(model, scale=scale), pipeline_run(pipe, model, monkeypatch, scale=scale)) <= 1e-4


def test_there_and_back(ours: Path, tmp_path: Path) -> None:
    theirs = convert(str(ours), tmp_path / "theirs", to="diffusers")
    back = convert(f"diffusers:{theirs}", tmp_path / "back")
    a, b = load(ours), load(back)
    one, two = weights(a), weights(b)
    # computed, not stored, by diffusers
    assert float((one.pop("pos_embed") - two.pop("pos_embed")).abs().max()) < 1e-6
    assert differences(one, two) == []
    assert asdict(a.info) == asdict(b.info) and a.config.backbone | b.config.backbone == a.config.backbone
    assert (
        b.classes == a.classes
        and json.loads((back / "meta.json").read_text())["id2label"]["0"] == "tench, Tinca tinca"
    )
    assert (
        files_below(ours / "codec")["diffusion_pytorch_model.safetensors"]
        == files_below(back / "codec")["diffusion_pytorch_model.safetensors"]
    )
    torch.testing.assert_close(run(a.denoiser.net), run(b.denoiser.net), rtol=0, atol=1e-5)
    table = load_file(theirs / "transformer" / "diffusion_pytorch_model.safetensors")[
        "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"
    ]
    # filled up for the pipeline's null class, and cut again
    assert len(table) == 1001 and len(two["y_embedder.embedding_table.weight"]) == 8


def test_a_model_in_pixels_is_written_without_a_pipeline(tmp_path: Path) -> None:
    torch.save(dit_to_original(network(in_channels=3, learn_sigma=False)), tmp_path / "w.pt")
    overrides = ["num_heads=4", "objective.parameterization=v", "objective.path.schedule=cosine", *THEIRS]
    model = load(convert(f"dit:{tmp_path / 'w.pt'}", tmp_path / "model", overrides=overrides))
    folder = convert(str(tmp_path / "model"), tmp_path / "theirs", to="diffusers")
    assert sorted(p.name for p in folder.iterdir()) == [
        "drift-studio.json",
        "id2label.json",
        "scheduler",
        "transformer",
    ]
    net, scheduler = (
        diffusers.DiTTransformer2DModel.from_pretrained(folder / "transformer"),
        diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
    )
    x = NoiseSource(SEEDS).normal((3, 8, 8), stream="prior")
    scheduler.set_timesteps(10)
    for t in scheduler.timesteps:
        with torch.no_grad():
            x = scheduler.step(
                net(x, timestep=t.expand(3), class_labels=torch.tensor(LABELS)).sample, t, x
            ).prev_sample
    assert float((our_run(model, scale=1.0, sampler="ddim")[0] - x).abs().max() / x.std()) <= 1e-4
    again = load(convert(f"diffusers:{folder}", tmp_path / "again"))
    assert (
        again.info.codec == {"name": "pixels"}
        and again.classes == model.classes
        and again.config.objective["parameterization"]["name"] == "v"
    )


def test_the_time_frequencies() -> None:
    """What copying the time MLP does to its first layer, and that rewriting it does nothing, at the times
    that are visited."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = TimeEncoder(384).mlp[0]
    w, b, t = layer.weight.detach(), layer.bias.detach(), torch.arange(1000)
    want, copied = sinusoid(t, 256) @ w.T + b, sinusoid(t, 256, shift=1) @ w.T + b
    assert 0.6 < float((copied - want).norm() / want.norm()) < 0.66
    path = VPPath()
    for spacing in ("leading", "trailing"):
        weight, bias, error = shifted_time_embedding(w, b, path.entries(50, spacing))
        got = sinusoid(t, 256, shift=1) @ weight.T + bias
        for steps in (50, 25, 10):
            k = path.entries(steps, spacing)
            assert float((got[k] - want[k]).abs().max()) <= 1e-5
        # closer in between, too, than copied
        assert error < 5e-7 and float((got - want).norm() / want.norm()) < 0.4
    assert shifted_time_embedding(w, b, path.entries(100, "leading"))[2] > 1e-3


def test_original_frequencies(
    latent: Path, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source, overrides, message in (
        (
            latent,
            ["steps=100"],
            "got steps=100, at which diffusers' time frequencies cannot be matched .*; set fewer: "
            "--config steps=25",
        ),
        (latent, ["steps=50", "frequency_shift=1"], "got steps and frequency_shift=1, expected one of them"),
        (latent, ["frequency_shift=0"], "option 'frequency_shift' got 0"),
        (latent, ["steps=0"], "got 0 steps"),
        (ours, ["steps=50"], "this one has diffusers', leave them out"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(str(source), tmp_path / "out", to="diffusers", overrides=overrides)
    assert list(tmp_path.iterdir()) == []
    model = load(latent)
    rewritten = diffusers.DiTPipeline.from_pretrained(
        convert(str(latent), tmp_path / "rewritten", to="diffusers")
    )
    copied = diffusers.DiTPipeline.from_pretrained(
        convert(str(latent), tmp_path / "copied", to="diffusers", overrides=["frequency_shift=1"])
    )
    for steps in (50, 10):
        here = our_run(model, steps=steps, sampler="ddim(spacing=trailing)")
        assert close(here, pipeline_run(rewritten, model, monkeypatch, steps=steps)) <= 1e-4
        other = pipeline_run(copied, model, monkeypatch, steps=steps)[0]
        assert float((here[0] - other).abs().max() / other.std()) > 1e-2
    notes = [json.loads((tmp_path / n / "drift-studio.json").read_text()) for n in ("rewritten", "copied")]
    assert (
        "exact for 50 steps and their divisors" in notes[0]["notes"][0]
        and "is copied" in notes[1]["notes"][0]
    )
    assert notes[0]["model_hash"] == model.hash


def written(
    folder: Path, net: torch.nn.Module, backbone: dict[str, Any], objective: dict[str, Any], info: Info
) -> str:
    """A model folder by hand."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        from_tree({"name": folder.name, "backbone": backbone, "objective": objective}).yaml()
    )
    files.save_tensors(folder / "model.safetensors", net.state_dict())
    files.write_json(folder / "meta.json", {"version": 1, **info.tree()})
    return str(folder)


NOISE: dict[str, Any] = {"path": "vp", "parameterization": "noise"}


@pytest.mark.parametrize(
    "name, options, objective, codec, message",
    [
        (
            "stem",
            {"stem_channels": (8,), "stem_blocks": 1},
            NOISE,
            "pixels",
            "has a convolutional stem, which it cannot express",
        ),
        ("numeric", {"num_numeric": 2}, NOISE, "pixels", "has numeric conditions, which it cannot express"),
        (
            "flow",
            {},
            {"path": "linear", "parameterization": "velocity"},
            "pixels",
            "samples on a VP table .*this model's path is {'name': 'linear'}",
        ),
        ("edm", {}, {"path": "edm", "parameterization": "edm"}, "pixels", "samples on a VP table"),
        (
            "sigmoid",
            {},
            {"path": {"name": "vp", "schedule": "sigmoid"}, "parameterization": "noise"},
            "pixels",
            "samples on a VP table",
        ),
        (
            "velocity",
            {},
            {"path": "vp", "parameterization": "velocity"},
            "pixels",
            "read noise, data or v, this model predicts velocity",
        ),
        (
            "zero",
            {},
            {"path": {"name": "vp", "zero_snr": True}, "parameterization": "noise"},
            "pixels",
            "divides a predicted noise by zero",
        ),
        ("scale", {}, NOISE, "scale", "works in scale, expected pixels or latents"),
        ("unlabelled", {"num_classes": 0}, NOISE, "pixels", "a square grid and a null class"),
        ("no null", {"null_class": False}, NOISE, "pixels", "a null class"),
        ("oblong", {"input_size": (8, 16)}, NOISE, "pixels", r"a square grid .*grid \(4, 8\)"),
        ("ratio", {"mlp_ratio": 2.0}, NOISE, "pixels", "an MLP ratio of 4, got 2"),
        (
            "many",
            {"num_classes": 1200},
            NOISE,
            "vae",
            "takes class 1000 as the null, and this model has 1200 classes",
        ),
        ("no vae", {}, NOISE, "vae", "a VAE, which is not in .*codec"),
    ],
)
def test_models_that_diffusers_cannot_express(
    name: str,
    options: dict[str, Any],
    objective: dict[str, Any],
    codec: str,
    message: str,
    vae: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUDIO_VAE", str(vae if name == "many" else tmp_path / "nowhere"))
    spec = SIZES | {"learn_sigma": False, "frequency_shift": 1} | options
    side = spec["input_size"] if isinstance(spec["input_size"], tuple) else (spec["input_size"],) * 2
    names = tuple(str(i) for i in range(spec["num_classes"]))
    info = Info(
        "image", (4, *side), names, {"name": codec}, numeric=("a", "b") if "num_numeric" in options else ()
    )
    folder = written(
        tmp_path / "in" / name, backbones.build("dit", **spec), {"name": "dit", **spec}, objective, info
    )
    with pytest.raises(ValueError, match=message):
        convert(folder, tmp_path / "out", to="diffusers")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_more_that_diffusers_cannot_express(ours: Path, vae: Path, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels"
    torch.save(dit_to_original(network(in_channels=3, learn_sigma=False)), tmp_path / "w.pt")
    convert(f"dit:{tmp_path / 'w.pt'}", pixels, overrides=["num_heads=4", *THEIRS])
    moved = shutil.copytree(ours, tmp_path / "moved")
    state = load_file(moved / "model.safetensors")
    save_file(state | {"pos_embed": state["pos_embed"] + 1}, moved / "model.safetensors")
    narrow = tiny_vae(tmp_path / "narrow", latent_channels=3)
    mlp = {"dim": 2, "width": 8, "depth": 1}
    points = written(
        tmp_path / "points",
        backbones.build("mlp", **mlp),
        {"name": "mlp", **mlp},
        NOISE,
        Info("points", (2,), (), {"name": "scale"}),
    )
    for source, options, message in (
        (points, {}, "has MLPBackbone, which it cannot express"),
        (pixels, {"vae": str(vae)}, "works in pixels, leave --vae out"),
        (moved, {}, "has fixed sin-cos positions"),
        (ours, {"vae": str(narrow)}, "latents have 3 channels, this model's 4"),
        (ours, {"to": "diffuser"}, "got target 'diffuser'.*did you mean 'diffusers'"),
        (ours, {"overrides": ["step=50"]}, "unknown option 'step'.*did you mean 'steps'"),
        (ours, {"overrides": ["name=x"]}, "name=x, a key of a model's config"),
        (tmp_path / "nowhere", {}, "expected a folder, RUN@step"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(str(source), tmp_path / "out", **{"to": "diffusers", **options})
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_only_folders_of_ours_are_replaced(ours: Path, pipeline: Path, tmp_path: Path) -> None:
    theirs, written_before = (
        shutil.copytree(pipeline, tmp_path / "downloaded"),
        convert(str(ours), tmp_path / "written", to="diffusers"),
    )
    before = files_below(theirs)
    with pytest.raises(FileExistsError, match="choose another --out$"):
        convert(str(ours), theirs, to="diffusers", overwrite=True)
    assert files_below(theirs) == before
    with pytest.raises(FileExistsError, match="or pass --overwrite"):
        convert(str(ours), written_before, to="diffusers")
    assert convert(str(ours), written_before, to="diffusers", overwrite=True) == written_before


def test_another_vae_on_the_way_out(ours: Path, tmp_path: Path) -> None:
    other = tiny_vae(tmp_path / "other", scaling_factor=0.9, layers_per_block=2)
    folder = convert(str(ours), tmp_path / "theirs", to="diffusers", vae=str(other))
    written_vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    # the model's own scale
    assert written_vae.config.layers_per_block == 2 and written_vae.config.scaling_factor == 0.3


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_line(official: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command(context_settings=WIDTH)(command)
    arguments = [
        f"dit:{official}",
        "--out",
        str(tmp_path / "m"),
        "--config",
        "num_heads=4",
        "--config",
        "name=mine",
        "--json",
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and json.loads(done.stdout) == {
        "folder": str(tmp_path / "m"),
        "shape": [4, 8, 8],
        "classes": 7,
        "weights": "ema",
        "read_as": "a DDPM noise predictor with learned variance on the linear table of 1000 steps",
    }
    assert card(tmp_path / "m").name == "mine"
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "studio convert dit:DiT-XL-2-256x256.pt --out dit-xl --vae sd-vae" in " ".join(
        shown.replace("│", " ").split()
    )


def test_the_command(official: Path, vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(f"dit:{official}", tmp_path / "m", config=["num_heads=4", *THEIRS], vae=str(vae), as_json=False)
    read = (
        "read as a DDPM noise predictor with learned variance on the linear table of 1000 steps "
        "(weights: ema)"
    )
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'm'}  dit 4×8×8, 7 classes",
        read,
        f"studio sample {tmp_path / 'm'} --out pictures",
    ]
    command(str(tmp_path / "m"), tmp_path / "d", to="diffusers", as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "folder": str(tmp_path / "d"),
        "pipeline": True,
        "notes": [],
    }
    torch.save(dit_to_original(network(in_channels=3, learn_sigma=False)), tmp_path / "w.pt")
    command(f"dit:{tmp_path / 'w.pt'}", tmp_path / "p", config=["num_heads=4", *THEIRS], as_json=True)
    assert json.loads(capsys.readouterr().out)["shape"] == [3, 8, 8]
    command(str(tmp_path / "p"), tmp_path / "e", to="diffusers", as_json=False)
    assert "this model works in pixels and diffusers' DiTPipeline needs a VAE" in capsys.readouterr().out
