"""What a model saw of uploads: its sources as it read them, and a mask of its size."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studio.checkpoints.find import Card
from studio.data.decode import open_file
from studio.generation.translate import read
from studio.jobs.uploads import beside
from studio.model import catalog

if TYPE_CHECKING:
    from PIL.Image import Image


def before(card: Card, source: str | Path) -> "Image":
    """The task's view of a source, converted as the model converts it. Raises ``ValueError`` for a picture
    that does not decode, before any pixel of one that is too large is."""
    values = read(Path(source), catalog.sample_shape(card), True, catalog.reading_of(card))
    return catalog.task_of(card).pictures(values[None])[0]


def given(card: Card, source: Path) -> Path:
    """A picture of the size and kind that a model makes: the file itself, or a PNG that lies with it,
    converted as `before`. Raises ``ValueError`` as it does."""
    from PIL import Image

    shape = catalog.sample_shape(card)
    if not source.is_file():
        raise ValueError(f"the picture {source.name} does not lie with its job any more; give it again")
    reading = catalog.reading_of(card)
    try:
        read(source, shape, False, reading)
        return source
    except ValueError:  # of another size or kind, or no picture at all
        pass
    try:
        seen = read(source, shape, True, reading).permute(1, 2, 0).numpy()
    except ValueError as error:
        raise ValueError(f"the picture {source.name} {error}".replace(str(source), source.name)) from None
    made = beside(source, shape[1:])
    Image.fromarray(seen[..., 0] if shape[0] == 1 else seen).save(made)
    return made


def fitted(mask: Path, sides: Sequence[int]) -> Path:
    """A mask of these sides (height, width): the file itself, or one that lies with it and is scaled and
    cropped as sources are. What was half white stays white. Raises ``ValueError`` for a file that does not
    decode."""
    from PIL import Image, ImageOps

    try:
        given = open_file(mask).convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the mask {mask.name} does not decode ({error})") from None
    if given.size == (sides[1], sides[0]):
        return mask
    flat = Image.alpha_composite(Image.new("RGBA", given.size, "black"), given).convert("L")
    small = ImageOps.fit(flat, (sides[1], sides[0]), Image.Resampling.BOX)
    made = beside(mask, sides)
    small.point(lambda value: 255 * (value > 127)).save(made)
    return made
