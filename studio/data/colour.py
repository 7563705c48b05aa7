"""From a picture as its file holds it to what is seen: turned as EXIF says, in the colours of sRGB, in front
of a background."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageOps

ORIENTATION = 0x0112
GREY = ("1", "L", "LA", "La")
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "LAB": "LAB"}  # of a profile, as Pillow's modes
UNCHANGED = 3  # of 255: a profile that moves no colour further is sRGB
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def background_of(value: Any) -> tuple[int, int, int]:
    """white, black or another name, #rrggbb, a grey 0 to 255, or three numbers. Raises ``ValueError``."""
    wrong = ValueError(
        f"got data.background={value!r}, expected white, black, #rrggbb, a grey from 0 to 255 or three "
        "numbers such as [255,255,255]"
    )
    if isinstance(value, str):
        parts = value.replace("(", "").replace(")", "").split(",")
        if all(p.strip().isdigit() for p in parts):
            value = [int(p) for p in parts]
        else:
            try:
                found = ImageColor.getrgb(value.strip())
            except ValueError:
                raise wrong from None
            if len(found) != 3:
                raise wrong
            return found
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if len(numbers) not in (1, 3) or not all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= 255 for n in numbers
    ):
        raise wrong
    r, g, b = numbers * (3 // len(numbers))
    return r, g, b


def turned(picture: Image.Image) -> bool:
    """Whether its EXIF says that it is seen with its sides exchanged."""
    try:
        return bool(picture.getexif().get(ORIENTATION, 1) > 4)
    except Exception:  # what cannot be read turns nothing
        return False


def upright(picture: Image.Image, told: dict[str, str]) -> Image.Image:
    """Turned and mirrored as its EXIF says. EXIF that cannot be read turns nothing, and is told."""
    try:
        if picture.getexif().get(ORIENTATION, 1) == 1:
            return picture
        turned = ImageOps.exif_transpose(picture)
    except Exception as error:  # whatever a damaged block makes Pillow raise
        told["exif"] = str(error)
        return picture
    told["turned"] = ""
    return turned


def in_srgb(picture: Image.Image, told: dict[str, str]) -> Image.Image:
    """The picture in the colours of sRGB, grey where it was grey. A profile that cannot be read, or belongs
    to another kind of picture, changes nothing and is told."""
    # Lab has a meaning of its own
    profile = None if picture.mode == "LAB" else picture.info.get("icc_profile")
    if profile is None and picture.mode != "LAB":
        return picture
    grey, whole = picture.mode in GREY, _rgba(picture) if has_alpha(picture) else None
    base = whole if whole is not None else picture
    if base.mode not in ("L", "CMYK", "LAB"):
        base = base.convert("L" if grey else "RGB")
    try:
        made = _through(base, profile, told)
    except Exception as error:  # whatever a damaged profile makes the library raise
        if profile is None:
            raise
        told["profile"] = str(error) or type(error).__name__
        return picture
    if made is base:
        return picture
    if whole is not None:
        made = made.convert("RGB")
        made.putalpha(whole.getchannel("A"))
        made = made.convert("LA") if grey else made
    return made


def _through(base: Image.Image, profile: bytes | None, told: dict[str, str]) -> Image.Image:
    """L stays L, all else becomes RGB; the same object where nothing changes."""
    from PIL import ImageCms

    kind = "LAB" if profile is None else _space(profile)
    mode = SPACES.get(kind)
    if mode is None or base.mode != mode and (base.mode, mode) != ("L", "RGB"):
        raise ValueError(f"it is a profile of {kind or 'nothing'} in a picture of {base.mode}")
    transform, name = _transform(profile, mode)
    if transform is None:
        return base
    if profile is not None:
        told["srgb"] = name
    made = ImageCms.applyTransform(base if base.mode == mode else base.convert(mode), transform)
    assert made is not None
    return made.convert("L") if base.mode == "L" else made


def _space(profile: bytes) -> str:
    from PIL import ImageCms

    return str(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space).strip().upper()


@lru_cache(maxsize=64)
def _transform(profile: bytes | None, mode: str) -> tuple[Any, str]:
    """The way to sRGB, None where the profile is sRGB itself, and the profile's name."""
    from PIL import ImageCms

    source = (
        ImageCms.createProfile("LAB") if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile))
    )
    made = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    name = "" if profile is None else ImageCms.getProfileDescription(source).strip()
    if mode in ("L", "RGB"):
        levels = np.linspace(0, 255, 256 if mode == "L" else 9).round().astype(np.uint8)
        grid = (
            levels[None]
            if mode == "L"
            else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        )
        probe = Image.fromarray(grid)
        moved = np.asarray(ImageCms.applyTransform(probe, made), dtype=np.int64) - np.asarray(
            probe.convert("RGB"), dtype=np.int64
        )
        if np.abs(moved).max() <= UNCHANGED:
            return None, name
    return made, name


def has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in picture.info


def _rgba(picture: Image.Image) -> Image.Image:
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode == "1":  # which knows no transparent colour of its own in Pillow
        key = picture.info.get("transparency")
        picture = picture.convert("L")
        if isinstance(key, int):
            picture.info["transparency"] = 255 * key
    return picture.convert("RGBA")


def flattened(
    picture: Image.Image, channels: int | None, background: tuple[int, int, int], told: dict[str, str]
) -> Image.Image:
    """L, RGB or RGBA. What is transparent shows ``background``, unless four channels are asked for; grey
    pictures stay grey in front of any colour."""
    if channels == 4:
        return _rgba(picture) if has_alpha(picture) else picture.convert("RGB").convert("RGBA")
    own = "L" if picture.mode in GREY else "RGB"
    wanted = MODES[channels] if channels else own
    if not has_alpha(picture):
        return picture.convert(own).convert(wanted)
    whole = _rgba(picture)
    if whole.getextrema()[-1][0] < 255:  # type: ignore[index]
        told["transparent"] = ""
    behind = Image.new("RGBA", whole.size, (*background, 255))
    return Image.alpha_composite(behind, whole).convert("RGB").convert(wanted)


def filled_up(picture: Image.Image, sides: tuple[int, int], background: tuple[int, int, int]) -> Image.Image:
    """A picture in the middle of a rectangle (height, width) of the background's colour, transparent where it
    has an alpha channel."""
    height, width = sides
    grey = Image.new("RGB", (1, 1), background).convert("L").getpixel((0, 0))
    behind: Any = grey if picture.mode == "L" else (*background, 0) if picture.mode == "RGBA" else background
    whole = Image.new(picture.mode, (width, height), behind)
    whole.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return whole
