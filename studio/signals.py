"""Ctrl-C and SIGTERM end a run after the step it is in."""

import signal
import threading
from typing import Any


class StopSignal:
    """A context in which the first SIGINT or SIGTERM is only noted (``asked``); a second Ctrl-C interrupts at once. Outside the main thread, where
    Python takes no signals, it does nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: Any) -> None:
        for s, handler in self._before.items():
            signal.signal(s, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
