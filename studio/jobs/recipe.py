"""What the controls of the page hold, as one plain value, and how a picture's recipe becomes such a value
again."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guidance.grammar import CUSTOM
from studio.checkpoints import plans
from studio.data.labels import NO_LABEL, labels_text, no_label, says, word
from studio.jobs import limits
from studio.jobs.typed import of_fields
from studio.jobs.uploads import check_names
from studio.runtime.recipes import complete
from studio.runtime.seeds import AT_ONCE, parse_seeds, seeds_text
from studio.runtime.untrusted import parsed
from studio.sampling.commands import SHARED, conditions_in

OWN = "each seed its own"
PICK = "pick a model first; where the list is empty, `studio train demo` makes one"
FILES = ("init", "mask", "known", "given")  # of a recipe: names of what was sent with it
START = ("strength", *FILES)  # what a run is told of where it starts
NONE = "none"  # these two words stand in brackets where a class is called so


@dataclass(frozen=True)
class Recipe:
    """One run as asked for. ``label``: `own_word`, or what `studio.data.labels` reads, None as the former;
    ``seeds``: ``0-7,12``; ``conditions``: ``name=value, ...`` for all others. ``guidance`` "default" and
    ``num_steps`` 0 or ``sampler`` "" mean the model's own. ``plan``: the name of one, auto or none. ``init``
    and ``mask``: names of pictures or arrays that lie in the job's own folder, to start from and of which
    white may change; ``strength`` 0 means the usual one. ``known`` and ``given``: names of arrays there,
    which entries stay and their values; one .npz may be both."""

    model: str
    weights: str = "auto"
    label: str | None = None
    seeds: str = "0-9"
    num_steps: int = 0
    sampler: str = ""
    guidance: str = "default"
    conditions: str = ""
    dtype: str = "auto"
    deterministic: bool = False
    plan: str = plans.NONE
    strength: float = 0.0
    init: str | None = None
    mask: str | None = None
    known: str | None = None
    given: str | None = None

    @classmethod
    def parse(cls, untrusted: Any) -> "Recipe":
        """What a form, a link, a script or a picture says, checked: these fields by name, or the recipe of a
        picture (`studio.runtime.recipes`); as JSON
        too. Opens nothing. Raises ``ValueError`` for anything
        else."""
        said = parsed(untrusted) if isinstance(untrusted, str) else untrusted
        if isinstance(said, Mapping) and "seed" in said:
            made = from_recipe(said, str(said.get("model", "")))
        else:
            made = of_fields(cls, said)
        made.check()
        return made

    def check(self) -> None:
        """Raises ``ValueError`` for what no model could do, before one is opened."""
        for name, value in vars(self).items():
            limits.text(name, value if isinstance(value, str) else "")
        if not self.model:
            raise ValueError(PICK)
        limits.steps(self.num_steps or 1)
        if str(self.seeds or "").strip():
            parse_seeds(str(self.seeds), most=AT_ONCE)
        limits.dtype(self.dtype)
        limits.plan(self.plan or "")
        limits.strength(self.strength)
        check_names(getattr(self, name) for name in FILES)
        if self.mask and not self.init:
            raise ValueError("got a mask without a picture to start from; give both, or neither")
        if bool(self.known) != bool(self.given):
            raise ValueError("got known without given, or given without known; give both, or neither")
        if self.init and self.given:
            raise ValueError("got a start and known entries, expected one of them; leave one out")
        parse_conditions(self.conditions, None)

    def options(self, classes: Sequence[str] = (), texts: Collection[str] = ()) -> dict[str, Any]:
        """Keyword arguments of ``Model.request`` for a model of such classes, of whose conditions ``texts``
        are no numbers. Raises ``ValueError`` for another condition that is not ``name=number``."""
        own = (
            self.label is None or self.label not in classes and self.label.strip() in ("", own_word(classes))
        )
        return {
            "labels": None if own else self.label,
            "seeds": str(self.seeds or "").strip(),
            "num_steps": int(self.num_steps or 0) or None,
            "sampler": (self.sampler or "").strip() or None,
            "guidance": (self.guidance or "").strip(),
            "conditions": parse_conditions(self.conditions, texts),
            "deterministic": bool(self.deterministic),
            "strength": self.strength or None if self.init else None,
        }


def parse_conditions(text: str, texts: Collection[str] | None = ()) -> dict[str, float | str]:
    """``"ph=7, season=spring"``, or a JSON object for names and values with a comma or an equals sign, to a
    dict. ``texts``: names of those that are no numbers, None where that is not known."""
    plain = (text or "").strip()
    if plain.startswith("{"):
        try:
            return {str(k): _value(str(k), v, texts) for k, v in json.loads(plain).items()}
        except (AttributeError, TypeError, ValueError, OverflowError, RecursionError):
            raise ValueError(
                f"got conditions {limits.brief(plain)}, expected numbers by name, such as {{'ph': 7}} "
                "with double quotes"
            ) from None
    values: dict[str, float | str] = {}
    for part in filter(None, (p.strip() for p in plain.split(","))):
        name, _, value = part.partition("=")
        try:
            values[name.strip()] = _value(name.strip(), value, texts)
        except ValueError:
            raise ValueError(
                f"got condition {limits.brief(part)}, expected name=number, such as ph=7"
            ) from None
    return values


def _value(name: str, value: Any, texts: Collection[str] | None) -> float | str:
    """A number, or a text where that may be. Raises ``ValueError``."""
    if texts is not None and name in texts:
        return value if isinstance(value, str) else json.dumps(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        if texts is None and isinstance(value, str) and value.strip():
            return value
        raise ValueError("no number") from None


def conditions_text(values: Mapping[str, float | str]) -> str:
    """What `parse_conditions` reads as these values."""
    plain = ", ".join(f"{k}={v if isinstance(v, str) else repr(v)}" for k, v in values.items())
    texts = [k for k, v in values.items() if isinstance(v, str)]
    try:
        return plain if parse_conditions(plain, texts) == values else json.dumps(dict(values))
    except ValueError:
        return json.dumps(dict(values))


def own_word(classes: Sequence[str]) -> str:
    """What the class control says where each seed has its own class."""
    return word(OWN, classes)


def label_choices(classes: Sequence[str]) -> list[str | tuple[str, str]]:
    """The class control's choices: own class, no label, and every class by its name, with another value where
    the name alone would say something else."""
    values = [labels_text([i], classes) for i in range(len(classes))]
    return [
        own_word(classes),
        no_label(classes),
        *(name if name == value else (name, value) for name, value in zip(classes, values)),
    ]


def label_text(
    labels: int | None | Sequence[int | None], seeds: Sequence[int], classes: Sequence[str]
) -> str:
    """The class control for the labels of a recipe: a name where one serves all, `own_word` where each seed
    has its own, otherwise a list."""
    if not classes:
        return OWN
    numbers = [NO_LABEL if k is None else k for k in (labels if isinstance(labels, Sequence) else [labels])]
    if any(not NO_LABEL <= k < len(classes) for k in numbers):
        raise ValueError(f"its label {max(numbers)} is none of the model's {len(classes)} classes")
    if len(numbers) > 1 and all(label == seed % len(classes) for label, seed in zip(numbers, seeds)):
        return own_word(classes)
    short = ",".join(no_label(classes) if k == NO_LABEL else str(k) for k in numbers)
    return short if len(set(numbers)) > 1 and says(short, numbers, classes) else labels_text(numbers, classes)


def _numbers(labels: int | None | Sequence[int | None]) -> str | None:
    """Labels of a recipe as the class control takes them where no names are known; None for none."""
    listed = list(labels) if isinstance(labels, Sequence) else [labels]
    if all(k is None for k in listed):
        return None
    short = [NONE if k in (None, NO_LABEL) else str(k) for k in listed]
    return ",".join(short if len(set(short)) > 1 else short[:1])


def renamed(recipe: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """What to say of a recipe whose class numbers have other names in a model: the numbers count."""
    labels, names = recipe.get("label"), recipe.get("class")
    both = zip(labels, names) if isinstance(labels, list) and isinstance(names, list) else [(labels, names)]
    other = {
        k: n
        for k, n in both
        if isinstance(k, int) and isinstance(n, str) and 0 <= k < len(classes) and n != classes[k]
    }
    return [
        f"Class {k} is called {classes[k]!r} in this model, {name!r} in the picture's recipe; the "
        "number counts."
        for k, name in other.items()
    ]


def from_recipe(recipe: Mapping[str, Any], model: str, classes: Sequence[str] | None = None) -> Recipe:
    """The settings that make a recipe's samples again with ``model``; without its ``classes`` labels stay
    numbers. Raises ``ValueError`` for a recipe that lacks what it takes."""
    recipe = complete(recipe, (*SHARED, "seed"))
    listed = recipe["seed"] if isinstance(recipe["seed"], list) else [recipe["seed"]]
    return Recipe(
        model=model,
        weights=recipe["weights"],
        label=_numbers(recipe.get("label"))
        if classes is None
        else label_text(recipe.get("label"), listed, classes),
        seeds=seeds_text(listed),
        num_steps=recipe["num_steps"],
        sampler=recipe["sampler"],
        guidance="" if recipe["guidance"] == CUSTOM else recipe["guidance"],
        conditions=conditions_text(conditions_in(recipe)),
        dtype=recipe["dtype"],
        deterministic=recipe.get("deterministic", False),
        strength=limits.strength(recipe.get("strength", 0.0)),
        init=_name_of(recipe.get("init")),
        mask=_name_of(recipe.get("mask")),
        known=_name_of(recipe.get("known")),
        given=_name_of(recipe.get("given")),
    )


def _name_of(file: str | None) -> str | None:
    """A file's name, of an address as any machine writes it."""
    return file.replace("\\", "/").rpartition("/")[2] or None if file else None


def shortened(recipe: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """A sheet's recipe with seeds as ranges and labels left out where each seed has its own, so that it can
    be read; that of one sample as it is."""
    seeds, labels = recipe.get("seed"), recipe.get("label")
    if not isinstance(seeds, list):
        return dict(recipe)
    brief = {k: v for k, v in recipe.items() if k not in ("class", "label")} | {"seed": seeds_text(seeds)}
    if (
        isinstance(labels, list)
        and labels != [None] * len(labels)
        and not (classes and labels == [s % classes for s in seeds])
    ):
        brief["label"] = labels[0] if len(set(labels)) == 1 else labels
    return brief
