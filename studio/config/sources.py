"""What a config is read from: a YAML file, a run or a model, a shipped name, files of data, a dict; with
overrides on top."""

import copy
import functools
import io
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backbones.registry import suggest
from studio.config import overrides as overriding
from studio.config.config import Config, contained, from_tree, migrate
from studio.runtime.name_clash import HOME

FILES = ("images", "npz")  # data sets whose place alone is a source; the shipped configs of their names


def shipped() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in (HOME / "configs").iterdir() if p.suffix == ".yaml")


def files_of(source: Any) -> tuple[str, str] | None:
    """Data set and place of ``images:DIR`` and ``npz:FILE``, which say no more than that; None of any other
    source."""
    kind, _, place = source.partition(":") if isinstance(source, str) else ("", "", "")
    return (kind, place) if kind in FILES and place else None


def _tree_of(source: str | Path) -> dict[str, Any]:
    text = str(source)
    if files := files_of(text):
        kind, rest = files
        tree = _tree_of(kind)
        tree["data"] = {**tree.get("data", {}), "path": str(Path(rest).expanduser().resolve())}
        tree["name"] = _name_of(Path(rest).expanduser().resolve()) or kind
        return tree
    path = Path(text).expanduser()
    if path.is_dir() and (path / "config.yaml").is_file() and text not in shipped():  # a run or a model
        path = path / "config.yaml"
    if not path.is_file():
        shelf = HOME / "configs" / f"{text.removesuffix('.yaml')}.yaml"
        if not shelf.is_file():
            raise ValueError(
                f"got config {text!r}, expected a YAML file, images:DIR, npz:FILE or one of "
                f"{', '.join(shipped())}{suggest(text, shipped())}"
            )
        path = shelf
    try:
        held = _held(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is not readable YAML: {_reason(error)}") from None
    if not isinstance(held, dict):
        raise ValueError(
            f"{text} holds {type(held).__name__}, expected a tree of sections (data, backbone, "
            "objective, train)"
        )
    return typing.cast(dict[str, Any], held)


def _held(text: str) -> Any:
    """What a YAML text holds, as plain containers. A text that stands only for itself is parsed once: lists
    of models and recipes ask for the same few over and over."""
    return _parsed(text) if "${" in text else copy.deepcopy(_parsed_once(text))


def _parsed(text: str) -> Any:
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=True)


_parsed_once = functools.lru_cache(maxsize=256)(_parsed)


def _reason(error: Exception) -> str:
    """What is wrong with a file, and in which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return (
            f"{error.problem or error.context} in line {error.problem_mark.line + 1}; put a text with "
            "such characters in quotes"
        )
    if isinstance(error, OmegaConfBaseException):
        key = f" at {error.full_key}" if getattr(error, "full_key", None) else ""
        return (
            f"{str(error).splitlines()[0]}{key}; ${{key}} stands for another key, and \\${{ for the "
            "characters themselves"
        )
    return (
        "its brackets are nested too deeply"
        if isinstance(error, RecursionError)
        else str(error).splitlines()[0]
    )


def _name_of(path: Path) -> str:
    """What a run is called by default: a folder's whole name (``photos.v1``), a file's without its last
    suffix; of a config.yaml, that of its folder."""
    if path.name == "config.yaml":
        return path.parent.name
    return path.name if path.is_dir() else path.stem


def former_name(source: Any) -> str:
    """The default name that earlier versions gave a source: one for all files without a name, and a folder's
    without what looked like a suffix."""
    files = files_of(source)
    return Path(files[1]).expanduser().resolve().stem if files else Config.name


def tree_of(source: str | Path | Mapping[str, Any] | Config) -> dict[str, Any]:
    """A source's tree as it was given, in today's schema."""
    return (
        source.tree()
        if isinstance(source, Config)
        else migrate(dict(source) if isinstance(source, Mapping) else _tree_of(source))
    )


def load_config(source: str | Path | Mapping[str, Any] | Config, overrides: Sequence[str] = ()) -> Config:
    """A `Config` from a YAML file, a run or model folder, a shipped name, ``images:DIR``, ``npz:FILE``, a
    dict or a Config, with ``key=value`` overrides on top."""
    tree = tree_of(source)
    if "name" not in tree and isinstance(source, str | Path) and Path(source).expanduser().is_file():
        tree = {"name": _name_of(Path(source).expanduser().resolve()), **tree}
    result = overriding.apply(contained(tree), overrides, Config)
    train, changed = result.get("train", {}), {o.partition("=")[0] for o in overrides}
    # asking for one length replaces the other
    for mine, other in (("steps", "minutes"), ("minutes", "steps")):
        if f"train.{mine}" in changed and f"train.{other}" not in changed and isinstance(train, dict):
            train[other] = None
    return from_tree(result)
