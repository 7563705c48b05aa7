"""What a model looks like where an object is printed: a few lines of text, a table and its preview in a
notebook."""

import base64
import html
from pathlib import Path

from studio.data.conditions import hint_of
from studio.data.labels import listed
from studio.model.loaded import Loaded


def facts(model: Loaded) -> dict[str, str]:
    """What a user asks of a model first, by name; only what there is."""
    info, sample = model.info, model.config.sample
    count = sum(p.numel() for p in model.denoiser.net.parameters())
    kind = f"{model.task.name} {'×'.join(map(str, model.sample_shape))}"
    objective = model.config.objective
    told = {
        "makes": kind + (f" from {info.starts_from}" if info.starts_from else ""),
        "classes": f"{len(info.classes)}: {listed(info.classes)}" if info.classes else "",
        "numbers": _numbers(info.numeric, info.numeric_range),
        "asked": "; ".join(f"{f.name}: {hint_of(f)}" for f in info.fields),
        "network": f"{model.config.backbone.get('name')}, {count:,} parameters ({model.weights}), "
        f"{_precision(model)}",
        "objective": " on ".join(
            _name(objective.get(k, d)) for k, d in (("parameterization", "velocity"), ("path", "linear"))
        ),
        "path": model.path,
        "sampling": ", ".join(
            filter(
                None,
                (
                    sample.sampler,
                    f"{sample.num_steps} steps",
                    f"guidance {sample.guidance}" if sample.guidance else "",
                ),
            )
        ),
        "base": info.base.get("model", ""),
        "folder": str(model.folder),
    }
    return {k: v for k, v in told.items() if v}


def text(model: Loaded) -> str:
    """A line each, short ones."""
    lines = [f"  {k + ':':<11}{v if len(v) <= 100 else v[:99] + '…'}" for k, v in facts(model).items()]
    return "\n".join([f"Model {model.name}", *lines])


def rich(model: Loaded) -> str:
    """HTML: the same as a table, beside the preview where there is one."""
    cells = "".join(
        f"<tr><td style='text-align:left'><b>{k}</b></td><td "
        f"style='text-align:left'>{html.escape(v)}</td></tr>"
        for k, v in facts(model).items()
    )
    return f"<div><b>{html.escape(model.name)}</b><table>{cells}</table>{_preview(model.folder)}</div>"


def _preview(folder: Path) -> str:
    """The newest preview of an exported model or a run."""
    found = [
        p
        for p in (folder / "preview.png", *sorted(folder.glob("checkpoints/*/preview.png"), reverse=True))
        if p.is_file()
    ]
    if not found:
        return ""
    return (
        "<img alt='preview' style='max-width:480px' "
        f"src='data:image/png;base64,{base64.b64encode(found[0].read_bytes()).decode()}'>"
    )


def _numbers(names: tuple[str, ...], ranges: tuple[tuple[float, float], ...]) -> str:
    if len(ranges) != len(names):
        return ", ".join(names)
    return ", ".join(f"{n} {low:.4g} to {high:.4g}" for n, (low, high) in zip(names, ranges))


def _name(part: object) -> str:
    return str(part.get("name")) if isinstance(part, dict) else str(part)


def _precision(model: Loaded) -> str:
    kind = model.denoiser.dtype
    return f"{str(kind).removeprefix('torch.') if kind is not None else 'float32'} on {model.device}"
