"""Arrays that a caller names by a file: an .npy, or an .npz by what they are for."""

from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".npy", ".npz")


def is_array(given: Any) -> bool:
    """Whether something names such a file."""
    return isinstance(given, str | Path) and Path(given).suffix.lower() in SUFFIXES


def read(given: Any, *names: str) -> Any:
    """The array of an .npy, or of an .npz the first of these ``names``;
    anything else as it is. Raises ``ValueError`` for a file that holds none."""
    if not isinstance(given, str | Path):
        return given
    wanted = " or ".join(map(repr, names))
    try:
        found = np.load(Path(given).expanduser(), allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"got {names[0]}={given}, which does not exist; check the path") from None
    except Exception:  # whatever a damaged file makes numpy raise
        raise ValueError(f"got {names[0]}={given}, expected an .npy, or an .npz with {wanted}") from None
    if isinstance(found, np.ndarray):
        return found
    with found as file:
        name = next((name for name in names if name in file), None)
        if name is None:
            raise ValueError(f"{given} holds {', '.join(file)}, expected {wanted} among them")
        try:
            return file[name]
        except Exception:  # as above
            raise ValueError(f"{given} holds {name!r}, which is no plain array or is damaged") from None
