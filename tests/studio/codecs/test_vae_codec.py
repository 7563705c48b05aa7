"""The codec of latent models against diffusers' own arithmetic, and what it says when its VAE is missing or
another."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers  # what is asked of it is loaded where it is used
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_vae

from studio.codecs.codec import build_codec
from studio.codecs.vae import SCALE, VAECodec, read_vae, vae_folder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vae(tmp_path_factory.mktemp("vae") / "codec")


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randint(
        0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_latents_are_the_scaled_posterior_mean(vae: Path, pictures: torch.Tensor) -> None:
    codec, theirs = VAECodec(folder=str(vae)), diffusers.AutoencoderKL.from_pretrained(vae)
    with torch.no_grad():
        want = theirs.encode(pictures.float() / 127.5 - 1).latent_dist.mean * 0.3
    latents = codec.encode(pictures)
    assert latents.shape == (5, 4, 8, 8) and latents.dtype == torch.float32
    torch.testing.assert_close(latents, want, rtol=1e-5, atol=1e-5)


def test_decoding_is_the_pipelines_arithmetic(vae: Path, pictures: torch.Tensor) -> None:
    codec, theirs = VAECodec(folder=str(vae)), diffusers.AutoencoderKL.from_pretrained(vae)
    latents = 2 * codec.encode(pictures)
    with torch.no_grad():
        image = (theirs.decode(latents / 0.3).sample / 2 + 0.5).clamp(0, 1)
    got = codec.decode(latents)
    assert got.dtype == torch.uint8 and got.shape == pictures.shape and got.float().std() > 1
    assert int((got.int() - (image * 255).round().int()).abs().max()) <= 1  # where a value falls on a half
    assert ((got.float() - image * 255).abs() <= 0.5 + 1e-3).all()


def test_other_sides_than_a_square(vae: Path, pictures: torch.Tensor) -> None:
    codec, wide = VAECodec(folder=str(vae)), pictures[:1].repeat(1, 1, 1, 2)[..., :24]
    latents = codec.encode(wide)
    assert latents.shape == (1, 4, 8, 12) and codec.decoded_shape((4, 8, 12)) == (3, 16, 24)
    assert codec.decode(latents).shape == wide.shape
    assert codec.sizes((4, 8, 12)) == {"in_channels": 4, "input_size": (8, 12)}


def test_a_picture_does_not_show_its_company(vae: Path, pictures: torch.Tensor) -> None:
    codec = VAECodec(folder=str(vae))
    latents, decoded = codec.encode(pictures), codec.decode(3 * codec.encode(pictures))
    for i in range(len(pictures)):
        assert torch.equal(codec.encode(pictures[i : i + 1])[0], latents[i])
        assert torch.equal(codec.decode(3 * latents[i : i + 1])[0], decoded[i])


def test_the_scale(vae: Path, tmp_path: Path, pictures: torch.Tensor) -> None:
    assert VAECodec(folder=str(vae)).scale == 0.3
    torch.testing.assert_close(
        VAECodec(folder=str(vae), scale=0.6).encode(pictures), 2 * VAECodec(folder=str(vae)).encode(pictures)
    )
    config = json.loads((vae / "config.json").read_text())
    del config["scaling_factor"]
    shutil.copytree(vae, tmp_path / "plain")
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config))
    assert VAECodec(folder=str(tmp_path / "plain")).scale == SCALE == 0.18215


def test_the_folder_is_relative_to_the_model(vae: Path) -> None:
    codec = build_codec({"name": "vae", "folder": "codec", "scale": 0.3}, vae.parent)
    assert (
        isinstance(codec, VAECodec) and codec.home() == vae and codec.decoded_shape((4, 8, 8)) == (3, 16, 16)
    )


def test_a_missing_vae_is_missed_when_it_is_needed(
    vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDIO_VAE", raising=False)
    codec = build_codec({"name": "vae", "folder": "codec", "scale": 0.3}, tmp_path)
    for call in (lambda: codec.decode(torch.zeros(1, 4, 8, 8)), lambda: codec.decoded_shape((4, 8, 8))):
        with pytest.raises(
            ValueError,
            match=rf"not in {tmp_path}/codec; put a diffusers AutoencoderKL there "
            r".*STUDIO_VAE=DIR.*--vae DIR",
        ):
            call()
    monkeypatch.setenv("STUDIO_VAE", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="codec or .*nowhere"):
        codec.decode(torch.zeros(1, 4, 8, 8))
    monkeypatch.setenv("STUDIO_VAE", str(vae))
    assert codec.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 16, 16)
    tiny_vae(tmp_path / "codec", out_channels=1)  # the model's own goes first
    assert build_codec({"name": "vae", "folder": "codec"}, tmp_path).decoded_shape((4, 8, 8)) == (1, 16, 16)


def test_shapes_that_are_not_the_vaes(vae: Path) -> None:
    codec = VAECodec(folder=str(vae))
    with pytest.raises(ValueError, match=r"latents of shape \(1, 3, 8, 8\), this VAE's are \(B, 4, H, W\)"):
        codec.decode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"pictures of shape \(1, 1, 8, 8\), expected \(B, 3, H, W\)"):
        codec.encode(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


def test_names_of_older_versions_are_read(vae: Path, tmp_path: Path) -> None:
    old = shutil.copytree(vae, tmp_path / "old")
    state = load_file(vae / "diffusion_pytorch_model.safetensors")
    renames = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    older = {k: v for k, v in state.items()}
    for new, name in renames.items():
        older = {k.replace(new, name): v for k, v in older.items()}
    assert set(older) != set(state)
    save_file(older, old / "diffusion_pytorch_model.safetensors")
    got = read_vae(old).state_dict()
    assert set(got) == set(state) and all(torch.equal(got[k], state[k]) for k in state)


def test_a_pickled_vae_is_read_as_tensors_only(vae: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vae, tmp_path / "bin")
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="has no weights, expected diffusion_pytorch_model.safetensors"):
        read_vae(folder)
    torch.save(state, folder / "diffusion_pytorch_model.bin")
    assert torch.equal(read_vae(folder).state_dict()["quant_conv.weight"], state["quant_conv.weight"])
    torch.save({**state, "x": Path("evil")}, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(
        ValueError, match="holds a pathlib.* beside its tensors, and objects are never loaded"
    ):
        read_vae(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"_class_name": "VQModel"}, "is a VQModel, expected an AutoencoderKL"),
        ({"shift_factor": 0.1}, r"moves its latents \(shift_factor=0.1\)"),
        ({"latents_mean": [0.1, 0.2, 0.3, 0.4]}, "moves its latents"),
        ({"latent_channels": 3}, "has shape"),
        ({"layers_per_block": 2}, "lacks .*resnets.1"),
        ({"down_block_types": ["NoBlock", "NoBlock"]}, "does not describe a AutoencoderKL"),
    ],
)
def test_autoencoders_that_do_not_fit(
    change: dict[str, Any], message: str, vae: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(vae, tmp_path / "other")
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_vae(folder)


def test_damaged_files(vae: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vae, tmp_path / "cut")
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="it may be cut off"):
        read_vae(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is not readable JSON"):
        read_vae(folder)


def test_where_a_vae_is_looked_for(vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(vae, tmp_path / "pipeline" / "vae")
    assert vae_folder(vae) == vae and vae_folder(tmp_path / "pipeline") == tmp_path / "pipeline" / "vae"
    with pytest.raises(
        ValueError, match="nowhere has no config.json, expected the folder of a diffusers AutoencoderKL"
    ):
        vae_folder(tmp_path / "nowhere")

    def offline(*_: Any, **__: Any) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        ValueError,
        match=r"hf:org/vae could not be fetched \(ConnectionError\); download the folder elsewhere",
    ):
        vae_folder("hf:org/vae")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, **_: str(tmp_path / "pipeline"))
    assert vae_folder("hf:org/vae") == tmp_path / "pipeline" / "vae"
