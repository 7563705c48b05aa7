"""Local worker processes: ``python -m studio.generation.workers`` reads a job from standard input, works and
prints how many samples it has written.

A worker stops when its standard input closes, so none outlives the process that started it, whatever becomes
of that.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "studio.generation.workers")


def run(
    job: Mapping[str, Any],
    pieces: Sequence[Sequence[int]],
    add: Callable[[int], Any],
    stop: Callable[[], bool],
    note: Callable[[str], Any],
) -> bool:
    """One process per piece; ``add(count)`` hears of every sample written, ``note(text)`` what a worker has
    to say. Returns True when ``stop()`` ended it early. Raises ``RuntimeError`` with a worker's own words
    when one fails; the others are then stopped."""
    home = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")])),
    }
    processes = [
        subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on
        )
        for piece in pieces
        if piece
    ]
    lock, interrupted = threading.Lock(), False

    def listen(process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with lock:
                add(int(line)) if line.strip().isdigit() else note(line.strip())

    def hear(process: "subprocess.Popen[str]", into: list[str]) -> None:
        assert process.stderr is not None
        into.extend(process.stderr)

    words: list[list[str]] = [[] for _ in processes]
    threads = [threading.Thread(target=listen, args=(p,), daemon=True) for p in processes]
    threads += [threading.Thread(target=hear, args=(p, w), daemon=True) for p, w in zip(processes, words)]
    try:
        for process, piece in zip(processes, [p for p in pieces if p]):
            assert process.stdin is not None
            process.stdin.write(json.dumps({**job, "units": list(piece)}) + "\n")
            process.stdin.flush()
        for thread in threads:
            thread.start()
        while any(p.poll() is None for p in processes):
            if (stop() or any(p.poll() for p in processes)) and not interrupted:
                interrupted = stop()
                for process in processes:
                    _close(process)
                if not interrupted:
                    break
            try:
                next(p for p in processes if p.poll() is None).wait(0.1)
            except (subprocess.TimeoutExpired, StopIteration):
                continue
    finally:
        for process in processes:
            _close(process)
            process.wait()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    errors = [
        "".join(w).strip() or f"exit code {p.returncode}"
        for p, w in zip(processes, words)
        if p.returncode not in (0, 130)
    ]
    if errors:
        raise RuntimeError(
            f"a worker process failed: {errors[0].splitlines()[-1]}; what is there is kept: run the same "
            "command again to go on"
        )
    return interrupted


def _close(process: "subprocess.Popen[str]") -> None:
    try:
        if process.stdin is not None:
            process.stdin.close()
    except BrokenPipeError:
        pass


def main() -> None:
    job = json.loads(sys.stdin.readline())
    closed = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=watch, daemon=True).start()
    from studio.generation.engine import work
    from studio.generation.plan import make_plan
    from studio.generation.store import store_of
    from studio.model.loading import load
    from studio.runtime.devices import set_threads

    set_threads(job["threads"])
    model = load(
        job["model"],
        weights=job["weights"],
        device=job["device"],
        dtype=job["dtype"],
        attention=job["attention"],
    )
    model = (model.on_path(job["path"]) if job["path"] else model).planned(job["plan"], job["cache_limit"])
    plan = make_plan(model, threads=job["threads"], **job["options"])
    plan = replace(plan, request=replace(plan.request, sampler=job["sampler"]))  # as an older set has it

    def written(count: int) -> None:
        print(count, flush=True)

    try:
        stopped = work(
            plan,
            store_of(Path(job["root"]), plan, job["form"]),
            job["units"],
            stop=closed.is_set,
            on_written=written,
            note=lambda text: print(text, flush=True),
        )
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        print(f"{error}", file=sys.stderr, flush=True)
        os._exit(1)  # the thread that reads standard input would hold the interpreter's end up
    sys.stderr.flush()
    os._exit(130 if stopped else 0)


if __name__ == "__main__":
    main()
