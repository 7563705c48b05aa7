"""Rules given as objects: the line that gives them back, or the word that says there is none."""

import random
from typing import Any

import numpy as np
import pytest
import torch

import guidance
from guidance import (
    APG,
    CFG,
    Autoguidance,
    CFGPlusPlus,
    CFGZeroStar,
    Dual,
    PriorSwap,
    Rescale,
    Rule,
    Tangential,
)
from guidance.grammar import CUSTOM, same_rule


class Mine(CFG):
    """A rule of one's own."""


def given_back(spec: Any) -> str:
    """The line, after it was read back to the same rules."""
    line = guidance.describe(spec)
    made, again = guidance.parse(spec), guidance.parse(line)
    assert len(made) == len(again) and all(map(same_rule, made, again)), line
    return line


@pytest.mark.parametrize(
    "spec, line",
    [
        (CFG(2.0), "cfg=2"),
        ([CFG(2)], "cfg=2"),
        ([CFG()], "cfg"),
        ((CFG(2.5), Rescale()), "cfg=2.5,rescale"),
        ([Rescale(0.5)], "rescale=0.5"),
        (CFG(2.0, interval=(0.1, 0.9)), "cfg=2,interval=0.1:0.9"),
        (CFG(2.0, interval=[0.1, 0.9]), "cfg=2,interval=0.1:0.9"),
        ([CFG(2.0, interval_sigma=(0.3, float("inf"))), Tangential()], "cfg=2,interval_sigma=0.3:inf,tcfg"),
        ([PriorSwap("fashion-ddpm"), CFG(3)], "prior=fashion-ddpm,cfg=3"),
        ([PriorSwap("a,b(1)=c"), CFG(3)], 'prior="a,b(1)=c",cfg=3'),
        (
            [PriorSwap("7", match="nearest", clip=1.0, channels=3, free=True)],
            'prior(model="7",match=nearest,clip=1,channels=3,free=true)',
        ),
        (Autoguidance(2.0, model="runs/x@500"), "autoguidance(scale=2,model=runs/x@500)"),
        (
            APG(3, eta=1, norm_threshold=2, momentum=-0.5, form="diffusers", norm_dim=1, start_step=4),
            "apg(scale=3,eta=1,norm_threshold=2,momentum=-0.5,form=diffusers,norm_dim=1,start_step=4)",
        ),
        (CFGZeroStar(2.0, zero_steps=0, optimal=False), "cfg_zero_star(scale=2,zero_steps=0,optimal=false)"),
        (CFGPlusPlus(0.3), "cfg_plus_plus=0.3"),
        (Dual(2, 3, keep="label", interval=(0, 1)), "dual(first=2,second=3,keep=label),interval=0:1"),
        (CFG(np.float32(0.1)), "cfg=0.10000000149011612"),
        (np.float64(1.5), "cfg=1.5"),
        (Rescale(np.float64(0.1 + 0.2)), "rescale=0.30000000000000004"),
        (["tcfg", 2.0], "tcfg,cfg=2"),
        (["tcfg", CFG(2.0), {"name": "rescale", "phi": 0.5}], "tcfg,cfg=2,rescale=0.5"),
        (["cfg=2", "interval=0.1:0.9", Rescale()], "cfg=2,interval=0.1:0.9,rescale"),
        ([], ""),
        ("", ""),
    ],
)
def test_rules_that_have_a_line(spec: Any, line: str) -> None:
    assert given_back(spec) == line and guidance.describe(line) == line


def test_random_rules_have_the_line_that_gives_them_back() -> None:
    rng = random.Random(0)

    def span() -> dict[str, Any]:
        low, high = sorted((rng.random(), rng.random()))
        return rng.choice([{}, {"interval": (low, high)}, {"interval_sigma": (low, high * 1e3)}])

    makers = [
        lambda: CFG(
            rng.uniform(-5, 5),
            channels=rng.choice([None, 1, 3]),
            schedule=rng.choice(["constant", "linear", "cosine"]),
            **span(),
        ),
        lambda: Rescale(rng.random()),
        lambda: Tangential(rng.choice(["noise", "data", "velocity", "native"])),
        lambda: APG(
            rng.uniform(0, 9),
            eta=rng.random(),
            momentum=rng.uniform(-0.9, 0.9),
            space=rng.choice(["data", "velocity"]),
            **span(),
        ),
        lambda: PriorSwap(
            rng.choice(["x", " spaced ", "none", "1e5", "0.1:0.2", "a=b", "", 'quo"te', "(", "ünï"]),
            free=rng.random() < 0.5,
        ),
        lambda: CFGPlusPlus(rng.random(), **span()),
        lambda: CFGZeroStar(rng.random(), zero_steps=rng.choice([None, 0, 5]), **span()),
    ]
    lines = []
    for _ in range(250):
        spec = [rng.choice(makers)() for _ in range(rng.randint(1, 4))]
        if guidance.describe(spec) == CUSTOM:  # nothing can stand between quotes for these
            assert any(isinstance(r, PriorSwap) and r.model in ("", 'quo"te') for r in spec)
        else:
            lines.append(given_back(spec))
    assert len(lines) > 150


def test_rules_that_have_none() -> None:
    bent = CFG(2.0)
    bent.weight = lambda t: 3.0  # type: ignore[method-assign]
    marked = CFG(2.0)
    marked.table = torch.ones(3)  # type: ignore[attr-defined]
    for spec in (
        Mine(2.0),
        [CFG(2.0), Mine(2.0)],
        ["tcfg", Mine()],
        Rule(),
        PriorSwap(object()),
        bent,
        marked,
    ):
        assert guidance.describe(spec) == CUSTOM
    assert guidance.describe(Rescale(torch.tensor(0.5))) == "rescale=0.5"  # type: ignore[arg-type]


def test_the_word_is_no_line_and_other_things_are_refused() -> None:
    with pytest.raises(ValueError, match="objects in Python"):
        guidance.parse("custom")
    for wrong in (True, object(), {"name": "cfg", "scale": "2"}, [CFG(2.0), True], [object()]):
        with pytest.raises(ValueError, match="^got|got '2'"):
            guidance.describe(wrong)  # type: ignore[arg-type]
