"""Settings under a name: what a model's own defaults give, and what a person has saved.

A preset is a part of a `Recipe`, of any model that it fits; it says nothing of seeds, class and conditions
unless they were saved with it. A person's own lie as one JSON file each below the folder of outputs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from studio.checkpoints import plans
from studio.checkpoints.find import Card, choose_weights, spot_of
from studio.config import AUTO
from studio.data.labels import no_label
from studio.jobs import limits
from studio.jobs.index import HOME
from studio.jobs.recipe import Recipe, own_word, parse_conditions
from studio.model import catalog
from studio.model.work import known, work_of
from studio.runtime import files, untrusted
from studio.sampling import sampler_spec

FOLDER, FORMAT = "presets", 1
HOW = ("weights", "num_steps", "sampler", "guidance", "dtype", "deterministic", "plan")
WHAT = ("label", "seeds", "conditions")  # saved where a person asks for it
MOST = 200  # presets that are looked at
NAME = re.compile(r"\w[\w .+()-]{0,58}[\w+)]|\w")


@dataclass(frozen=True)
class Preset:
    """``settings``: fields of a `Recipe` by name; ``about`` them in a line; ``saved`` by a person, made with
    a ``model``."""

    name: str
    settings: Mapping[str, Any]
    about: str = ""
    model: str = ""
    saved: bool = False

    def put(self, on: Recipe) -> Recipe:
        """A recipe with these settings, checked. Raises ``ValueError``."""
        return Recipe.parse(asdict(on) | dict(self.settings))


# ---- what a model gives


def of_model(name: str, card: Card) -> list[Preset]:
    """``its own defaults``; ``fast``, half the steps by the solver of one query a step that fits the model
    best; ``best``, twice the steps; and a preset for each plan that was measured. Those that the model's path
    does not allow are left out."""
    own, model = catalog.defaults_of(card), known(name)
    usual = sampler_spec.resolved(None, replace(model.fit, own=AUTO))
    base = {"num_steps": own.num_steps, "sampler": own.sampler, "guidance": own.guidance, "plan": plans.NONE}
    found = [
        _made("its own defaults", base),
        _made("fast", base | {"num_steps": max(1, own.num_steps // 2), "sampler": usual}),
        _made("best", base | {"num_steps": 2 * own.num_steps}),
    ]
    names = {digest: key for key, digest in catalog.digests(card).items()}
    for plan in catalog.plans_of(card).values():
        key = plan.key
        settings = {
            "num_steps": key.num_steps,
            "sampler": key.sampler,
            "guidance": key.guidance,
            "plan": plan.name,
            "weights": names[key.model],
        }
        found.append(Preset(f"plan {plan.name}", settings, plan.about))
    return [preset for preset in found if _runs(preset, name)]


def _made(name: str, settings: Mapping[str, Any]) -> Preset:
    return Preset(name, settings, _about(settings))


def _about(settings: Mapping[str, Any]) -> str:
    steps, sampler = settings.get("num_steps"), settings.get("sampler")
    how = f"{steps or 'its'} steps of {sampler or 'its sampler'}"
    guidance = settings.get("guidance", "default")
    return f"{how}, guidance {'its own' if guidance == 'default' else guidance or 'none'}"


def _runs(preset: Preset, name: str) -> bool:
    said = preset.settings
    try:
        preset.put(Recipe(name))
        work_of(
            name,
            num_steps=said.get("num_steps", 0),
            sampler=said.get("sampler", ""),
            guidance=said.get("guidance", "default"),
            lent=lambda other: known(name),  # what guidance borrows is looked for when it runs
        )
    except (ValueError, OSError, RuntimeError):
        return False
    return True


# ---- what a person keeps


class Saved:
    """The presets of a person, below a folder of outputs."""

    def __init__(self, out: str | Path):
        self.home = Path(out) / HOME / FOLDER

    def all(self) -> list[Preset]:
        """By name; files that are no presets are left out."""
        found = []
        for path in sorted(self.home.glob("*.json"))[:MOST]:
            try:
                found.append(_read(path))
            except (ValueError, OSError):
                continue
        return found

    def fitting(self, name: str, card: Card) -> list[Preset]:
        """Those that a model can run."""
        return [p for p in self.all() if fits(p, name, card)]

    def has(self, name: str) -> bool:
        """Whether there is one of a name; any text may be asked."""
        return bool(NAME.fullmatch(name)) and self._path(name).is_file()

    def get(self, name: str) -> Preset:
        """Raises ``ValueError`` for one that is not there."""
        path = self._path(name)
        if not path.is_file():
            raise ValueError(f"got the preset {limits.brief(name)}, which is not there")
        return _read(path)

    def save(self, name: str, asked: Recipe, *, what: bool = False, replaces: bool = False) -> Preset:
        """Keep how a recipe samples, and ``what``: its class, seeds and conditions too. Raises ``ValueError``
        for a name that is none, or that is taken unless it ``replaces``."""
        path = self._path(name)
        fields = (*HOW, *WHAT) if what else HOW
        settings = {k: v for k, v in asdict(asked).items() if k in fields}
        preset = Preset(path.stem, settings, _about(settings), asked.model, saved=True)
        preset.put(Recipe(asked.model))
        if path.exists() and not replaces:
            raise Taken(f"there is a preset {path.stem} already; replace it, or give another name")
        self.home.mkdir(parents=True, exist_ok=True)
        tree = {"format": FORMAT, "name": path.stem, "model": asked.model, "settings": settings}
        if replaces:
            files.write_json(path, tree)
            return preset
        try:
            with path.open("x", encoding="utf-8") as out:
                json.dump(tree, out, indent=1)
        except FileExistsError:
            raise Taken(f"there is a preset {path.stem} already; replace it, or give another name") from None
        return preset

    def delete(self, name: str) -> None:
        """Raises ``ValueError`` for one that is not there."""
        self.get(name)
        self._path(name).unlink()

    def _path(self, name: Any) -> Path:
        text = name.strip() if isinstance(name, str) else ""
        if not NAME.fullmatch(text):
            raise ValueError(
                f"got the name {limits.brief(name)}, expected up to 60 letters, digits, spaces and "
                ". + - ( ), such as quick look"
            )
        return self.home / f"{text}.json"


class Taken(ValueError):
    """A name that another preset has."""


def _read(path: Path) -> Preset:
    """Raises ``ValueError`` for a file that is no preset."""
    if path.is_symlink() or path.stat().st_size > untrusted.LONGEST:
        raise ValueError(f"{path} is no preset")
    tree = untrusted.parsed(path.read_text(encoding="utf-8", errors="replace"))
    said = tree.get("settings") if isinstance(tree, dict) else None
    if not isinstance(said, dict) or tree.get("format") != FORMAT or set(said) - {*HOW, *WHAT}:
        raise ValueError(f"{path} is no preset: got other fields than those of a recipe")
    preset = Preset(path.stem, said, _about(said), str(tree.get("model", "")), saved=True)
    preset.put(Recipe(preset.model or "any"))
    return preset


# ---- found again


def own_of(name: str, model: str, card: Card, saved: Saved) -> Preset:
    """One that a person has kept. Raises ``ValueError`` where it is not there or does not fit the model."""
    found = saved.get(name)
    if not fits(found, model, card):
        raise ValueError(f"the preset {found.name} does not fit {card.name}; pick another one")
    return found


def model_s(name: str, model: str, card: Card) -> Preset:
    """One that a model has. Raises ``ValueError`` for another."""
    known = {p.name: p for p in of_model(model, card)}
    if name not in known:
        raise ValueError(
            f"got the preset {limits.brief(name)}, which {card.name} does not have, expected "
            f"{', '.join(known)}"
        )
    return known[name]


def named(name: str, model: str, card: Card, saved: Saved | None) -> Preset:
    """One that a person has kept, where there is one of that name, or else the model's. Raises ``ValueError``
    for neither."""
    if saved is not None and saved.has(name):
        return own_of(name, model, card, saved)
    return model_s(name, model, card)


def fits(preset: Preset, name: str, card: Card) -> bool:
    """Whether a model can run with it: it has the sampler, the weights, the plan and the conditions, and the
    path such steps."""
    said = preset.settings
    try:
        choose_weights(spot_of(card.folder, card.step), str(said.get("weights", "auto")))
        sampler = sampler_spec.parse(str(said.get("sampler") or catalog.defaults_of(card).sampler))[0]
        asked = parse_conditions(str(said.get("conditions", "")), None)
    except (ValueError, OSError):
        return False
    plan = said.get("plan", plans.NONE) or plans.NONE
    guided = said.get("guidance", "default") not in ("", "default", "none")
    return (
        sampler in catalog.sampler_names(card)
        and (plan in (plans.NONE, plans.AUTO) or plan in catalog.plans_of(card))
        and (not guided or bool(card.classes or catalog.conditions_of(card)))
        and set(asked) <= set(catalog.settable(card))
        and _label_fits(said.get("label"), card)
        and _runs(preset, name)
    )


def _label_fits(label: str | None, card: Card) -> bool:
    return not label or label in (own_word(card.classes), no_label(card.classes), *card.classes)
