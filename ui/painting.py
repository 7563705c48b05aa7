"""A mask that is painted over a picture, as its model sees it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from studio.checkpoints.find import Card
from studio.data.decode import open_file
from studio.jobs.seen import before, fitted

if TYPE_CHECKING:
    from PIL.Image import Image

CANVAS = 320  # pixels of the larger side that a mask is painted on
COLOUR = "#14b8a6"


def editor(elem_id: str) -> gr.ImageEditor:
    """Where it is painted; hidden until there is a picture."""
    return gr.ImageEditor(
        label="Paint",
        type="pil",
        sources=(),
        layers=False,
        transforms=(),
        brush=gr.Brush(default_size=CANVAS // 8, colors=[COLOUR], color_mode="fixed"),
        canvas_size=(CANVAS, CANVAS),
        fixed_canvas=True,
        visible=False,
        elem_id=elem_id,
    )


def over(card: Card, source: str | Path, layers: "Sequence[Image]" = ()) -> dict[str, Any]:
    """The editor's value for a picture, large, with what was painted before. Raises ``ValueError`` for a
    picture that does not decode."""
    from PIL import Image

    seen = before(card, source).convert("RGB")
    scale = CANVAS / max(seen.size)
    large = seen.resize((round(seen.width * scale), round(seen.height * scale)), 0)
    painted, both = [layer.convert("RGBA").resize(large.size, 0) for layer in layers], large.convert("RGBA")
    for layer in painted:
        both = Image.alpha_composite(both, layer)
    return {"background": large, "layers": painted, "composite": both.convert("RGB")}


def layer_of(mask: str | Path) -> "Image":
    """The white of a mask as it would have been painted. Raises ``ValueError`` for no picture."""
    from PIL import Image, ImageColor

    white = open_file(mask).convert("L")
    layer = Image.new("RGBA", white.size, (*ImageColor.getrgb(COLOUR), 255))
    layer.putalpha(white)
    return layer


def painted(drawn: Mapping[str, Any] | None, place: Path, sides: Sequence[int]) -> str | None:
    """A file below ``place`` of what was painted, of these sides (height, width); None for nothing."""
    from PIL import Image, ImageChops

    shapes = [layer.getchannel("A") for layer in (drawn or {}).get("layers", ()) if layer is not None]
    if not any(shape.getbbox() for shape in shapes):
        return None
    mask = Image.new("L", shapes[0].size)
    for shape in shapes:
        mask = ImageChops.lighter(mask, shape)
    mask.save(place / "mask.png")
    return str(fitted(place / "mask.png", sides))
