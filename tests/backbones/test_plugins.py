"""Lines that other packages add to registries: found, checked, told once where they are broken, and nothing
else suffers."""

import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from plugged import put

from backbones import plugins
from backbones.plugins import Registry
from backbones.registry import build, described, resolve, suggest

OWN = {"counter": "collections:Counter", "thing": "types:SimpleNamespace"}
GOOD = """
class Box:
    space = "euclid"
    def __init__(self, *, size: int = 1, names: tuple[str, ...] = ()):
        self.size, self.names = size, names
class Hidden:
    def __init__(self, *, size: int = 1):
        self.other = size
number = 3
"""
BROKEN = {
    "gone": ("no_such_module:Thing", "No module named 'no_such_module'"),
    "lacks": ("boxes:Other", "has no attribute 'Other'"),
    "raises": ("raising:Thing", "the sea is rough today"),
    "silent": ("silent:Thing", "importing silent:Thing fails without a word"),
    "leaves": ("leaving:Thing", "3"),
    "typo": ("typing_error:Thing", "invalid syntax"),
    "number": ("boxes:number", "neither a class nor a function"),
    "bare": ("boxes:Hidden", "boxes:Hidden lacks space"),
    "counter": ("boxes:Box", "the name is the studio's own"),
}
MODULES = {
    "boxes": GOOD,
    "raising": "raise RuntimeError('the sea is\\n rough today')",
    "silent": "raise RuntimeError",
    "leaving": "raise SystemExit(3)",
    "typing_error": "def (:",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose packages are installed."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    for module in MODULES:
        sys.modules.pop(module, None)
    plugins.forget()


def registry(points: Mapping[str, str], site: Path, name: str = "boxes-plugin") -> Registry:
    put(site, name, MODULES, {"drift_studio.widgets": points})
    plugins.forget()
    return Registry("widgets", OWN, needs=("space",))


def test_a_name_works_as_one_of_the_studio_does(here: Path) -> None:
    found = registry({"box": "boxes:Box"}, here)
    assert list(found) == ["counter", "thing", "box"] and len(found) == 3 and found["box"] == "boxes:Box"
    assert build(found, "box", "widget", {"size": 4}).size == 4
    with pytest.raises(ValueError, match="widget 'box' got the unknown option 'sise'.*did you mean 'size'"):
        build(found, "box", "widget", {"sise": 4})
    with pytest.raises(ValueError, match="expected one of box, counter, thing; did you mean 'box'"):
        resolve(found, "bocks", "widget")
    assert suggest("bx", found) and found.offers()[0].package == "boxes-plugin 0.1.0"


def test_nothing_is_imported_until_it_is_asked_for(here: Path) -> None:
    found = registry({"box": "boxes:Box", "raises": "raising:Thing"}, here)
    assert "counter" in found and resolve(found, "counter", "widget") and "boxes" not in sys.modules
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # and what is broken beside it is not even looked at
        assert "no such" not in found and resolve(found, "box", "widget") and "raising" not in sys.modules


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_told_once_and_left_out(name: str, here: Path) -> None:
    target, why = BROKEN[name]
    found = registry({"box": "boxes:Box", name: target}, here)
    with pytest.warns(UserWarning) as told:
        assert list(found) == ["counter", "thing", "box"]
        assert list(found) == ["counter", "thing", "box"] and build(found, "box", "widget").size == 1
    (text,) = [str(w.message) for w in told]
    assert text.startswith(f"'{name}' of the plug-in boxes-plugin 0.1.0 (drift_studio.widgets) is left out: ")
    assert why in text and "Error" not in text and "\n" not in text
    assert resolve(found, "counter", "widget").__name__ == "Counter"  # ours wins
    if name not in OWN:
        with pytest.raises(ValueError) as refused:
            resolve(found, name, "widget")
        assert str(refused.value) == f"got widget {name!r}, expected one of box, counter, thing; {text}"


def test_of_two_packages_with_one_name_the_first_has_it(here: Path) -> None:
    put(
        here,
        "another",
        {"others": "class Box:\n    space = 1"},
        {"drift_studio.widgets": {"box": "others:Box"}},
    )
    found = registry({"box": "boxes:Box"}, here)
    with pytest.warns(
        UserWarning, match="'box' of the plug-in boxes-plugin .* taken by another 0.1.0 as well"
    ):
        assert list(found) == ["counter", "thing", "box"]
    assert found["box"] == "others:Box"


def test_a_plug_in_may_ask_for_names_while_it_is_imported(here: Path) -> None:
    text = "import boxes\nfrom backbones.plugins import Registry\nseen = list(Registry('widgets', {}))\n"
    put(
        here,
        "asking",
        {"asking": text + "class Thing: pass"},
        {"drift_studio.widgets": {"asks": "asking:Thing"}},
    )
    found = registry({"box": "boxes:Box"}, here)
    found.needs = ()
    assert set(found) == {"counter", "thing", "box", "asks"} and sys.modules["asking"].seen == ["box"]


def test_lines_of_a_session_come_first_and_go_again(here: Path) -> None:
    found = registry({"box": "boxes:Box"}, here)
    found["box"] = "collections:OrderedDict"
    assert resolve(found, "box", "widget").__name__ == "OrderedDict"
    del found["box"]
    assert found["box"] == "boxes:Box"


def test_an_object_as_the_config_that_makes_it_again(here: Path) -> None:
    found = registry({"box": "boxes:Box", "hidden": "boxes:Hidden"}, here)
    found.needs = ()
    boxes = plugins.imported("boxes:Box")
    spec, why = described(found, boxes(size=3, names=("a", "b")))
    assert spec == {"name": "box", "size": 3, "names": ("a", "b")} and not why
    assert described(found, boxes(names=(object(),)))[1] == "names of Box is a tuple, which no config holds"
    assert "Hidden has no attribute size" in described(found, plugins.imported("boxes:Hidden")())[1]
    assert described(found, object()) == (None, "")
