"""The picture files below a folder, and what is left out of it with the reason.

Links to folders are followed, except into a folder that they lie in. What a file is called decides whether it
is a picture; of names that say nothing, how it begins.
"""

import mimetypes
import os
import re
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from studio.runtime.untrusted import open_picture

# formats of Pillow (and of its plugins, such as pillow-heif, where they are registered) that hold photographs
# and drawings
FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "WEBP",
    "BMP",
    "DIB",
    "GIF",
    "TIFF",
    "AVIF",
    "HEIF",
    "PPM",
    "TGA",
    "JPEG2000",
    "PCX",
    "SGI",
    "QOI",
    "JXL",
)
RAW = {
    ".arw",
    ".cr2",
    ".cr3",
    ".dng",
    ".exr",
    ".hdr",
    ".jxl",
    ".nef",
    ".orf",
    ".raf",
    ".raw",
    ".rw2",
    ".srw",
    ".heic",
    ".heif",
    ".hif",
}
SYSTEM = re.compile(
    r"\..*|__macosx|__pycache__|@eadir|@recycle|@tmp|#recycle|#snapshot|\$recycle\.bin|system volume "
    r"information|lost\+found|thumbs\.db",
    re.IGNORECASE,
)
HIDDEN = "hidden, or made by a system or program"
NOT_READ = "of a kind that is not read here; convert it to PNG or JPEG"
NO_PICTURE = "without a suffix, and no picture by its content"
LOOP = "a link to a folder that it lies in"
NOWHERE = "a link that leads nowhere"


class Walk(NamedTuple):
    """``left``: reasons by file or folder."""

    files: list[Path]
    left: dict[Path, str]


def suffixes() -> list[str]:
    """Endings of the files that can be read here, in lower case."""
    Image.init()
    return sorted(
        s for s, kind in Image.registered_extensions().items() if kind in FORMATS and kind in Image.OPEN
    )


def walk(root: Path) -> Walk:
    """All pictures below a folder, in order."""
    found, known = Walk([], {}), frozenset(suffixes())
    _visit(root, frozenset({_identity(root)}), known, found)
    found.files.sort()
    return found


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def _visit(folder: Path, above: frozenset[tuple[int, int]], known: frozenset[str], found: Walk) -> None:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        found.left[folder] = f"not readable ({error.strerror})"
        return
    for path in (folder / name for name in names):
        try:
            kind = (
                "folder"
                if path.is_dir()
                else "file"
                if path.is_file()
                else "link"
                if path.is_symlink()
                else ""
            )
        except OSError:  # a link to itself
            kind = "link"
        if SYSTEM.fullmatch(path.name):
            if (
                kind == "folder"
                and _holds_pictures(path, known)
                or kind == "file"
                and path.suffix.lower() in known
            ):
                found.left[path] = HIDDEN
        elif kind == "folder":
            if (own := _identity(path)) in above:
                found.left[path] = LOOP
            else:
                _visit(path, above | {own}, known, found)
        elif kind == "file":
            _judge(path, known, found)
        elif kind == "link":
            found.left[path] = NOWHERE


def _judge(path: Path, known: frozenset[str], found: Walk) -> None:
    suffix = path.suffix.lower()
    kind = mimetypes.guess_type(path.name)[0] or ""
    if suffix in known:
        found.files.append(path)
    elif suffix in RAW or kind.startswith("image/"):
        found.left[path] = NOT_READ
    elif not kind and is_picture(path):
        found.files.append(path)
    elif not suffix:
        found.left[path] = NO_PICTURE


def _holds_pictures(folder: Path, known: frozenset[str]) -> bool:
    return any(Path(name).suffix.lower() in known for _, _, names in os.walk(folder) for name in names)


def is_picture(path: Path) -> bool:
    """Whether a file begins as a picture does."""
    try:
        with open_picture(path, [f for f in FORMATS if f in Image.OPEN]):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:
        return False
