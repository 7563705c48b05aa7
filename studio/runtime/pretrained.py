"""What other programs wrote: checkpoint files, modules of diffusers, repositories on the hub. Tensors and
plain values only, whatever the file.

A ``.pt`` or ``.bin`` is read by torch's restricted unpickler, which knows no classes but those named in
``allow``.
"""

import inspect
import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.wrapped import parts_of
from studio.runtime import files

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
WEIGHTS = ("diffusion_pytorch_model.safetensors",)  # what it is called where there is one
MODULE = re.compile(r"diffusion_pytorch_model(?:\.(\w+))?(?:-(\d+)-of-(\d+))?\.(safetensors|bin)")


def read_checkpoint(path: Path, allow: Sequence[type] = ()) -> dict[str, Any]:
    """A .safetensors file, or the dict in a .pt, .pth, .bin or .ckpt. Raises ``ValueError`` for a file that
    is missing, cut off or holds objects of other classes than ``allow``."""
    if not path.is_file():
        raise ValueError(
            f"{path} is not there, expected a file of weights (.safetensors or {', '.join(PICKLED)}); "
            "check the path"
        )
    if path.suffix == ".safetensors":
        return dict(files.load_tensors(path))
    if path.suffix not in PICKLED:
        raise ValueError(f"got {path}, expected a file of weights: .safetensors or {', '.join(PICKLED)}")
    try:
        with torch.serialization.safe_globals(list(allow)):
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise ValueError(
                f"{path} is not a readable checkpoint; it may be cut off: fetch it again"
            ) from None
        raise ValueError(
            f"{path} holds a {found[1]} beside its tensors, and objects are never loaded from a file; "
            "keep the state-dict alone: "
            "where the file was made, torch.save(checkpoint['ema'], 'weights.pt')"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not a readable checkpoint ({str(error).splitlines()[0][:120]}); it may be cut "
            "off: fetch it again"
        ) from None
    if not isinstance(held, Mapping):
        raise ValueError(
            f"{path} holds a {type(held).__name__}, expected a state-dict or a dict that holds one"
        )
    return dict(held)


def tensors_of(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """A state-dict. Raises ``ValueError`` where something in it is not a tensor."""
    odd = next((k for k, v in state.items() if not isinstance(v, Tensor)), None)
    if odd is not None or not state:
        raise ValueError(
            f"{where} is no state-dict of tensors "
            f"({f'it holds {odd!r}' if odd is not None else 'it is empty'})"
        )
    return dict(state)


def module_files(folder: Path) -> list[Path]:
    """The files of a module's weights in a folder of diffusers: one, or all shards of one set. The plain set
    goes first, then those of other precisions, then ``non_ema``; safetensors before ``.bin``. Raises
    ``ValueError`` for a folder without weights, and for shards that are missing."""
    sets: dict[tuple[bool, str], dict[int, tuple[int, Path]]] = {}
    for path in sorted(folder.iterdir()):
        if match := MODULE.fullmatch(path.name):
            variant, number, of, kind = match.groups()
            sets.setdefault((kind == "bin", variant or ""), {})[int(number or 1)] = (int(of or 1), path)
    if not sets:
        raise ValueError(
            f"{folder} has no weights, expected {WEIGHTS[0]} beside config.json; fetch the folder again"
        )
    rank = {"": 0, "bf16": 1, "fp16": 2, "non_ema": 9}
    (_, variant), shards = min(sets.items(), key=lambda item: (rank.get(item[0][1], 5), item[0][0]))
    count = max(of for of, _ in shards.values())
    lost = [n for n in range(1, count + 1) if n not in shards]
    if lost:
        there = next(iter(shards.values()))[1].name
        raise ValueError(
            f"{folder} lacks part {lost[0]} of {count} of its weights ({there} is there); fetch the "
            "folder again"
        )
    return [shards[n][1] for n in sorted(shards)]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ``ValueError`` for a file that is missing or something else."""
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not readable JSON ({str(error).splitlines()[0]}); fetch the folder again"
        ) from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {type(tree).__name__}, expected a JSON object")
    return tree


def read_module(
    kind: Any, folder: Path, *, meta: bool = False, renamed: Mapping[str, str] | None = None
) -> nn.Module:
    """A module that diffusers saved: ``config.json`` beside the weights, in eval mode, every key accounted
    for.

    Tensors are as they are stored. ``meta``: for modules that hold nothing beside them. ``renamed``: parts of
    keys of older versions. Keys of the config that the class does not take are left out, as diffusers does.
    Raises ``ValueError`` for anything that is missing or does not fit.
    """
    config = read_json(folder / "config.json")
    found = module_files(folder)
    path = found[0]
    state = {k: v for part in found for k, v in tensors_of(read_checkpoint(part), str(part)).items()}
    takes = inspect.signature(kind.__init__).parameters
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in takes}
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
            module = kind(**options)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{folder / 'config.json'} does not describe a {kind.__name__} ({error})") from None
    parts, _ = parts_of(state, (next(iter(dict(module.named_parameters()))),))
    state = parts[0].tensors if len(parts) == 1 else state
    for old, new in (renamed or {}).items():
        state = {k.replace(old, new): v for k, v in state.items()}
    own = module.state_dict()
    fixed = dict(module.named_buffers())
    if not meta:  # what a config alone gives, such as positions, is the module's own
        state = {**{k: v for k, v in own.items() if k in fixed and k not in state}, **state}
    for key in own:
        if key not in state:
            raise ValueError(
                f"{path} lacks {key}, expected the weights of a {kind.__name__}; check the folder"
            )
        if state[key].shape != own[key].shape:
            raise ValueError(
                f"{path}: {key} has shape {tuple(state[key].shape)}, config.json expects "
                f"{tuple(own[key].shape)}"
            )
    unexpected = sorted(set(state) - set(own))
    if unexpected:
        raise ValueError(
            f"{path} holds {unexpected[0]}, which a {kind.__name__} does not have; check the folder"
        )
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def fetch(repo: str, patterns: Sequence[str]) -> Path:
    """The folder of a repository on the hub, with .bin files only where a module has no others. Raises
    ``ValueError`` where it cannot be reached."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, allow_patterns=list(patterns), ignore_patterns=["*.bin"]))
        bare = [p for p in folder.rglob("config.json") if not any(p.parent.glob("*.safetensors"))]
        return Path(snapshot_download(repo, allow_patterns=list(patterns))) if bare else folder
    except Exception as error:
        raise ValueError(
            f"hf:{repo} could not be fetched ({type(error).__name__}); download the folder elsewhere and "
            "give its path"
        ) from None
