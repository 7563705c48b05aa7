"""What lies between the products of a transformer's block, torch's own beside one pass over memory
(`backbones.pointwise`): GELU, a norm with its modulation, a gate with its residual; a whole DiT with both.

    python -m benchmarks.pointwise [--quick]

``gelu_forward`` and the like: torch's time over ours, in the dtype that products have here by default;
``step_N``, ``forward_N``: of a DiT of N tokens, training step without its optimiser and inference.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones import Cond, DiT, pointwise
from backbones.host import instructions
from backbones.pointwise import gated, gelu, norm_modulated
from benchmarks.common import arguments, finish, interleave, table
from studio.runtime.devices import pick_dtype

NEVER, USUAL = 2**62, pointwise.LEAST
MODELS = {  # tokens: options, batch, side of a picture
    49: ({"hidden_size": 192, "depth": 6, "num_heads": 3}, 64, 14),
    256: ({"hidden_size": 384, "depth": 8, "num_heads": 6}, 8, 32),
}


def backward(out: Tensor, inputs: list[Tensor]) -> Callable[[], Any]:
    grad = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True)


def parts(low: torch.dtype) -> dict[str, dict[str, Callable[[], Any]]]:
    """Jobs of the three, 16 pictures of 256 tokens."""
    g = torch.Generator().manual_seed(0)
    batch, tokens, width = 16, 256, 384
    h = torch.randn(batch, tokens, width, generator=g).requires_grad_()
    x = torch.randn(batch, tokens, width, generator=g).to(low).requires_grad_()
    wide = torch.randn(batch, tokens, 4 * width, generator=g).to(low).requires_grad_()
    vectors = [v.contiguous().requires_grad_() for v in torch.randn(3, batch, width, generator=g).to(low)]
    shift, scale, gate = vectors
    forms: dict[str, tuple[list[Tensor], Callable[[], Tensor], Callable[[], Tensor]]] = {
        "gelu": ([wide], lambda: F.gelu(wide, approximate="tanh"), lambda: gelu(wide)),
        "norm": (
            [h, shift, scale],
            lambda: torch.addcmul(shift[:, None], F.layer_norm(h, (width,)).to(low), 1 + scale[:, None]),
            lambda: norm_modulated(h, shift, scale, 1e-5),
        ),
        "gate": ([h, gate, x], lambda: h + gate[:, None] * x, lambda: gated(h, gate, x)),
    }
    jobs = {}
    for name, (inputs, theirs, ours) in forms.items():
        jobs[f"{name}_forward"] = {"torch": torch.no_grad()(theirs), "ours": torch.no_grad()(ours)}
        jobs[f"{name}_backward"] = {
            "torch": backward(theirs(), inputs),
            "ours": backward(ours(), inputs),
        }
    return jobs


def models(low: torch.dtype) -> dict[str, dict[str, Callable[[], Any]]]:
    """Whole networks with torch's own between the products, and with ours."""
    jobs = {}
    for tokens, (options, batch, side) in MODELS.items():
        torch.manual_seed(0)
        net = DiT(input_size=side, patch_size=2, in_channels=3, num_classes=10, **options)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.02)
        x, t, cond = (
            torch.randn(batch, 3, side, side),
            torch.rand(batch),
            Cond(label=torch.arange(batch) % 10),
        )

        def call(
            least: int, train: bool, net: DiT = net, x: Tensor = x, t: Tensor = t, cond: Cond = cond
        ) -> None:
            before, pointwise.LEAST = pointwise.LEAST, least
            try:
                with (
                    torch.set_grad_enabled(train),
                    torch.autocast("cpu", dtype=low, enabled=low != torch.float32),
                ):
                    out = net(x, t, cond)
                if train:
                    out.float().square().mean().backward()
            finally:
                pointwise.LEAST = before

        for name, train in (("step", True), ("forward", False)):
            jobs[f"{name}_{tokens}"] = {
                "torch": lambda call=call, train=train: call(NEVER, train),
                "ours": lambda call=call, train=train: call(USUAL, train),
            }
    return jobs


def main() -> None:
    options = arguments(__doc__ or "")
    low = pick_dtype("auto", torch.device("cpu")) or torch.float32
    print(f"processor {instructions()}, {str(low).removeprefix('torch.')}, {options.threads} threads")
    ratios = {}
    for jobs, rounds in ((parts(low), 15 if options.quick else 40), (models(low), 7)):
        for name, sides in jobs.items():
            times = interleave(sides, rounds=rounds)
            table(name, times)
            ratios[name] = times["torch"] / times["ours"]
    finish(ratios)


if __name__ == "__main__":
    main()
