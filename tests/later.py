"""Modules that are loaded when something of them is asked for. Every process of a run collects all tests, and
few of them need the page."""

from importlib import import_module
from typing import Any

from ui.sooner import load_gradio


class Later:
    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):  # pytest looks for fixtures and mocks
            raise AttributeError(key)
        if self._name.startswith(("ui.", "gradio")):
            load_gradio()
        return getattr(import_module(self._name), key)
