"""One line of text for guidance: what it means, its canonical form, and what it says when it is not
understood."""

from typing import Any

import pytest

import guidance
from guidance import CFG, Interval, Rescale, Rule
from guidance.grammar import value_of


def read(spec: Any) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for rule in guidance.parse(spec):
        out.append(
            (CFG, rule.scale, rule.where.interval, rule.where.interval_sigma, rule.channels)
            if isinstance(rule, CFG)
            else (Rescale, rule.phi)
        )
    return out


@pytest.mark.parametrize(
    "spec, rules",
    [
        (None, []),
        ("", []),
        ("  ", []),
        ("cfg=2.0", [(CFG, 2.0, None, None, None)]),
        ("cfg=2", [(CFG, 2.0, None, None, None)]),
        (1.5, [(CFG, 1.5, None, None, None)]),
        (3, [(CFG, 3.0, None, None, None)]),
        ("cfg", [(CFG, 1.0, None, None, None)]),
        ("cfg=-0.5", [(CFG, -0.5, None, None, None)]),
        ("cfg=2.0,interval=0.1:0.9", [(CFG, 2.0, (0.1, 0.9), None, None)]),
        ("interval=0.1:0.9,cfg=2.0", [(CFG, 2.0, (0.1, 0.9), None, None)]),
        ("cfg=2,interval_sigma=0.3:inf", [(CFG, 2.0, None, (0.3, float("inf")), None)]),
        ("cfg=2,interval-sigma=1e-2:5", [(CFG, 2.0, None, (0.01, 5.0), None)]),
        ("cfg(scale=4,channels=3)", [(CFG, 4.0, None, None, 3)]),
        ("cfg(scale=4, channels=3), rescale=0.7", [(CFG, 4.0, None, None, 3), (Rescale, 0.7)]),
        ("cfg(scale=4,interval=0:1)", [(CFG, 4.0, (0.0, 1.0), None, None)]),
        (" cfg = 2.0 , rescale = 1 ", [(CFG, 2.0, None, None, None), (Rescale, 1.0)]),
        ("rescale=0.5,cfg=2,interval=0.2:0.4", [(Rescale, 0.5), (CFG, 2.0, (0.2, 0.4), None, None)]),
        ("cfg=2,rescale=0.5,interval=0.2:0.4", [(CFG, 2.0, (0.2, 0.4), None, None), (Rescale, 0.5)]),
        ([{"name": "cfg", "scale": 2, "interval": [0, 1]}], [(CFG, 2.0, (0.0, 1.0), None, None)]),
        ({"name": "rescale", "phi": 0.2}, [(Rescale, 0.2)]),
    ],
)
def test_meaning(spec: Any, rules: list[tuple[Any, ...]]) -> None:
    assert read(spec) == rules


def test_rules_pass_through() -> None:
    rule = CFG(3.0)
    assert guidance.parse([rule, {"name": "rescale"}])[0] is rule
    assert isinstance(guidance.build("rescale", phi=0.1), Rule)


@pytest.mark.parametrize(
    "spec, line",
    [
        (None, ""),
        ("", ""),
        (2, "cfg=2"),
        (2.5, "cfg=2.5"),
        ("cfg=2.0", "cfg=2"),
        ("cfg", "cfg"),
        ("cfg( scale = 4.0 , channels=3)", "cfg(scale=4,channels=3)"),
        ("interval=0.1:0.9,cfg=2,rescale=0.70", "cfg=2,interval=0.1:0.9,rescale=0.7"),
        ("cfg(scale=2,interval_sigma=0.3:5)", "cfg=2,interval_sigma=0.3:5"),
        ({"name": "cfg", "scale": 2.0, "interval": [0.1, 0.9]}, "cfg=2,interval=0.1:0.9"),
        ([{"name": "cfg", "scale": 2.0}, {"name": "rescale"}], "cfg=2,rescale"),
        ("cfg(channels=3,scale=2),interval=0:1", "cfg(channels=3,scale=2),interval=0:1"),
    ],
)
def test_canonical_line(spec: Any, line: str) -> None:
    assert guidance.describe(spec) == line
    assert guidance.describe(line) == line and read(line) == read(spec)


@pytest.mark.parametrize("scale", [7.123456789, 1e-7, 123456789.0, 0.1 + 0.2])
def test_the_line_keeps_every_digit(scale: float) -> None:
    """A recipe's line rebuilds the very rule it was made from."""
    assert read(guidance.describe(scale)) == read(scale)
    tree = {"name": "cfg", "scale": scale, "interval": (0.123456789, 0.987654321)}
    assert read(guidance.describe(tree)) == read(tree)


@pytest.mark.parametrize(
    "text, value",
    [
        ("2", 2),
        ("2.5", 2.5),
        ("-1e-3", -0.001),
        ("0.1:0.9", (0.1, 0.9)),
        ("0.3:inf", (0.3, float("inf"))),
        ("true", True),
        ("False", False),
        ("none", None),
        ("noise", "noise"),
        (" 3 ", 3),
        ("1e-2:5e1", (0.01, 50.0)),
        ("1e+2:2e+2", (100.0, 200.0)),
    ],
)
def test_values(text: str, value: Any) -> None:
    got = value_of(text)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("cgf=2", "got guidance rule 'cgf', expected one of apg, .*; did you mean 'cfg'"),
        ("cfg==2", "got no value for cfg, expected cfg=value"),
        ("cfg=2;rescale=1", "got '=' after cfg, expected a comma"),
        ("cfg=2 rescale", "option 'scale' got '2 rescale'"),
        ("cfg=2,interval=1.2.3:4", "got interval=1.2.3:4, expected two numbers"),
        ("cfg=two", r"option 'scale' got 'two' \(str\), expected float"),
        ("cfg(2)", "got '2' in the guidance, expected an option of cfg, key=value"),
        ("cfg(scales=2)", "unknown option 'scales'.*did you mean 'scale'"),
        ("cfg(scale=2", "got a bracket of cfg that is never closed"),
        ("tcfg(space=x)", "got tcfg space 'x', expected one of data, noise"),
        ("apg(form=mine)", "got apg form 'mine', expected one of paper, diffusers, comfyui"),
        ("apg(momentum=-1.5)", "got apg momentum=-1.5, expected between -1 and 1"),
        ("cfg_plus_plus=7.5", "got cfg_plus_plus scale=7.5, expected 0 to 1"),
        ("cfg(scale=2,schedule=limited)", "got the schedule limited without an interval"),
        ("cfg(scale=2,schedule=line)", "got cfg schedule 'line', expected one of constant"),
        ("prior", r"lacks model"),
        ("dual(keep=text)", "got keep='text', expected one of label"),
        ("cfg_zero_star(scale=2,zero_steps=-1)", "got zero_steps=-1, expected 0 or more"),
        ("prior(model=a,match=near)", "got match='near', expected continuous or nearest"),
        (
            "interval=0.1:0.9",
            "got interval without a rule that takes it; write e.g. cfg=2.0,interval=0.1:0.9",
        ),
        ("rescale=0.7,interval=0.1:0.9", "got interval without a rule that takes it"),
        ("cfg=2,interval=0.5", "got interval=0.5, expected two numbers a:b, such as interval=0.1:0.9"),
        ("cfg=2,interval=a:b", "got interval=a:b, expected two numbers"),
        ("cfg=2,interval", "expected two numbers a:b"),
        ("cfg=2,interval=0.9:0.1", r"got interval=\(0.9, 0.1\), expected two increasing numbers"),
        ("cfg=2,interval=0.1:0.9,interval_sigma=1:2", "got both interval and interval_sigma"),
        ("cfg=nan", "got cfg scale=nan, expected a finite number"),
        ("cfg=inf", "got cfg scale=inf, expected a finite number"),
        ("cfg(scale=2,channels=0)", "got channels=0, expected at least 1"),
        ("rescale=1.5", "got rescale phi=1.5, expected 0 to 1"),
        ([{"scale": 2}], "got guidance rule ''"),
        ([{"name": "cfg", "scale": 2, "interval": [0.1, 0.2, 0.3]}], "option 'interval' got"),
        ([{"name": "cfg", "scale": "2"}], "option 'scale' got '2'"),
    ],
)
def test_what_is_not_understood(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        guidance.parse(spec)


def test_an_interval_needs_two_increasing_numbers() -> None:
    for bad in ((0.5, 0.5), (0.9, 0.1), (float("nan"), 1.0), (0.1,)):
        with pytest.raises(ValueError, match="expected two increasing numbers"):
            Interval(bad)


@pytest.mark.parametrize(
    "line, place",
    [
        ("cfg=2,,rescale=1", 6),
        ("cfg=2,cgf=3", 6),
        ("tcfg,cfg(scale=2", 8),
        ("cfg(scale=2,=3)", 12),
        ("cfg=2)", 5),
        ("cfg(scale=2))", 12),
        ("cfg=", 4),
        ("tcfg , 2", 7),
        ("cfg(scale 2)", 4),
        ("cfg(scale=2,scale=3)", 12),
        ("cfg=2,interval=1", 6),
        ("cfg=2, interval=a:b", 7),
        ('prior="x', 6),
    ],
)
def test_errors_point_at_the_character(line: str, place: int) -> None:
    with pytest.raises(ValueError) as caught:
        guidance.parse(line)
    told, shown, mark = str(caught.value).split("\n")
    assert told.startswith("got ") and "expected" in told
    assert shown == f"  {line}" and mark == f"  {' ' * place}^"


def test_names_of_models() -> None:
    """They are text with slashes, colons and at-signs; quoted where they hold what the grammar uses; kept by
    the canonical line."""
    for line in (
        "prior=fashion-dit,cfg=2",
        "prior=runs/a b@500,cfg=2",
        "prior=hf:org/name,cfg=2",
        'prior="a,b(1)=c",cfg=2',
        'prior="7",cfg=2',
    ):
        tree = guidance.grammar.parse(line, guidance.REGISTRY)[0]
        assert tree == {"name": "prior_swap", "model": line[6:-6].strip('"')}
        assert guidance.describe(line) == line
    assert (
        guidance.describe("prior_swap(model=x,match=nearest),cfg=2") == "prior(model=x,match=nearest),cfg=2"
    )
    assert (
        guidance.describe("autoguidance(scale=2.0,model=runs/x@500),interval=0.1:0.9")
        == "autoguidance(scale=2,model=runs/x@500),interval=0.1:0.9"
    )


def test_a_rule_of_every_name() -> None:
    """Every entry of the registry can be written down and read back."""
    lines = {
        "prior_swap": "prior=x",
        "cfg_plus_plus": "cfg_plus_plus=0.5",
        "tcfg": "tcfg",
        "dual": "dual(first=2,second=3,keep=label)",
    }
    for name in guidance.REGISTRY:
        line = lines.get(name, f"{name}=0.5")
        assert guidance.describe(line) == line and len(guidance.parse(line)) == 1
