"""Emoji drawn by two studios: an unpaired translation whose true partners are known, and pictures in
classes."""

import io

import numpy as np
from PIL import Image

from studio.data.arrays import Arrays, Data, content_hash
from studio.data.sides import said
from studio.runtime.name_clash import at_home

TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
OTHER = {"noto": "twemoji", "twemoji": "noto"}


def base_of(codepoints: str) -> str:
    """The emoji without skin tone and without the marks that only choose a presentation."""
    return "-".join(c for c in codepoints.upper().split("-") if c not in TONES and c != "FE0F")


def emoji(
    *,
    path: str = "data/emoji32.npz",
    target: str = "twemoji",
    held_out: float = 0.1,
    paired: bool = False,
    skin_tones: bool = True,
    seed: int = 0,
) -> Data:
    """32×32×3 emoji of one studio, from those of the other. Every emoji that both have drawn; a base code
    point is either trained on or held out, and no held-out drawing of either studio stands among the trained
    ones.

    ``paired`` keeps the order of both the same; unpaired training never sees which belongs to which. The
    held-out parts always correspond. Raises ``ValueError`` for a file that is not there.
    """
    where = at_home(path)
    if not where.is_file():
        raise ValueError(
            f"got emoji file {where}, which does not exist; it lies in the repository under data/, set "
            "data.path"
        )
    if target not in OTHER:
        raise ValueError(f"got target {target!r}, expected {' or '.join(OTHER)}")
    if not 0 < held_out < 1:
        raise ValueError(f"got held_out={held_out}, expected a fraction between 0 and 1")
    with np.load(where, allow_pickle=False) as file:
        images, style, codes, toned = (
            file["images"],
            file["styles"][file["style"]],
            file["codepoints"],
            file["has_skin_tone"],
        )
    rows = {
        s: {c: i for i, c in enumerate(codes) if style[i] == s and (skin_tones or not toned[i])}
        for s in OTHER
    }
    shared = sorted(set(rows["noto"]) & set(rows["twemoji"]))
    bases = sorted({base_of(c) for c in shared})
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(bases))
    aside = {bases[i] for i in order[: max(1, round(held_out * len(bases)))]}

    trained = [c for c in shared if base_of(c) not in aside]
    # some codes share one drawing
    drawn = {images[rows[studio][c]].tobytes() for studio in OTHER for c in trained}
    fresh = [
        c
        for c in shared
        if base_of(c) in aside and not any(images[rows[studio][c]].tobytes() in drawn for studio in OTHER)
    ]

    def part(studio: str, held: bool) -> np.ndarray:
        return np.ascontiguousarray(
            images[[rows[studio][c] for c in (fresh if held else trained)]].transpose(0, 3, 1, 2)
        )

    train, source = part(target, False), part(OTHER[target], False)
    return Data(
        f"emoji-{target}",
        "image",
        tuple(train.shape[1:]),
        Arrays(train),
        Arrays(part(target, True)),
        hash=content_hash(train, source),
        source=Arrays(source),
        held_out_source=Arrays(part(OTHER[target], True)),
        source_name=f"{OTHER[target]} emoji",
        paired=paired,
    )


def emoji_pictures(
    *,
    path: str = "data/emoji64.npz",
    size: int | tuple[int, ...] = 64,
    held_out: float = 0.1,
    seed: int = 0,
) -> Data:
    """3,822 emoji of both studios without skin tones, RGB on white, in ten classes; drawn at 64 × 64 pixels
    and scaled to ``size``. A base code point is either trained on or held out, in both drawings.

    Raises ``ValueError`` for a file that is not there.
    """
    where = at_home(path)
    if not where.is_file():
        raise ValueError(
            f"got emoji file {where}, which does not exist; it lies in the repository under data/, set "
            "data.path"
        )
    if not isinstance(size, int) or size < 4:
        raise ValueError(f"got size={said(size)}, expected pixels a side, from 4: emoji are squares")
    if not 0 < held_out < 1:
        raise ValueError(f"got held_out={held_out}, expected a fraction between 0 and 1")
    with np.load(where, allow_pickle=False) as file:
        blob, ends, codes, kinds = (file[k] for k in ("webp", "offsets", "codepoints", "category"))
    classes = tuple(sorted(set(kinds.tolist()) | {"Component"}))
    labels = np.array([classes.index(k) for k in kinds])
    images = np.stack([_drawn(blob[a:b].tobytes(), size) for a, b in zip(ends, ends[1:])])
    bases = np.array([base_of(c) for c in codes])
    names = sorted(set(bases.tolist()))
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(names))
    aside = {names[i] for i in order[: max(1, round(held_out * len(names)))]}
    fresh = np.array([b in aside for b in bases])
    drawn = {images[i].tobytes() for i in np.flatnonzero(~fresh)}  # some codes share one drawing
    alone = np.array([f and images[i].tobytes() not in drawn for i, f in enumerate(fresh)])
    return Data(
        "emoji-pictures",
        "image",
        (3, size, size),
        Arrays(images[~fresh], labels[~fresh]),
        Arrays(images[alone], labels[alone]),
        classes,
        hash=content_hash(images[~fresh], labels[~fresh]),
    )


def _drawn(webp: bytes, size: int) -> np.ndarray:
    """(3, size, size) uint8."""
    with Image.open(io.BytesIO(webp)) as opened:
        picture = opened.convert("RGB")
    if picture.size != (size, size):
        way = Image.Resampling.BOX if picture.width % size == 0 else Image.Resampling.BICUBIC
        picture = picture.resize((size, size), way)
    return np.asarray(picture).transpose(2, 0, 1)
