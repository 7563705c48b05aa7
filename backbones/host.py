"""What the processor can multiply: figures of speed hold for its class."""

import platform
from functools import cache
from pathlib import Path

import torch


@cache
def instructions() -> str:
    """The class of this machine's processor: ``amx`` (bf16 tiles), ``avx512-bf16``, ``avx512``, ``avx2``, or
    the name of another kind."""
    ask = {
        "amx": getattr(torch.cpu, "_is_amx_tile_supported", None),
        "avx512-bf16": getattr(torch.cpu, "_is_avx512_bf16_supported", None),
    }
    for name, known in ask.items():
        if known is not None and known():
            return name
    found = torch.backends.cpu.get_cpu_capability().lower()
    return found if found.startswith("avx") else platform.machine()


@cache
def model_name() -> str:
    """As the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
