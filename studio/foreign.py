"""What other programs wrote: checkpoint files, modules of diffusers, repositories on the hub. Tensors and plain values only, whatever the file.

A ``.pt`` or ``.bin`` is read by torch's restricted unpickler, which knows no classes but those named in ``allow``.
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

from studio import files

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")


def read_checkpoint(path: Path, allow: Sequence[type] = ()) -> dict[str, Any]:
    """A .safetensors file, or the dict in a .pt, .pth, .bin or .ckpt. Raises ``ValueError`` for a file that is missing, cut off or holds objects of
    other classes than ``allow``."""
    if not path.is_file():
        raise ValueError(f"{path} is not there, expected a file of weights (.safetensors or {', '.join(PICKLED)}); check the path")
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
            raise ValueError(f"{path} is not a readable checkpoint; it may be cut off: fetch it again") from None
        raise ValueError(
            f"{path} holds a {found[1]} beside its tensors, and objects are never loaded from a file; keep the state-dict alone: "
            "where the file was made, torch.save(checkpoint['ema'], 'weights.pt')"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable checkpoint ({str(error).splitlines()[0][:120]}); it may be cut off: fetch it again") from None
    if not isinstance(held, Mapping):
        raise ValueError(f"{path} holds a {type(held).__name__}, expected a state-dict or a dict that holds one")
    return dict(held)


def tensors_of(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """A state-dict without the prefixes of parallel and compiled wrappers. Raises ``ValueError`` where something in it is not a tensor."""
    odd = next((k for k, v in state.items() if not isinstance(v, Tensor)), None)
    if odd is not None or not state:
        raise ValueError(f"{where} is no state-dict of tensors ({f'it holds {odd!r}' if odd is not None else 'it is empty'})")
    tensors = dict(state)
    for prefix in ("module.", "_orig_mod."):
        if all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ``ValueError`` for a file that is missing or something else."""
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not readable JSON ({str(error).splitlines()[0]}); fetch the folder again") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {type(tree).__name__}, expected a JSON object")
    return tree


def read_module(kind: Any, folder: Path, *, meta: bool = False, renamed: Mapping[str, str] | None = None) -> nn.Module:
    """A module that diffusers saved: ``config.json`` beside the weights, in eval mode, every key accounted for.

    ``meta``: take the tensors as they are stored, for modules that hold nothing beside them. ``renamed``: parts of keys of older versions. Keys of
    the config that the class does not take are left out, as diffusers does. Raises ``ValueError`` for anything that is missing or does not fit.
    """
    config = read_json(folder / "config.json")
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} has no weights, expected {WEIGHTS[0]} beside config.json; fetch the folder again")
    state = tensors_of(read_checkpoint(path), str(path))
    for old, new in (renamed or {}).items():
        state = {k.replace(old, new): v for k, v in state.items()}
    takes = inspect.signature(kind.__init__).parameters
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in takes}
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
            module = kind(**options)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{folder / 'config.json'} does not describe a {kind.__name__} ({error})") from None
    own = module.state_dict()
    for key in own:
        if key not in state:
            raise ValueError(f"{path} lacks {key}, expected the weights of a {kind.__name__}; check the folder")
        if state[key].shape != own[key].shape:
            raise ValueError(f"{path}: {key} has shape {tuple(state[key].shape)}, config.json expects {tuple(own[key].shape)}")
    unexpected = sorted(set(state) - set(own))
    if unexpected:
        raise ValueError(f"{path} holds {unexpected[0]}, which a {kind.__name__} does not have; check the folder")
    module.load_state_dict(state, assign=meta)
    return module.eval().requires_grad_(False)


def fetch(repo: str, patterns: Sequence[str]) -> Path:
    """The folder of a repository on the hub, with .bin files only where a module has no others. Raises ``ValueError`` where it cannot be reached."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, allow_patterns=list(patterns), ignore_patterns=["*.bin"]))
        bare = [p for p in folder.rglob("config.json") if not any(p.parent.glob("*.safetensors"))]
        return Path(snapshot_download(repo, allow_patterns=list(patterns))) if bare else folder
    except Exception as error:
        raise ValueError(f"hf:{repo} could not be fetched ({type(error).__name__}); download the folder elsewhere and give its path") from None
