"""The page of batteries with real cells beside the simulated ones: whole protocols are judged, and nothing
but sums is kept of the file."""

from pathlib import Path

import numpy as np
import pytest

from studio.recipes.battery.cells import simulate
from studio.reproduce import battery, command


def file_of_cells(path: Path) -> dict[str, np.ndarray]:
    """Two sets of 24 cells, of one of which four are treated alike; a gap, and matrices of zeros."""
    made = simulate(48, seed=9)
    ends = np.clip((made["curve"] > 60).sum(1), 20, 250)
    soh = np.where(np.arange(256) < ends[:, None], made["curve"] / 100, np.nan)
    soh[3, 7] = np.nan
    matrix = made["matrix"].copy()
    matrix[40:42] = 0
    cond = np.arange(48) // np.where(np.arange(48) < 24, 4, 1)
    arrays = {
        "soh": soh,
        "valid_len": ends,
        "dataset": np.repeat(["a", "b"], 24),
        "cond": cond[:, None].repeat(3, 1).astype(np.float16),
        "capacity_matrix_20x50": matrix,
    }
    np.savez(path, **arrays)
    return arrays


def test_cells_of_one_protocol_are_judged_together(tmp_path: Path) -> None:
    arrays = file_of_cells(tmp_path / "cells.npz")
    sets, curves, matrices, groups, ends = battery.real_cells(tmp_path / "cells.npz")
    assert curves[3, 6] >= curves[3, 7] >= curves[3, 8] > 60 and np.isnan(matrices[40:42]).all()
    train, aside, test = battery.thirds(sets, groups, 0)
    assert sorted([*train, *aside, *test]) == list(range(48))
    assert not {*groups[train], *groups[aside]} & {*groups[test]} and not {*groups[train]} & {*groups[aside]}
    assert [(sets[test] == name).sum() for name in "ab"] == [8, 8]
    assert np.array_equal(ends, arrays["valid_len"])


@pytest.mark.slow
def test_a_whole_page_with_real_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_of_cells(tmp_path / "cells.npz")
    monkeypatch.setenv(battery.FILE, str(tmp_path / "cells.npz"))
    written = command.reproduce("battery", quick=True, out=tmp_path / "out", quiet=True)
    text = (written.folder / "README.md").read_text()
    assert "## Real cells" in text and "| A |" in text and "nan" not in text and str(tmp_path) not in text
    assert not [p for p in (written.folder / "jobs").glob("real-0.npz")]
