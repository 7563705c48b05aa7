"""Weights of the original DiS and Diffusion-RWKV. Ours keeps their key names, so only the constructors
differ."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from backbones.dis import DiS
from backbones.originals.dit import load
from backbones.rwkv import DiffusionRWKV

_SHARED = {
    "img_size": "input_size",
    "patch_size": "patch_size",
    "channels": "in_channels",
    "embed_dim": "hidden_size",
    "depth": "depth",
    "learn_sigma": "learn_sigma",
}
_WITHOUT_EFFECT = {
    "drop_rate",
    "conv",
    "if_cls_token",
    "class_dropout_prob",
    "init_values",
    "init_mode",
    "shift_mode",
    "channel_gamma",
    "shift_pixel",
    "with_cp",
    "hidden_rate",
    "dtype",
    "device",
}
_DEFAULTS = {"img_size": 224, "patch_size": 16, "channels": 3, "num_classes": -1, "learn_sigma": False}


def _options(config: Mapping[str, Any], own: Mapping[str, str], family: str) -> dict[str, Any]:
    """Our constructor's options from the original's arguments. Raises ``ValueError`` for an argument that it
    does not have, or a width or depth that is missing."""
    known = {**_SHARED, **own}
    unknown = set(config) - set(known) - _WITHOUT_EFFECT - {"num_classes"}
    if unknown:
        raise ValueError(
            f"got the unknown {family} arguments {sorted(unknown)}, expected "
            f"{', '.join([*known, 'num_classes'])}"
        )
    given = {**_DEFAULTS, **config}
    missing = [k for k in ("embed_dim", "depth") if k not in given]
    if missing:
        raise ValueError(f"the {family} config lacks {', '.join(missing)}; set it")
    size = given["img_size"]
    made = {ours: given[theirs] for theirs, ours in known.items() if theirs in given}
    return {
        **made,
        "input_size": tuple(size) if isinstance(size, list | tuple) else size,
        "num_classes": max(int(given["num_classes"] or 0), 0),
    }


def dis_from_original(
    state_dict: Mapping[str, Tensor], config: Mapping[str, Any], compat: bool = True
) -> DiS:
    """Original DiS constructor arguments and state-dict to our module in eval mode. ``compat`` changes
    nothing in the function: only our initialisation differs."""
    options = _options(config, {"rms_norm": "rms_norm", "drop_path_rate": "drop_path"}, "DiS")
    null = _has_null(state_dict, options["num_classes"])
    net = DiS(**{"rms_norm": True, **options}, null_class=null, original_init=compat)
    return load(net, state_dict, f"DiS {options}")


def rwkv_from_original(
    state_dict: Mapping[str, Tensor], config: Mapping[str, Any], compat: bool = True
) -> DiffusionRWKV:
    """Original Diffusion-RWKV constructor arguments and state-dict to our module in eval mode. ``compat``:
    the released kernel's WKV, which its weights were trained with; otherwise the paper's."""
    options = _options(
        config,
        {"key_norm": "key_norm", "post_norm": "post_norm", "drop_path_rate": "drop_path"},
        "Diffusion-RWKV",
    )
    null = _has_null(state_dict, options["num_classes"])
    net = DiffusionRWKV(**options, null_class=null, wkv="kernel" if compat else "paper")
    return load(net, state_dict, f"Diffusion-RWKV {options}")


def _has_null(state_dict: Mapping[str, Tensor], classes: int) -> bool:
    table = state_dict.get("label_emb.embedding_table.weight")
    return table is None or len(table) != classes
