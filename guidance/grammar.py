"""One line of text for guidance, the same in the command line, the page, configs and recipes.

    prior=NAME,tcfg(space=noise),cfg=2.0,interval=0.1:0.9,rescale=0.7        items are name, name=value or
                                                                             name(key=value,...)

``name=value`` sets the rule's first option. ``interval=a:b`` (t) and ``interval_sigma=a:b`` belong to the
rule before them that takes one, or to the next. A value with a comma, a bracket or an equals sign stands in
double quotes.
"""

import inspect
import numbers
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from backbones import registry
from guidance.rules import Interval, Rule

_NAME = re.compile(r"[A-Za-z_][\w+*-]*")
_VALUE = re.compile(r'\s*(?:"([^"]*)"|([^,()="]+))\s*')
_SHORT = {"prior": "prior_swap", "cfg_zero": "cfg_zero_star", "cfgpp": "cfg_plus_plus"}
_FORMAL = {"prior_swap": "prior"}
_SPANS = ("interval", "interval_sigma")
CUSTOM = "custom"  # what stands in a recipe for rules that no line describes
Spec = str | float | Rule | Sequence[Any] | Mapping[str, Any] | None


def shown(name: str) -> str:
    """What lines call a rule."""
    return _FORMAL.get(name, name)


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


class _Reader:
    """A place in a line, and what is said when the line cannot be read on from there."""

    def __init__(self, line: str):
        self.line, self.at = line, 0

    def fail(self, message: str, at: int | None = None) -> ValueError:
        place = self.at if at is None else at
        return ValueError(f"{message}\n  {self.line}\n  {' ' * place}^")

    def skip(self) -> None:
        while self.at < len(self.line) and self.line[self.at].isspace():
            self.at += 1

    def took(self, sign: str) -> bool:
        self.skip()
        if self.line[self.at : self.at + 1] != sign:
            return False
        self.at += 1
        return True

    @property
    def done(self) -> bool:
        self.skip()
        return self.at >= len(self.line)

    def name(self, what: str) -> str:
        self.skip()
        match = _NAME.match(self.line, self.at)
        if match is None:
            got = repr(self.line[self.at]) if self.at < len(self.line) else "the end"
            raise self.fail(
                f"got {got} in the guidance, expected {what} here, as in cfg=2.0 or cfg(scale=2.0,channels=3)"
            )
        self.at = match.end()
        return match[0].replace("-", "_")

    def value(self, key: str) -> Any:
        match = _VALUE.match(self.line, self.at)
        if match is None or not (match[1] or match[2] or "").strip():
            raise self.fail(f"got no value for {key}, expected {key}=value")
        self.at = match.end()
        return match[1] if match[1] is not None else value_of(match[2])

    def options(self, rule: str) -> dict[str, Any]:
        """``key=value,...)`` up to its bracket."""
        opened, found = self.at - 1, {}  # type: int, dict[str, Any]
        while not self.took(")"):
            if self.done:
                raise self.fail(f"got a bracket of {rule} that is never closed, expected )", opened)
            place = self.at
            key = self.name(f"an option of {rule}, key=value,")
            if not self.took("="):
                raise self.fail(f"got {key!r} inside {rule}(...), expected {key}=value", place)
            if key in found:
                raise self.fail(f"got {key} twice in {rule}(...), expected it once", place)
            found[key] = self.value(key)
            if not self.took(",") and self.line[self.at : self.at + 1] != ")":
                if self.done:
                    raise self.fail(f"got a bracket of {rule} that is never closed, expected )", opened)
                raise self.fail(f"got {self.line[self.at]!r} after {key}, expected a comma or )")
        return found


def parse(spec: str, rules: Mapping[str, str]) -> list[dict[str, Any]]:
    """A line to a list of ``{"name": ..., options}``; an empty one and ``none`` are no guidance. Raises
    ``ValueError`` that points at the first character that is not understood."""
    if spec.strip().lower() == "none":
        return []
    parsed: list[dict[str, Any]] = []
    pending: dict[str, Any] = {}
    reader = _Reader(spec)
    last_place = 0
    while not reader.done:
        reader.skip()
        place = last_place = reader.at
        name = reader.name("a rule")
        name = _SHORT.get(name, name)
        bracket = reader.took("(")
        options = reader.options(name) if bracket else {}
        value = reader.value(name) if not bracket and reader.took("=") else None
        end = reader.at
        if not reader.done and not reader.took(","):
            raise reader.fail(f"got {reader.line[reader.at]!r} after {name}, expected a comma")
        if name in _SPANS:
            if not isinstance(value, tuple) or len(value) != 2:
                raise reader.fail(
                    f"got {spec[place:end].strip()}, expected two numbers a:b, such as {name}=0.1:0.9", place
                )
            owner = next((p for p in reversed(parsed) if name in _parameters(rules, p["name"])), None)
            (pending if owner is None else owner)[name] = value
            continue
        try:
            known = _parameters(rules, name)
        except ValueError as error:
            raise reader.fail(str(error), place) from None
        if value is not None:
            options[next(iter(known))] = value
        if pending and any(k in known for k in pending):
            options |= pending
            pending = {}
        parsed.append({"name": name, **options})
    if pending:
        raise reader.fail(
            f"got {', '.join(pending)} without a rule that takes it; write e.g. cfg=2.0,interval=0.1:0.9",
            last_place,
        )
    return parsed


def _parameters(rules: Mapping[str, str], name: str) -> Mapping[str, inspect.Parameter]:
    return registry.parameters(registry.resolve(rules, name, "guidance rule"))


def build_all(spec: Spec, rules: Mapping[str, str]) -> list[Rule]:
    """Rules from a line, a number (= the cfg scale), a rule, a tree, a list of these, or None (no
    guidance)."""
    return [item if isinstance(item, Rule) else _built(item, rules) for item in _items(spec, rules)]


def _built(tree: Mapping[str, Any], rules: Mapping[str, str]) -> Rule:
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
    return registry.build(rules, str(options.pop("name", "")), "guidance rule", options)


def _items(spec: Any, rules: Mapping[str, str]) -> list[Rule | dict[str, Any]]:
    """Rules and trees in their order; texts that follow each other in a list are one line."""
    spec = registry.plain(spec)
    if spec is None:
        return []
    if isinstance(spec, Rule):
        return [spec]
    if isinstance(spec, str):
        if spec.strip() == CUSTOM:
            raise ValueError(
                "got the guidance 'custom', which stands for rules that were objects in Python; pass "
                "those rules again: guidance=[...]"
            )
        return [*parse(spec, rules)]
    if isinstance(spec, numbers.Real) and not isinstance(spec, bool):
        return [{"name": "cfg", "scale": float(spec)}]
    if isinstance(spec, Mapping):
        return [{k: registry.plain(v) for k, v in spec.items()}]
    if not isinstance(spec, Sequence):
        raise ValueError(
            f"got the guidance {spec!r}, expected a line such as 'cfg=2.0', a number, a Rule or a "
            "list of these"
        )
    found: list[Rule | dict[str, Any]] = []
    for text, group in groupby(spec, lambda item: isinstance(item, str)):
        items = list(group)
        found += (
            parse(",".join(filter(str.strip, items)), rules)
            if text
            else [x for item in items for x in _items(item, rules)]
        )
    return found


def describe(spec: Spec, rules: Mapping[str, str]) -> str:
    """The canonical line of a guidance; what a recipe records. `CUSTOM` for rules that no line gives back:
    those outside the registry, those that hold a model as an object. Raises ``ValueError`` for what is not
    understood."""
    items = _items(spec, rules)
    trees = [tree_of(item, rules) if isinstance(item, Rule) else item for item in items]
    line = CUSTOM if None in trees else _line([t for t in trees if t is not None], rules)
    if isinstance(spec, str) or line == CUSTOM:
        return line
    made = build_all(spec, rules)
    try:
        again = build_all(line, rules)
    except ValueError:
        return CUSTOM
    return line if len(made) == len(again) and all(map(same_rule, made, again)) else CUSTOM


def tree_of(rule: Rule, rules: Mapping[str, str]) -> dict[str, Any] | None:
    """``{"name": ..., options}`` of a rule, those options only that are not the default; None where it is of
    no registered class or holds what has no text."""
    name = next((n for n in rules if registry.resolve(rules, n, "guidance rule") is type(rule)), None)
    if name is None:
        return None
    tree: dict[str, Any] = {"name": name}
    for key, parameter in _parameters(rules, name).items():
        value = getattr(getattr(rule, "where", rule) if key in _SPANS else rule, key, parameter)
        plain = [_plain(v) for v in value] if isinstance(value, tuple | list) else _plain(value)
        if plain is None and value is not None or isinstance(plain, list) and None in plain:
            return None
        if parameter.default is parameter.empty or plain != parameter.default:
            tree[key] = plain
    return tree


def _plain(value: Any) -> str | float | None:
    """Text, truth values and Python's own numbers; None for anything else."""
    value = registry.plain(value)
    if isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else None


def same_rule(a: Rule, b: Rule) -> bool:
    """Whether two rules hold the same values."""
    try:
        return type(a) is type(b) and bool(_held(a) == _held(b))
    except (RuntimeError, ValueError):  # arrays, which do not say whether they are equal
        return False


def _held(rule: Rule) -> dict[str, Any]:
    where = {k: v for k, v in vars(rule).items() if isinstance(v, Interval)}
    return {
        **vars(rule),
        **{k: [s and tuple(s) for s in (v.interval, v.interval_sigma)] for k, v in where.items()},
    }


def _line(trees: Sequence[Mapping[str, Any]], rules: Mapping[str, str]) -> str:
    items = []
    for tree in trees:
        name, outside = str(tree.get("name", "")), [(k, tree[k]) for k in _SPANS if tree.get(k) is not None]
        inside = {k: v for k, v in tree.items() if k not in ("name", *_SPANS)}
        main, called = next(iter(_parameters(rules, name))), shown(name)
        if list(inside) == [main]:
            items.append(f"{called}={text_of(inside[main])}")
        else:
            items.append(
                f"{called}({','.join(f'{k}={text_of(v)}' for k, v in inside.items())})" if inside else called
            )
        items += [f"{k}={text_of(v)}" for k, v in outside]
    return ",".join(items)


def text_of(value: Any) -> str:
    """A value so that it reads back as itself."""
    if isinstance(value, tuple | list):
        return ":".join(text_of(float(x)) for x in value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)  # short where that loses nothing
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return (
        f'"{text}"'
        if isinstance(value, str) and (re.search(r'[,()="]', text) or value_of(text) != text)
        else text
    )
