"""Whose a file of samples is. A picture says in its recipe what made it; an .npy of many samples ends with a
line that does, behind the array, where readers of .npy do not look; ``samples.npz`` holds it as ``identity``.
Files of sets that are older carry none and belong to their own manifest.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

OWN = "own"  # the path that a model was trained on
PLAIN = ("model_hash", "weights", "num_steps", "sampler", "guidance", "dtype", "studio", "torch")
# what is meant where nothing is said
MAYBE: dict[str, Any] = {"path": OWN, "conditions": {}, "fields": {}, "borrowed": {}, "plan_hash": ""}
FOREIGN = ("init", "mask", "strength", "source", "direction")  # of pictures that did not start from noise
MARK = b"drift-studio"
LENGTH = len(MARK) + 1 + 16 + 1 + 12 + 1


def digest(pinned: Mapping[str, Any]) -> str:
    """16 hex digits of all that a manifest pins."""
    return hashlib.sha256(json.dumps(pinned, sort_keys=True).encode()).hexdigest()[:16]


def older_and_earlier(manifest: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Whether a set was begun before its files said whose they are, and the digests that it had before it
    grew."""
    return "path" not in manifest["pinned"], tuple(manifest.get("earlier", ()))


def differing(recipe: Mapping[str, Any], pinned: Mapping[str, Any]) -> list[str]:
    """In what the recipe of a picture differs from the settings of a set; its seed and label are another
    matter."""
    found = [k for k in PLAIN if recipe.get(k) != pinned.get(k)]
    found += [k for k, default in MAYBE.items() if (recipe.get(k) or default) != (pinned.get(k) or default)]
    found += (
        ["deterministic"] if bool(recipe.get("deterministic")) != bool(pinned.get("deterministic")) else []
    )
    return found + [k for k in FOREIGN if k in recipe]


def line_of(digest: str, first: int) -> bytes:
    """What stands behind the array of the unit that begins with sample ``first``."""
    return MARK + f" {digest} {first:012d}\n".encode()


def is_of(path: Path, digest: str, first: int, *, older: bool) -> bool:
    """Whether an .npy is this unit; ``older``: of a set whose units may say nothing."""
    with open(path, "rb") as handle:
        handle.seek(0, 2)
        handle.seek(max(0, handle.tell() - LENGTH))
        tail = handle.read()
    return tail == line_of(digest, first) if tail.startswith(MARK) else older


def of_npz(array: np.ndarray | None, digest: str, *, older: bool) -> bool:
    """The same of ``samples.npz``, by its array ``identity``, None where it has none."""
    return older if array is None else str(array) == digest
