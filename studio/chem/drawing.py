"""Molecules as pictures: one as PNG, many as a sheet of vectors."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from studio.chem import decode
from studio.chem.toolkit import Chem, quiet

SIDE = 216
RED = (200, 40, 40)


def picture(graph: np.ndarray, atoms: Sequence[str], *, side: int = SIDE) -> Image.Image:
    """A (side, side) RGB drawing of a graph; one that is no molecule is drawn as it is, in a red frame. An
    empty graph is an empty frame."""
    mol = decode.plain(graph, atoms)
    if mol is not None:
        return drawn(mol, side)
    image = (
        as_it_is(decode.build(graph, atoms), side)
        if graph[:, 0].any()
        else Image.new("RGB", (side, side), "white")
    )
    ImageDraw.Draw(image).rectangle((1, 1, side - 2, side - 2), outline=RED, width=2)
    return image


def drawn(mol: Chem.Mol, side: int = SIDE, *, prepare: bool = True) -> Image.Image:
    """One molecule; ``prepare``: RDKit finds places for its atoms and kekulises it, which needs one that is
    sanitised."""
    from rdkit.Chem.Draw import rdMolDraw2D

    board = rdMolDraw2D.MolDraw2DCairo(side, side)
    board.drawOptions().prepareMolsBeforeDrawing = prepare  # type: ignore[assignment]
    with quiet():
        board.DrawMolecule(placed(mol))
    board.FinishDrawing()
    return Image.open(io.BytesIO(board.GetDrawingText())).convert("RGB")


def as_it_is(mol: Chem.Mol, side: int = SIDE) -> Image.Image:
    """Atoms and bonds with nothing checked."""
    mol = Chem.Mol(mol)
    mol.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(mol)
    try:
        return drawn(mol, side, prepare=False)
    # where bonds are everywhere, RDKit's drawing may still divide by nothing
    except (RuntimeError, ValueError):
        return drawn(on_a_circle(mol), side, prepare=False)


def placed(mol: Chem.Mol) -> Chem.Mol:
    """With places in the plane for its atoms, those it has or RDKit's; on a circle where RDKit puts two atoms
    on one spot or finds no places."""
    from rdkit.Chem import rdDepictor

    if mol.GetNumConformers():
        return mol
    mol = Chem.Mol(mol)
    try:
        rdDepictor.Compute2DCoords(mol)
    except (RuntimeError, ValueError):
        return on_a_circle(mol)
    at = mol.GetConformer().GetPositions()[:, :2]
    gaps = np.linalg.norm(at[:, None] - at[None], axis=-1) + np.eye(len(at))
    return mol if gaps.min() > 1e-2 else on_a_circle(mol)


def on_a_circle(mol: Chem.Mol) -> Chem.Mol:
    """The same with its atoms at equal distances."""
    count = mol.GetNumAtoms()
    places = Chem.Conformer(count)
    for i in range(count):
        angle = 2 * math.pi * i / count
        places.SetAtomPosition(i, (count / 4 * math.cos(angle), count / 4 * math.sin(angle), 0.0))
    mol = Chem.Mol(mol)
    mol.RemoveAllConformers()
    mol.AddConformer(places)
    return mol


def svg_sheet(
    mols: Sequence[Chem.Mol], captions: Sequence[str] = (), *, columns: int = 6, side: int = SIDE
) -> str:
    """An SVG of all molecules in rows with a caption below each. Raises ``ValueError`` for none."""
    from rdkit.Chem.Draw import rdMolDraw2D

    if not mols:
        raise ValueError("got no molecules to draw, expected at least one")
    columns = min(columns, len(mols))
    rows = -(-len(mols) // columns)
    board = rdMolDraw2D.MolDraw2DSVG(columns * side, rows * side, side, side)
    board.DrawMolecules([placed(m) for m in mols], legends=list(captions) or [""] * len(mols))
    board.FinishDrawing()
    return board.GetDrawingText()
