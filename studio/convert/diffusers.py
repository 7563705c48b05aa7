"""The family ``diffusers``: a ``DiTPipeline`` folder (transformer, vae, scheduler, names in model_index.json)
or a bare transformer. The way back is `studio.convert.to_diffusers`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from backbones.originals.diffusers import (
    diffusers_options,
    dit_from_diffusers,
)
from studio.checkpoints.build import Info
from studio.codecs.vae import read_vae
from studio.convert.convert import Imported, class_names, codec_of, plain_pixels
from studio.runtime import pretrained

# theirs: ours
SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}
SPACES = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
NAMES = "id2label.json"
VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "learned_range")


def read(
    path: str, vae: Any, /, *, classes: str | None = None, codec: Literal["auto", "pixels", "vae"] = "auto"
) -> Imported:
    """A ``DiTPipeline`` folder, or that of a ``DiTTransformer2DModel`` alone (without a scheduler: the
    original DiT's 1,000 linear steps).

    Sampled as the pipeline does: its scheduler, 50 steps, guidance 4. For the official weights as the hub has
    them, ``backbone.frequency_shift=0`` and ``backbone.mlp_norm_eps=1e-6`` bring back the original function.
    ``classes``: a file of names, by default the folder's. Raises ``ValueError`` for anything that ours cannot
    express.
    """
    from diffusers import DiTTransformer2DModel

    folder = Path(path)
    index = (
        pretrained.read_json(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    )
    if index.get("_class_name", "DiTPipeline") != "DiTPipeline":
        raise ValueError(
            f"{folder} is a {index['_class_name']}, expected a DiTPipeline; pipelines of other networks "
            "cannot be read"
        )
    home = next((p for p in (folder / "transformer", folder) if (p / "config.json").is_file()), None)
    if home is None:
        raise ValueError(
            f"{folder} has neither transformer/config.json nor config.json, expected a DiTPipeline or a "
            "DiTTransformer2DModel"
        )
    kind = pretrained.read_json(home / "config.json").get("_class_name")
    if kind not in ("DiTTransformer2DModel", "Transformer2DModel"):  # the latter is its name in older folders
        raise ValueError(f"{home} is a {kind}, expected a DiTTransformer2DModel")
    model = pretrained.read_module(DiTTransformer2DModel, home)
    options = diffusers_options(model.config)
    kinds = {p.dtype for p in model.parameters()}
    tensors = dit_from_diffusers(model).state_dict()
    if len(kinds) == 1:  # half precision stays half
        tensors = {k: v.to(next(iter(kinds))) if v.is_floating_point() else v for k, v in tensors.items()}
    file = pretrained.module_files(home)[0].name
    del model
    if vae is None and (folder / "vae" / "config.json").is_file() and not plain_pixels(codec):
        vae = read_vae(folder / "vae")
    labels = index.get("id2label") or (
        pretrained.read_json(folder / NAMES) if (folder / NAMES).is_file() else None
    )
    table, count = tensors["y_embedder.embedding_table.weight"], options["num_classes"]
    # filled up by `prepare`
    if labels and len(labels) < count and bool((table[len(labels) :] == table[-1]).all()):
        count = len(labels)
        tensors["y_embedder.embedding_table.weight"] = table[: count + 1].clone()
    names, meta = class_names(count, classes or labels)
    place = next((p for p in (folder / "scheduler", folder) if (p / "scheduler_config.json").is_file()), None)
    objective, sampler = _objective(
        {} if place is None else pretrained.read_json(place / "scheduler_config.json"), options["learn_sigma"]
    )
    side, channels = options["input_size"], options["in_channels"]
    return Imported(
        name=folder.resolve().name,
        tensors=tensors,
        backbone={"name": "dit", **options, "num_classes": count},
        objective=objective,
        sample={"sampler": sampler, "num_steps": 50, "guidance": "cfg=4.0"},
        info=Info("image", (channels, side, side), names, codec_of(channels, vae, codec)),
        vae=vae,
        meta={**meta, "weights": "raw" if "non_ema" in file else "transformer"},
        read_as=_words(objective)
        + ("" if place is not None else "; there is no scheduler_config.json to say so")
        + ("" if file in pretrained.WEIGHTS else f"; weights of {file}"),
    )


def _words(objective: Mapping[str, Any]) -> str:
    """What the network was taken for."""
    path, kind = objective["path"], objective["parameterization"]
    learned = " with learned variance" if "variance" in kind else ""
    return f"a predictor of {kind['name']}{learned} on the {path['schedule']} table of {path['num']} steps"


def _objective(config: Mapping[str, Any], learned: bool) -> tuple[dict[str, Any], str]:
    """Our objective section and sampler from a scheduler's config. Raises ``ValueError`` for what they cannot
    express."""
    name = config.get("_class_name", "DDIMScheduler")
    if name not in ("DDIMScheduler", "DDPMScheduler"):
        raise ValueError(
            f"got the scheduler {name}, expected DDIMScheduler or DDPMScheduler; the other schedulers' "
            "paths or steps are not ours"
        )
    schedule, predicts = config.get("beta_schedule", "linear"), config.get("prediction_type", "epsilon")
    for key, value, known in (("beta_schedule", schedule, SCHEDULES), ("prediction_type", predicts, SPACES)):
        if value not in known:
            raise ValueError(
                f"got {key} {value!r}, expected one of {', '.join(known)}; our VP path has no other"
            )
    for key, ours in (
        ("trained_betas", None),
        ("thresholding", False),
        ("set_alpha_to_one", True),
        ("steps_offset", 0),
    ):
        if config.get(key, ours) != ours:
            raise ValueError(
                f"got a {name} with {key}={str(config[key])[:40]}, ours knows {ours} only; this scheduler "
                "cannot be expressed"
            )
    path: dict[str, Any] = {
        "name": "vp",
        "schedule": SCHEDULES[schedule],
        "num": int(config.get("num_train_timesteps", 1000)),
    }
    if schedule != "squaredcos_cap_v2":
        path |= {"start": float(config.get("beta_start", 1e-4)), "end": float(config.get("beta_end", 0.02))}
    if config.get("rescale_betas_zero_snr"):
        path["zero_snr"] = True
    options = {"spacing": config.get("timestep_spacing", "leading")}
    if name == "DDPMScheduler":
        options = {"variance": config.get("variance_type", "fixed_small"), **options}
        if options["variance"] not in VARIANCES:
            raise ValueError(
                f"got variance_type {options['variance']!r}, expected one of {', '.join(VARIANCES)}"
            )
    if config.get("clip_sample", bool(config)):
        options["clip"] = float(config.get("clip_sample_range", 1.0))
    line = ",".join(f"{k}={v}" for k, v in options.items())
    parameterization = {"name": SPACES[predicts], **({"variance": "learned_range"} if learned else {})}
    return {
        "path": path,
        "parameterization": parameterization,
        "cond_drop": 0.1,
    }, f"{'ddim' if name == 'DDIMScheduler' else 'ddpm'}({line})"
