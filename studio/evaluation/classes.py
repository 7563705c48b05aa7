"""Class numbers of two sets are not the same numbers: what is compared are the names."""

import unicodedata
from collections.abc import Sequence

import numpy as np


def fold(name: str) -> str:
    """A name without outer spaces, case and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).strip().casefold())


def onto(labels: np.ndarray, classes: Sequence[str], known: Sequence[str], who: str) -> np.ndarray:
    """(N,) labels (−1: none) among ``classes`` as places in ``known`` by name: the exact one, or the only one
    but for case. A class without a name is called by its number. Raises ``ValueError`` for a class that
    ``who`` does not know."""
    if not known:
        raise ValueError(
            f"{who} does not name its classes, expected names to compare with; leave this measure out, or "
            "give them as `classes`"
        )
    table = np.full(max(int(labels.max(initial=-1)), 0) + 2, -1)
    for k in np.unique(labels[labels >= 0]).tolist():
        name = classes[k] if k < len(classes) else str(k)
        found = [i for i, other in enumerate(known) if other == name] or [
            i for i, other in enumerate(known) if fold(other) == fold(name)
        ]
        if len(found) != 1:
            shown = ", ".join(known[:12]) + (f" … ({len(known)} classes)" if len(known) > 12 else "")
            hint = (
                ""
                if classes
                else "; the labels have no names: give them, such as an array `classes` in the .npz, or "
                "sub-folders"
            )
            raise ValueError(
                f"got samples of the class {name!r}, expected one of those of {who}: {shown}{hint}"
            )
        table[k] = found[0]
    return table[labels]


def among(names: Sequence[str], known: Sequence[str]) -> bool:
    """Whether there are names, and all of them are known, but for case."""
    return bool(names) and {fold(n) for n in names} <= {fold(n) for n in known}
