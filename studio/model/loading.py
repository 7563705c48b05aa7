"""Loading a model: its folder found by name (`studio.checkpoints.find.locate`), its network built, its
weights put in."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.attention import Full, supports
from samplers.heads.gradient import grad_of
from studio.checkpoints import checkpoint, own_network, repair
from studio.checkpoints.build import Info, build_network, denoiser_of, objective_of
from studio.checkpoints.find import choose_weights, live_buffers, locate, parted, read_weights, spot_of
from studio.checkpoints.networks import CUSTOM
from studio.codecs.codec import build_codec
from studio.config import Config, load_config
from studio.model import finetune, guiding_models
from studio.model.model import Model
from studio.runtime import files
from studio.runtime.devices import pick_device, pick_dtype
from studio.tasks import REGISTRY as TASKS
from studio.tasks import build_task, name_of_own
from studio.tasks.base import Task


def load(
    name: str | Path,
    *,
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    backbone: nn.Module | None = None,
    procedure: Any = None,
    task: Task | None = None,
    plan: str | Path = "none",
    attention: str = "auto",
) -> Model:
    """A `Model` by name: a folder, ``RUN@step``, ``hf:org/name`` or a bundled one.

    - ``weights``: ema (the first average), raw, a profile such as ``ema-0.999``, or auto: ema, raw where
      there is none.
    - ``device``: "auto", "cpu", "cuda", "cuda:1" ...; ``dtype``: "auto", "fp32", "bf16" or "fp16".
    - ``backbone``: the module of a model that was trained with a network of your own, which stays as it is:
      the weights go into a copy.
    - ``procedure``: the object that trained it, where it was one of your own; ``task``: the same of the task
      that shows its samples.
    - ``plan``: what need not be computed at every step, as `Model.planned`.
    - ``attention``: "auto", or a backend that this device has: sdpa, explicit, blocks, xformers, flex,
      varlen.

    Raises ``ValueError`` for a model that cannot be read, with the way out.
    """
    folder, step = locate(name)
    where = pick_device(device)
    repair.check(folder)
    config = load_config(folder / "config.yaml")
    exact = grad_of(objective_of(config).parameterization) != "none"
    kind = pick_dtype(dtype, where, exact=exact)
    meta = checkpoint.read_meta(folder)
    info = Info.from_meta(meta)
    spot = spot_of(folder, step)
    if spot != folder:
        checkpoint.verify(spot)
        step = int(spot.name)
    key, path = choose_weights(spot, weights)
    if spot != folder:
        checkpoint.verify(spot, path.name)
    if config.backbone.get("name") == "custom" and backbone is None:
        way = own_network.loaded(str(name), own_network.called(folder))
        raise ValueError(f"{name} was trained with a network of its own; pass it in Python: {way}")
    if config.procedure.get("name") == CUSTOM and procedure is None:
        way = own_network.loaded(str(name), procedure=str(meta.get("trained_by", "OBJECT")))
        raise ValueError(f"{name} was trained by a procedure of its own; pass it in Python: {way}")
    if "shown_by" in meta and info.task not in TASKS and task is None:
        way = own_network.loaded(str(name), task=str(meta["shown_by"]))
        raise ValueError(f"{name} makes samples of a task of its own; pass it in Python: {way}")
    if task is not None and (called := name_of_own(task)) != info.task:
        raise ValueError(f"got the task {called} for {name}, which makes {info.task}; leave it out")
    own = None if backbone is None else own_network.twin(backbone)
    net = build_network(config, procedure, own)
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in read_weights(key, path).items()}
    if config.lora:
        tensors = _adapted(net, config, tensors, info, path)
    buffers = {
        k: v for k, v in net.state_dict().items() if k not in tensors and k in dict(net.named_buffers())
    }
    if buffers and config.backbone.get("name") == "custom":  # nobody knows how such a network builds them
        buffers |= live_buffers(key, path, tensors)
    checkpoint.load_into(net, {**tensors, **buffers}, path)
    if config.lora:
        net = finetune.merged(net)
    net = net.to(where).eval().requires_grad_(False)
    label = str(name) if spot == folder else f"{parted(name)[0]}@{step}"
    loaded = Model(
        name=label,
        config=config,
        info=info,
        denoiser=denoiser_of(
            config, net, dtype=kind, source=bool(info.starts_from), procedure=procedure
        ).eval(),
        codec=build_codec(info.codec, folder),
        task=build_task(info.task, info.codec, task),
        device=where,
        weights=key,
        hash=files.sha256(path)[:16],
        folder=folder,
        loader=load,
        attention=_attention(attention, where, kind),
    )
    return loaded if str(plan) == "none" else loaded.planned(plan)


def _attention(name: str, device: torch.device, dtype: torch.dtype | None) -> str:
    """A backend by its name. Raises ``ValueError`` for one that is not there or cannot run here."""
    if name != "auto":
        reason = supports(name, torch.empty(1, 1, 1, 64, device=device, dtype=dtype or torch.float32), Full())
        if reason:
            raise ValueError(reason)
    return name


def _adapted(
    net: nn.Module, config: Config, tensors: dict[str, Tensor], info: Info, path: Path
) -> dict[str, Tensor]:
    """Put the adapters of a run into its network; all of its tensors. Where the file holds adapters only, the
    rest is its base's."""
    alone = not any(".base_layer." in k for k in tensors)
    if alone:
        finetune.begin(
            net,
            guiding_models.base_of(str(path.parent), info.base, load, device="cpu", dtype="fp32"),
            tuple(config.lora.get("tables", ())),
        )
    finetune.adapt(net, config.lora)
    if not alone:
        return tensors
    known = net.state_dict()
    wrong = next((k for k in tensors if k not in known), None)
    if wrong:
        raise ValueError(
            f"{path} does not fit the model: unexpected {wrong}; check the config's lora section"
        )
    return {**known, **tensors}
