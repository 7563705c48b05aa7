"""Bars of progress: by ``tqdm.auto`` in notebooks, which have no terminal; elsewhere who shows one does so on stderr."""

import sys
from typing import Any


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook, by the test that ``tqdm.auto`` makes."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and ("IPKernelApp" in getattr(shell, "config", {}) or "google.colab" in type(shell).__module__)


class notebook_bar:
    """``with notebook_bar("sampling") as bar: bar(done, total, "what to say beside it")``; nothing where there is no notebook."""

    def __init__(self, name: str, *, shown: bool | None = None):
        self.name, self.bar = name, None  # type: str, Any
        self.shown = in_notebook() if shown is None else shown

    def __enter__(self) -> "notebook_bar":
        return self

    def __call__(self, done: float, total: float, text: str = "") -> None:
        if not self.shown:
            return
        if self.bar is None:
            from tqdm.auto import tqdm

            self.bar = tqdm(desc=self.name, total=total)
        self.bar.total = total
        if text:
            self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
