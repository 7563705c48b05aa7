"""Ctrl-C and SIGTERM end a run after the step it is in."""

import signal
import threading
from typing import Any


class StopSignal:
    """A context in which the first SIGINT or SIGTERM is only noted (``asked``); a second one ends the process at once, by ``KeyboardInterrupt`` or
    ``SystemExit``, which an ``except Exception`` around it does not stop. A handler that was there before is called too. Outside the main thread, where Python takes
    no signals, it does nothing."""

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
        if self.asked:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.asked = True
        before = self._before.get(signal.Signals(number))
        if callable(before) and before is not signal.default_int_handler:  # a script's own, which may end its loop
            before(number, frame)
