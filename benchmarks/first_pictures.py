"""Two hundred and forty pictures as a first user has them: twelve classes of twenty, of mixed sizes, shapes,
file types and backgrounds. A function of the seed."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PER_CLASS, FINE = 20, 3  # drawn at so many times the size, then reduced
Point = tuple[float, float]


def _polygon(
    corners: int, inner: float = 1.0, turn: float = -math.pi / 2
) -> Callable[[ImageDraw.ImageDraw, Point, float, tuple], None]:
    def draw(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
        radii = [
            r if k % 2 == 0 or inner == 1.0 else r * inner
            for k in range(corners * (1 if inner == 1.0 else 2))
        ]
        step = 2 * math.pi / len(radii)
        pen.polygon(
            [
                (at[0] + q * math.cos(turn + k * step), at[1] + q * math.sin(turn + k * step))
                for k, q in enumerate(radii)
            ],
            fill=ink,
        )

    return draw


def _disc(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
    pen.ellipse((at[0] - r, at[1] - r, at[0] + r, at[1] + r), fill=ink)


def _ring(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
    pen.ellipse((at[0] - r, at[1] - r, at[0] + r, at[1] + r), outline=ink, width=max(1, int(0.35 * r)))


def _cross(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
    pen.rectangle((at[0] - r, at[1] - r / 3, at[0] + r, at[1] + r / 3), fill=ink)
    pen.rectangle((at[0] - r / 3, at[1] - r, at[0] + r / 3, at[1] + r), fill=ink)


def _bars(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
    for k in (-1, 0, 1):
        pen.rectangle(
            (at[0] - r, at[1] + (0.8 * k - 0.2) * r, at[0] + r, at[1] + (0.8 * k + 0.2) * r), fill=ink
        )


def _pair(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
    for k in (-1, 1):
        _disc(pen, (at[0] + 0.55 * k * r, at[1]), r / 2, ink)


def _checks(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
    for i in range(4):
        for j in range(4):
            if (i + j) % 2:
                x, y = at[0] - r + i * r / 2, at[1] - r + j * r / 2
                pen.rectangle((x, y, x + r / 2, y + r / 2), fill=ink)


def _face(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
    _disc(pen, at, r, ink)
    for k in (-1, 1):
        _disc(pen, (at[0] + 0.4 * k * r, at[1] - 0.3 * r), r / 6, (20, 20, 20))
    pen.arc(
        (at[0] - r / 2, at[1] - r / 3, at[0] + r / 2, at[1] + 0.6 * r),
        20,
        160,
        fill=(20, 20, 20),
        width=max(1, int(r / 8)),
    )


def _house(pen: ImageDraw.ImageDraw, at: Point, r: float, ink: tuple) -> None:
    pen.rectangle((at[0] - 0.8 * r, at[1] - 0.1 * r, at[0] + 0.8 * r, at[1] + r), fill=ink)
    pen.polygon(
        [(at[0] - r, at[1] - 0.1 * r), (at[0], at[1] - r), (at[0] + r, at[1] - 0.1 * r)], fill=(150, 60, 40)
    )


CLASSES = {
    "bars": _bars,
    "checks": _checks,
    "cross": _cross,
    "diamond": _polygon(4),
    "disc": _disc,
    "face": _face,
    "hexagon": _polygon(6),
    "house": _house,
    "pair": _pair,
    "ring": _ring,
    "star": _polygon(5, 0.45),
    "triangle": _polygon(3),
}


def picture(name: str, rng: np.random.Generator) -> Image.Image:
    """RGB, its sides between 40 and 220 pixels: a shape of the class somewhere about the middle, in front of
    two colours that flow into each other."""
    height = int(rng.integers(40, 220))
    width = int(np.clip(height * rng.uniform(0.75, 1.35), 40, 220))
    dark, light = np.sort(rng.uniform([[20] * 3, [150] * 3], [[110] * 3, [255] * 3]), axis=0)
    down, along = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    slope = rng.uniform(-1, 1, 2)
    shade = 0.5 + 0.4 * (slope[0] * (down - 0.5) + slope[1] * (along - 0.5))[..., None]
    back = dark * shade + (0.6 * dark + 40) * (1 - shade)
    canvas = Image.fromarray(back.clip(0, 255).astype(np.uint8)).resize((FINE * width, FINE * height))
    side = FINE * min(width, height)
    at = (FINE * width * rng.uniform(0.4, 0.6), FINE * height * rng.uniform(0.4, 0.6))
    CLASSES[name](ImageDraw.Draw(canvas), at, side * rng.uniform(0.22, 0.38), tuple(int(v) for v in light))
    blurred = canvas.resize((width, height), Image.Resampling.BOX).filter(
        ImageFilter.GaussianBlur(rng.uniform(0, 0.8))
    )
    grain = rng.normal(0, 3, (height, width, 1))
    return Image.fromarray((np.asarray(blurred) + grain).clip(0, 255).astype(np.uint8))


def make(root: Path, seed: int = 0) -> Path:
    """A folder for each class, JPEG and PNG in turn; what is there already stays."""
    for c, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(PER_CLASS):
            file = root / name / f"{k:02d}.{'jpg' if k % 2 else 'png'}"
            if not file.is_file():
                picture(name, np.random.default_rng([seed, c, k])).save(file, quality=92)
    return root
