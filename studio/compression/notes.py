"""What a search has tried, kept beside the plan that it will write, so that one that was interrupted goes
on."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backbones.caching.plan import Plan
from studio.checkpoints.plans import Key
from studio.runtime import files


class Notes:
    """Of one search: ``key`` and ``settings`` say which; those of another one are not looked at."""

    def __init__(self, path: Path, key: Key, settings: Sequence[Any]):
        self.path = path
        self.search = json.loads(json.dumps([asdict(key), list(settings)]))
        self.tried: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            there = json.loads(path.read_text(encoding="utf-8"))
            if there["search"] == self.search:
                self.tried = dict(there["tried"])

    def kept(self, what: str, run: Callable[[], tuple[Plan, float]]) -> tuple[Plan, float]:
        """What was found before, or is found now and noted."""
        if what in self.tried:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return Plan.of(self.tried[what]["plan"]), float(self.tried[what]["error"])
        plan, error = run()
        self.tried[what] = {"plan": plan.tree(), "error": error}
        files.write_json(self.path, {"search": self.search, "tried": self.tried})
        return plan, error

    def forget(self) -> None:
        """The search is done."""
        self.path.unlink(missing_ok=True)
