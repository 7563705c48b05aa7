"""The families ``dis`` and ``rwkv``: checkpoints in the layout of the original DiS (2402.05608) and
Diffusion-RWKV (2404.04478)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from studio.checkpoints.build import Info
from studio.convert.checkpoint import Held, Weights, check_args, count_classes, read_state, refuse_flow
from studio.convert.convert import Imported, class_names, codec_of, factor_of

Codec = Literal["auto", "pixels", "vae"]


def read_dis(
    path: str,
    vae: Any,
    /,
    *,
    input_size: int | None = None,
    num_classes: int | None = None,
    classes: str | None = None,
    weights: Weights = "auto",
    codec: Codec = "auto",
) -> Imported:
    """A .pt with ``ema`` and ``model``, a bare state-dict, or .safetensors. Sizes are read from the shapes;
    the grid is taken to be square unless ``input_size`` says otherwise. ``num_classes``: when the label table
    has no null class. Raises ``ValueError``."""
    held = read_state(path, weights, "dis")
    refuse_flow(held, "dis")
    state = held.tensors
    options = _shapes(
        state,
        "DiS",
        extras=2 if "label_emb.embedding_table.weight" in state else 1,
        mark="in_blocks.0.mixer.A_log",
        side=input_size,
    )
    options |= {"depth": 2 * _blocks(state), "rms_norm": "norm_f.bias" not in state}
    return _imported(held, {"name": "dis", **options}, num_classes, classes, vae, codec)


def read_rwkv(
    path: str,
    vae: Any,
    /,
    *,
    input_size: int | None = None,
    num_classes: int | None = None,
    classes: str | None = None,
    post_norm: bool = False,
    wkv: Literal["kernel", "paper"] = "kernel",
    weights: Weights = "auto",
    codec: Codec = "auto",
) -> Imported:
    """As `read_dis`. ``wkv``: released weights were trained with the kernel's form; ``post_norm`` cannot be
    seen in the shapes."""
    held = read_state(path, weights, "rwkv")
    refuse_flow(held, "rwkv")
    state = held.tensors
    options = _shapes(
        state, "Diffusion-RWKV", extras=0, mark="in_blocks.0.att.spatial_decay", side=input_size
    )
    options |= {
        "depth": 2 * _blocks(state) + 1,
        "key_norm": "in_blocks.0.att.key_norm.weight" in state,
        "post_norm": post_norm,
        "wkv": wkv,
    }
    return _imported(held, {"name": "rwkv", **options}, num_classes, classes, vae, codec)


def _blocks(state: Mapping[str, Tensor]) -> int:
    return len({k.split(".")[1] for k in state if k.startswith("in_blocks.")})


def _shapes(
    state: Mapping[str, Tensor], family: str, *, extras: int, mark: str, side: int | None
) -> dict[str, Any]:
    """Options that the shapes tell. Raises ``ValueError`` naming what is missing."""
    for key in (mark, "patch_embed.proj.weight", "pos_embed", "final_layer.linear.weight"):
        if key not in state:
            raise ValueError(f"the weights lack {key}, expected a {family} in its original layout")
    width, channels, patch, _ = state["patch_embed.proj.weight"].shape
    tokens, out = state["pos_embed"].shape[1] - extras, state["final_layer.linear.weight"].shape[0]
    side = side or patch * math.isqrt(max(tokens, 0))
    if side % patch or (side // patch) ** 2 != tokens:
        raise ValueError(
            f"pos_embed has {tokens} tokens, which is not the square grid of a side of {side} in patches "
            f"of {patch}; check input_size"
        )
    if out not in (patch * patch * channels, 2 * patch * patch * channels):
        raise ValueError(
            f"final_layer.linear.weight has {out} rows, expected {patch * patch * channels} for "
            f"{channels} channels, or twice as many"
        )
    return {
        "input_size": side,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "learn_sigma": out != patch * patch * channels,
    }


def _imported(
    held: Held, backbone: dict[str, Any], asked: int | None, classes: str | None, vae: Any, codec: str
) -> Imported:
    """The authors' objective and sampling: 1,000 linear steps, noise; ancestral steps, guidance 1.5 on the
    first three channels, 50 steps."""
    table = held.tensors.get("label_emb.embedding_table.weight")
    rows = 0 if table is None else len(table)
    count = 0 if table is None else count_classes(rows, asked, held)
    null, learned, channels, side = (
        rows > count,
        backbone["learn_sigma"],
        backbone["in_channels"],
        backbone["input_size"],
    )
    names, meta = class_names(count, classes) if count else ((), {})
    backbone |= {"num_classes": count, "null_class": null or not count}
    spec = codec_of(channels, vae, codec)
    check_args(held, {k: v for k, v in backbone.items() if k != "null_class" or count}, factor_of(spec, vae))
    return Imported(
        name=Path(held.path).stem,
        tensors=held.tensors,
        backbone=backbone,
        objective={
            "path": {"name": "vp", "schedule": "linear", "num": 1000},
            "parameterization": {"name": "noise", **({"variance": "learned_range"} if learned else {})},
            "cond_drop": 0.1 if null else 0.0,
        },
        sample={
            "sampler": f"ddpm(variance={'learned_range' if learned else 'fixed_large'},spacing=linspace)",
            "num_steps": 50,
            "guidance": ("cfg(scale=1.5,channels=3)" if channels > 3 else "cfg=1.5") if null else "",
        },
        info=Info("image", (channels, side, side), names, spec),
        vae=vae,
        meta={**meta, "weights": held.part},
        read_as=f"a DDPM noise predictor{' with learned variance' if learned else ''} on the linear table of "
        f"1000 steps{''.join(f'; {n}' for n in held.notes)}",
    )
