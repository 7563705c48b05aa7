"""One training step: ours against a plain loop over diffusers' DiT of the same size (forward, loss, backward,
AdamW, EMA), two threads.

    python -m benchmarks.train_step [--quick]

Sizes: 192 wide, 6 deep, 49 tokens, batch 64; and 384 wide, 8 deep, 256 tokens, batch 8. Every side is a
process of its own and they take turns. Keys: ``vs_fp32`` and ``vs_fp32_256`` ours at its default precision
against theirs in fp32, ``vs_bf16`` the smaller ratio against theirs under bf16 autocast, ``fp32_vs_fp32`` the
smaller with both in fp32; ``vs_bf16_kept`` gives their process the setting of glibc's allocator that
`studio.train` makes for itself, ``vs_best_kept`` too, against theirs in its faster dtype on this host;
``memory``: our peak over theirs (bf16) at the first size, in MB of the process.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from backbones.host import instructions, model_name
from benchmarks.common import THREADS, Side, arguments, finish, serve, table, take_turns
from studio.config import load_config
from studio.data import Arrays, Data
from studio.training.loop import Trainer

SIZES = {
    "49": dict(width=192, depth=6, heads=3, picture=28, patch=4, batch=64),
    "256": dict(width=384, depth=8, heads=6, picture=32, patch=2, batch=8),
}


def batch_of(size: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return torch.from_numpy(
        rng.integers(0, 256, (size["batch"], 1, size["picture"], size["picture"]), dtype=np.uint8)
    ), torch.arange(size["batch"]) % 10


def theirs(
    size: dict[str, int], bf16: bool, *, device: str = "cpu", compiled: bool = False
) -> Callable[[], None]:
    """The usual loop: random times, MSE of the velocity, AdamW, an averaged copy of the weights."""
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    net = DiTTransformer2DModel(
        num_attention_heads=size["heads"],
        attention_head_dim=size["width"] // size["heads"],
        in_channels=1,
        out_channels=1,
        num_layers=size["depth"],
        sample_size=size["picture"],
        patch_size=size["patch"],
        num_embeds_ada_norm=10,
    ).to(device)
    average = {k: v.detach().clone() for k, v in net.named_parameters()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    values, labels = batch_of(size)
    asked = torch.compile(net) if compiled else net

    def step() -> None:
        data = values.to(device).float() / 127.5 - 1
        noise, t = torch.randn_like(data), torch.rand(len(data), device=device)
        x = torch.lerp(noise, data, t.view(-1, 1, 1, 1))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            out = asked(x, timestep=t * 1000, class_labels=labels.to(device)).sample
        loss = torch.nn.functional.mse_loss(out.float(), data - noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for k, v in net.named_parameters():
                average[k].mul_(0.9999).add_(v, alpha=1e-4)

    return step


def ours(
    size: dict[str, int], dtype: str, folder: str, *, device: str = "cpu", compiled: bool = False
) -> Callable[[], None]:
    """The trainer's own step: noise, times, objective, fused AdamW, EMA."""
    values, labels = batch_of(size)
    backbone = dict(
        name="dit",
        hidden_size=size["width"],
        depth=size["depth"],
        num_heads=size["heads"],
        patch_size=size["patch"],
    )
    config = load_config(
        {
            "backbone": backbone,
            "train": {
                "steps": 10**6,
                "batch_size": size["batch"],
                "dtype": dtype,
                "ema": ["0.9999"],
                "compile": compiled,
            },
            "objective": {"cond_drop": 0.1},
        }
    )
    arrays = Arrays(values.numpy(), labels.numpy())
    data = Data("bench", "image", tuple(values.shape[1:]), arrays, arrays, tuple(map(str, range(10))))
    from studio.runtime.devices import pick_device, pick_dtype
    from studio.training.resolve import resolve

    place = pick_device(device)
    resolved = resolve(config, data)
    trainer = Trainer(resolved, resolved.networks(), Path(folder), place, pick_dtype(dtype, place))
    phase = trainer.phases()[0]
    batches = trainer.streams(phase)

    def step() -> None:
        trainer.train_step(phase, batches)

    return step


SIDES = {
    "diffusers fp32": lambda size, folder: theirs(size, False),
    "diffusers bf16 autocast": lambda size, folder: theirs(size, True),
    "diffusers bf16, freed memory kept": lambda size, folder: theirs(size, True),
    "diffusers fp32, freed memory kept": lambda size, folder: theirs(size, False),
    "ours, default precision": lambda size, folder: ours(size, "auto", folder),
    "ours fp32": lambda size, folder: ours(size, "fp32", folder),
}


def side(name: str) -> None:
    import accelerate  # noqa: F401  every side loads the same libraries
    import diffusers  # noqa: F401

    from studio.runtime.devices import keep_freed_memory

    if name.startswith("ours") or "kept" in name:
        keep_freed_memory()  # as studio.train does
    with tempfile.TemporaryDirectory() as folder:
        serve(lambda job: SIDES[name](SIZES[job], folder), warmup=1)


def main() -> None:
    if "--side" in sys.argv:
        return side(sys.argv[-1])
    args = arguments(__doc__ or "")
    print(f"{model_name()} ({instructions()}), {args.threads} threads")
    sides = {name: Side("benchmarks.train_step", name) for name in SIDES}
    ratios: dict[str, dict[str, float]] = {}
    for job, size in SIZES.items():
        medians = take_turns(sides, job, rounds=(7 if job == "49" else 4) if args.quick else 20)
        table(
            f"{size['width']} wide, {size['depth']} deep, {job} tokens, batch {size['batch']}, "
            f"{THREADS} threads",
            medians,
        )
        default = medians["ours, default precision"]
        ratios[job] = {
            "vs_fp32": medians["diffusers fp32"] / default,
            "vs_bf16": medians["diffusers bf16 autocast"] / default,
            "vs_bf16_kept": medians["diffusers bf16, freed memory kept"] / default,
            "vs_best_kept": min(v for k, v in medians.items() if k.startswith("diff") and "kept" in k)
            / default,
            "fp32_vs_fp32": medians["diffusers fp32"] / medians["ours fp32"],
        }
        if job == "49":
            peaks = {name: run("peak") for name, run in sides.items()}
            table("peak memory, 49 tokens", peaks, unit="MB", scale=1.0)
    for run in sides.values():
        run.close()
    finish(
        {
            "vs_fp32": ratios["49"]["vs_fp32"],
            "vs_fp32_256": ratios["256"]["vs_fp32"],
            **{
                key: min(r[key] for r in ratios.values())
                for key in ("vs_bf16", "vs_bf16_kept", "vs_best_kept", "fp32_vs_fp32")
            },
            "memory": peaks["ours, default precision"] / peaks["diffusers bf16 autocast"],
        }
    )


if __name__ == "__main__":
    main()
