"""Features of pictures: networks by name, one pass over batches that keeps moments (and the features, where
asked), and a cache on disk.

An extractor is anything that maps uint8 pictures to named tensors; its ``hash`` names its weights, and
numbers are comparable only where it is equal.
"""

import hashlib
import inspect
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from backbones.registry import resolve
from studio.metrics.distances import Moments
from studio.runtime.files import cache_home, save_tensors, used

REGISTRY = {
    "inception": "studio.metrics.inception_extractor:InceptionExtractor",
    "lenet": "studio.metrics.lenet:LeNetExtractor",
    "efficientnet": "studio.metrics.efficientnet:EfficientNetExtractor",
}
# pictures a network sees at once, whatever batches come in; an extractor with a ``batch`` of its own sees
# that many
BATCH = 32
FOLD = 1024  # rows after which moments are brought up to date
FORMAT = "1"


class Extractor(Protocol):
    """``channels`` a network wants (None: as they come); ``dim`` of its features; ``hash`` of its weights.

    Called with uint8 (B, C, H, W) it returns "features" (B, dim), and where it has them "logits" (B, K) and
    "spatial" (B, ...), on the CPU. It may have ``classes``, the names of its logits, and ``resize``, how it
    brings pictures to its own size.
    """

    name: str
    hash: str
    dim: int
    channels: int | None

    def __call__(self, values: Tensor) -> dict[str, Tensor]: ...


def build_extractor(
    name: str, *, inception: str | Path | None = None, device: str | torch.device = "cpu"
) -> Extractor:
    """By name; ``inception`` is the file with FID's weights.

    Raises ``ValueError`` for an unknown name, weights that are not there, or a file given to an extractor
    that takes none, and ``ImportError`` for an extra that is not installed.
    """
    kind = resolve(REGISTRY, name, "extractor")
    takes_file = "path" in inspect.signature(kind).parameters
    if inception is not None and not takes_file:
        raise ValueError(
            f"got inception={inception} for the extractor {name!r}, which has its own weights; choose the "
            "extractor inception or leave it out"
        )
    return kind(inception, device=device) if takes_file else kind(device=device)


class Wrapped:
    """A callable as an `Extractor`; ``dim`` is 0 until it was called once."""

    def __init__(
        self,
        fn: Callable[[Tensor], Tensor | Mapping[str, Tensor]],
        name: str,
        hash: str,
        channels: int | None,
        classes: Sequence[str] = (),
    ):
        self.fn, self.name, self.hash, self.channels, self.dim, self.classes = (
            fn,
            name,
            hash,
            channels,
            0,
            tuple(classes),
        )

    def __call__(self, values: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            out = self.fn(values)
        found = {"features": out} if isinstance(out, Tensor) else dict(out)
        features = found.get("features")
        if (
            features is None
            or features.ndim != 2
            or len(features) != len(values)
            or (self.dim and features.shape[1] != self.dim)
        ):
            got = (
                f"features of shape {tuple(features.shape)}"
                if features is not None
                else f"the keys {', '.join(found)}"
            )
            raise ValueError(
                f"the extractor {self.name!r} gave {got} for {len(values)} pictures, expected features "
                f"({len(values)}, {self.dim or 'd'})"
            )
        self.dim = features.shape[1]
        return {k: v.detach().cpu() for k, v in found.items()}


def from_callable(
    fn: Callable[[Tensor], Tensor | Mapping[str, Tensor]],
    name: str,
    hash: str,
    *,
    channels: int | None = None,
    classes: Sequence[str] = (),
) -> Extractor:
    """Any function of uint8 (B, C, H, W) that returns features (B, d) or a dict with "features"; ``hash``
    must change with its weights. ``classes``: the names of its logits.

    It is called with batches of at most `BATCH` pictures and must treat each picture alone.
    """
    return Wrapped(fn, name, hash, channels, classes)


@dataclass(frozen=True)
class Features:
    """``moments`` of the features and of the ``spatial`` ones (None without any); ``values`` (N, dim) and
    ``logits`` (N, K) float32 when kept."""

    extractor: str
    hash: str
    moments: Moments
    spatial: Moments | None = None
    values: Tensor | None = None
    logits: Tensor | None = None

    def __len__(self) -> int:
        return self.moments.count


def extract(batches: Iterable[Tensor], extractor: Extractor, *, keep: bool) -> Features:
    """One pass over batches of uint8 (B, C, H, W) of any size; ``keep`` the features and logits beside the
    moments.

    The network always sees the same groups of pictures, so the batches that come in change nothing. Raises
    ``ValueError`` for no pictures, other types or shapes, channels that the extractor cannot take, and
    features that are not finite.
    """
    moments: dict[str, Moments] = {}
    kept: dict[str, list[Tensor]] = {"features": [], "logits": []}
    waiting: dict[str, list[Tensor]] = {}

    def fold() -> None:
        for key, parts in waiting.items():
            moments.setdefault(key, Moments()).update(torch.cat(parts))
        waiting.clear()

    for group in regroup(batches, extractor):
        out = extractor(group)
        if "features" not in out:
            raise ValueError(
                f"the extractor {extractor.name!r} gave {', '.join(out) or 'nothing'}, expected "
                "features (B, d)"
            )
        for key in out.keys() & {"features", "spatial"}:
            waiting.setdefault(key, []).append(out[key].flatten(1).float())
        for key in kept.keys() & out.keys() if keep else ():
            kept[key].append(out[key].float())
        if sum(map(len, waiting["features"])) >= FOLD:
            fold()
    fold()
    if not moments:
        raise ValueError("got no pictures to extract features from, expected at least one")
    values, logits = (torch.cat(v) if v else None for v in kept.values())
    return Features(
        extractor.name, extractor.hash, moments["features"], moments.get("spatial"), values, logits
    )


def regroup(batches: Iterable[Tensor], extractor: Extractor) -> Iterator[Tensor]:
    """Groups of `BATCH` (or the extractor's own ``batch``) pictures in order, with the channels it wants; a
    change of size starts a new group."""
    pending: list[Tensor] = []
    size = getattr(extractor, "batch", BATCH)
    for batch in batches:
        batch = with_channels(batch, extractor)
        if pending and pending[0].shape[1:] != batch.shape[1:]:
            yield torch.cat(pending)
            pending = []
        pending.append(batch)
        if sum(map(len, pending)) >= size:
            *full, rest = torch.cat(pending).split(size)
            yield from full
            if len(rest) == size:
                yield rest
            pending = [rest] if len(rest) < size else []
    if pending and any(map(len, pending)):
        yield torch.cat(pending)


def with_channels(values: Tensor, extractor: Extractor) -> Tensor:
    """Grey becomes RGB by repetition; nothing else is converted."""
    if values.dtype != torch.uint8 or values.ndim != 4:
        raise ValueError(
            f"got {values.dtype} of shape {tuple(values.shape)}, expected uint8 pictures (B, C, H, W) as "
            "they are saved"
        )
    have, want = values.shape[1], extractor.channels
    if want is None or have == want:
        return values
    if (have, want) == (1, 3):
        return values.expand(-1, 3, -1, -1)
    text = "convert them to grey first" if want == 1 else "drop or paint over their transparency first"
    raise ValueError(
        f"got pictures with {have} channels, expected {want} for the extractor {extractor.name!r}; choose "
        f"another extractor, or {text}"
    )


def cache_folder() -> Path:
    """Where features are kept."""
    return cache_home() / "features"


def cached(key: str, compute: Callable[[], Features], folder: str | Path | None = None) -> Features:
    """What ``compute()`` gives, kept under ``key``, which must hold whatever the result depends on: the
    content hash of the pictures, the extractor's name and hash, and whether features are kept.

    A file that is damaged or belongs to another key is made again; a cache that cannot be written costs time,
    never the run.
    """
    path = (
        Path(folder or cache_folder())
        / f"{hashlib.sha256(f'{FORMAT} {key}'.encode()).hexdigest()[:32]}.safetensors"
    )
    found = read(path, key)
    if found is not None:
        used(path)
        return found
    made = compute()
    try:
        write(path, key, made)
    except OSError:
        pass
    return made


def write(path: Path, key: str, features: Features) -> None:
    """Atomically, with a digest of its content."""
    tensors = {"values": features.values, "logits": features.logits}
    for name, m in (("moments", features.moments), ("spatial", features.spatial)):
        if m is not None:
            tensors |= {
                f"{name}.count": torch.tensor([m.count]),
                f"{name}.mean": m.mean,
                f"{name}.scatter": m.scatter,
            }
    whole = {k: v for k, v in tensors.items() if v is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    os.close(handle)
    try:
        save_tensors(
            Path(draft),
            whole,
            {"key": key, "extractor": features.extractor, "hash": features.hash, "digest": digest(whole)},
        )
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)


def read(path: Path, key: str) -> Features | None:
    """None for a file that is not there, damaged, or of another key."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            notes, tensors = file.metadata() or {}, {k: file.get_tensor(k) for k in file.keys()}
        if notes.get("key") != key or notes.get("digest") != digest(tensors):
            return None
        moments = {n: restore(tensors, n) for n in ("moments", "spatial") if f"{n}.mean" in tensors}
        return Features(
            notes["extractor"],
            notes["hash"],
            moments["moments"],
            moments.get("spatial"),
            tensors.get("values"),
            tensors.get("logits"),
        )
    except (SafetensorError, OSError, KeyError):
        return None


def restore(tensors: Mapping[str, Tensor], name: str) -> Moments:
    made = Moments()
    made.count, made.mean, made.scatter = (
        int(tensors[f"{name}.count"]),
        tensors[f"{name}.mean"],
        tensors[f"{name}.scatter"],
    )
    return made


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].detach().contiguous().numpy().data)
    return total.hexdigest()
