"""Which models fit as another one's unconditional prior, told before one is loaded, and as loading says."""

import pytest

from studio.checkpoints.find import card
from studio.model import lines
from studio.model.lenders import check_lent, fitting, why_not
from studio.model.model import Model

SHELF = ("fashion-dit", "fashion-ddpm", "fashion-dis", "moses-graph-dit", "noto-twemoji")


def test_those_of_the_same_pictures_fit() -> None:
    cards = {name: card(name) for name in SHELF}
    assert fitting("fashion-dit", cards) == ["fashion-ddpm", "fashion-dis"]
    assert fitting("moses-graph-dit", cards) == [] and fitting("none of them", cards) == []


def test_the_reason_is_that_of_loading(picture_model: Model) -> None:
    name = str(picture_model.folder)
    told = why_not(name, "fashion-dit")
    assert "(1, 28, 28)" in told and "same size" in told
    with pytest.raises(ValueError) as loaded:
        picture_model.request(seeds="0", guidance="prior=fashion-dit,cfg=2")
    assert str(loaded.value).partition("; ")[2] == told.partition("; ")[2]
    with pytest.raises(ValueError, match="same size"):
        check_lent(name, "prior=fashion-dit,cfg=2")
    with pytest.raises(ValueError, match="starts from"):
        check_lent("fashion-dit", "prior=fashion-restore,cfg=2")
    with pytest.raises(ValueError, match="not fine-tuned"):
        check_lent("fashion-dit", "prior=base,cfg=2")
    check_lent("fashion-dit", "prior=fashion-ddpm,cfg=2")
    check_lent("fashion-dit", "cfg=2")


def test_the_rule_that_takes_a_branch_from_another_model() -> None:
    rule = lines.provider("uncond")
    assert (rule["shown"], rule["provides"], rule["options"][0]["name"]) == ("prior", "uncond", "model")
    assert lines.rules_of("cfg=2")[0]["needs"] == ("uncond",)
