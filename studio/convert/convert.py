"""`studio convert`: weights of others as model folders, and model folders as others read them.

SOURCE is ``FAMILY:PATH``, such as ``dit:DiT-XL-2-256x256.pt`` or ``diffusers:DIR``, or ``hf:org/name`` for a
diffusers pipeline on the hub; with ``to`` it is a MODEL. A family is a function ``read(path, vae, /, *,
options) -> Imported``, a target ``prepare(model, vae, /, *, options) -> Draft``; their keyword options are
what ``key=value`` may set. Nothing is written before everything has been checked.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import guidance
from backbones.registry import check_options, resolve
from guidance.grammar import value_of
from samplers.objective import Objective
from studio.checkpoints import checkpoint
from studio.checkpoints.build import Info, build_network, objective_of
from studio.checkpoints.find import locate
from studio.codecs.codec import are_numbers
from studio.codecs.vae import FOLDER, SCALE, read_vae, vae_folder
from studio.config import Config, load_config
from studio.model.loading import load
from studio.runtime import files, pretrained
from studio.runtime.version import __version__
from studio.sampling import sampler_spec
from studio.sampling.sampler_spec import fit_of, resolved

FAMILIES = {
    "dit": "studio.convert.dit:read",
    "diffusers": "studio.convert.diffusers:read",
    "sit": "studio.convert.sit:read",
    "dis": "studio.convert.linear:read_dis",
    "rwkv": "studio.convert.linear:read_rwkv",
    "graph_dit": "studio.convert.graph_dit:read",
}
TARGETS = {"diffusers": "studio.convert.to_diffusers:prepare"}
ORIGIN = "drift-studio.json"  # what a target writes beside its files: where they come from, and notes
HUB = ("model_index.json", "config.json", "diffusion_pytorch_model*", "transformer/*", "vae/*", "scheduler/*")


@dataclass(frozen=True)
class Imported:
    """What a family makes of a source: our state-dict, the config's sections, what a model must know of its
    data, its VAE (a module) if there is one, and entries for ``meta.json``. ``read_as``: in words what the
    weights were taken for, kept there and told."""

    name: str
    tensors: dict[str, Tensor]
    backbone: dict[str, Any]
    objective: dict[str, Any]
    sample: dict[str, Any]
    info: Info
    read_as: str
    vae: Any = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A checked conversion: bytes it needs and the function that writes it into an empty folder."""

    need: int
    save: Callable[[Path], None]


def convert(
    source: str,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    to: str | None = None,
    vae: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write SOURCE as a model folder, or a MODEL of ours as others read it (``to="diffusers"``); returns
    ``out``.

    ``overrides``: ``key=value`` for the family or target (``num_heads=6``, ``classes=FILE``), and for the
    config (``name=...``, ``sample.num_steps=250``). ``vae``: folder of a diffusers ``AutoencoderKL``, or
    ``hf:org/name``. Raises ``FileExistsError`` for a folder that holds something unless ``overwrite`` and it
    is a converted or exported model, ``ValueError`` for what cannot be read or expressed, with the reason.
    """
    if to is not None and source.partition(":")[0] in FAMILIES:
        raise ValueError(
            f"got {source!r} to write for {to}, expected a MODEL of ours; make it one first: studio "
            f"convert {source} --out DIR"
        )
    target, origin = Path(out), source.partition(":")[2] if to is None else str(locate(source)[0])
    _check_target(target, [Path(o).expanduser() for o in (origin, vae) if o], overwrite)
    if to is not None:
        prepare = resolve(TARGETS, to, "target")
        own, general = _split(overrides)
        if general:
            raise ValueError(
                f"got {general[0]}, a key of a model's config, which has no place in what is written for "
                f"{to}; leave it out"
            )
        options = check_options(prepare, own, f"target {to!r}")
        draft = prepare(
            load(source, device="cpu", dtype="fp32"),
            None if vae is None else read_vae(vae_folder(vae)),
            **options,
        )
    else:
        draft = _model_folder(_read(source, overrides, vae), _split(overrides)[1], source)
    files.check_writable(target, need=draft.need)
    aside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        draft.save(aside)
        files.put_in_place(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _check_target(target: Path, origins: Sequence[Path], overwrite: bool) -> None:
    """Only what this command or `studio export` wrote is written over, and never the source."""
    if not target.exists():
        files.check_writable(target)
    if target.exists() and not target.is_dir():
        raise FileExistsError(
            f"{target} is a file, expected a folder that is new or empty; choose another --out"
        )
    if target.exists() and any(target.iterdir()):
        known = (target / ORIGIN).is_file() or all(
            (target / name).is_file() for name in ("config.yaml", "model.safetensors")
        )
        if not (overwrite and known):
            raise FileExistsError(
                f"{target} holds something already; choose another --out"
                + (" or pass --overwrite" if known else "")
            )
    for origin in origins:
        if origin.exists() and (
            origin.resolve() == target.resolve() or target.resolve() in origin.resolve().parents
        ):
            raise ValueError(f"{target} holds {origin}, which is read from; choose another --out")


def _split(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Options of a family or target, and overrides of the config (``name`` and everything with a dot)."""
    own, general = {}, []
    for text in overrides:
        key, eq, value = text.partition("=")
        if not eq or not key:
            raise ValueError(f"got override {text!r}, expected key=value, such as num_heads=6")
        if "." in key or key == "name":
            general.append(text)
        else:
            own[key.strip().replace("-", "_")] = value_of(value)
    return own, general


def _read(source: str, overrides: Sequence[str], vae: str | None) -> Imported:
    family, colon, path = source.partition(":")
    if not colon or not path:
        known = ", ".join(f"{f}:PATH" for f in FAMILIES)
        raise ValueError(
            f"got source {source!r}, expected {known} or hf:org/name; to write a model of ours for "
            f"others, pass --to {' or '.join(TARGETS)}"
        )
    read = resolve(FAMILIES, "diffusers" if family == "hf" else family, "family")
    options = check_options(read, _split(overrides)[0], f"family {family!r}")
    if family == "hf":  # fetched when nothing can be refused without it any more
        path = str(pretrained.fetch(path, HUB))
    return read(str(Path(path).expanduser()), None if vae is None else read_vae(vae_folder(vae)), **options)


def _model_folder(found: Imported, general: Sequence[str], source: str) -> Draft:
    """Everything about a model folder checked: that the weights fill the network and that its defaults can be
    sampled."""
    tree = {
        "name": found.name,
        "backbone": found.backbone,
        "objective": found.objective,
        "sample": found.sample,
    }
    config = load_config(tree, general)
    with torch.device("meta"):
        net = build_network(config)
    own = net.state_dict()
    for key in own:
        if key not in found.tensors:
            raise ValueError(f"the weights of {source} lack {key}; check the backbone's options")
        if found.tensors[key].shape != own[key].shape:
            raise ValueError(
                f"{source}: {key} has shape {tuple(found.tensors[key].shape)}, expected "
                f"{tuple(own[key].shape)}; check the backbone's options"
            )
    unexpected = sorted(set(found.tensors) - set(own))
    if unexpected:
        raise ValueError(
            f"the weights of {source} hold {unexpected[0]}, which our {config.backbone['name']} does not have"
        )
    config = replace(
        config, sample=replace(config.sample, sampler=resolved(None, fit_of(config, found.info)))
    )
    _check_sampling(config, objective_of(config))
    if found.vae is not None and found.vae.config.latent_channels != found.info.shape[0]:
        raise ValueError(
            f"the VAE's latents have {found.vae.config.latent_channels} channels, the network takes "
            f"{found.info.shape[0]}; give its own VAE"
        )
    kinds = {str(v.dtype).removeprefix("torch.") for v in found.tensors.values() if v.is_floating_point()}
    meta = {
        "version": checkpoint.VERSION,
        **found.info.tree(),
        "parameters": sum(p.numel() for p in net.parameters()),
        "studio": __version__,
        "torch": torch.__version__.split("+")[0],
        "source": source,
        "storage": "/".join(sorted(kinds)),
        "read_as": "; ".join(
            [found.read_as, *(f"but {o} as asked" for o in general if o.startswith("objective."))]
        ),
        **found.meta,
    }

    def save(folder: Path) -> None:
        (folder / "config.yaml").write_text(config.yaml())
        header = {
            "format": "pt",
            "modelspec.architecture": str(config.backbone["name"]),
            "modelspec.title": config.name,
        }
        files.save_tensors(folder / "model.safetensors", found.tensors, header)
        if found.vae is not None:
            found.vae.save_pretrained(folder / FOLDER)
        listed = [p for p in sorted(folder.rglob("*")) if p.suffix == ".safetensors"]
        meta["files"] = {
            str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": files.sha256(p)} for p in listed
        }
        files.write_json(folder / "meta.json", meta)

    return Draft(size_of(found.tensors, found.vae.state_dict() if found.vae is not None else {}), save)


def _check_sampling(config: Config, objective: Objective) -> None:
    sampler_spec.build_sampler(config.sample.sampler).times(objective.path, config.sample.num_steps)
    guidance.parse(config.sample.guidance)
    if (objective.parameterization.variance is not None) != bool(config.backbone.get("learn_sigma", False)):
        raise ValueError(
            "a learned variance needs a network with learn_sigma, and the other way round; check "
            "objective.parameterization"
        )


def size_of(*states: Mapping[str, Tensor]) -> int:
    """Bytes of the tensors."""
    return sum(v.numel() * v.element_size() for state in states for v in state.values())


def class_names(count: int, source: str | Mapping[str, Any] | None) -> tuple[tuple[str, ...], dict[str, Any]]:
    """``count`` names, and what of the source they leave out, for ``meta.json``. ``source``: a file (one name
    a line, a JSON list, or JSON with ``id2label``), a mapping from number to name, or None (the numbers).

    Of synonyms ("tench, Tinca tinca") the first is the name where no other class has it. Raises
    ``ValueError`` for another number of names.
    """
    if source is None:
        return tuple(str(i) for i in range(count)), {}
    tree: Any = source
    if isinstance(source, str):
        path = Path(source).expanduser()
        try:
            text = path.read_text()
            tree = (
                json.loads(text)
                if path.suffix == ".json"
                else [line.strip() for line in text.splitlines() if line.strip()]
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"got classes={source}, which is not readable ({error}); expected one name a line, or JSON"
            ) from None
    tree = tree.get("id2label", tree) if isinstance(tree, Mapping) else tree
    full = (
        [str(tree.get(str(i), tree.get(i, ""))) for i in range(len(tree))]
        if isinstance(tree, Mapping)
        else [str(name) for name in tree]
    )
    if len(full) != count or not all(full):
        raise ValueError(
            f"got {len([n for n in full if n])} class names, the network has {count} classes; expected a "
            "name for each number from 0"
        )
    short = [name.split(",")[0].strip() or name for name in full]
    names = [
        s if short.count(s) == 1 else f if full.count(f) == 1 else f"{f} ({i})"
        for i, (s, f) in enumerate(zip(short, full))
    ]
    return tuple(names), {} if names == full else {"id2label": {str(i): f for i, f in enumerate(full)}}


def factor_of(codec: Mapping[str, Any], vae: Any) -> int | None:
    """Pixels a side of what the network sees: 1 for pixels, None for latents of a VAE that is not at hand."""
    return (
        1
        if are_numbers(codec, pictures=True)
        else None
        if vae is None
        else 2 ** (len(vae.config.block_out_channels) - 1)
    )


def plain_pixels(codec: str) -> bool:
    """Whether pixels were asked for by name."""
    return codec != "auto" and are_numbers({"name": codec}, pictures=True)


def codec_of(channels: int, vae: Any, codec: str) -> dict[str, Any]:
    """The codec's spec: pixels for 1 or 3 channels without a VAE, otherwise the VAE in the model's folder."""
    if plain_pixels(codec) or (codec == "auto" and vae is None and channels in (1, 3)):
        if vae is not None:
            raise ValueError("got a VAE and codec=pixels, expected one of them; leave --vae out")
        return {"name": "pixels"}
    return {
        "name": "vae",
        "folder": FOLDER,
        "scale": float(vae.config.scaling_factor) if vae is not None else SCALE,
    }
