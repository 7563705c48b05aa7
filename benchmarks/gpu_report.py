"""What a GPU makes of the studio: its tests, and what takes how long beside others' code.

    python -m benchmarks.gpu_report [--device cuda] [--quick] [--out docs/results/gpu] [--only tests,scans]

Every section (the tests marked ``gpu``, a training step, guided sampling, attention, the recurrences) is a
process of its own with its share of eight minutes: one that fails or takes longer is told, with what it had
measured until then, and the others go on. Writes ``README.md`` and ``report.json`` into ``--out``. Without a
GPU it says so, writes nothing and exits with 2. ``--device cpu --quick`` runs tiny sizes, to try the report.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from backbones.host import model_name
from benchmarks.common import parser_of
from benchmarks.gpu_jobs import JOBS, Row

ROOT = Path(__file__).parents[1]
SECONDS = {"tests": 130, "train": 120, "sample": 70, "attention": 70, "scans": 80}  # at most; 470 in all
TITLES = {
    "train": "A training step",
    "sample": "Guided sampling",
    "attention": "Attention",
    "scans": "The recurrences",
}


def bounded(command: Sequence[str], seconds: float) -> tuple[str, str]:
    """What a process printed within its time, and what went wrong with it (empty: nothing)."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, start_new_session=True)
        why = ""
        try:
            if process.wait(seconds):
                err.seek(0)
                last = next((line for line in reversed(err.read().splitlines()) if line.strip()), "")
                why = f"ended with {process.returncode}" + (f": {last.strip()[:300]}" if last else "")
        except subprocess.TimeoutExpired:
            why = f"stopped after its {seconds:.0f} s"
        finally:
            if process.poll() is None:  # with the workers that a compiler leaves behind
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        return out.read(), why


def measured(name: str, device: str, quick: bool) -> dict[str, Any]:
    """A section: its rows, and why it ended early where it did."""
    command = [sys.executable, "-m", "benchmarks.gpu_report", "--section", name, "--device", device]
    text, why = bounded(command + ["--quick"] * quick, SECONDS[name])
    return {"rows": [json.loads(line) for line in text.splitlines() if line.startswith("{")], "failed": why}


def tested(quick: bool) -> dict[str, Any]:
    """The tests marked ``gpu``: pytest's last line, and which failed or were left out."""
    files = ["tests/backbones/test_chunked.py"] if quick else ["tests"]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-rfEs", "-p", "no:cacheprovider", *files]
    text, why = bounded(command, SECONDS["tests"])
    return outcome(text) | {"failed": why}


def outcome(text: str) -> dict[str, Any]:
    """Of pytest's output: the counts, and a line of each test that failed, broke or was skipped."""
    lines = [line.strip("= \n") for line in text.splitlines()]
    counts = [
        line for line in lines if re.search(r"\d+ (passed|failed|skipped|deselected|errors?)\b.* in ", line)
    ]
    kept = [line for line in lines if line.startswith(("FAILED ", "ERROR ", "SKIPPED "))]
    return {"summary": counts[-1] if counts else "", "lines": kept}


def machine(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    found: dict[str, Any] = {
        "device": model_name(),
        "torch": torch.__version__,
        "host": f"{model_name()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
    }
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        found["device"] = f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
        found["cuda"] = torch.version.cuda or torch.version.hip
    return found


def write(report: dict[str, Any], folder: Path) -> None:
    """``report.json`` and the page of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "README.md").write_text(page(report))


def page(report: dict[str, Any]) -> str:
    """The report as Markdown: tables of what ran, a list of what did not."""
    about, sections = report["machine"], report["sections"]
    build = ", ".join(f"{k} {about[k]}" for k in ("torch", "cuda", "python") if about.get(k))
    text = [
        "# On a GPU",
        "",
        f"{about['device']}; {build}; host {about['host']}. {report['date']}, {report['seconds']} s.",
        f"`{report['command']}` measures it again. Numbers are medians, also in `report.json`; the side that "
        "is named first in a table is what the others are divided by.",
    ]
    missing: dict[str, int] = {}  # what could not run, and at how many sizes
    for name, section in sections.items():
        if section["failed"]:
            missing[f"{name}: {section['failed']}"] = 1
        if name == "tests":
            text += ["", "## Tests marked `gpu`", "", section["summary"] or "No summary.", ""]
            text += [f"- {line}" for line in section["lines"]]
            continue
        text += ["", f"## {TITLES[name]}"]
        for row in section["rows"]:
            if "failed" in row:
                line = f"{name}, {row['side']}: {row['failed']}"
                missing[line] = missing.get(line, 0) + 1
        ran = [row for row in section["rows"] if "ms" in row]
        for what in dict.fromkeys(row["what"] for row in ran):
            text += ["", f"{what}:", "", "| | ms | over the first | peak, MiB |", "|---|---|---|---|"]
            of_it = [row for row in ran if row["what"] == what]
            text += [
                f"| {r['side']} | {r['ms']:.3g} | {r['ms'] / of_it[0]['ms']:.2f} | {r['peak_mib']:.0f} |"
                for r in of_it
            ]
    told = [f"- {line}" + (f" ({n} times)" if n > 1 else "") for line, n in missing.items()]
    text += ["", "## What could not run", "", *(told or ["Everything ran."])]
    return "\n".join(text) + "\n"


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "gpu")
    parser.add_argument("--only", default=",".join(SECONDS), help="sections, comma-separated")
    parser.add_argument("--section", choices=list(JOBS), help="measure one, for a process of its own")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := [name for name in options.only if name not in SECONDS]:
        parser.error(f"got the section {unknown[0]!r}, expected one of {', '.join(SECONDS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_of(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "no GPU here: torch finds no CUDA device, so nothing was measured and nothing written",
            file=sys.stderr,
        )
        return 2
    if options.section:
        for row in JOBS[options.section](options.device, options.quick):
            print(json.dumps(row), flush=True)
        return 0
    begun, sections = time.time(), {}
    for name in options.only:
        print(f"{name} (at most {SECONDS[name]} s)", flush=True)
        sections[name] = (
            tested(options.quick) if name == "tests" else measured(name, options.device, options.quick)
        )
        for row in sections[name].get("rows", []):
            told: Row = row
            print(
                f"  {told['what']}, {told['side']}: {told.get('failed') or format(told['ms'], '.3g') + ' ms'}"
            )
        print(f"  {sections[name].get('summary', '')} {sections[name]['failed']}".rstrip())
    words = " ".join(sys.argv[1:] if arguments is None else arguments)
    write(
        {
            "machine": machine(options.device),
            "date": time.strftime("%Y-%m-%d"),
            "seconds": round(time.time() - begun),
            "command": f"python -m benchmarks.gpu_report {words}".rstrip(),
            "units": {
                "ms": "milliseconds a call, median",
                "peak_mib": "MiB of device memory at most (on a CPU: of the section's process until then)",
            },
            "sections": sections,
        },
        options.out,
    )
    print(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
