"""The target ``diffusers``: a DiT of ours as a ``DiTPipeline`` folder (transformer, vae, scheduler, names in
model_index.json), or as a transformer and a scheduler.

diffusers' time sinusoid has other frequencies than the original DiT's (``frequency_shift=1``), and its
published conversion of the official weights copies the time MLP all the same. On a DiT of Fashion-MNIST (4
layers of 128, 1,000 steps, DDIM) copying changes the predicted noise by 1 to 3 % and the pictures by 6 to 7
of 255 grey levels on average. So a model with ``frequency_shift=0`` is written with the MLP's first layer
rewritten (`backbones.originals.diffusers.shifted_time_embedding`): there the pictures are the same in every
byte for the chosen number of steps, 50 unless told otherwise, and its divisors, and differ by 0.1 to 0.3 grey
levels for 20, 30, 40 and 100 steps. ``frequency_shift=1`` copies.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import backbones
from backbones.dit import DiT
from backbones.originals.diffusers import (
    dit_to_diffusers,
    shifted_time_embedding,
)
from samplers.paths import VPPath
from samplers.solvers.ancestral import DDIM, DDPM, Ancestral
from studio.codecs.codec import are_numbers
from studio.codecs.vae import read_vae
from studio.convert.convert import ORIGIN, Draft, size_of
from studio.convert.diffusers import NAMES, SCHEDULES, SPACES
from studio.model.model import Model
from studio.runtime import files, pretrained
from studio.runtime.version import __version__
from studio.sampling import sampler_spec

NULL = 1000  # the class that DiTPipeline takes as the null, whatever the model


def prepare(
    model: Model, vae: Any, /, *, steps: int | None = None, frequency_shift: Literal[1] | None = None
) -> Draft:
    """A ``DiTPipeline`` folder of a DiT in latents; of a DiT in pixels ``transformer/``, ``scheduler/`` and
    the names, as the pipeline needs a VAE.

    ``steps`` and ``frequency_shift`` are for models with the original time frequencies, see the module. The
    pipeline takes class 1,000 as the null, so a label table of fewer is filled up with copies of its null
    row. Raises ``ValueError`` for what diffusers cannot express.
    """
    from diffusers import DDIMScheduler, DiTPipeline

    net, path = model.denoiser.net, model.denoiser.path
    if not isinstance(net, DiT) or net.stem is not None or net.n_embedder is not None:
        part = (
            type(net).__name__
            if not isinstance(net, DiT)
            else "a convolutional stem"
            if net.stem is not None
            else "numeric conditions"
        )
        raise ValueError(
            f"diffusers' DiT takes linear patches, a label and the time; {model.name} has {part}, which "
            "it cannot express"
        )
    autoencoder = _vae(model, vae)
    if autoencoder is not None and net.num_classes > NULL:
        raise ValueError(
            f"DiTPipeline takes class {NULL} as the null, and this model has {net.num_classes} classes; "
            "its guidance would be wrong"
        )
    config, spacing = _scheduler(model)
    scheduler: Any = DDIMScheduler(**config)
    assert isinstance(path, VPPath)
    if not torch.allclose(scheduler.alphas_cumprod.double(), path.alpha_bar, rtol=1e-3, atol=1e-7):
        raise ValueError(
            f"diffusers' {config['beta_schedule']} table differs from this model's; it cannot be expressed"
        )
    state, options = dict(net.state_dict()), {k: v for k, v in model.config.backbone.items() if k != "name"}
    notes = (
        []
        if autoencoder is not None
        else [
            "this model works in pixels and diffusers' DiTPipeline needs a VAE: a transformer and a scheduler"
        ]
    )
    if net.t_embedder.shift != 1:
        options["frequency_shift"] = 1
        notes.append(_shift(state, path, spacing, steps, frequency_shift))
    elif steps is not None:
        raise ValueError(
            "got steps, which are for models with the original time frequencies; this one has "
            "diffusers', leave them out"
        )
    if (
        autoencoder is not None
        and net.num_classes < NULL
        and net.y_embedder is not None
        and net.y_embedder.null
    ):
        table, options["num_classes"] = state["y_embedder.embedding_table.weight"], NULL
        state["y_embedder.embedding_table.weight"] = torch.cat(
            [table, table[-1:].expand(NULL - net.num_classes, -1)]
        )
    with torch.device("meta"):
        twin = backbones.build("dit", **options)
    twin.load_state_dict(state, assign=True)
    transformer: Any = dit_to_diffusers(twin)  # type: ignore[arg-type]
    names = model_names(model)

    def save(folder: Path) -> None:
        origin = {
            "model": model.name,
            "model_hash": model.hash,
            "weights": model.weights,
            "studio": __version__,
            "notes": notes,
        }
        files.write_json(folder / ORIGIN, origin)
        if autoencoder is None:
            transformer.save_pretrained(folder / "transformer")
            scheduler.save_pretrained(folder / "scheduler")
            files.write_json(folder / NAMES, names)
            return
        pipeline: Any = DiTPipeline(transformer=transformer, vae=autoencoder, scheduler=scheduler)
        pipeline.save_pretrained(folder)
        index = json.loads((folder / "model_index.json").read_text())
        files.write_json(folder / "model_index.json", {**index, "id2label": names})

    return Draft(
        size_of(transformer.state_dict(), {} if autoencoder is None else autoencoder.state_dict()), save
    )


def model_names(model: Model) -> dict[str, str]:
    """``id2label``: with all synonyms where the model was read with them."""
    kept = pretrained.read_json(model.folder / "meta.json").get("id2label")
    return dict(kept) if kept else {str(i): name for i, name in enumerate(model.classes)}


def _vae(model: Model, given: Any) -> Any:
    """The autoencoder to write, None for a model in pixels."""
    codec: Any = model.codec
    if codec.pictures and not codec.rescales:
        autoencoder = given if given is not None else read_vae(codec.home())
        if autoencoder.config.latent_channels != model.info.shape[0]:
            raise ValueError(
                f"the VAE's latents have {autoencoder.config.latent_channels} channels, this model's "
                f"{model.info.shape[0]}; give its own VAE"
            )
        autoencoder.register_to_config(scaling_factor=codec.scale)
        return autoencoder
    if given is not None or not are_numbers(model.info.codec, pictures=True):
        raise ValueError(
            f"this model works in {model.codec.name}, "
            + ("leave --vae out" if given is not None else "expected pixels or latents of a VAE")
        )
    return None


def _scheduler(model: Model) -> tuple[dict[str, Any], str]:
    """Options of a ``DDIMScheduler`` and its spacing: the model's own where that is one whose steps diffusers
    takes on the entries it visits."""
    path, objective = model.denoiser.path, model.config.objective
    spec = objective.get("path", "linear")
    spec = {"name": spec} if isinstance(spec, str) else dict(spec)
    schedule = {ours: theirs for theirs, ours in SCHEDULES.items() if ours != "sigmoid"}.get(
        spec.get("schedule", "linear")
    )
    if not isinstance(path, VPPath) or schedule is None or "betas" in spec:
        raise ValueError(
            "diffusers' DiT samples on a VP table (linear, scaled_linear or cosine), this model's path "
            f"is {spec}; it cannot be expressed"
        )
    kind = getattr(model.denoiser, "parameterization", None)  # on another path than its own it has none
    predicts = {ours: theirs for theirs, ours in SPACES.items()}.get(getattr(kind, "space", ""))
    if predicts is None:
        raise ValueError(
            "diffusers' schedulers read noise, data or v, this model predicts "
            f"{getattr(kind, 'space', type(kind).__name__)}"
        )
    if spec.get("zero_snr") and predicts == "epsilon":
        raise ValueError(
            "with zero terminal SNR diffusers divides a predicted noise by zero; a model of data or v "
            "can be written"
        )
    sampler, options = sampler_spec.build_sampler(sampler_spec.resolved(None, model.fit)), {}
    if isinstance(sampler, DDIM | DDPM) and sampler.clip is not None:
        options = {"clip_sample_range": float(sampler.clip)}
    spacing = (
        sampler.spacing
        if isinstance(sampler, Ancestral) and sampler.spacing in ("leading", "trailing")
        else "trailing"
    )
    if schedule != "squaredcos_cap_v2":
        first, last = (0.00085, 0.012) if schedule == "scaled_linear" else (1e-4, 0.02)
        options |= {"beta_start": spec.get("start") or first, "beta_end": spec.get("end") or last}
    return {
        "num_train_timesteps": path.size,
        "beta_schedule": schedule,
        "prediction_type": predicts,
        "clip_sample": "clip_sample_range" in options,
        "set_alpha_to_one": True,
        "timestep_spacing": spacing,
        "rescale_betas_zero_snr": bool(spec.get("zero_snr")),
        **options,
    }, spacing


def _shift(
    state: dict[str, Tensor], path: VPPath, spacing: str, steps: int | None, copied: int | None
) -> str:
    """The time MLP of ``state`` for diffusers' frequencies, in place, and a note on what was done; see the
    module."""
    if copied is not None:
        if steps is not None:
            raise ValueError(
                "got steps and frequency_shift=1, expected one of them: to match the time frequencies at "
                "these steps, or to copy the weights"
            )
        return (
            "the time MLP is copied, though diffusers' time frequencies are others: it does not see the "
            "times it was trained with"
        )
    steps = 50 if steps is None else steps
    weight, bias = "t_embedder.mlp.0.weight", "t_embedder.mlp.0.bias"
    state[weight], state[bias], error = shifted_time_embedding(
        state[weight], state[bias], path.entries(steps, spacing), path.size
    )
    if error > 1e-6:
        raise ValueError(
            f"got steps={steps}, at which diffusers' time frequencies cannot be matched (error "
            f"{error:.0e}); set fewer: --config steps=25"
        )
    return (
        f"the time MLP is rewritten for diffusers' time frequencies: exact for {steps} steps and their "
        "divisors, close for others"
    )
