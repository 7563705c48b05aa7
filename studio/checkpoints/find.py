"""Finding models and the files that hold their weights, without loading any.

MODEL is a folder (a run or an export), ``RUN@step``, ``hf:org/name`` or the name of a bundled model.
Everything here reads YAML, JSON and file names, but for `read_weights`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from torch import Tensor

from backbones.registry import suggest
from studio.checkpoints import checkpoint, repair
from studio.checkpoints.build import Info
from studio.config import load_config
from studio.runtime import files, pretrained

FIRST = "fashion-dit"
HUB = ("config.yaml", "meta.json", "*.safetensors", "codec/*")  # what a model on the hub consists of


def bundled() -> list[str]:
    """Names of the models that come with the package, the one to begin with first."""
    shelf = resources.files("studio") / "bundled" / "models"
    names = sorted(p.name for p in shelf.iterdir() if (p / "config.yaml").is_file()) if shelf.is_dir() else []
    return sorted(names, key=lambda name: name != FIRST)


def _folder_of(path: str) -> Path | None:
    """The folder of a model by its name without a step."""
    shelf = [Path(str(resources.files("studio") / "bundled" / "models" / path))] if path in bundled() else []
    places = [Path(path).expanduser(), *shelf, Path("runs") / path]
    return next((p for p in places if (p / "config.yaml").is_file()), None)


def parted(name: str | Path) -> tuple[str, int | None]:
    """A MODEL's name and the step asked for. ``@`` may be part of a folder's name: what is there by its whole
    name is meant as a whole."""
    text = str(name)
    start, _, end = text.rpartition("@")
    if (
        not start
        or not (end.isascii() and end.isdigit())
        or text.startswith("hf:")
        or _folder_of(text) is not None
    ):
        return text, None
    return start, int(end)


def locate(name: str | Path) -> tuple[Path, int | None]:
    """The folder of a MODEL and the step asked for. Raises ``ValueError`` with the names there are."""
    text = str(name)
    if text.startswith("hf:"):
        return pretrained.fetch(text.removeprefix("hf:"), HUB), None
    path, step = parted(text)
    folder = _folder_of(path)
    if folder is not None:
        return folder, step
    start, _, end = text.rpartition("@")
    if start and _folder_of(start) is not None:
        raise ValueError(f"got model {text!r}, expected {start}@step with a whole number, not {end!r}")
    if Path(path).suffix in (".pt", ".pth", ".ckpt", ".pkl", ".bin"):
        raise ValueError(
            f"got {path}, a pickle, which is never loaded; models are folders with config.yaml and "
            "safetensors"
        )
    if Path(path).is_dir():
        raise ValueError(f"{path} has no config.yaml, expected a run or an exported model")
    raise ValueError(
        f"got model {text!r}, expected a folder, RUN@step, hf:org/name or a bundled model "
        f"({', '.join(bundled()) or 'none'}){suggest(text, bundled())}"
    )


def is_listed(name: str, roots: Sequence[str | Path]) -> bool:
    """Whether a MODEL is bundled or lies in one of the folders, as `list_models` finds them; looks at nothing
    but whether its folder is there."""
    if not name or len(name) > 1000 or name.startswith("hf:"):
        return False
    homes = {Path(str(resources.files("studio"))) / "bundled" / "models", *(Path(root) for root in roots)}
    try:
        folder = _folder_of(parted(name)[0])
        if folder is None or folder.name in ("", ".."):
            return False
        return folder.parent.resolve() in {home.resolve() for home in homes}
    except (OSError, RuntimeError, ValueError):  # no name of a file, or of nobody's home
        return False


@dataclass(frozen=True)
class Card:
    """What the picker shows of a model without loading it."""

    name: str
    folder: Path
    task: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    backbone: str
    step: int | None
    weights: tuple[str, ...]
    starts_from: str = ""


def weights_in(folder: Path) -> dict[str, Path]:
    """Weight files by name: ``raw`` and ``ema-…``; of an export or a converted model ``ema``, or ``raw``
    where its ``meta.json`` says that those were taken."""
    found = {p.stem: p for p in sorted(folder.glob("ema-*.safetensors"))}
    alone = next(
        (
            folder / f"{stem}.safetensors"
            for stem in ("model", "adapter")
            if (folder / f"{stem}.safetensors").is_file()
        ),
        None,
    )
    taken = (
        checkpoint.read_meta(folder).get("weights")
        if alone is not None and (folder / "meta.json").is_file()
        else None
    )
    # a training script's "model" is what it trained, beside its average
    own = "raw" if taken in ("raw", "model") else "ema"
    for stem in ("adapter", "model"):
        if (folder / f"{stem}.safetensors").is_file():
            found[own] = folder / f"{stem}.safetensors"
    if alone is None and (networks := networks_in(folder)):
        found["raw"] = networks[0]
    return found


def spot_of(folder: Path, step: int | None) -> Path:
    """Where the weights of a located model lie: the folder of an export, a checkpoint of a run."""
    return (
        folder
        if any((folder / f"{stem}.safetensors").is_file() for stem in ("model", "adapter"))
        else checkpoint.find(folder, step)
    )


def choose_weights(spot: Path, weights: str = "auto") -> tuple[str, Path]:
    """The resolved name (``ema`` is the first average, ``auto`` that or raw where there is none) and the
    file. Raises ``ValueError`` naming what there is for weights that are not there."""
    there = weights_in(spot)
    average = next((k for k in there if k.startswith("ema")), None)
    key = average or ("raw" if weights == "auto" else "ema") if weights in ("auto", "ema") else weights
    if key not in there:
        raise ValueError(
            f"got weights {weights!r}, expected one of {', '.join(there) or 'none'}, which {spot} has; "
            "leave it out to take what there is"
        )
    return key, there[key]


def networks_in(folder: Path) -> list[Path]:
    """The files of a checkpoint's networks, which are called as these are."""
    return [p for p in sorted(folder.glob("*.safetensors")) if not p.stem.startswith("ema-")]


def read_weights(key: str, path: Path) -> dict[str, Tensor]:
    """A model's tensors by the names that `studio.checkpoints.networks.together` gives them. Of several
    networks those without an average are taken from their own files."""
    tensors = files.load_tensors(path)
    if path.stem in ("model", "adapter"):
        return tensors
    if not key.startswith("ema-"):
        tensors = {f"{path.stem}.{k}": v for k, v in tensors.items()}
    networks = networks_in(path.parent)
    for file in networks:
        if not any(k.startswith(f"{file.stem}.") for k in tensors):
            tensors |= {f"{file.stem}.{k}": v for k, v in files.load_tensors(file).items()}
    single = all(file.stem == "net" for file in networks)
    return {k.removeprefix("net."): v for k, v in tensors.items()} if single else tensors


def live_buffers(key: str, path: Path, have: Collection[str]) -> dict[str, Tensor]:
    """Buffers that an average lacks, as those of earlier versions do, from the live weights of the same
    checkpoint."""
    raw = weights_in(path.parent).get("raw") if key.startswith("ema-") else None
    return {} if raw is None else {k: v for k, v in read_weights("raw", raw).items() if k not in have}


def card(name: str | Path) -> Card:
    """Raises ``ValueError`` for a folder that is not a model."""
    folder, step = locate(name)
    repair.check(folder)
    config = load_config(folder / "config.yaml")
    meta = checkpoint.read_meta(folder)
    info = Info.from_meta(meta)
    spot = spot_of(folder, step)
    at = meta.get("step") if spot == folder else int(spot.name)
    return Card(
        config.name,
        folder,
        info.task,
        info.shape,
        info.classes,
        str(config.backbone.get("name")),
        at,
        tuple(weights_in(spot)),
        info.starts_from,
    )


def list_models(
    roots: Sequence[str | Path] = ("runs",), *, on_broken: Callable[[str, Exception], object] | None = None
) -> list[Card]:
    """Bundled models and those below ``roots``; folders that cannot be read are left out, and told to
    ``on_broken(name, why)``."""
    found: list[Card] = []
    names: list[str | Path] = [
        *bundled(),
        *(
            p.parent
            for root in roots
            if Path(root).is_dir()
            for p in sorted(Path(root).glob("*/config.yaml"))
        ),
    ]
    for name in names:
        try:
            found.append(card(name))
        except (ValueError, OSError) as error:
            if on_broken is not None:
                on_broken(str(name), error)
    return found
