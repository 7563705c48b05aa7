"""`studio export`: a run flattened to what inference needs."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from studio.checkpoints import checkpoint
from studio.checkpoints.find import choose_weights, live_buffers, locate, read_weights, spot_of
from studio.config import load_config
from studio.runtime import files

STORAGE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def export(
    model: str,
    out: str | Path,
    *,
    weights: str = "auto",
    dtype: str = "fp32",
    overwrite: bool = False,
    adapter: bool = False,
) -> Path:
    """Write ``config.yaml, model.safetensors, meta.json`` and the preview of a run to a new folder; returns
    it. A run with low-rank adapters is merged; with ``adapter`` they alone are written,
    ``adapter.safetensors``, a model that needs its base beside it.

    Raises ``FileExistsError`` for a folder that holds something unless ``overwrite`` and it is an export,
    ``ValueError`` for unknown weights or dtype.
    """
    if dtype not in STORAGE:
        raise ValueError(f"got storage dtype {dtype!r}, expected one of {', '.join(STORAGE)}")
    folder, step = locate(model)
    spot = spot_of(folder, step)
    if spot != folder:
        checkpoint.verify(spot)
    key, path = choose_weights(spot, weights)
    target = Path(out)
    files.check_writable(target)
    if target.exists() and any(target.iterdir()):
        ours = any((target / f"{stem}.safetensors").is_file() for stem in ("model", "adapter"))
        if not (overwrite and ours):
            raise FileExistsError(
                f"{target} holds something already; choose another --out"
                + (" or pass --overwrite" if ours else "")
            )
    config = load_config(folder / "config.yaml")
    tensors = read_weights(key, path)
    if config.backbone.get("name") == "custom":
        tensors |= live_buffers(key, path, tensors)
    if adapter and not config.lora:
        raise ValueError(f"{model} was not trained with lora, so it has no adapter; leave --adapter out")
    stem = "adapter" if adapter else "model"
    if adapter:
        fresh = tuple(f"{name}." for name in config.lora.get("tables", ()))
        tensors = {k: v for k, v in tensors.items() if "lora_" in k or k.startswith(fresh)}
    elif config.lora:
        from studio.model.loading import load

        tensors = load(model, weights=weights, device="cpu", dtype="fp32").denoiser.net.state_dict()
        config = replace(config, lora={})
    stored = {k: v.to(STORAGE[dtype]) if v.is_floating_point() else v for k, v in tensors.items()}
    files.check_writable(target, need=sum(v.numel() * v.element_size() for v in stored.values()))
    draft = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    (draft / "config.yaml").write_text(config.yaml())
    files.save_tensors(
        draft / f"{stem}.safetensors",
        stored,
        {
            "format": "pt",
            "modelspec.architecture": str(config.backbone.get("name")),
            "modelspec.title": config.name,
        },
    )
    # a run's record, to resume it
    meta = {k: v for k, v in checkpoint.read_meta(folder).items() if k not in ("source", "config")}
    meta |= {"step": int(spot.name) if spot != folder else meta.get("step"), "weights": key, "storage": dtype}
    meta["files"] = {
        f"{stem}.safetensors": {
            "bytes": (draft / f"{stem}.safetensors").stat().st_size,
            "sha256": files.sha256(draft / f"{stem}.safetensors"),
        }
    }
    files.write_json(draft / "meta.json", meta)
    if (spot / "preview.png").is_file():
        shutil.copyfile(spot / "preview.png", draft / "preview.png")
    if (folder / "codec").is_dir():
        shutil.copytree(folder / "codec", draft / "codec")
    files.put_in_place(draft, target)
    return target
