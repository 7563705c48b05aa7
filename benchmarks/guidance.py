"""What guidance costs beside the network: rules, the closed form of TCFG against an SVD, and two calls
against one of twice the batch. Two threads.

    python -m benchmarks.guidance [--quick]

``rule_cost_share`` is the worst rule's own time (its branches given, conversions and bookkeeping included)
over one fp32 call of `fashion-dit` at batch 16. ``tcfg_vs_svd`` is the SVD form on 16×4×64×64 over the closed
form, both in fp32, errors against float64 beside it. ``doubled_N`` is two calls over one doubled call at N
tokens and batch 1; ``picks_faster`` is 1 where `Denoiser.doubles` chose the faster at each of them
(differences below 5 % count as none).
"""

import sys
from typing import Any

import torch
from torch import Tensor

import guidance
import studio
from backbones import Cond, DiT
from backbones.types import RunContext
from benchmarks.common import arguments, finish, interleave, table
from guidance.tangential import damped
from samplers import Denoiser, FunctionDenoiser, LinearPath, Prediction
from samplers.heads.parameterization import Direct

LINES = (
    "cfg=2",
    "cfg(scale=2,schedule=cosine)",
    "cfg=2,rescale=0.7",
    "tcfg,cfg=2",
    "apg(scale=2,norm_threshold=5,momentum=-0.5)",
    "cfg_zero_star=2",
    "cfg_plus_plus=0.5",
    "tcfg,cfg=2,rescale=0.7",
)
TOKENS = {49: (28, 4), 256: (32, 2), 1024: (64, 2)}  # side and patch


def rule_costs(rounds: int) -> tuple[dict[str, float], float]:
    """Seconds of each line beyond its two given predictions, and of one network call."""
    g, path = torch.Generator().manual_seed(0), LinearPath()
    x, c = torch.randn(16, 1, 28, 28, generator=g), torch.randn(16, 1, 28, 28, generator=g)
    u = c + 0.1 * torch.randn(16, 1, 28, 28, generator=g)
    cond, null = Cond(label=torch.arange(16) % 10), Cond(label=torch.full((16,), -1))
    given = {
        "cond": Prediction("velocity", c, x, 0.5, path),
        "uncond": Prediction("velocity", u, x, 0.5, path),
    }

    class Given(FunctionDenoiser):
        def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
            return given[ctx.branch if ctx else "cond"]

    model = Given(path, lambda x, t, cond: given["cond"])
    net = studio.load("fashion-dit", dtype="fp32", device="cpu").denoiser
    ctx = RunContext(step=5, num_steps=20, t=0.5)

    def twice() -> None:
        model.predict(x, 0.5, cond, ctx.on("cond"))
        model.predict(x, 0.5, null, ctx.on("uncond"))

    sides: dict[str, Any] = {"network": lambda: net.predict(x, 0.5, cond), "given": twice}
    for line in LINES:
        guided = guidance.Guided(model, guidance.parse(line))
        sides[line] = lambda guided=guided: guided.predict(x, 0.5, cond, ctx).to("velocity")
    times = interleave(sides, rounds=rounds, warmup=3)
    return {line: times[line] - times["given"] for line in LINES}, times["network"]


def by_svd(c: Tensor, u: Tensor) -> Tensor:
    """The paper's form, in the tensors' own precision."""
    rows = torch.stack([u.flatten(1), c.flatten(1)], 1)
    v = torch.linalg.svd(rows, full_matrices=False).Vh[:, 0]
    return ((rows[:, 0] * v).sum(1, keepdim=True) * v).view_as(u)


def doubled(tokens: int, rounds: int) -> tuple[float, float, bool]:
    """Seconds of two calls and of one of twice the batch, and whether the model would double."""
    side, patch = TOKENS[tokens]
    net = (
        DiT(
            input_size=side,
            patch_size=patch,
            in_channels=4,
            hidden_size=384,
            depth=4,
            num_heads=6,
            num_classes=10,
        )
        .eval()
        .requires_grad_(False)
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.02, generator=torch.Generator().manual_seed(p.numel()))
    model = Denoiser(net, LinearPath(), Direct("velocity"))
    x, cond = torch.randn(1, 4, side, side), Cond(label=torch.tensor([3]))
    both, pair = torch.cat([x, x]), cond.beside(cond.null())

    def twice() -> None:
        model.predict(x, 0.5, cond)
        model.predict(x, 0.5, cond.null())

    times = interleave({"two": twice, "one": lambda: model.predict(both, 0.5, pair)}, rounds=rounds)
    return times["two"], times["one"], model.doubles(x)


@torch.no_grad()
def main() -> None:
    options = arguments(__doc__ or "")
    rounds = 15 if options.quick else 60
    costs, network = rule_costs(4 * rounds)
    table(
        f"Rules' own time, batch 16 × 1×28×28, fp32, {options.threads} threads", costs, unit="µs", scale=1e6
    )
    table("One call of fashion-dit on the same batch", {"fp32": network})
    g = torch.Generator().manual_seed(1)
    u = torch.randn(16, 4, 64, 64, generator=g)
    c = u + 0.2 * torch.randn(16, 4, 64, 64, generator=g)
    times = interleave({"svd": lambda: by_svd(c, u), "closed": lambda: damped(c, u)}, rounds=rounds)
    truth = by_svd(c.double(), u.double())
    errors = {
        name: float((fn(c, u).double() - truth).abs().max() / truth.abs().max())
        for name, fn in (("svd", by_svd), ("closed", damped))
    }
    table(
        "TCFG on 16×4×64×64, fp32",
        {f"{k}, error against float64 {errors[k]:.1e}": v for k, v in times.items()},
    )
    ratios, picks = {}, 1
    for tokens in TOKENS:
        two, one, chosen = doubled(tokens, rounds)
        ratios[f"doubled_{tokens}"] = two / one
        if abs(two / one - 1) > 0.05 and chosen != (one < two):
            picks = 0
        table(
            f"DiT 384 wide, 4 blocks, batch 1, {tokens} tokens, fp32 (chosen: "
            f"{'one call' if chosen else 'two'})",
            {"two calls": two, "one of twice the batch": one},
        )
    finish(
        {
            "rule_cost_share": max(costs.values()) / network,
            "tcfg_vs_svd": times["svd"] / times["closed"],
            **ratios,
            "picks_faster": picks,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
