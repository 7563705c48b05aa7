"""Pictures in archives of a thousand: ``NNN.tar`` with a PNG for each sample, its recipe inside, and the
archive's SHA-256 beside it (``sha256sum -c`` reads it)."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from studio.generation import identity
from studio.generation.blocks import Blocks
from studio.generation.encoding import encoded, threads_for
from studio.runtime import files
from studio.runtime.recipes import KEY

BESIDE = ".sha256"


class Tar(Blocks):
    """A file is trusted where its digest is the one beside it and its header says whose it is; no picture is
    decoded for that."""

    suffix, told = ".tar", True

    def rows(self, values: Tensor, recipes: Sequence[dict[str, Any]]) -> list[bytes]:
        return encoded(self.plan.model.task, values, recipes, threads_for(values, self.plan.model.device))

    def save(self, path: Path, first: int, rows: list[bytes]) -> None:
        header = {"comment": identity.line_of(self.digest, first).decode().strip()}
        with files.replacing(path) as draft:
            with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT, pax_headers=header) as archive:
                for i, data in enumerate(rows, first):
                    member = tarfile.TarInfo(f"{i:06d}.png")
                    member.size, member.mode = len(data), 0o644
                    archive.addfile(member, io.BytesIO(data))
            digest = files.sha256(draft)
        self._tell(path, digest)

    def _tell(self, path: Path, digest: str) -> None:
        files.write_text(path.with_name(path.name + BESIDE), f"{digest}  {path.name}\n")

    def load(self, path: Path, first: int) -> list[bytes]:
        data = path.read_bytes()
        self._check(path, hashlib.sha256(data).hexdigest())
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = [archive.extractfile(m) for m in self._members(archive, path, first)]
            return [file.read() for file in found if file is not None]  # None of what is no plain file

    def count(self, path: Path, first: int) -> int:
        try:
            self._check(path, files.sha256(path))
            with tarfile.open(path) as archive:
                return len(self._members(archive, path, first))
        except (OSError, ValueError, EOFError, tarfile.TarError):
            return 0

    def _check(self, path: Path, digest: str) -> None:
        if path.with_name(path.name + BESIDE).read_text().split()[:1] != [digest]:
            raise ValueError(f"{path} is not what {path.name}{BESIDE} says; run the same command again")

    def _members(self, archive: tarfile.TarFile, path: Path, first: int) -> list[tarfile.TarInfo]:
        members = archive.getmembers()
        lines = [identity.line_of(digest, first).decode().strip() for digest in (self.digest, *self.earlier)]
        mine = archive.pax_headers.get("comment") in lines
        if not mine or any(m.name != f"{i:06d}.png" for i, m in enumerate(members, first)):
            raise ValueError(f"{path} is not of this set; run the same command again")
        return members

    def joined(self, parts: Sequence[list[bytes]]) -> list[bytes]:
        return [row for part in parts for row in part]

    def move(self, path: Path, target: Path) -> None:
        digest = files.sha256(path)
        path.replace(target)
        self._tell(target, digest)
        path.with_name(path.name + BESIDE).unlink(missing_ok=True)

    def drop(self, path: Path) -> None:
        super().drop(path)
        path.with_name(path.name + BESIDE).unlink(missing_ok=True)


def in_archives(folder: Path) -> int:
    """How many samples of a folder lie in whole archives."""
    return len(Shards(folder)) if any(folder.glob("[0-9]*.tar")) else 0


class Shards:
    """The pictures of such a folder as (N, C, H, W) uint8, read when they are asked for; ``numbers``: of the
    samples, in order."""

    dtype = np.dtype("uint8")

    def __init__(self, folder: Path):
        self.paths = sorted(folder.glob("[0-9]*.tar"), key=lambda p: int(p.stem))
        places = []
        for k, path in enumerate(self.paths):
            try:
                with tarfile.open(path) as archive:
                    places += [
                        (k, m.offset_data, m.size, int(Path(m.name).stem)) for m in archive.getmembers()
                    ]
            except (tarfile.TarError, ValueError) as error:
                raise ValueError(
                    f"{path} is not a readable archive of samples ({error}); run the same studio "
                    "generate again"
                ) from None
        self.places = np.array(places, np.int64).reshape(-1, 4)
        self.numbers = self.places[:, 3]
        self.shape = (len(self.places), *self._picture(0).shape)

    def __len__(self) -> int:
        return len(self.places)

    def _data(self, i: int) -> bytes:
        k, offset, size, _ = self.places[i]
        with open(self.paths[k], "rb") as handle:
            handle.seek(offset)
            return handle.read(size)

    def _picture(self, i: int) -> np.ndarray:
        from PIL import Image

        array = np.asarray(Image.open(io.BytesIO(self._data(i))))
        return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.arange(len(self))[index]
        return (
            np.stack([self._picture(i) for i in rows])
            if len(rows)
            else np.zeros((0, *self.shape[1:]), np.uint8)
        )

    def recipe(self, i: int) -> dict[str, Any]:
        """Of sample ``i``."""
        from PIL import Image

        return json.loads(Image.open(io.BytesIO(self._data(i))).info[KEY])
