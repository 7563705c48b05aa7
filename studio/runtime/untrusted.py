"""The text inside a stranger's picture: read without trusting its size, and as JSON of a bounded size and
depth with finite numbers."""

import json
import math
import re
import warnings
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import ImageFile

MOST_PIXELS = 178_956_970  # where Pillow ends
LONGEST = 4_000_000  # characters: the sheet of a hundred thousand samples has half of that
DEEPEST = 16
_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)', re.DOTALL)
_QUIET = Lock()


def open_picture(file: str | Path, formats: list[str] | None = None) -> "ImageFile.ImageFile":
    """``PIL.Image.open`` without its warning of large pictures, which are left to the caller's own limit;
    beyond Pillow's own (179 million pixels) its ``DecompressionBombError`` is raised. One thread at a time:
    filters of warnings belong to the whole process, and two threads that set them aside would each put back
    what the other had set."""
    from PIL import Image

    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file, formats=formats)


def why_not(error: Exception) -> str:
    """Why a picture does not open, in words, of what Pillow or the system raised."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if type(error).__name__ == "UnidentifiedImageError":
        return "its first bytes are of no kind that is known, or it ends early"
    return "it ends early" if "truncated" in str(error).lower() else "its contents are damaged"


def text_in(path: str | Path, key: str) -> str | None:
    """A PNG's text of this key, None where it has none; no pixel is decoded. Raises ``ValueError`` for what
    is no picture or too large."""
    from PIL import Image, UnidentifiedImageError

    try:
        with open_picture(path) as picture:
            size, text = picture.width * picture.height, picture.info.get(key)
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path} has more pixels than a picture may have, expected at most {MOST_PIXELS:,}"
        ) from None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not a readable picture ({why_not(error)})") from None
    except Exception as error:  # whatever a damaged file makes Pillow raise
        if "Decompressed data too large" in str(error) or "Too much memory" in str(error):
            raise ValueError(
                f"{path} carries a text that is too long, expected at most {LONGEST:,} characters"
            ) from None
        raise ValueError(f"{path} is not a readable picture (its contents are damaged)") from None
    if size > MOST_PIXELS:
        raise ValueError(f"{path} has {size:,} pixels, expected at most {MOST_PIXELS:,}")
    if text is not None and len(text) > LONGEST:
        raise ValueError(f"{path} carries a text of {len(text):,} characters, expected at most {LONGEST:,}")
    return None if text is None else str(text)


def parsed(text: str) -> Any:
    """The JSON of a text. Raises ``ValueError``, in words that go on from "a damaged recipe: ", for what is
    none, too deep, or holds a number that is not finite or has hundreds of digits."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text + " ")):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise ValueError(f"it is nested {deepest:,} deep, expected at most {DEEPEST}")
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON from character {error.pos + 1:,} on") from None


def _no_number(text: str) -> Any:
    raise ValueError(f"got {text}, expected a finite number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text[:40])


def _whole(text: str) -> int:
    if len(text) > 400:
        raise ValueError(f"got a number of {len(text):,} digits, expected a finite number")
    return int(text)
