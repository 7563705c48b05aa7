"""The loss curve of a run, ``curve.png`` beside its metrics.jsonl."""

import json
import math
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.runtime import files

if TYPE_CHECKING:
    from matplotlib.ticker import Locator

NAME = "curve.png"
SIZE = (600, 340)
LEFT, TOP, RIGHT, BOTTOM = 60, 24, 588, 296  # of the box that the lines are in
INK, GRID = "#333333", "#dddddd"
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#17becf")


def points(run: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of the training loss and of the held-out losses; lines that are cut or hold no number
    are left out."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    metrics = run / "metrics.jsonl"
    for line in metrics.read_text().splitlines() if metrics.is_file() else ():
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        for key, value in entry.items():
            if (
                (key == "loss" or key.startswith("held_out"))
                and isinstance(value, int | float)
                and math.isfinite(value)
            ):
                steps, values = found.setdefault(key, ([], []))
                steps.append(entry.get("step", 0))
                values.append(value)
    return found


def marks(low: float, high: float) -> "Locator":
    """Where an axis of logarithms has its numbers, a handful of them: few powers of ten lie within less than
    a decade."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if low < high < 10 * low:
        return MaxNLocator(5)
    return LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,))


@dataclass(frozen=True)
class Axis:
    """Numbers from ``low`` to ``high``, in logarithms or not, between two places of the picture."""

    low: float
    high: float
    start: int
    end: int
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if low < high else 0.5
        return self.start + (0.04 + 0.92 * share) * (self.end - self.start)

    def shown(self, locator: "Locator") -> list[float]:
        """The numbers that stand at it."""
        found = [float(v) for v in locator.tick_values(self.low, self.high) if self.low <= v <= self.high]
        return found or [self.low]


def draw(run: Path) -> Path | None:
    """Draw it anew; None where nothing is logged yet. In milliseconds, as the shortest runs have it too."""
    from matplotlib.ticker import MaxNLocator
    from PIL import Image, ImageDraw, ImageFont

    found = points(run)
    if not found:
        return None
    steps, losses = ([v for line in found.values() for v in line[k]] for k in (0, 1))
    across = Axis(min(steps), max(steps), LEFT, RIGHT)
    up = Axis(min(losses), max(losses), BOTTOM, TOP, log=min(losses) > 0)
    verticals = across.shown(MaxNLocator(4, integer=True))
    horizontals = up.shown(marks(up.low, up.high) if up.log else MaxNLocator(5))

    # lines at twice the size, which smooths them when they are made smaller
    large = Image.new("RGB", (2 * SIZE[0], 2 * SIZE[1]), "white")
    pen = ImageDraw.Draw(large)
    for x in map(across.at, verticals):
        pen.line((2 * x, 2 * TOP, 2 * x, 2 * BOTTOM), GRID, 2)
    for y in map(up.at, horizontals):
        pen.line((2 * LEFT, 2 * y, 2 * RIGHT, 2 * y), GRID, 2)
    pen.rectangle((2 * LEFT, 2 * TOP, 2 * RIGHT, 2 * BOTTOM), outline=INK, width=2)
    for (x_values, y_values), colour in zip(found.values(), cycle(COLOURS)):
        places = [(2 * across.at(x), 2 * up.at(y)) for x, y in zip(x_values, y_values)]
        pen.line(places, colour, 3, joint="curve")
        for x, y in places if len(places) < 20 else ():
            pen.ellipse((x - 6, y - 6, x + 6, y + 6), colour)
    picture = large.reduce(2)

    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for x, value in zip(map(across.at, verticals), verticals):
        pen.text((x, BOTTOM + 6), f"{value:g}", INK, font, "mt")
    for y, value in zip(map(up.at, horizontals), horizontals):
        pen.text((LEFT - 6, y), f"{value:g}", INK, font, "rm")
    pen.text(((LEFT + RIGHT) / 2, SIZE[1] - 4), "step", INK, font, "mb")
    pen.text((LEFT, TOP - 6), "loss", INK, font, "lb")
    for k, (key, colour) in enumerate(zip(found, cycle(COLOURS))):
        pen.text((RIGHT - 10, TOP + 8 + 16 * k), key.replace("_", " "), colour, font, "rt")
    with files.replacing(run / NAME) as draft:
        picture.save(draft, format="png", compress_level=1)
    return run / NAME
