"""Lazy registries: a plain dict of ``"name": "module:attribute"`` strings, and the one way to build an entry
from a config.

A registry has no import side effects and can be grepped. ``build`` refuses an unknown name or option with a
suggestion, and a value of the wrong type with what was expected; configs name registry entries only, never
import paths. One that takes lines of plug-ins is a `backbones.plugins.Registry`.
"""

import difflib
import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from backbones.plugins import Registry, imported


def resolve(registry: Mapping[str, str], name: str, kind: str) -> Any:
    """The object behind a name. Raises ``ValueError`` with the nearest names when there is none, and with the
    reason where a plug-in's is left out."""
    if not isinstance(name, str) or name not in registry:
        why = registry.refused(name) if isinstance(registry, Registry) else ""
        raise ValueError(
            f"got {kind} {name!r}, expected one of "
            f"{', '.join(sorted(registry))}{f'; {why}' if why else suggest(str(name), registry)}"
        )
    return imported(registry[name])


def build(registry: Mapping[str, str], name: str, kind: str, options: Mapping[str, Any] | None = None) -> Any:
    """Call the entry with keyword options that were checked against its signature."""
    target = resolve(registry, name, kind)
    return target(**check_options(target, options or {}, f"{kind} {name!r}"))


def described(registry: Mapping[str, str], thing: Any) -> tuple[dict[str, Any] | None, str]:
    """``{"name": ..., options}`` by which `build` makes an object again: its class is an entry, whose options
    it has as attributes of the same names. Otherwise None, and of an entry's class the reason."""
    kind = type(thing)
    own = f"{kind.__module__}:{kind.__qualname__}"
    name = next((n for n, t in registry.items() if t == own or _stands_for(t, kind)), None)
    if name is None:
        return None, ""
    options = {}
    for key, parameter in parameters(kind).items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            return None, f"{kind.__name__} takes *{key}, which no config can say"
        if not hasattr(thing, key):
            return None, f"{kind.__name__} has no attribute {key}, which it was made with; set self.{key}"
        options[key] = plain(getattr(thing, key))
        if not _written(options[key]):
            return None, f"{key} of {kind.__name__} is a {type(options[key]).__name__}, which no config holds"
    return {"name": name, **options}, ""


def _stands_for(target: str, kind: type) -> bool:
    """Whether a line of a registry leads to a class by another way than its own module; nothing is
    imported."""
    return target.partition(":")[0] in sys.modules and imported(target) is kind


def _written(value: Any) -> bool:
    """Whether a config can hold it."""
    if isinstance(value, list | tuple):
        return all(map(_written, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) for k in value) and all(map(_written, value.values()))
    return value is None or isinstance(value, str | int | float)


def suggest(word: str, known: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    close = difflib.get_close_matches(
        word.replace("-", "_"), list(known), n=1, cutoff=0.5
    ) or difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def entry(registry: Mapping[str, str], spec: Any, kind: str) -> Any:
    """Build from ``"name"`` or ``{"name": ..., options}``, as configs write a part; an object is itself.
    Raises ``ValueError``."""
    if not isinstance(spec, str | Mapping):
        return spec
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "name" not in options:
        raise ValueError(
            f"got a {kind} without a name: {dict(options)}, expected e.g. {{name: {next(iter(registry))}}}"
        )
    return build(registry, options.pop("name"), kind, options)


def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Those of its signature, which is read once."""
    return _parameters(target)


@functools.lru_cache(maxsize=1024)
def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


@functools.lru_cache(maxsize=1024)
def _asked(target: Callable[..., Any]) -> tuple[Mapping[str, inspect.Parameter], Mapping[str, Any]]:
    """The options that it may be given by name, and the types of those that say one."""
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in parameters(target).items() if p.kind in named}, hints


def check_options(target: Callable[..., Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options as keyword arguments of ``target``; raises ``ValueError`` for an unknown name or a value of
    another type."""
    known, hints = _asked(target)
    checked = {}
    for key, value in options.items():
        if key not in known:
            raise ValueError(
                f"{where} got the unknown option {key!r}, expected one of "
                f"{', '.join(known) or 'none'}{suggest(key, known)}"
            )
        checked[key] = coerce(value, hints.get(key, Any), f"{where} option {key!r}")
    missing = [n for n, p in known.items() if p.default is p.empty and n not in checked]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}; set it in the config or as key=value")
    return checked


def plain(value: Any) -> Any:
    """Python's own number of a numpy scalar, or of an array or tensor that holds one; anything else as it
    is."""
    shape = getattr(value, "shape", None)
    return value.item() if shape is not None and hasattr(value, "item") and math.prod(shape) == 1 else value


def whole(value: Any, name: str, least: int = 1) -> int:
    """A whole number in any form of `plain`. Raises ``ValueError`` for anything else, and for less than
    ``least``."""
    number = plain(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError(f"got {name}={number!r}, expected a whole number of at least {least}")
    return number


def real(value: Any, name: str) -> float:
    """A finite number in any form of `plain`. Raises ``ValueError`` for anything else."""
    number = plain(value)
    if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
        raise ValueError(f"got {name}={number!r}, expected a number")
    return float(number)


def coerce(value: Any, hint: Any, where: str) -> Any:
    """``value`` if it fits ``hint`` (ints pass as floats, lists as tuples, numpy's and torch's numbers as
    Python's); otherwise ``ValueError``."""
    if _fits(value, hint):
        return value
    value = plain(value)
    if _fits(value, hint):
        return value
    for candidate in _members(hint):
        if candidate is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if typing.get_origin(candidate) is tuple and isinstance(value, list | tuple):
            args = _tuple_args(candidate, len(value))
            if args is not None:
                return tuple(coerce(v, a, where) for v, a in zip(value, args))
    raise ValueError(f"{where} got {value!r} ({type(value).__name__}), expected {_name(hint)}")


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _tuple_args(hint: Any, length: int) -> tuple[Any, ...] | None:
    """The hint of each of ``length`` entries, None when the tuple cannot have that many."""
    args = typing.get_args(hint)
    return (
        (args[0],) * length
        if len(args) == 2 and args[1] is Ellipsis
        else args
        if len(args) == length
        else None
    )


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any or isinstance(hint, str | typing.TypeVar):
        return True
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, h) for h in typing.get_args(hint))
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is tuple:
        args = _tuple_args(hint, len(value)) if isinstance(value, tuple) else None
        return args is not None and all(_fits(v, a) for v, a in zip(value, args))
    if origin is not None:
        return isinstance(value, origin) if inspect.isclass(origin) else True
    if hint is None or hint is type(None):
        return value is None
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, float)
    return (
        isinstance(value, hint)
        if inspect.isclass(hint) and not getattr(hint, "_is_protocol", False)
        else True
    )


def _name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return (
        getattr(hint, "__name__", str(hint))
        if typing.get_origin(hint) is None
        else str(hint).replace("typing.", "")
    )
