"""Folders and packages of others that are called like ours."""

import sys
from importlib.util import find_spec
from pathlib import Path

# where the packages lie; beside them configs/ and, in a checkout, data/
HOME = Path(__file__).resolve().parents[2]


def check(*names: str) -> None:
    """Raises ``ImportError`` for another package called like one of ours, which would be imported instead.

    Plain folders are none: on the path they lose to packages. Where ours are only found by an import hook,
    which comes after the path, their place joins it.
    """
    for name in names:
        if place_of(name) is None:
            sys.path.append(str(HOME))
        refuse(name, place_of(name))


def check_data(name: str) -> None:
    """The same of a folder without code, which is read by its place and not imported."""
    if (place := place_of(name)) is not None:
        refuse(name, place)


def refuse(name: str, place: Path | None) -> None:
    if place != HOME / name:
        found = "is missing" if place is None else f"was found in {place}"
        raise ImportError(
            f"the package {name!r} of drift-studio {found}, expected {HOME / name}: another distribution "
            "of that name is in the way; "
            "rename it or work in another folder if it is yours, otherwise install drift-studio into an "
            "environment of its own"
        )


def place_of(name: str) -> Path | None:
    """The folder, or the file, that would be imported; None for a plain folder or nothing."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return None
    own = Path(spec.origin).resolve()
    return own.parent if own.name == "__init__.py" else own


def at_home(path: str | Path) -> Path:
    """A file by its path from here or, where there is none and the path is relative, the one that comes with
    the repository."""
    where = Path(path).expanduser()
    ours = HOME / where
    return ours if not where.exists() and ours.is_file() else where
