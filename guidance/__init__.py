"""Floor 3: rules that combine predictions, and `Guided`, which is again a denoiser."""

from typing import Any

from backbones import registry
from backbones.plugins import Registry
from guidance import grammar
from guidance.apg import APG
from guidance.autoguidance import Autoguidance
from guidance.cfg import CFG
from guidance.dual import Dual
from guidance.guided import Guided
from guidance.plus_plus import CFGPlusPlus
from guidance.prior import PriorSwap
from guidance.rescale import Rescale
from guidance.rules import Interval, Rule
from guidance.tangential import Tangential
from guidance.zero_star import CFGZeroStar

__all__ = [
    "APG",
    "Autoguidance",
    "CFG",
    "CFGPlusPlus",
    "CFGZeroStar",
    "Dual",
    "Guided",
    "Interval",
    "PriorSwap",
    "REGISTRY",
    "Rescale",
    "Rule",
    "Tangential",
    "build",
    "describe",
    "parse",
]

REGISTRY = Registry(
    "rules",
    {
        "cfg": "guidance.cfg:CFG",
        "rescale": "guidance.rescale:Rescale",
        "tcfg": "guidance.tangential:Tangential",
        "prior_swap": "guidance.prior:PriorSwap",
        "apg": "guidance.apg:APG",
        "cfg_zero_star": "guidance.zero_star:CFGZeroStar",
        "cfg_plus_plus": "guidance.plus_plus:CFGPlusPlus",
        "autoguidance": "guidance.autoguidance:Autoguidance",
        "dual": "guidance.dual:Dual",
    },
    needs=("space", "stage", "active"),
)


def build(name: str, **options: Any) -> Rule:
    """A rule by its registry name, e.g. ``build("cfg", scale=2.0, interval=(0.1, 0.9))``."""
    return registry.build(REGISTRY, name, "guidance rule", options)


def parse(spec: grammar.Spec) -> list[Rule]:
    """Rules from one line of text, a number (the cfg scale), a rule, a tree, a list of these, or None."""
    return grammar.build_all(spec, REGISTRY)


def describe(spec: grammar.Spec) -> str:
    """The canonical line of a guidance, as recipes record it; ``custom`` for rules that none gives back."""
    return grammar.describe(spec, REGISTRY)
