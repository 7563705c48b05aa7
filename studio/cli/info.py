"""What `studio info`, `list` and `flops` say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from samplers.spaces.packing import BONDS
from studio.checkpoints import checkpoint, own_network
from studio.checkpoints.build import Info
from studio.checkpoints.find import card, locate, spot_of, weights_in
from studio.checkpoints.networks import build_networks, procedure_of
from studio.cli.plans import listed as listed_plans
from studio.cli.preset import listed as listed_presets
from studio.config import load_config
from studio.data.labels import SHOWN, listed
from studio.model.catalog import conditions_of, defaults_of
from studio.runtime import files
from studio.runtime.recipes import NoCommand, line_of, read_recipe, told
from studio.runtime.seeds import seeds_text
from studio.sampling.commands import command_of


def describe(what: str, guidance: str | None = None) -> dict[str, Any]:
    """A PNG's recipe and command, a samples folder's count and recipe, or a model's card; with the memory of
    the models that its guidance (its own, or ``guidance``) borrows."""
    path = Path(what).expanduser()
    if path.suffix.lower() == ".png" or (path.is_dir() and (path / "recipe.json").is_file()):
        recipe = read_recipe(path if path.is_file() else path / "grid.png")
        seeds = recipe.get("seed")
        extra = {} if path.is_file() else {"samples": len(seeds) if isinstance(seeds, list) else 1}
        return {
            **extra,
            **{k: v for k, v in recipe.items() if k != "command"},
            "command": told(lambda: command_of(recipe)),
        }
    if (path / "manifest.json").is_file():
        return _generated(path)
    shown = card(what)
    folder, step = locate(what)
    config, meta = load_config(folder / "config.yaml"), checkpoint.read_meta(folder)
    spot = spot_of(folder, step)
    return {
        "name": shown.name,
        "folder": str(folder),
        "task": shown.task,
        "shape": list(shown.shape),
        "classes": list(shown.classes),
        **({"conditions": asked} if (asked := conditions_of(shown)) else {}),
        "backbone": config.backbone,
        "objective": config.objective,
        "parameters": meta.get("parameters"),
        "memory": memory(what, guidance),
        **({"base": meta["base"]} if meta.get("base") else {}),
        "step": shown.step,
        "weights": {k: files.sha256(p)[:16] for k, p in weights_in(spot).items()},
        "sample": vars(defaults_of(shown)),
        **({"plans": found} if (found := listed_plans(shown)) else {}),
        **({} if shown.starts_from else {"presets": listed_presets(str(what), shown)}),
        **({"starts_from": shown.starts_from, "procedure": config.procedure} if shown.starts_from else {}),
        "command": told(lambda: use_of(str(what))),
    }


def brief(result: Mapping[str, Any]) -> dict[str, Any]:
    """What `describe` found for the eye: of long lists the beginning, seeds as ranges, and of classes a few
    and how many there are."""
    short = {k: v if k == "command" else _brief(v) for k, v in result.items()}
    if isinstance(result.get("seed"), list):
        short["seed"] = seeds_text(result["seed"])
    if isinstance(result.get("classes"), list):
        short["classes"] = listed(result["classes"]) or "none"
    if isinstance(found := result.get("plans"), Mapping) and all(
        isinstance(p, Mapping) for p in found.values()
    ):
        del short["plans"]
        short |= {f"plan {name}": plan.get("about") for name, plan in found.items()}
    if isinstance(found := result.get("presets"), Mapping):
        del short["presets"]
        short |= {f"preset {name}": about for name, about in found.items()}
    return short


def _brief(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _brief(v) for k, v in value.items()}
    if isinstance(value, list | tuple) and len(value) > SHOWN:
        return f"[{', '.join(map(str, value[:SHOWN]))} … ({len(value):,} in all)]"
    return value


def measured_here() -> tuple[dict[str, Any], list[str]]:
    """What the forms of attention and doubled batches take on this machine, as kept, or measured now, and
    which are chosen; in the precision that products have here by default, for heads of 64."""
    from backbones import batching, host
    from backbones.attention import measured
    from studio.runtime.devices import DTYPE_NAMES, pick_dtype

    kind = pick_dtype("auto", torch.device("cpu")) or torch.float32
    name = f"attention-{str(kind).removeprefix('torch.')}-64"
    kept = host.remembered(name, lambda: measured.measure(kind, 64))
    few = batching.filled(kind, torch.get_num_threads())
    found = {**host.identity(), "dtype": DTYPE_NAMES[kind], **kept, "doubled_up_to_tokens": few}
    lines = [f"{host.model_name()} ({host.instructions()}), {found['threads']} threads, {found['dtype']}"]
    for doing, lengths in kept["times"].items():
        lines.append(f"attention, {doing}, ms of one call (batch × tokens, the fastest is chosen):")
        for tokens, times in lengths.items():
            batch = measured.TOKENS.get(int(tokens), 1)
            shown = "  ".join(f"{form} {ms:.2f}" for form, ms in sorted(times.items(), key=lambda kv: kv[1]))
            lines.append(f"  {batch} × {tokens:<6}{shown}")
    lines.append(f"guided calls are one of twice the batch up to {few} tokens in a batch")
    return found, lines


def use_of(what: str) -> str:
    """What samples a model, as it can be typed. Raises `NoCommand` for one whose network is a module of the
    user's own, with what to write in Python."""
    shown = card(what)
    if network := own_network.called(shown.folder):
        line = own_network.card_line(what, network, translates=bool(shown.starts_from))
        raise NoCommand(f"its network is a module of your own; in Python: {line}")
    if shown.starts_from:
        return line_of("translate", [str(what), "PICTURES"], [("--out", "translated")])
    return line_of("sample", [str(what)], [("--out", "pictures")])


def memory(what: str, guidance: str | None = None) -> str:
    """Megabytes of weights in fp32 while sampling: the model's, and those of every model that the guidance
    borrows."""
    from guidance import parse
    from guidance.borrowed import Borrowed

    folder, _ = locate(what)
    line = load_config(folder / "config.yaml").sample.guidance if guidance is None else guidance
    sizes = {str(what): _megabytes(folder)}
    for rule in parse(line):
        if isinstance(rule, Borrowed) and isinstance(rule.model, str):
            name = (
                checkpoint.read_meta(folder).get("base", {}).get("model", "")
                if rule.model == "base"
                else rule.model
            )
            sizes[
                f"{type(rule).__name__} {name}" + (", freed where it is not asked" if rule.free else "")
            ] = _megabytes(locate(name)[0])
    told = " + ".join(f"{size:.1f} ({name})" for name, size in sizes.items())
    return f"{told} = {sum(sizes.values()):.1f} MB" if len(sizes) > 1 else f"{sum(sizes.values()):.1f} MB"


def _megabytes(folder: Path) -> float:
    return 4e-6 * float(checkpoint.read_meta(folder).get("parameters") or 0)


def _generated(folder: Path) -> dict[str, Any]:
    """A folder of `studio generate`: what it pins, how much of it is there, and the command that goes on with
    it."""
    from studio.generation.plan import command_of_manifest, read_manifest
    from studio.generation.tar import in_archives

    manifest = read_manifest(folder)
    pinned = manifest["pinned"]
    there = (
        len(list(folder.glob("[0-9]*/[0-9]*.png")))
        or in_archives(folder)
        or (pinned["num"] if (folder / "samples.npz").is_file() else 0)
    )
    return {
        "model": manifest.get("model"),
        "there": f"{there} of {pinned['num']}",
        **pinned,
        "command": told(lambda: command_of_manifest(manifest, folder)),
    }


def count_flops(what: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Parameters, tokens and multiply-adds of one evaluation of one sample (a multiply-add counts once, as
    DiT's tables do)."""
    from torch.utils.flop_counter import FlopCounterMode

    from backbones.types import Cond, tokens_of

    kind, _, size = what.partition(":")
    if kind == "dit" and size:
        section = {"name": "dit", "size": size, "learn_sigma": True}
        config = load_config({"backbone": section}, [f"backbone.{o}" for o in overrides])
        channels, side = config.backbone.get("in_channels", 4), config.backbone.get("input_size", 32)
        shape: tuple[int, ...] = (channels, *((side, side) if isinstance(side, int) else side))
    else:
        try:
            folder, _step = locate(what)
            config, shape = (
                load_config(folder / "config.yaml", overrides),
                Info.from_meta(checkpoint.read_meta(folder)).shape,
            )
        except ValueError:
            from studio.data import load_data
            from studio.training.resolve import resolve

            config = load_config(what, overrides)
            resolved = resolve(config, load_data(config.data), overrides=overrides)
            config, shape = resolved.config, resolved.info.shape
    with torch.device("meta"):
        procedure = procedure_of(config)
        described = (n for n, s in procedure.networks(config).items() if s.backbone == config.backbone)
        name = next(described, None)  # one evaluation asks one of those of the backbone section
        if name is None:
            raise ValueError(f"{what} builds its networks in Python, expected a backbone section to count")
        net = build_networks(config, procedure)[name].eval()
        if len(shape) in (2, 3):  # channels in front: of a bridge those of the source go in too
            shape = (config.backbone.get("in_channels", shape[0]), *shape[1:])
        if "atom_types" in config.backbone:  # graphs: an atom is a token
            shape = (shape[0], config.backbone["atom_types"] + BONDS * shape[0])
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            net(torch.empty(1, *shape), torch.empty(1), Cond())
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "macs": counter.get_total_flops() // 2,
        "gmacs": round(counter.get_total_flops() / 2e9, 3),
        "tokens": tokens_of(net, shape),
        "shape": list(shape),
    }
