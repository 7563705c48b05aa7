"""Cells of BatteryML, written here as its documentation lays them out: curves, matrices, and what lacks."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import studio.tasks
from studio.data import load_data
from studio.recipes.battery.batteryml import read
from studio.recipes.battery.cells import CYCLES, EARLY, end_of_life

HIGH, LOW, NOMINAL = 3.5, 2.0, 1.1


def capacity(n: Any, fade: float = 0.001) -> Any:
    return NOMINAL * (1 - fade * np.asarray(n))


def cycle(number: int, given: float) -> dict[str, Any]:
    """A charge, a rest, and a discharge whose voltage falls evenly, but rises once as it does when less is
    asked of a cell."""
    charge = np.linspace(0, given, 31)
    voltage = HIGH - (HIGH - LOW) * charge / given
    voltage, charge = np.insert(voltage, 20, voltage[12]), np.insert(charge, 20, charge[19])
    return {
        "cycle_number": number,
        "voltage_in_V": [LOW, HIGH, HIGH, *voltage],
        "current_in_A": [1.0, 1.0, -0.001, *np.full(32, -4.0)],
        "discharge_capacity_in_Ah": [0.0, 0.0, 0.0, *charge],
        "charge_capacity_in_Ah": [0.0, given, given, *np.full(32, given)],
        "time_in_s": np.arange(35.0),
        "temperature_in_C": None,
        "internal_resistance_in_ohm": np.float64(0.02),
    }


def cell(fade: float = 0.001, last: int = 120, every: int = 5, **more: Any) -> dict[str, Any]:
    return {
        "cell_id": "a",
        "cycle_data": [cycle(n, float(capacity(n, fade))) for n in range(1, last + 1, every)],
        "nominal_capacity_in_Ah": NOMINAL,
        "max_voltage_limit_in_V": HIGH,
        "min_voltage_limit_in_V": LOW,
        "charge_protocol": [],
        "discharge_protocol": [],
        **more,
    }


def save(path: Path, held: Any) -> Path:
    path.write_bytes(pickle.dumps(held))
    return path


def test_a_cell_whose_curve_and_matrix_are_known(tmp_path: Path) -> None:
    """A charge that is even in the voltage makes rows that are, of as much as was lost since cycle 10."""
    held = cell(last=260, every=1)
    held["cycle_data"][119]["discharge_capacity_in_Ah"] = [0.0, 0.1]  # a cycle that went wrong
    del held["cycle_data"][39]  # cycle 40, for which 39 stands
    found = read(save(tmp_path / "cell-a.pkl", held))
    assert found.names == ("cell-a",) and found.notes == () and found.matrices is not None
    at = CYCLES[1:26]
    np.testing.assert_allclose(found.curves[0, 1:26], 100 * capacity(at) / NOMINAL, atol=0.11)
    np.testing.assert_allclose(found.curves[0, [1, 20]], 100 * capacity(CYCLES[[1, 20]]) / NOMINAL, rtol=1e-6)
    assert (found.curves[0, 27:] == 0).all() and abs(end_of_life(found.curves)[0] - 200) < 1
    shown = np.where(EARLY == 40, 39, EARLY)
    lost = (capacity(shown) - capacity(10)) / NOMINAL
    np.testing.assert_allclose(found.matrices[0], lost[:, None] * np.linspace(0, 1, 50), atol=1e-7)
    held["nominal_capacity_in_Ah"] = None  # then the first is
    bare = read(save(tmp_path / "cell-a.pkl", held)).curves
    np.testing.assert_allclose(bare[0, :26] * capacity(1) / NOMINAL, found.curves[0, :26], rtol=1e-6)


def test_cells_without_a_curve_are_left_out_and_told(tmp_path: Path) -> None:
    short = cell(last=62)
    late = cell(last=40)
    late["cycle_data"] = late["cycle_data"][4:]
    for name, held in {
        "a": cell(),
        "b": short,
        "c": late,
        "d": cell(cycle_data=[]),
        "e": cell(nominal_capacity_in_Ah=1100.0),
        "f": cell(0.002, max_voltage_limit_in_V=None),
    }.items():
        save(tmp_path / f"{name}.pkl", held)
    (tmp_path / "README.txt").write_text("no cell")
    found = read(tmp_path)
    assert found.names == ("a", "b", "f") and found.groups.tolist() == [0, 1, 2]
    out, bare = found.notes
    assert out.startswith("3 of 6 cells are left out (c.pkl: it begins at cycle 21")
    assert "d.pkl: no cycle has a discharge capacity" in out and "e.pkl: its first capacity is 0 %" in out
    assert bare == "2 of 3 cells have no matrix (b: no discharge near cycle 65; f: no voltage limits)"
    assert found.matrices is not None and np.isnan(found.matrices[1:]).all()
    data = load_data({"name": "battery", "path": str(tmp_path), "held_out": 0})
    assert data.shape == (256,) and [f.name for f in data.fields] == ["matrix"]
    assert {out, bare} <= set(data.notes) and data.name == tmp_path.stem.replace("_", "-")
    (tmp_path / "a.pkl").unlink()
    (tmp_path / "f.pkl").unlink()
    (tmp_path / "b.pkl").unlink()
    with pytest.raises(ValueError, match="no cell has a curve"):
        read(tmp_path)


def test_cells_of_one_protocol_are_held_out_together(tmp_path: Path) -> None:
    for i in range(6):
        rate = [{"rate_in_C": float(i // 2), "start_soc": 0.0, "end_soc": 1.0}]
        save(tmp_path / f"{i}.pkl", cell(0.001 + 0.0005 * i, charge_protocol=rate, oven=i % 3))
    assert read(tmp_path).groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert read(tmp_path, protocol="oven").groups.tolist() == [0, 1, 2, 0, 1, 2]
    rows = load_data({"name": "battery", "path": str(tmp_path), "held_out": 0.3}).rows
    assert rows is not None and len(rows[1]) == 2 and rows[1][1] - rows[1][0] == 1
    alike = cell(charge_protocol=[{"rate_in_C": 1.0}])
    for i in range(6):
        save(tmp_path / f"{i}.pkl", alike)
    found = read(tmp_path)
    assert found.groups.tolist() == list(range(6)) and "cell by cell" in found.notes[0]


def test_what_is_no_cell(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no .pkl file"):
        read(tmp_path)
    with pytest.raises(ValueError, match="x.pkl is no cell of BatteryML, expected a dict with a list"):
        read(save(tmp_path / "x.pkl", [1, 2]))
    with pytest.raises(ValueError, match=r"x.pkl holds a pathlib\.\w+, expected dicts"):
        read(save(tmp_path / "x.pkl", cell(last=2, where=Path("x"))))
    with pytest.raises(ValueError, match="has no entry 'oven', expected one as data.protocol says"):
        read(save(tmp_path / "x.pkl", cell(last=2)), protocol="oven")
    with pytest.raises(ValueError, match="does not exist"):
        load_data({"name": "battery", "path": str(tmp_path / "no.pkl")})
    assert studio.tasks.build("battery").misfit(np.zeros((2, 256), "f4")) == ""
