"""Seeds as people write them: ``"0-7,12"``, a number, or anything that gives whole numbers. They are counted
before any is listed."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any

MOST = 10_000_000
AT_ONCE = 100_000  # of one call that keeps its samples in memory: `sample` and the page


def parse_seeds(text: str | int | Sequence[int] | Iterable[int], *, most: int = MOST) -> tuple[int, ...]:
    """``"0-7,12"`` to (0, …, 7, 12); whole numbers from 0 to below 2⁶³, in any form. Raises ``ValueError``
    for what is none, and at once for more than ``most`` of them."""
    if isinstance(text, str):
        return tuple(seed for span in _spans(text, most) for seed in span)
    if not isinstance(text, Iterable) or isinstance(text, bytes | Mapping) or getattr(text, "ndim", 1) == 0:
        return (_seed(text),)
    count = len(text) if isinstance(text, Sized) else None
    if count is not None and count > most:
        raise _too_many(f"{count:,} seeds", most, f"--num {count}")
    items = text.tolist() if hasattr(text, "tolist") else islice(text, most + 1)
    seeds = tuple(_seed(s) for s in items)
    if len(seeds) > most:
        raise _too_many(f"more than {most:,} seeds", most, "--num N")
    return seeds


def _spans(text: str, most: int) -> list[range]:
    spans: list[range] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,20})(?:-([0-9]{1,20}))?\s*", part)
        if found is None or (found[2] and int(found[2]) < int(found[1])):
            raise ValueError(f"got seeds {_short(text)}, expected numbers and ranges such as 0-7,12")
        spans.append(range(_seed(int(found[1])), _seed(int(found[2] or found[1])) + 1))
    count = sum(span.stop - span.start for span in spans)  # len() counts no further than 2⁶³
    if count > most:
        option = (
            f"--num {count}"
            if len(spans) == 1 and spans[0].start == 0
            else f"--seeds {text if len(text) <= 60 else '...'}"
        )
        raise _too_many(f"seeds {_short(text)}, {count:,} of them", most, option)
    return spans


def _too_many(got: str, most: int, option: str) -> ValueError:
    if most == AT_ONCE:
        return ValueError(
            f"got {got}, expected at most {most:,} at once; make as many with `studio generate MODEL "
            f"--out DIR {option}`"
        )
    return ValueError(f"got {got}, expected at most {most:,}; ask for less at once")


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}…"


def _seed(value: Any) -> int:
    value = value.item() if hasattr(value, "item") else value
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and not value.is_integer())
    ):
        raise ValueError(
            f"got the seed {value!r} ({type(value).__name__}), expected a whole number from 0, or text "
            "such as 0-7,12"
        )
    if not 0 <= value < 2**63:
        raise ValueError(f"got the seed {int(value)}, expected a whole number from 0 to below 2**63")
    return int(value)


def seeds_text(seeds: int | Sequence[int]) -> str:
    """(0, 1, 2, 7) to ``"0-2,7"``; the order is kept."""
    runs: list[list[int]] = []
    for seed in [seeds] if isinstance(seeds, int) else seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def seed_of(name: Path, base: int) -> int:
    """A seed below 2³¹ from a file's name and the run's seed."""
    return (
        int.from_bytes(hashlib.sha256(name.as_posix().encode(errors="surrogatepass")).digest()[:4], "big")
        + base
    ) % 2**31
