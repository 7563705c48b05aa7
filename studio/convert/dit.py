"""The family ``dit``: checkpoints in the layout of the original DiT (Peebles & Xie 2212.09748)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from backbones.dit import SIZES
from backbones.encoders import grid_positions
from backbones.originals.dit import original_shapes, original_state
from studio.checkpoints.build import Info
from studio.convert.checkpoint import Held, Weights, check_args, count_classes, read_state, refuse_flow, says
from studio.convert.convert import Imported, class_names, codec_of, factor_of

PUBLISHED = {SIZES[s][:2]: SIZES[s][2] for s in ("S", "B", "L", "XL")}  # (width, depth): heads


def read(
    path: str,
    vae: Any,
    /,
    *,
    num_heads: int | None = None,
    num_classes: int | None = None,
    input_size: int | None = None,
    classes: str | None = None,
    weights: Weights = "auto",
    codec: Literal["auto", "pixels", "vae"] = "auto",
) -> Imported:
    """A .pt that holds a bare state-dict or a dict with ``model``, ``ema`` and ``args`` (the average is
    preferred), or .safetensors.

    Sizes are read from the shapes, heads from the arguments or the published sizes S, B, L, XL. The objective
    is the paper's: 1,000 linear steps, noise, learned range; a file that says otherwise (a SiT's) is refused.
    Sampling is the authors': ancestral steps on evenly spaced entries, guidance 4 on the first three latent
    channels, but 50 steps where they take 250: a learned variance loses little by that (Nichol & Dhariwal
    2102.09672, section 4), and 250 of XL/2 are 119 TFLOP a picture.

    ``num_heads``: for other widths and depths. ``num_classes``: when the label table has no null class.
    ``input_size``: the latents' side. ``classes``: a file of names. ``weights``: ``ema`` and ``raw`` are
    refused where the file has none. ``codec``: by default pixels for 1 or 3 channels without a VAE, otherwise
    latents. Raises ``ValueError``.
    """
    held = read_state(path, weights, "dit")
    refuse_flow(held, "dit")
    net = network(held, vae, codec, num_heads=num_heads, num_classes=num_classes, input_size=input_size)
    learned, names_meta = net.options["learn_sigma"], class_names(net.options["num_classes"], classes)
    doubt = "" if says(held)[0] else "; nothing in the file says so: if it is a flow (SiT), use sit:"
    return Imported(
        name=Path(path).stem,
        tensors=original_state(held.tensors, net.options["depth"]),
        backbone={"name": "dit", **net.options},
        objective={
            "path": {"name": "vp", "schedule": "linear", "num": 1000},
            "parameterization": {"name": "noise", **({"variance": "learned_range"} if learned else {})},
            "cond_drop": 0.1 if net.options["null_class"] else 0.0,
        },
        sample={
            "sampler": f"ddpm(variance={'learned_range' if learned else 'fixed_large'},spacing=linspace)",
            "num_steps": 50,
            "guidance": net.guidance,
        },
        info=Info("image", net.shape, names_meta[0], net.codec),
        vae=vae,
        meta={**names_meta[1], "weights": held.part},
        read_as=f"a DDPM noise predictor{' with learned variance' if learned else ''} on the linear table of "
        f"1000 steps{doubt}{''.join(f'; {n}' for n in held.notes)}",
    )


@dataclass(frozen=True)
class Network:
    """``options`` of our DiT; what it sees."""

    options: dict[str, Any]
    shape: tuple[int, int, int]
    codec: dict[str, Any]
    guidance: str


def network(
    held: Held,
    vae: Any,
    codec: str,
    *,
    num_heads: int | None,
    num_classes: int | None,
    input_size: int | None,
) -> Network:
    """A DiT's sizes from its weights, compared with what the arguments say. Raises ``ValueError``."""
    state = held.tensors
    if "pos_embed" not in state:
        _positions(held, input_size, vae)
    options = original_shapes(state)
    side, patch, tokens = (
        input_size or options["input_size"],
        options["patch_size"],
        state["pos_embed"].shape[1],
    )
    if side % patch or (side // patch) ** 2 != tokens:
        raise ValueError(
            f"pos_embed has {tokens} tokens, which is not the square grid of a side of {side} in patches "
            f"of {patch}; check input_size"
        )
    rows, channels = options["num_classes"] + 1, options["in_channels"]
    count, noted = count_classes(rows, num_classes, held), held.args.get("num_heads")
    heads = (
        num_heads
        or (noted if isinstance(noted, int) else None)
        or PUBLISHED.get((options["hidden_size"], options["depth"]))
    )
    if heads is None:
        raise ValueError(
            f"the weights do not tell their number of heads, and width {options['hidden_size']} with "
            f"depth {options['depth']} is no published size "
            f"({', '.join(f'{s}: {SIZES[s][0]}×{SIZES[s][1]}' for s in ('S', 'B', 'L', 'XL'))}); set it "
            "with --config num_heads=N"
        )
    options |= {"input_size": side, "num_heads": heads, "num_classes": count, "null_class": count < rows}
    spec = codec_of(channels, vae, codec)
    check_args(held, options, factor_of(spec, vae))
    guided = ("cfg(scale=4.0,channels=3)" if channels == 4 else "cfg=4.0") if count < rows else ""
    return Network(options, (channels, side, side), spec, guided)


def _positions(held: Held, side: int | None, vae: Any) -> None:
    """Put in the fixed positions that a checkpoint left out, on the grid that its arguments tell. Raises
    ``ValueError`` where they do not."""
    patches = held.tensors.get("x_embedder.proj.weight")
    if patches is None or patches.ndim != 4:
        return  # another layout, which is told when its sizes are read
    noted = next(
        (held.args[k] for k in ("input_size", "latent_size") if isinstance(held.args.get(k), int)), None
    )
    if noted is None and isinstance(held.args.get("image_size"), int):
        channels = patches.shape[1]
        factor = (
            1 if vae is None and channels in (1, 3) else 8 if vae is None else factor_of({"name": "vae"}, vae)
        )
        noted = held.args["image_size"] // (factor or 8)
    side, patch = side or noted, patches.shape[-1]
    if side is None or side % patch:
        raise ValueError(
            f"{held.path} lacks pos_embed, which is fixed and can be made, but nothing in the file says "
            "for which size; say the side of what the network sees: "
            "--config input_size=32"
        )
    held.tensors["pos_embed"] = grid_positions(patches.shape[0], (side // patch, side // patch))[None].to(
        patches.dtype
    )
