"""Large pictures are opened in silence, by many threads at once."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from studio.runtime.untrusted import open_picture


def test_threads_leave_the_filters_of_warnings_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "large.png"  # above Pillow's limit, below twice that
    Image.new("1", (12_000, 9_000)).save(file)

    def opened(_: int) -> tuple[int, int]:
        with open_picture(file) as picture:
            return picture.size

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            before = list(warnings.filters)
            with ThreadPoolExecutor(4) as pool:
                sizes = list(pool.map(opened, range(400)))
            assert warnings.filters == before
    finally:
        sys.setswitchinterval(switching)
    assert set(sizes) == {(12_000, 9_000)}
