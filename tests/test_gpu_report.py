"""The report of a GPU, tried on the CPU at tiny sizes: what is measured, what is told of what fails, and that
nothing is written where there is no GPU."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_jobs import JOBS, rows
from benchmarks.gpu_report import bounded, main, outcome, page


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "gpu")]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "no GPU here" in said.err and not said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_report_is_written(tmp_path: Path) -> None:
    """A section in a process of its own: its numbers in both files, and the reason of what cannot run."""
    assert main(["--device", "cpu", "--quick", "--only", "attention", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    found = report["sections"]["attention"]
    assert not found["failed"] and {"device", "torch", "host"} <= set(report["machine"])
    ran = [row for row in found["rows"] if "ms" in row]
    assert {"ours, auto", "ours, sdpa", "SDPA, flash alone"} <= {row["side"] for row in ran}
    assert (
        all(row["ms"] > 0 and row["peak_mib"] > 0 for row in ran) and "milliseconds" in report["units"]["ms"]
    )
    text = (tmp_path / "README.md").read_text()
    assert all(f"| {row['side']} | {row['ms']:.3g} | " in text for row in ran)
    assert "ours, varlen: ValueError: varlen attention runs on cuda, got cpu" in text


SLOW = pytest.mark.slow  # minutes of a slow machine


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW) for name in ("train", "sample", "scans")])
def test_a_section_measures_all_sides(name: str) -> None:
    """Those that a CPU has, that is."""
    made = list(JOBS[name]("cpu", True))
    assert {row["side"] for row in made if "failed" in row} <= {"mamba"}
    sides = {row["side"] for row in made if row.get("ms", 0) > 0}
    expected = {"scans": {"chunked", "reference", "dit", "dis", "rwkv"}}
    assert sides >= expected.get(name, {"ours, bf16", "diffusers, bf16 autocast"})


def test_what_fails_or_hangs_is_told_with_what_came_before() -> None:
    def bad() -> None:
        raise RuntimeError("no such kernel\nand more")

    first, second = rows("x", {"a": lambda: bad, "b": lambda: lambda: None}, "cpu", 0.0)
    assert first["failed"] == "RuntimeError: no such kernel" and second["ms"] >= 0
    begun = time.monotonic()
    text, why = bounded([sys.executable, "-c", "print('{}', flush=True); import time; time.sleep(60)"], 1.0)
    assert text == "{}\n" and why == "stopped after its 1 s" and time.monotonic() - begun < 20
    text, why = bounded([sys.executable, "-c", "print('{}'); raise SystemExit('out of memory')"], 20.0)
    assert text == "{}\n" and why == "ended with 1: out of memory"


def test_the_tests_and_the_page_of_what_failed() -> None:
    lines = [
        "..s.F",
        "FAILED tests/a.py::test_b - AssertionError",
        "SKIPPED [1] tests/c.py:3: could not import 'mamba_ssm'",
        "1 failed, 3 passed, 1 skipped, 400 deselected in 12.34s",
    ]
    tests = outcome("\n".join(lines)) | {"failed": "ended with 1"}
    assert tests["summary"] == lines[3] and tests["lines"] == lines[1:3]
    timed = [{"what": "x", "side": side, "ms": ms, "peak_mib": 1.0} for side, ms in (("a", 2.0), ("b", 5.0))]
    failed = [{"what": what, "side": "c", "failed": "OutOfMemoryError"} for what in "xy"]
    report = {
        "machine": {"device": "D", "torch": "T", "host": "H"},
        "date": "today",
        "seconds": 1,
        "command": "C",
        "sections": {"tests": tests, "scans": {"rows": timed + failed, "failed": "stopped after its 80 s"}},
    }
    text = page(report)
    assert "| b | 5 | 2.50 | 1 |" in text and "- scans, c: OutOfMemoryError (2 times)" in text
    assert "- scans: stopped after its 80 s" in text and lines[3] in text and f"- {lines[1]}" in text
