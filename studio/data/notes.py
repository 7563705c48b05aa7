"""What a run tells of a folder of pictures: each thing that was changed or left out once, with how often and
where it is first met."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from studio.codecs.codec import makes_pictures
from studio.data.arrays import Data
from studio.data.depth import Reading, Span
from studio.data.labels import listed
from studio.data.simulated import endless
from studio.data.walk import NOT_READ

LEFT_OUT = "files-left-out.csv"
KINDS = {
    "turned": "turned as EXIF says",
    "exif": "not turned, because their EXIF cannot be read",
    "srgb": "brought from their colour profile to sRGB",
    "profile": "taken as they are, because their colour profile does not apply",
    "transparent": "put on the background {background}, where they were transparent",
}


def several(count: int, what: str = "picture") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


KEEPS, EVERY = "data.channels=4 keeps transparency", "data.frames=all reads them as pictures of their own"


def of_data(data: Data, says: str = "samples") -> str:
    """What was read: how many samples of which shape, with which classes, from what. ``says``: what samples
    that are no pictures are called."""
    kind = "pictures (C, H, W)" if makes_pictures(data.codec) and len(data.shape) == 3 else says
    many = "as training goes, simulated" if endless(data.train) else f"{len(data.train):,}"
    text = f"{data.name}: {many} {kind} of {tuple(data.shape)}"
    text += f", {len(data.held_out):,} held out" if data.held_out is not None else ", none held out"
    if data.classes:
        text += (
            f"; {len(data.classes)} class{'' if len(data.classes) == 1 else 'es'} from "
            f"{data.read_from or 'labels'}: {listed(data.classes)}"
        )
        labels = getattr(data.train, "labels", None)
        if labels is not None:
            there = np.unique(labels)
            absent = [c for i, c in enumerate(data.classes) if i not in there]
            text += f"; no sample to train on has the class {listed(absent)}" if absent else ""
            none = int((np.asarray(labels) < 0).sum())
            text += f"; {none:,} without a label" if none else ""
    else:
        text += f"; no classes{f' ({data.read_from})' if data.read_from else ''}"
    text += f"; numbers: {', '.join(data.numeric)}" if data.numeric else ""
    return text + (f"; conditions: {', '.join(f.name for f in data.fields)}" if data.fields else "")


def of_pictures(
    told: Sequence[tuple[str, Mapping[str, str]]], background: tuple[int, int, int], fix: str = KEEPS
) -> list[str]:
    """``told``: the name of every picture and what was done to it (`studio.data.decode.decode`); ``fix``:
    what keeps transparency, if anything."""
    lines = []
    for kind, text in KINDS.items():
        those = [(name, what[kind]) for name, what in told if kind in what]
        if those:
            name, detail = those[0]
            first = f"{name}: {detail}" if detail else name
            way = f"; {fix}" if fix and kind == "transparent" else ""
            lines.append(
                f"{several(len(those))} {'was' if len(those) == 1 else 'were'} "
                f"{text.format(background=list(background))}{way} (first {first})"
            )
    return lines


def of_frames(told: Sequence[tuple[str, Mapping[str, str]]], fix: str = EVERY) -> list[str]:
    """As `of_pictures`, of files that hold more than one."""
    counts = [(name, int(what["frames"])) for name, what in told if "frames" in what]
    if not counts:
        return []
    rest = sum(number - 1 for _, number in counts)
    read = f"only the first of each is read, {rest} further {'is' if rest == 1 else 'are'} left out"
    return [
        f"{several(len(counts), 'file')} with several pages or frames (first {counts[0][0]}: "
        f"{counts[0][1]}): {read}" + (f"; {fix}" if fix else "")
    ]


def of_depth(spans: Sequence[Span], reading: Reading) -> list[str]:
    counted = [s for s in spans if not (s.floats and reading.unit)]
    lines = []
    if counted:
        top = max(s.top for s in counted)
        lines.append(
            f"{several(len(counted), 'deep picture')} with values up to {top:g}: read as {reading.bits} "
            "bits; data.bits changes it"
        )
    if len(counted) < len(spans):
        lines.append(f"{several(len(spans) - len(counted), 'picture')} of floats in 0..1: 1 is white")
    return lines


def of_failed(root: Path, failed: Mapping[str, str], lost: Sequence[str]) -> list[str]:
    """``lost``: classes of which no file could be read."""
    lines = []
    if failed:
        name, why = next(iter(failed.items()))
        lines.append(
            f"the first that does not decode is {_below(root, name)} ({why}); all of them stand in {LEFT_OUT}"
        )
    if lost:
        which = ", ".join(map(repr, lost))
        lines.append(
            f"no file of {'class' if len(lost) == 1 else 'the classes'} {which} decodes: left out, it "
            "cannot be asked for"
        )
    return lines


def of_left(root: Path, left: Mapping[Path, str]) -> list[str]:
    """Each reason once, with how often and where it is first met."""
    lines = []
    for reason, those in groupby(sorted(left, key=lambda p: left[p]), key=lambda p: left[p]):
        paths = sorted(those)
        first = f"first {paths[0].relative_to(root)}" if len(paths) > 1 else str(paths[0].relative_to(root))
        if reason == NOT_READ:
            endings = ", ".join(sorted({p.suffix.lower() for p in paths}))
            lines.append(
                f"{several(len(paths), 'file')} of other kinds left out ({endings}); convert them to "
                "PNG or JPEG"
            )
        else:
            lines.append(f"{len(paths)} left out ({first}): {reason}")
    return lines


def table(root: Path, failed: Mapping[str, str]) -> str:
    """CSV text: file,reason."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("file", "reason"))
    writer.writerows((_below(root, name), why) for name, why in failed.items())
    return out.getvalue()


def _below(root: Path, name: str) -> str:
    path = Path(name)
    return str(path.relative_to(root)) if path.is_relative_to(root) else name
