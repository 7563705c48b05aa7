"""``key=value`` as people type it. Where a key expects text, what was typed is the text: ``[draft] a``,
``#1``, ``it's`` and ``${x}`` are names like others.

Elsewhere a value is a number, true or false, null, or in brackets a list or a section as YAML writes them;
what is none of these stays text, and whatever reads it says what it expected. Several values of a list may
stand between commas, one alone without brackets.
"""

import importlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from backbones.registry import resolve

SECTIONS = {
    "data": ("studio.data:REGISTRY",),
    "backbone": ("backbones:REGISTRY",),
    "procedure": ("studio.training.procedure:REGISTRY",),
    "objective.path": ("samplers.paths:EVERY",),
    "objective.parameterization": (
        "samplers.paths.gaussian:HEADS",
        "samplers.paths.bridge:HEADS",
        "samplers.paths.graph:HEADS",
    ),
    "objective.coupling": ("samplers.couplings.coupling:REGISTRY",),
    "objective.times": ("samplers.times:REGISTRY",),
    "objective.weight": ("samplers.paths.gaussian:WEIGHTS", "samplers.paths.bridge:WEIGHTS"),
}
WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
    "null": None,
    "~": None,
    "": None,
}


def apply(tree: dict[str, Any], overrides: Sequence[str], root: type) -> dict[str, Any]:
    """``tree`` with ``key=value`` on top; ``root`` is the dataclass that types it. Raises ``ValueError`` for
    what is not of that form."""
    split = [_split(text) for text in overrides]
    names = {".".join(keys[:-1]): value for keys, value in split if keys[-1] == "name" and len(keys) > 1}
    for keys, value in split:
        _put(tree, keys, read(value, _hint(tree, keys, names, root)))
    return tree


def _split(text: str) -> tuple[list[str], str]:
    key, eq, value = text.partition("=")
    keys = key.strip().replace("-", "_").split(".")
    if not eq or not all(part and part == part.strip() and part.isprintable() for part in keys):
        raise ValueError(f"got override {text!r}, expected key=value, such as train.steps=1000")
    return keys, value


def _put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value; sections are merged, and a part that was named alone (``path: vp``) keeps its name beside
    its options."""
    here: dict[str, Any] = tree
    for i, key in enumerate(keys[:-1]):
        inner = here.get(key)
        if isinstance(inner, list | tuple):
            raise ValueError(
                f"got override {'.'.join(keys)}, but {'.'.join(keys[: i + 1])} is a list; set all of it, "
                "such as [a, b]"
            )
        if not isinstance(inner, dict):
            inner = {"name": inner} if isinstance(inner, str) and ".".join(keys[: i + 1]) in SECTIONS else {}
        here[key] = inner
        here = inner
    there = here.get(keys[-1])
    if isinstance(value, dict) and isinstance(there, dict):
        for key, inner in value.items():
            _put(there, [key], inner)
    else:
        here[keys[-1]] = value


def _hint(tree: Mapping[str, Any], keys: Sequence[str], names: Mapping[str, str], root: type) -> Any:
    """What a key expects: from the dataclasses, or from the signature of the entry that its section names;
    Any where nobody says."""
    if keys[-1] == "name":
        return str
    cls: Any = root
    for key in keys:
        cls = _hints(cls).get(key, Any) if isinstance(cls, type) else Any
    if cls is not Any:
        return cls
    section = ".".join(keys[:-1])
    inside: Any = tree
    for key in keys[:-1]:
        inside = inside.get(key) if isinstance(inside, Mapping) else None
    name = names.get(section) or (inside.get("name") if isinstance(inside, Mapping) else inside)
    for place in SECTIONS.get(section, ()):
        module, _, attribute = place.partition(":")
        registry = getattr(importlib.import_module(module), attribute)
        if isinstance(name, str) and name in registry:
            return _hints(resolve(registry, name, section)).get(keys[-1], Any)
    return Any


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(
            typing.cast(Any, target).__init__
            if isinstance(target, type) and not hasattr(target, "__dataclass_fields__")
            else target
        )
    except (NameError, TypeError):
        return {}


def read(text: str, hint: Any = Any) -> Any:
    """The value of a text where ``hint`` is expected; the text itself where it cannot be read as that."""
    kinds = [k for k in _members(hint) if k is not type(None)]
    empty = len(kinds) < len(_members(hint))
    if empty and text.strip().lower() in ("null", "none", "~"):
        return None
    if kinds and all(
        k is str
        or typing.get_origin(k) is typing.Literal
        and all(isinstance(v, str) for v in typing.get_args(k))
        for k in kinds
    ):
        return _unquoted(text)
    if len(kinds) == 1 and typing.get_origin(kinds[0]) in (tuple, list):
        return _row(text, kinds[0])
    if int in kinds and float not in kinds and (whole := _number(text)) is not None:
        return int(whole) if float(whole).is_integer() else whole
    return _guess(text)


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _row(text: str, hint: Any) -> Any:
    """A list in brackets, or what stands between commas."""
    inner = typing.get_args(hint)[:1]
    kind = inner[0] if inner else Any
    node = _flow(text)
    if isinstance(node, yaml.SequenceNode):
        return [_of_node(n, lambda t: read(t, kind)) for n in node.value]
    return [read(part.strip(), kind) for part in text.split(",")] if text.strip() else []


def _unquoted(text: str) -> str:
    """What stands within quotes around the whole."""
    node = _flow(text) if text.strip()[:1] in ("'", '"') else None
    return node.value if isinstance(node, yaml.ScalarNode) else text


def _guess(text: str) -> Any:
    node = _flow(text)
    return _plain(text) if node is None else _of_node(node, _plain)


def _flow(text: str) -> yaml.Node | None:
    """What YAML makes of a text in brackets or quotes; None of any other text, and where it cannot read
    it."""
    if text.strip()[:1] not in tuple("[{'\""):
        return None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


def _of_node(node: yaml.Node, plain: Callable[[str], Any]) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_of_node(n, plain) for n in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(_of_node(k, str)): _of_node(v, plain) for k, v in node.value}
    return node.value if node.style in ("'", '"') else plain(node.value)


def _plain(text: str) -> Any:
    """A number, true, false, null, or the text."""
    number = _number(text)
    return number if number is not None else WORDS.get(text.strip().lower(), text)


def _number(text: str) -> int | float | None:
    """Written in digits: 7, 1e-3, 1_000, 0x10."""
    if not text.isascii() or not any(c.isdigit() for c in text):
        return None
    for kind in (int, lambda t: int(t, 16) if "x" in t.lower() else int(t), float):
        try:
            return kind(text.strip())
        except (ValueError, OverflowError):
            pass
    return None
