"""Generated molecules as files: .smi (SMILES and name), .csv (everything known of each), .sdf (with places in
the plane) and a sheet."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studio.chem import decode, properties
from studio.chem.drawing import placed, svg_sheet
from studio.chem.toolkit import Chem, canonical
from studio.runtime import files

SHOWN = 60  # molecules on the sheet


@dataclass(frozen=True)
class Described:
    """One sample. ``mol``: its graph as it is, None where that is no molecule; ``pieces`` it falls into;
    ``corrected``: SMILES after the published correction, empty where that fails; ``asked`` and ``obtained``
    by the condition's name (obtained: those that RDKit computes, of ``mol``)."""

    name: str
    mol: Chem.Mol | None
    pieces: int
    corrected: str
    asked: Mapping[str, float]
    obtained: Mapping[str, float]

    @property
    def smiles(self) -> str:
        return "" if self.mol is None else canonical(self.mol)


def described(
    values: np.ndarray,
    atoms: Sequence[str],
    *,
    seeds: Sequence[int] = (),
    asked: Sequence[Mapping[str, float]] = (),
) -> list[Described]:
    """Of (N, n, n + 1) graphs; ``seeds`` give the names and ``asked`` the targets of each, where there are
    any."""
    out = []
    for i, graph in enumerate(values):
        mol, target = decode.plain(graph, atoms), dict(asked[i]) if asked else {}
        known = [n for n in target if properties.known(n)]
        got = properties.compute([mol], known)[0] if known else []
        better = mol if mol is not None and decode.pieces(mol) == 1 else decode.corrected(graph, atoms)
        out.append(
            Described(
                f"seed-{seeds[i]:06d}" if seeds else f"{i:06d}",
                mol,
                0 if mol is None else decode.pieces(mol),
                "" if better is None else canonical(better),
                target,
                {n: float(v) for n, v in zip(known, got)},
            )
        )
    return out


def write_all(folder: Path, samples: Sequence[Described]) -> None:
    """``samples.smi``, ``samples.csv``, ``samples.sdf`` and ``sheet.svg`` (of the first ones that are
    molecules)."""
    good = [s for s in samples if s.mol is not None]
    files.write_text(folder / "samples.smi", smi(samples))
    files.write_text(folder / "samples.csv", table(samples))
    files.write_text(folder / "samples.sdf", sdf(samples))
    captions = [" ".join(f"{k}={v:.3g}" for k, v in s.obtained.items()) or s.name for s in good[:SHOWN]]
    empty = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>\n'
    files.write_text(
        folder / "sheet.svg",
        svg_sheet([s.mol for s in good[:SHOWN] if s.mol is not None], captions) if good else empty,
    )


def smi(samples: Sequence[Described]) -> str:
    """A line for each sample, as it was made: in pieces where it is, without a SMILES where it is no
    molecule."""
    return "".join(f"{s.smiles}\t{s.name}\n" for s in samples)


def table(samples: Sequence[Described]) -> str:
    """A row for each sample, molecule or not: name, smiles, valid, connected, corrected, then asked and
    obtained for each condition."""
    names = list(dict.fromkeys(k for s in samples for k in s.asked))
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "name",
            "smiles",
            "valid",
            "connected",
            "corrected",
            *(f"{kind}_{n}" for n in names for kind in ("asked", "obtained")),
        ]
    )
    for s in samples:
        numbers = [cell(d.get(n)) for n in names for d in (s.asked, s.obtained)]
        writer.writerow([s.name, s.smiles, int(s.mol is not None), int(s.pieces == 1), s.corrected, *numbers])
    return out.getvalue()


def cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"


def sdf(samples: Sequence[Described]) -> str:
    """The molecules with places in the plane and their numbers as data; a record without atoms for what is no
    molecule."""
    out = []
    for s in samples:
        mol = Chem.Mol() if s.mol is None else unspecified(placed(s.mol))
        mol.SetProp("_Name", s.name)
        data = [
            (f"{kind}_{k}", v)
            for kind, of in (("asked", s.asked), ("obtained", s.obtained))
            for k, v in of.items()
        ]
        out.append(Chem.MolToMolBlock(mol) + "".join(f">  <{k}>\n{cell(v)}\n\n" for k, v in data) + "$$$$\n")
    return "".join(out)


def unspecified(mol: Chem.Mol) -> Chem.Mol:
    """A copy in which places in the plane say nothing of double bonds: a graph does not know their
    stereochemistry."""
    mol = Chem.Mol(mol)
    for found in Chem.FindPotentialStereo(mol):
        if found.type == Chem.StereoType.Bond_Double and found.specified == Chem.StereoSpecified.Unspecified:
            mol.GetBondWithIdx(found.centeredOn).SetStereo(Chem.BondStereo.STEREOANY)
    return mol
