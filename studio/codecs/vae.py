"""Pictures ↔ the latents of a diffusers ``AutoencoderKL`` (Rombach et al. 2112.10752).

    encode: latent = scale · E[q(z | picture)];   decode: picture = D(latent / scale)

The VAE lies in the model's folder, ``RUN/codec/{config.json, diffusion_pytorch_model.safetensors}``, and is
read when it is first needed, so a model whose VAE is missing can still be loaded and looked at. Pictures pass
one by one: a sample's bytes do not depend on those beside it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.codecs.codec import FromNoise
from studio.runtime import files, pretrained
from studio.runtime.finite import check_decoded

FOLDER, VARIABLE, SCALE = "codec", "STUDIO_VAE", 0.18215
# of diffusers before 0.15
_OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def check_vae(config: dict[str, Any], where: Path) -> None:
    """Raises ``ValueError`` for an autoencoder that one factor does not describe."""
    if config.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        raise ValueError(f"{where} is a {config['_class_name']}, expected an AutoencoderKL")
    for key in ("shift_factor", "latents_mean", "latents_std"):
        if config.get(key):
            raise ValueError(
                f"the VAE in {where} moves its latents ({key}={config[key]}), expected one that only "
                "scales them"
            )


def vae_folder(name: str | Path) -> Path:
    """The folder of a VAE by name: itself, the ``vae/`` of a pipeline, or ``hf:org/name``. Raises
    ``ValueError`` when there is none."""
    text = str(name)
    if text.startswith("hf:"):
        folder = pretrained.fetch(
            text.removeprefix("hf:"), ["config.json", "diffusion_pytorch_model*", "vae/*"]
        )
    else:
        folder = Path(text).expanduser()
    for place in (folder, folder / "vae"):
        if (place / "config.json").is_file():
            return place
    raise ValueError(
        f"{folder} has no config.json, expected the folder of a diffusers AutoencoderKL (config.json "
        f"beside {pretrained.WEIGHTS[0]})"
    )


def read_vae(folder: Path) -> Any:
    """The ``AutoencoderKL`` of a folder, in eval mode, weights as they are stored."""
    from diffusers import AutoencoderKL

    check_vae(pretrained.read_json(folder / "config.json"), folder)
    return pretrained.read_module(AutoencoderKL, folder, meta=True, renamed=_OLD_NAMES)


class VAECodec(FromNoise):
    """uint8 (B, 3, H, W) ↔ float32 (B, C, H/f, W/f). ``folder``: the VAE's; where it is not there, that of
    ``$STUDIO_VAE``. ``scale``: by default the VAE's own ``scaling_factor``."""

    name, bound, pictures = "vae", None, True

    def __init__(self, *, folder: str = FOLDER, scale: float | None = None):
        self.folder, self._scale = Path(folder), scale
        self._vae: Any = None

    def home(self) -> Path:
        """Where the VAE is. Raises ``ValueError`` that says where to put it."""
        places = [
            self.folder,
            *([Path(os.environ[VARIABLE]).expanduser()] if os.environ.get(VARIABLE) else []),
        ]
        for place in places:
            if (place / "config.json").is_file():
                return place
        raise ValueError(
            f"this model works in the latents of a VAE, which is not in {' or '.join(map(str, places))}; "
            "put a diffusers AutoencoderKL there "
            f"(config.json and {pretrained.WEIGHTS[0]}), name one with {VARIABLE}=DIR, or convert the "
            "model again with --vae DIR"
        )

    def config(self) -> dict[str, Any]:
        where = self.home()
        config = pretrained.read_json(where / "config.json")
        check_vae(config, where)
        return config

    @property
    def scale(self) -> float:
        return float(self.config().get("scaling_factor", SCALE)) if self._scale is None else self._scale

    def decoded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, H, W) of the picture of a latent of ``shape``."""
        config = self.config()
        factor = 2 ** (len(config.get("block_out_channels", (64,))) - 1)
        return (int(config.get("out_channels", 3)), *(side * factor for side in shape[1:]))

    def vae(self, device: torch.device) -> Any:
        """The autoencoder in float32 on a device."""
        if self._vae is None:
            self._vae = read_vae(self.home()).float()
        return self._vae.to(device)

    def encode(self, data: Tensor) -> Tensor:
        vae = self.vae(data.device)
        if data.ndim != 4 or data.shape[1] != vae.config.in_channels:
            raise ValueError(
                f"got pictures of shape {tuple(data.shape)}, expected (B, {vae.config.in_channels}, H, W)"
            )
        return self._each(lambda x: vae.encode(x / 127.5 - 1).latent_dist.mode() * self.scale, data)

    def decode(self, x: Tensor) -> Tensor:
        vae = self.vae(x.device)
        if x.ndim != 4 or x.shape[1] != vae.config.latent_channels:
            raise ValueError(
                f"got latents of shape {tuple(x.shape)}, this VAE's are (B, {vae.config.latent_channels}, "
                "H, W); use the model's own VAE"
            )
        pictures = check_decoded(
            self._each(lambda z: vae.decode(z / self.scale).sample, x), "the VAE's decoder"
        )
        return ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def apart(self, other: Any, mine: str, theirs: str) -> str:
        if abs(self.scale - other.scale) > 1e-6 * abs(self.scale):
            return (
                f"{theirs} scales its latents by {other.scale:g}, {mine} by {self.scale:g}; choose a model "
                "of the same latent scale"
            )
        if self.digest() != other.digest():
            return f"{theirs} and {mine} have different VAEs; choose a model in the same latent space"
        return ""

    def digest(self) -> list[str]:
        """Of the files of its weights."""
        return [files.sha256(p) for p in sorted(self.home().glob("*.safetensors"))]

    def _each(self, fn: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            return torch.cat([fn(v[None].float()) for v in values])
