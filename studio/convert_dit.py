"""The family ``dit``: checkpoints in the layout of the original DiT (Peebles & Xie 2212.09748)."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from backbones.convert import original_shapes, original_state
from backbones.dit import SIZES
from studio import foreign
from studio.build import Info
from studio.convert import Imported, class_names, codec_of

PUBLISHED = {SIZES[s][:2]: SIZES[s][2] for s in ("S", "B", "L", "XL")}  # (width, depth): heads


def read(
    path: str, vae: Any, /, *, num_heads: int | None = None, num_classes: int | None = None, input_size: int | None = None, classes: str | None = None,
    weights: Literal["ema", "raw"] = "ema", codec: Literal["auto", "pixels", "vae"] = "auto",
) -> Imported:  # fmt: skip
    """A .pt that holds a bare state-dict or a dict with ``model``, ``ema`` and ``args`` (the average is preferred), or .safetensors.

    Sizes are read from the shapes, heads follow from the published sizes S, B, L, XL. The objective is the paper's: 1,000 linear steps, noise, learned
    range. Sampling is the authors': ancestral steps on evenly spaced entries, guidance 4 on the first three latent channels, but 50 steps where
    they take 250: a learned variance loses little by that (Nichol & Dhariwal 2102.09672, section 4), and 250 of XL/2 are 119 TFLOP a picture.

    ``num_heads``: for other widths and depths. ``num_classes``: when the label table has no null class. ``input_size``: the latents' side. ``classes``: a
    file of names. ``codec``: by default pixels for 1 or 3 channels without a VAE, otherwise latents. Raises ``ValueError``.
    """
    held, state, part = read_state(path, weights)
    options = original_shapes(state)
    side, patch, tokens = input_size or options["input_size"], options["patch_size"], state["pos_embed"].shape[1]
    if side % patch or (side // patch) ** 2 != tokens:
        raise ValueError(f"pos_embed has {tokens} tokens, which is not the square grid of a side of {side} in patches of {patch}; check input_size")
    count, rows = count_classes(options["num_classes"] + 1, num_classes, held.get("args")), options["num_classes"] + 1
    heads = num_heads or PUBLISHED.get((options["hidden_size"], options["depth"]))
    if heads is None:
        raise ValueError(
            f"the weights do not tell their number of heads, and width {options['hidden_size']} with depth {options['depth']} is no published size "
            f"({', '.join(f'{s}: {SIZES[s][0]}×{SIZES[s][1]}' for s in ('S', 'B', 'L', 'XL'))}); set it with --config num_heads=N"
        )
    null, learned, channels = count < rows, options["learn_sigma"], options["in_channels"]
    names, meta = class_names(count, classes)
    return Imported(
        name=Path(path).stem,
        tensors=original_state(state, options["depth"]),
        backbone={"name": "dit", **options, "input_size": side, "num_heads": heads, "num_classes": count, "null_class": null},
        objective={
            "path": {"name": "vp", "schedule": "linear", "num": 1000},
            "parameterization": {"name": "noise", **({"variance": "learned_range"} if learned else {})},
            "cond_drop": 0.1 if null else 0.0,
        },
        sample={
            "sampler": f"ddpm(variance={'learned_range' if learned else 'fixed_large'},spacing=linspace)",
            "num_steps": 50,
            "guidance": ("cfg(scale=4.0,channels=3)" if channels == 4 else "cfg=4.0") if null else "",
        },
        info=Info("image", (channels, side, side), names, codec_of(channels, vae, codec)),
        vae=vae,
        meta={**meta, "weights": part or "state-dict"},
    )


def read_state(path: str, weights: str) -> tuple[Mapping[str, Any], dict[str, Tensor], str | None]:
    """A training script's checkpoint: all it holds, the tensors asked for (a bare state-dict's where it has no parts), and which part they are."""
    held = foreign.read_checkpoint(Path(path), allow=(argparse.Namespace,))
    part = next((k for k in (("ema", "model") if weights == "ema" else ("model", "ema")) if isinstance(held.get(k), Mapping)), None)
    return held, foreign.tensors_of(held[part] if part is not None else held, f"{path}{f' [{part}]' if part else ''}"), part


def count_classes(rows: int, asked: int | None, args: Any) -> int:
    """Classes of a label table: as asked, as the training's arguments say where they fit, otherwise all rows but the null class."""
    noted = getattr(args, "num_classes", None) if isinstance(args, argparse.Namespace) else None
    count = asked if asked is not None else noted if noted in (rows, rows - 1) else rows - 1
    if count not in (rows, rows - 1):
        raise ValueError(f"got num_classes={count}, the label table has {rows} rows; expected {rows - 1} (and a null class) or {rows} (without one)")
    return count
