"""Softmax where torch's own is slow on a CPU: over the five classes of a bond, and over short rows of
attention in bf16.

    python -m benchmarks.softmax [--quick]

``classes_speedup``: torch's over the form of `samplers.heads.graph`, a batch of 32 graphs of 26 atoms.
``rows_N_speedup``: torch's in bf16 over the form of `backbones.attention` (by way of float32), 32 samples, 6
heads, N tokens; that form is used below 32 tokens, and the lengths after it show why not above.
"""

import torch

from benchmarks.common import finish, interleave, parser_of, table
from samplers.spaces.packing import BONDS, pack, softmax, unpack

ATOMS, TYPES = 26, 7


def plain(logits: torch.Tensor) -> torch.Tensor:
    atoms, bonds = unpack(logits, TYPES)
    return pack(atoms.softmax(-1), bonds.softmax(-1))


def main() -> None:
    options = parser_of(__doc__ or "").parse_args()
    torch.set_num_threads(options.threads)
    rounds, ratios = 30 if options.quick else 200, {}
    logits = torch.randn(32, ATOMS, TYPES + BONDS * ATOMS)
    times = interleave(
        {"torch": lambda: plain(logits), "ours": lambda: softmax(logits, TYPES)}, rounds=rounds, warmup=3
    )
    table("Classes of 32 graphs", times)
    print(f"  largest difference {float((plain(logits) - softmax(logits, TYPES)).abs().max()):.1e}")
    ratios["classes_speedup"] = times["torch"] / times["ours"]
    for n in (16, 26, 49, 64):
        scores = torch.randn(32, 6, n, n).bfloat16()
        times = interleave(
            {
                "torch": lambda s=scores: s.softmax(-1),
                "by way of float32": lambda s=scores: s.float().softmax(-1).to(s.dtype),
            },
            rounds=rounds,
            warmup=3,
        )
        table(f"Rows of {n}, bf16", times)
        ratios[f"rows_{n}_speedup"] = times["torch"] / times["by way of float32"]
    finish(ratios)


if __name__ == "__main__":
    main()
