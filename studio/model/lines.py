"""What a line of guidance or of a sampler says, part by part with every option that its signature has: what a
page makes controls of."""

import inspect
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import UnionType
from typing import Any

import guidance
import samplers
from backbones.registry import parameters, resolve
from guidance import grammar
from studio.sampling import sampler_spec

KINDS = ((bool, "truth"), (tuple, "span"), (int, "whole"), (float, "number"))  # of an annotation, the first


@dataclass(frozen=True)
class Option:
    """``kind``: number, whole, truth, span (a:b) or text; ``value`` is None where the line does not say it,
    and ``default``, as text, counts ("" for one that must be said)."""

    name: str
    kind: str
    default: str
    value: Any = None


@dataclass(frozen=True)
class Part:
    """One rule, or the sampler. ``about``: the first sentence of its documentation; ``shown``: what its line
    calls it; of a rule the branches that it ``needs``, and the one that it ``provides``."""

    name: str
    shown: str
    about: str
    options: tuple[Option, ...]
    needs: tuple[str, ...] = ()
    provides: str = ""


def rules_of(line: str) -> list[dict[str, Any]]:
    """The rules of a guidance line as `Part`s in plain dicts. Raises ``ValueError`` for what is not
    understood; a rule that lacks an option is still shown."""
    return [
        _part(tree, guidance.REGISTRY, "guidance rule") for tree in grammar.parse(line, guidance.REGISTRY)
    ]


def sampler_of(line: str) -> list[dict[str, Any]]:
    """The sampler as the only one. Raises ``ValueError``."""
    name, options = sampler_spec.parse(line)
    return [_part({"name": name, **options}, samplers.REGISTRY, "sampler")]


def provider(branch: str) -> dict[str, Any]:
    """The rule, as a `Part` without options said, that takes a branch from another model."""
    found = (name for name in guidance.REGISTRY if _provides(name) == branch)
    return _part({"name": next(found)}, guidance.REGISTRY, "guidance rule")


def _provides(name: str) -> str:
    return str(getattr(resolve(guidance.REGISTRY, name, "guidance rule"), "provides", ""))


def rule_names() -> tuple[str, ...]:
    """All that there are."""
    return tuple(guidance.REGISTRY)


def _part(tree: Mapping[str, Any], registry: Mapping[str, str], what: str) -> dict[str, Any]:
    kind: Any = resolve(registry, tree["name"], what)
    options = []
    for name, parameter in parameters(kind).items():
        default = parameter.default
        told = "" if default in (None, parameter.empty) else grammar.text_of(default)
        options.append(Option(name, _kind(parameter.annotation, default), told, _plain(tree.get(name))))
    name, about = tree["name"], (inspect.getdoc(kind) or "").partition(". ")[0]
    needs, provides = tuple(sorted(getattr(kind, "needs", ()))), getattr(kind, "provides", "")
    return asdict(Part(name, grammar.shown(name), about, tuple(options), needs, provides))


def _kind(annotation: Any, default: Any) -> str:
    """By what the option takes beside None."""
    union = typing.get_origin(annotation) in (typing.Union, UnionType)
    choices = [a for a in (typing.get_args(annotation) if union else (annotation,)) if a is not type(None)]
    plain = [typing.get_origin(c) or c for c in choices]
    return next((name for kind, name in KINDS if plain == [kind]), "text")


def _plain(value: Any) -> Any:
    return ":".join(f"{v:g}" for v in value) if isinstance(value, tuple | list) else value
