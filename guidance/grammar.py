"""One line of text for guidance, the same in the command line, the page, configs and recipes.

    cfg=2.0,interval=0.1:0.9,rescale=0.7        items are name, name=value or name(key=value,...)

``interval=a:b`` (t) and ``interval_sigma=a:b`` belong to the rule before them that takes one, or to the next.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from backbones import registry
from guidance.rules import Rule

_ITEM = re.compile(r"\s*([A-Za-z_][\w+-]*)\s*(?:\(([^()]*)\)|=\s*([^,()=]+))?\s*(?:,|$)")
_MAIN = {"cfg": "scale", "rescale": "phi"}
Spec = str | float | Sequence[Any] | Mapping[str, Any] | None


def value_of(text: str) -> Any:
    """``2`` int, ``2.5`` float, ``a:b`` a pair of floats, true/false, otherwise text."""
    text = text.strip()
    if ":" in text:
        try:
            return tuple(float(part) for part in text.split(":"))
        except ValueError:
            return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def parse(spec: str, rules: Mapping[str, str]) -> list[dict[str, Any]]:
    """A line to a list of ``{"name": ..., options}``. Raises ``ValueError`` at the first item that is not understood."""
    parsed: list[dict[str, Any]] = []
    pending: dict[str, Any] = {}
    position, spec = 0, spec.strip()
    while position < len(spec):
        match = _ITEM.match(spec, position)
        if match is None or match.end() == position:
            raise ValueError(
                f"got guidance {spec!r}, which is not understood from {spec[position:]!r}; expected items such as cfg=2.0 or cfg(scale=2.0,channels=3)"
            )
        position = match.end()
        name, inside, value = match[1].replace("-", "_"), match[2], match[3]
        if name in ("interval", "interval_sigma"):
            pair = value_of(value or "")
            if not isinstance(pair, tuple):
                raise ValueError(f"got {name}={value}, expected two numbers a:b, such as {name}=0.1:0.9")
            owner = next(
                (p for p in reversed(parsed) if name in inspect.signature(registry.resolve(rules, p["name"], "guidance rule")).parameters), None
            )
            (pending if owner is None else owner)[name] = pair
            continue
        target = registry.resolve(rules, name, "guidance rule")
        options: dict[str, Any] = {}
        if inside:
            for part in inside.split(","):
                key, eq, text = part.partition("=")
                if not eq:
                    raise ValueError(f"got {part!r} inside {name}(...), expected key=value")
                options[key.strip().replace("-", "_")] = value_of(text)
        if value is not None:
            options[_MAIN.get(name) or next(iter(inspect.signature(target).parameters))] = value_of(value)
        if pending and any(k in inspect.signature(target).parameters for k in pending):
            options |= pending
            pending = {}
        parsed.append({"name": name, **options})
    if pending:
        raise ValueError(f"got {', '.join(pending)} without a rule that takes it; write e.g. cfg=2.0,interval=0.1:0.9")
    return parsed


def build_all(spec: Spec, rules: Mapping[str, str]) -> list[Rule]:
    """Rules from a line, a number (= the cfg scale), a list of rules or trees, or None (no guidance)."""
    if spec is None or spec == "":
        return []
    if isinstance(spec, int | float):
        spec = [{"name": "cfg", "scale": float(spec)}]
    elif isinstance(spec, str):
        spec = parse(spec, rules)
    elif isinstance(spec, Mapping):
        spec = [spec]
    built, items = [], cast(Sequence[Any], spec)
    for item in items:
        if isinstance(item, Rule):
            built.append(item)
        else:
            options = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(item).items()}
            built.append(registry.build(rules, str(options.pop("name", "")), "guidance rule", options))
    return built


def describe(spec: Spec, rules: Mapping[str, str]) -> str:
    """The canonical line of a line, number or list of trees; what a recipe records."""
    trees: list[dict[str, Any]]
    if spec is None or isinstance(spec, str):
        trees = parse(spec, rules) if spec else []
    else:
        trees = (
            [{"name": "cfg", "scale": float(spec)}]
            if isinstance(spec, int | float)
            else [dict(cast(Any, s)) for s in ([spec] if isinstance(spec, Mapping) else spec)]
        )

    def text(v: Any) -> str:
        if isinstance(v, tuple | list):
            return ":".join(text(float(x)) for x in v)
        if isinstance(v, float):
            return f"{v:g}" if float(f"{v:g}") == v else repr(v)  # short where that loses nothing
        return str(v).lower() if isinstance(v, bool) else str(v)

    items = []
    for tree in trees:
        name, outside = tree["name"], [(k, tree[k]) for k in ("interval", "interval_sigma") if k in tree]
        inside = {k: v for k, v in tree.items() if k != "name" and k not in dict(outside)}
        main = _MAIN.get(name)
        items.append(
            f"{name}={text(inside[main])}"
            if main and list(inside) == [main]
            else f"{name}({','.join(f'{k}={text(v)}' for k, v in inside.items())})"
            if inside
            else name
        )
        items += [f"{k}={text(v)}" for k, v in outside]
    return ",".join(items)
