"""Molecules as pictures: one as PNG, many as a sheet of vectors."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from studio.chem import decode
from studio.chem.toolkit import Chem, quiet

SIDE = 216
RED = (200, 40, 40)


def picture(graph: np.ndarray, atoms: Sequence[str], *, side: int = SIDE) -> Image.Image:
    """A (side, side) RGB drawing of a graph; one that is no molecule is drawn as it is, in a red frame. An empty graph is an empty frame."""
    mol = decode.plain(graph, atoms)
    image = (
        Image.new("RGB", (side, side), "white") if not graph[:, 0].any() else drawn(mol or decode.build(graph, atoms), side, sound=mol is not None)
    )
    if mol is None:
        ImageDraw.Draw(image).rectangle((1, 1, side - 2, side - 2), outline=RED, width=2)
    return image


def drawn(mol: Chem.Mol, side: int = SIDE, *, sound: bool = True) -> Image.Image:
    """One molecule; ``sound``: it is sanitised, otherwise atoms and bonds are shown as they stand."""
    from rdkit.Chem.Draw import rdMolDraw2D

    board = rdMolDraw2D.MolDraw2DCairo(side, side)
    with quiet():
        if not sound:
            board.drawOptions().prepareMolsBeforeDrawing = False
            mol = unsound(mol)
        board.DrawMolecule(mol)
    board.FinishDrawing()
    return Image.open(io.BytesIO(board.GetDrawingText())).convert("RGB")


def unsound(mol: Chem.Mol) -> Chem.Mol:
    """With places for its atoms, and nothing checked."""
    from rdkit.Chem import rdDepictor

    mol = Chem.Mol(mol)
    mol.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(mol)
    rdDepictor.Compute2DCoords(mol)
    return mol


def svg_sheet(mols: Sequence[Chem.Mol], captions: Sequence[str] = (), *, columns: int = 6, side: int = SIDE) -> str:
    """An SVG of all molecules in rows with a caption below each. Raises ``ValueError`` for none."""
    from rdkit.Chem.Draw import rdMolDraw2D

    if not mols:
        raise ValueError("got no molecules to draw, expected at least one")
    columns = min(columns, len(mols))
    rows = -(-len(mols) // columns)
    board = rdMolDraw2D.MolDraw2DSVG(columns * side, rows * side, side, side)
    board.DrawMolecules(list(mols), legends=list(captions) or [""] * len(mols))
    board.FinishDrawing()
    return board.GetDrawingText()
