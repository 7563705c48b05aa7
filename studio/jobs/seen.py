"""What a model saw of uploads: its sources as it read them, and a mask of its size."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studio.checkpoints.find import Card
from studio.data.decode import TooLarge, open_file
from studio.generation.translate import read
from studio.jobs import numbers
from studio.jobs.uploads import beside
from studio.model import catalog
from studio.runtime.untrusted import why_not
from studio.sampling.array_files import is_array

if TYPE_CHECKING:
    from PIL.Image import Image

LOOKED = 64  # pictures that are decoded to see whether they are any


def before(card: Card, source: str | Path) -> "Image":
    """The task's view of a source, converted as the model converts it. Raises ``ValueError`` for a picture
    that does not decode, before any pixel of one that is too large is."""
    values = read(Path(source), catalog.sample_shape(card), True, catalog.reading_of(card))
    return catalog.task_of(card).pictures(values[None])[0]


def unreadable(card: Card, sources: Sequence[Path], resize: bool = True) -> dict[str, str]:
    """Of pictures that a model cannot read, the first LOOKED of them looked at, their names and why."""
    found = {}
    for source in sources[:LOOKED]:
        try:
            read(source, catalog.sample_shape(card), resize, catalog.reading_of(card))
        except ValueError as error:
            found[source.name] = str(error).replace("pass --resize to convert", "let it be converted below")
    return found


def given(card: Card, source: Path) -> Path:
    """A picture of the size and kind that a model makes: the file itself, or a PNG that lies with it,
    converted as `before`. Raises ``ValueError`` as it does; and for a file of numbers, which is not
    converted, where they are none of the model's samples."""
    from PIL import Image

    shape = catalog.sample_shape(card)
    if is_array(source):
        numbers.start(card, source)
        return source
    if not catalog.takes_picture(card):
        raise ValueError(
            f"{card.name} cannot start from a picture; leave it out, or pick a model of pictures"
        )
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


def free(card: Card, mask: Path) -> Path:
    """A mask of what a model may change: of pictures `fitted`, and of numbers the file itself. Raises
    ``ValueError`` as `fitted` does, and for what is no mask of the model's."""
    if not is_array(mask):
        return fitted(mask, catalog.sample_shape(card)[1:])
    numbers.mask(card, mask)
    return mask


def check_mask(card: Card, mask: Path) -> None:
    """Raises ``ValueError`` for a file that is no mask for a model; writes nothing."""
    if is_array(mask):
        numbers.mask(card, mask)
    else:
        _opened(mask)


def _opened(mask: Path) -> "Image":
    try:
        return open_file(mask).convert("RGBA")
    except TooLarge:
        raise
    except Exception as error:  # whatever a damaged file makes PIL raise
        raise ValueError(f"the mask {mask.name} does not decode ({why_not(error)})") from None


def fitted(mask: Path, sides: Sequence[int]) -> Path:
    """A mask of these sides (height, width): the file itself, or one that lies with it and is scaled and
    cropped as sources are. What was half white stays white. Raises ``ValueError`` for a file that does not
    decode."""
    from PIL import Image, ImageOps

    given = _opened(mask)
    if given.size == (sides[1], sides[0]):
        return mask
    flat = Image.alpha_composite(Image.new("RGBA", given.size, "black"), given).convert("L")
    small = ImageOps.fit(flat, (sides[1], sides[0]), Image.Resampling.BOX)
    made = beside(mask, sides)
    small.point(lambda value: 255 * (value > 127)).save(made)
    return made
