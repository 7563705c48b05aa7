"""Ctrl-C and SIGTERM end a run after the step it is in."""

import signal
import sys
import threading
from typing import Any

from studio.runtime.progress import in_notebook

_noted = False  # whether a run of this script has ended by a signal


class Stopped(RuntimeError):
    """The caller asked a run to stop, between two of its steps."""


class StopSignal:
    """A context in which the first SIGINT or SIGTERM is only noted (``asked``). A second one ends the process
    by ``KeyboardInterrupt`` or ``SystemExit``, which an ``except Exception`` around it does not stop: at once
    within the same context; in a later one, of a script whose loop went on after the first, when what the
    context encloses is done and saved. In a notebook or at a prompt each run begins anew. A handler that was
    there before is called too. Outside the main thread, where Python takes no signals, it does nothing."""

    def __init__(self) -> None:
        self.asked = self._again = False  # again: an earlier run of this script has ended by a signal
        self._number = signal.SIGINT
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        self._again = _noted
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        global _noted
        for s, handler in self._before.items():
            signal.signal(s, handler)
        if self.asked and self._again and kind is None:
            raise self._end()
        _noted = _noted or (self.asked and not (hasattr(sys, "ps1") or in_notebook()))

    def _end(self) -> BaseException:
        return KeyboardInterrupt() if self._number == signal.SIGINT else SystemExit(128 + self._number)

    def _note(self, number: int, frame: Any) -> None:
        self._number = signal.Signals(number)
        if self.asked:
            raise self._end()
        self.asked = True
        before = self._before.get(self._number)
        # a script's own, which may end its loop
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)
