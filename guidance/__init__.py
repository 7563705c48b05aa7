"""Floor 3: rules that combine predictions, and `Guided`, which is again a denoiser."""

from typing import Any

from backbones import registry
from guidance import grammar
from guidance.cfg import CFG
from guidance.guided import Guided
from guidance.rescale import Rescale
from guidance.rules import Interval, Rule

__all__ = ["CFG", "Guided", "Interval", "REGISTRY", "Rescale", "Rule", "build", "describe", "parse"]

REGISTRY = {"cfg": "guidance.cfg:CFG", "rescale": "guidance.rescale:Rescale"}


def build(name: str, **options: Any) -> Rule:
    """A rule by its registry name, e.g. ``build("cfg", scale=2.0, interval=(0.1, 0.9))``."""
    return registry.build(REGISTRY, name, "guidance rule", options)


def parse(spec: grammar.Spec) -> list[Rule]:
    """Rules from one line of text, a number (the cfg scale), trees, rules, or None."""
    return grammar.build_all(spec, REGISTRY)


def describe(spec: grammar.Spec) -> str:
    """The canonical line of a guidance, as recipes record it."""
    return grammar.describe(spec, REGISTRY)
