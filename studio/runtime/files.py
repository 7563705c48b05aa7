"""Writing so that nothing is lost: to a temporary name first, then renamed; checked before it starts."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from backbones import host
from studio.runtime.strict_json import to_json

SPARE_BYTES = 50_000_000


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _there(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())


def free(folder: Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    return shutil.disk_usage(_there(folder)).free


def check_writable(folder: Path, need: int = 0) -> None:
    """Raises ``OSError`` (permission) or ``ValueError`` (no space) before anything is written. ``need`` in
    bytes."""
    parent = _there(folder)
    if not parent.is_dir():
        raise ValueError(
            f"cannot write to {folder}: {parent} is a file, expected a folder; choose another --out"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write to {folder}: no permission in {parent}; choose another --out")
    room = free(parent)
    if room < need + SPARE_BYTES:
        raise ValueError(
            f"cannot write {need / 1e6:.0f} MB to {folder}: {room / 1e6:.0f} MB are free; make room or "
            "choose another --out"
        )


def check_file(path: Path, *, overwrite: bool = False, flag: str = "--out", need: int = 0) -> None:
    """Before anything is computed: raises ``FileExistsError`` for a file that is there unless ``overwrite``,
    ``ValueError`` for a folder, and what `check_writable` raises for the folder that it lies in."""
    if path.is_dir():
        raise ValueError(
            f"cannot write to {path}: it is a folder, expected the name of a file; choose another {flag}"
        )
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; choose another {flag} or pass --overwrite")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"cannot write to {path}: no permission; choose another {flag}")
    check_writable(path.parent, need)


def sync(path: Path) -> None:
    """Down to the disk: a file's content, or which names a folder holds."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # not every file system knows it of folders
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


def put_in_place(draft: Path, target: Path) -> None:
    """Rename a file, or a folder with all in it, so that a power cut leaves the old or the new whole: the
    content is on the disk before its name is. A folder that is there already goes when the new one stands."""
    inside = list(draft.rglob("*")) if draft.is_dir() else []
    for path in (*inside, draft):
        sync(path)
    before = target.with_name(f".{target.name}.old") if target.is_dir() else None
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)
        os.replace(target, before)
    os.replace(draft, target)
    sync(target.parent)
    if before is not None:
        shutil.rmtree(before)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A name beside ``path`` to write to; it becomes ``path`` when the block ends well and is removed when it
    does not. Not ``durable``: for files by the thousand of which a damaged one is found and made again."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        yield draft
        put_in_place(draft, path) if durable else draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def cache_home() -> Path:
    """Where things are kept that can be made again: XDG_CACHE_HOME (or ~/.cache) / drift-studio."""
    return host.cache_home()


def used(*paths: Path) -> None:
    """Note that something kept was of use: `studio cache --prune` goes by it."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.utime(path)


def write_text(path: Path, text: str) -> None:
    """Atomically."""
    write_bytes(path, lambda out: out.write(text.encode()))


def write_bytes(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Atomically, what ``write`` writes to the open file; by several processes at once too. Where it fails,
    as on a full disk, nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            write(out)
        os.chmod(draft, 0o644)
        put_in_place(Path(draft), path)
    finally:
        Path(draft).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_text(path, to_json(value, indent=1) + "\n")


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file; the same tensors give the same bytes (the library leaves the order of several
    metadata entries to chance)."""
    from safetensors.torch import save_file

    save_file(
        {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
        path,
        metadata=dict(metadata or {"format": "pt"}),
    )
    if metadata is not None and len(metadata) > 1:
        with open(path, "r+b") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length))
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
            if len(text) <= length:
                handle.seek(8)
                handle.write(text.ljust(length))
    path.chmod(0o644)  # safetensors writes for the owner alone


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file; raises ``ValueError`` for anything else, pickles above all, and for one that is cut
    off."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise ValueError(
            f"got weights {path}, expected a .safetensors file; pickled weights are never loaded"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}); it may be cut off: restore it or use "
            "another checkpoint"
        ) from None
