"""Which device, which precision, how many threads."""

import os
import sys

import torch


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU. Raises ``ValueError`` for a device that is not there."""
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"got device {name!r}, expected auto, cpu, cuda, cuda:N or mps") from None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise ValueError(
            f"got device {name!r}, which is not there; expected one of "
            f"{', '.join(k for k, v in there.items() if v)} (or auto)"
        )
    return device


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products run in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, p, lambda: False)() for p in probes)
    return False


def pick_dtype(name: str, device: torch.device, *, exact: bool = False) -> torch.dtype:
    """``auto`` is bf16 where the hardware has it and nobody asks for ``exact`` numbers, otherwise fp32.
    Raises ``ValueError`` for fp16 on a CPU, where it is slow and overflows."""
    choices = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if not exact and fast_bf16(device) else torch.float32
    if name not in choices:
        raise ValueError(f"got dtype {name!r}, expected auto, {', '.join(choices)}")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("got dtype 'fp16' on a CPU, where it is slow and overflows; choose bf16 or fp32")
    return choices[name]


DTYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# 16 pictures of fashion-dit in 20 steps on 2 cores, seconds with 2 threads and with 4, processes in turn,
# medians of 6: 1.12 and 2.52.
# studio.load("fashion-dit").sample(seeds=range(16), num_steps=20) after a first call that is not timed,
# nothing else running.
CROWDED = 2.2
_warned = False


def set_threads(count: int | None) -> None:
    """Threads of torch on the CPU; the default is the number of cores this process may use. More makes it
    slower, which is said once."""
    global _warned
    if count is not None and count < 1:
        raise ValueError(f"got threads={count}, expected at least 1")
    if count is not None and count > cores() and not _warned:
        _warned = True
        print(
            f"warning: {count} threads on {cores()} core{'s' * (cores() > 1)} wait for each other: twice "
            f"as many threads as cores took {CROWDED} times as long "
            f"where this was measured; leave --threads out, or give at most {cores()}",
            file=sys.stderr,
        )
    torch.set_num_threads(count or cores())


def keep_freed_memory() -> bool:
    """Ask glibc to keep large freed blocks instead of returning them to the system; page faults are 5–15 % of
    a CPU training step otherwise.

    Acts on the whole process; returns whether it took effect (False on other C libraries).
    """
    import ctypes

    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(
        mallopt(k, v) == 1
        for k, v in ((m_mmap_threshold, 1 << 30), (m_trim_threshold, 2**31 - 1), (m_top_pad, 1 << 26))
    )
