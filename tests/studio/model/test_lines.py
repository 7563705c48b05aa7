"""Lines of guidance and samplers, part by part: options of all signatures, and what the line says of each."""

import inspect

import pytest

import guidance
import samplers
from backbones.registry import resolve
from studio.model import lines


def options(part: dict[str, object]) -> dict[str, tuple[str, str, object]]:
    found = part["options"]
    return {o["name"]: (o["kind"], o["default"], o["value"]) for o in found}  # type: ignore[attr-defined]


def test_a_line_is_its_rules_in_order_with_what_it_says() -> None:
    prior, cfg = lines.rules_of("prior=fashion-ddpm,cfg(scale=2,channels=3),interval=0.1:0.9")
    assert (prior["name"], cfg["name"]) == ("prior_swap", "cfg") and "scale" in cfg["about"]
    told = options(cfg)
    assert told["scale"] == ("number", "1", 2) and told["channels"] == ("whole", "", 3)
    assert told["interval"] == ("span", "", "0.1:0.9") and told["interval_sigma"] == ("span", "", None)
    assert told["schedule"] == ("text", "constant", None)
    assert options(prior)["model"] == ("text", "", "fashion-ddpm")
    assert options(prior)["free"] == ("truth", "false", None)
    assert lines.rules_of("") == lines.rules_of("none") == []
    assert (
        lines.rules_of("prior_swap")[0]["name"] == "prior_swap"
    )  # it lacks a model, which its control asks for


def test_a_sampler_is_one_part() -> None:
    (part,) = lines.sampler_of("ddim(eta=0.5,clip=1)")
    assert part["name"] == "ddim" and options(part)["eta"] == ("number", "0", 0.5)
    assert options(part)["clip"] == ("number", "", 1)
    assert options(part)["recompute_noise"] == ("truth", "false", None)


@pytest.mark.parametrize("line", ["cgf=2", "cfg(", "cfg=2,,"])
def test_what_is_not_understood_is_told(line: str) -> None:
    with pytest.raises(ValueError, match="got"):
        lines.rules_of(line)


def test_every_signature_has_its_controls() -> None:
    """No option is left out, and the default of each is that of the signature."""
    for registry, read, what in (
        (guidance.REGISTRY, lines.rules_of, "guidance rule"),
        (samplers.REGISTRY, lines.sampler_of, "sampler"),
    ):
        for name in registry:
            (part,) = read(name)
            signature = inspect.signature(resolve(registry, name, what)).parameters
            assert [o["name"] for o in part["options"]] == list(signature)
            for option in part["options"]:
                default = signature[option["name"]].default
                if isinstance(default, bool):
                    assert (option["kind"], option["default"]) == ("truth", str(default).lower())
                elif isinstance(default, int | float):
                    assert option["kind"] in ("number", "whole") and float(option["default"]) == default
