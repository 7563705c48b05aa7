"""A training script's checkpoint: which of its weights are taken, what its arguments say, and whether the two
agree.

``.pt`` files hold ``model``, ``ema`` and ``args`` (an `argparse.Namespace` or a mapping, perhaps nested), or
a bare state-dict; ``.safetensors`` the latter. What is said by the file (arguments first, then its name) is
never read as something else: `refuse` names the family that reads it.
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from backbones.dit import SIZES
from backbones.wrapped import MARKS, parts_of
from studio.runtime import pretrained

Weights = Literal["auto", "ema", "raw"]
PARTS = {"auto": ("ema", "model", "state-dict"), "ema": ("ema",), "raw": ("model",)}
ARGS = ("args", "config", "hyper_parameters", "hparams", "cfg")
FLOW = ("path_type", "train_eps", "sample_eps")  # arguments that only trainings of flows have
NOISE = ("noise", "eps", "epsilon")
FACTORS = (2, 4, 8, 16, 32)  # pixels a side of a latent, where the VAE is not at hand
# arguments of a noise model's training, and what they are where it was on the linear table of 1,000 steps
LINEAR = {
    "noise_schedule": ("linear",),
    "beta_schedule": ("linear",),
    "diffusion_steps": (1000,),
    "num_train_timesteps": (1000,),
    "predict_xstart": (False,),
    "predict_x0": (False,),
    "predict_v": (False,),
    "prediction": NOISE,
    "prediction_type": NOISE,
    "rescale_betas_zero_snr": (False,),
    "zero_snr": (False,),
}


@dataclass(frozen=True)
class Held:
    """``part``: what the tensors are: ``ema``, ``model`` or a bare ``state-dict``; ``args``: the file's plain
    values by their last name; ``notes``: where the tensors were found, and what was left out beside them."""

    path: str
    tensors: dict[str, Tensor]
    part: str
    args: dict[str, Any]
    notes: tuple[str, ...] = ()


def read_state(path: str, weights: Weights, family: str) -> Held:
    """The tensors asked for (``auto``: the average where there is one), without wrappers and containers
    (`backbones.wrapped`), and the arguments. Raises ``ValueError`` naming what there is for weights that are
    not in the file, which a bare state-dict cannot tell."""
    raw = pretrained.read_checkpoint(Path(path), allow=(argparse.Namespace,))
    try:
        parts, rest = parts_of(raw, MARKS[family])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    told = {k: v for k, v in raw.items() if k in ARGS or isinstance(v, str | bool | int | float)}
    args = dict(_plain(told))
    if not parts:  # none of this family: what is missing is named when its sizes are read
        inner = next((raw[k] for k in ("ema", "model", "state_dict") if isinstance(raw.get(k), Mapping)), raw)
        return Held(path, pretrained.tensors_of(inner, path), "state-dict", args)
    there = list(dict.fromkeys(p.name for p in parts))
    kind = next((k for k in PARTS[weights] if k in there), None)
    if kind is None:
        has = (
            "is a bare state-dict, which does not say whether it is an average"
            if there == ["state-dict"]
            else f"has {' and '.join(there)} only"
        )
        raise ValueError(
            f"got weights={weights}, expected weights that are there: {path} {has}; leave weights out to "
            "take them"
        )
    chosen = [p for p in parts if p.name == kind]
    if len(chosen) > 1:
        places = ", ".join(p.prefix.rstrip(".") or "the file itself" for p in chosen)
        raise ValueError(
            f"{path} holds {len(chosen)} networks of which each could be meant ({places}), expected one; "
            "keep its state-dict alone in a file"
        )
    part = chosen[0]
    known = ("", "ema.", "model.", "state_dict.")
    notes = [f"found in {part.prefix.rstrip('.')}"] if part.prefix not in known else []
    notes += [f"left out beside them: {', '.join(rest[:8])}"] if rest else []
    tensors = dict(part.tensors)
    for other in parts:  # averages often leave out what is fixed
        if other is not part and "pos_embed" not in tensors and "pos_embed" in other.tensors:
            tensors["pos_embed"] = other.tensors["pos_embed"]
    return Held(path, tensors, kind, args, tuple(notes))


def _plain(tree: Any) -> Iterator[tuple[str, Any]]:
    """Plain values by their last name, deepest first, so that outer ones win."""
    items = list((vars(tree) if isinstance(tree, argparse.Namespace) else tree).items())
    for _, value in items:
        if isinstance(value, Mapping | argparse.Namespace):
            yield from _plain(value)
    for key, value in items:
        if value is None or isinstance(value, str | bool | int | float):
            yield str(key).replace("-", "_"), value


def says(held: Held) -> tuple[str, str]:
    """What the file says it is, ``sit`` (a flow) or ``dit``, and where it says so; two empty strings where it
    does not."""
    told = next((k for k in FLOW if held.args.get(k) is not None), None)
    if told is None and str(held.args.get("prediction")).lower() in ("velocity", "score"):
        told = "prediction"
    if told is not None:
        return "sit", f"its arguments have {told}={held.args[told]}"
    model = str(held.args.get("model", "")).lower()
    words = re.split("[^a-z0-9]+", Path(held.path).stem.lower())
    for family in ("sit", "dit"):
        if model.startswith(family):
            return family, f"its arguments have model={held.args['model']}"
    return next(
        ((f, "its name does; rename it if it is none") for f in ("sit", "dit") if f in words), ("", "")
    )


def refuse_flow(held: Held, family: str) -> None:
    """Raise ``ValueError`` for a flow where ``family`` reads noise models, and for another table or target
    than the one that it reads."""
    said, where = says(held)
    if said == "sit":
        way = f"read it as sit:{held.path}" if family == "dit" else "a flow of this network cannot be read"
        raise ValueError(
            f"got {family}:{held.path}, expected a noise model: the file says that it is a flow (SiT; "
            f"{where}); {way}"
        )
    for key, known in LINEAR.items():
        if held.args.get(key) is not None and held.args[key] not in known:
            raise ValueError(
                f"{held.path}: its arguments say {key}={held.args[key]}, {family}: reads noise models on "
                f"the linear table of 1000 steps ({key}={known[0]}); "
                "keep its state-dict alone and say what it is: --config objective.path.schedule=..., "
                "--config objective.parameterization.name=..."
            )


def check_args(held: Held, read: Mapping[str, Any], factor: int | None) -> None:
    """Compare the arguments with what the weights tell: ``read`` has constructor options of the network.
    ``factor``: pixels a side of what the network sees (1: it sees pixels), None where the VAE is not at hand.
    Raises ``ValueError`` for arguments of another network."""
    args, expected = held.args, dict(read)
    named = re.fullmatch(r"[a-z]it[-_]([a-z]+)[/_-](\d+)", str(args.get("model", "")), re.IGNORECASE)
    size = next((s for s in SIZES if named and s.lower() == named[1].lower()), None)
    if named and size is not None:
        of_name = {
            **dict(zip(("hidden_size", "depth", "num_heads"), SIZES[size])),
            "patch_size": int(named[2]),
        }
        for key, value in of_name.items():
            if key in expected and expected[key] != value:
                raise _clash(held, f"model={args['model']} ({key} {value})", f"{key} {expected[key]}")
    if "class_dropout_prob" in args and "null_class" in expected:
        args = {**args, "null_class": float(args["class_dropout_prob"] or 0) > 0}
    expected["latent_size"] = expected.get("input_size")
    for key, value in expected.items():
        if args.get(key) is not None and value is not None and args[key] != value:
            told = (
                f"class_dropout_prob={args['class_dropout_prob']}"
                if key == "null_class" and key not in held.args
                else f"{key}={args[key]}"
            )
            raise _clash(held, told, f"{key} {value}")
    side, asked = expected.get("input_size"), args.get("image_size")
    if (
        isinstance(side, int)
        and isinstance(asked, int)
        and asked not in [side * f for f in ((factor,) if factor else FACTORS)]
    ):
        sees = (
            "pixels"
            if factor == 1
            else f"latents of a VAE that takes {factor} pixels a side"
            if factor
            else "latents"
        )
        raise _clash(held, f"image_size={asked}", f"a side of {side} in {sees}")


def _clash(held: Held, said: str, found: str) -> ValueError:
    return ValueError(
        f"{held.path}: its arguments say {said}, its weights have {found}; the two contradict each other. "
        "Give the checkpoint that belongs together, or keep its "
        "state-dict alone in a file"
    )


def count_classes(rows: int, asked: int | None, held: Held) -> int:
    """Classes of a label table of ``rows``: as asked, as the arguments say, otherwise all rows but the null
    class. Raises ``ValueError`` where they differ or do not fit."""
    noted = held.args.get("num_classes")
    if not isinstance(noted, int):
        noted = rows if held.args.get("class_dropout_prob") == 0 else None
    count = next((n for n in (asked, noted) if n is not None), rows - 1)
    if count not in (rows, rows - 1):
        whose = "got" if asked is not None else f"{held.path}: its arguments say"
        raise ValueError(
            f"{whose} num_classes={count}, the label table has {rows} rows; expected {rows - 1} (and a "
            f"null class) or {rows} (without one)"
        )
    if asked is not None and noted is not None and asked != noted:
        raise ValueError(
            f"got num_classes={asked}, the arguments of {held.path} say {noted}; expected them to agree, "
            "leave num_classes out"
        )
    return count
