"""What a bridge saw: its sources as it read them, and a mask of its size."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studio.checkpoints.find import Card
from studio.data.decode import open_file
from studio.generation.translate import read
from studio.model import catalog

if TYPE_CHECKING:
    from PIL.Image import Image


def before(card: Card, source: str | Path) -> "Image":
    """The task's view of a source, converted as the bridge converts it. Raises ``ValueError`` for a picture
    that does not decode."""
    values = read(Path(source), catalog.sample_shape(card), True, catalog.reading_of(card))
    return catalog.task_of(card).pictures(values[None])[0]


def fitted(mask: Path, sides: Sequence[int]) -> Path:
    """A mask of these sides (height, width): the file itself, or one beside it that is scaled and cropped as
    sources are. What was half white stays white. Raises ``ValueError`` for a file that does not decode."""
    from PIL import Image, ImageOps

    try:
        given = open_file(mask).convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the mask {mask.name} does not decode ({error})") from None
    if given.size == (sides[1], sides[0]):
        return mask
    flat = Image.alpha_composite(Image.new("RGBA", given.size, "black"), given).convert("L")
    made = ImageOps.fit(flat, (sides[1], sides[0]), Image.Resampling.BOX)
    beside = mask.with_name(f"{mask.stem}-{sides[1]}x{sides[0]}.png")
    made.point(lambda value: 255 * (value > 127)).save(beside)
    return beside
