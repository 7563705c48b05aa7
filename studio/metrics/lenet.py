"""A small convolutional network for 28 × 28 grey pictures, in the way of LeCun et al. 1998: 64 features and
ten logits, trained on the bundled Fashion-MNIST and shipped, so that distances between sets of such pictures
need no file of the user's.

The shipped weights are frozen: numbers are comparable only between runs that name the same hash. They were
made by

    python -m studio.metrics.lenet --train --out FILE
"""

import argparse
import time
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from studio.runtime.files import load_tensors, save_tensors, sha256

SIZE, FEATURES, CLASSES, EPOCHS = 28, 64, 10, 20
FILE = "lenet-fashion.safetensors"


class LeNet(nn.Module):
    """uint8 (B, 1, 28, 28) → features (B, 64), after ReLU, and logits (B, 10): two convolutions each at 28,
    14 and 7 pixels, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 24, 24, 48, 48, 96, 96)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:])
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.hidden, self.out = nn.Linear(widths[-1], FEATURES), nn.Linear(FEATURES, CLASSES)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Raises ``ValueError`` for pictures that are not uint8 (B, 1, 28, 28)."""
        if values.dtype != torch.uint8 or values.ndim != 4 or tuple(values.shape[1:]) != (1, SIZE, SIZE):
            raise ValueError(
                f"got {values.dtype} pictures of shape {tuple(values.shape)}, expected uint8 (B, 1, "
                f"{SIZE}, {SIZE}) for the lenet extractor; "
                "use inception or efficientnet for other sizes"
            )
        x = values.float() / 127.5 - 1
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = F.relu(norm(conv(x)))
            x = F.max_pool2d(x, 2) if i in (1, 3) else x
        features = F.relu(self.hidden(x.mean((2, 3))))
        return features, self.out(F.dropout(features, 0.2, self.training))


def shipped() -> Path:
    """The frozen weights."""
    return Path(str(resources.files("studio.metrics") / FILE))


def load_lenet(path: str | Path | None = None) -> tuple[LeNet, str]:
    """The network in eval mode, fp32, and the first 16 digits of its file's SHA-256. Raises ``ValueError``
    for a file that is not its weights."""
    file = Path(path) if path else shipped()
    net = LeNet()
    try:
        net.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in load_tensors(file).items()}
        )
    except RuntimeError as error:
        raise ValueError(
            f"{file} does not hold the weights of the lenet extractor ({str(error).splitlines()[-1].strip()})"
        ) from None
    return net.eval().requires_grad_(False), sha256(file)[:16]


def class_names() -> tuple[str, ...]:
    """What the ten logits are: the classes of Fashion-MNIST."""
    with (
        resources.as_file(resources.files("studio") / "bundled" / "data" / "fashion_mnist_12k.npz") as path,
        np.load(path, allow_pickle=False) as file,
    ):
        return tuple(str(c) for c in file["classes"])


def metadata(path: Path) -> dict[str, str]:
    """What the file says about itself: the accuracy on held-out pictures, data, epochs and seed."""
    with safe_open(path, "pt") as file:
        return file.metadata()


class LeNetExtractor:
    """`Extractor` of the shipped network."""

    name, dim, channels, batch = "lenet", FEATURES, 1, 256

    def __init__(self, *, device: str | torch.device = "cpu"):
        net, self.hash = load_lenet()
        # convolutions of few channels are faster so on a CPU
        self.net = nn.utils.convert_conv2d_weight_memory_format(net.to(device), torch.channels_last)
        self.classes = class_names()

    def __call__(self, values: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            features, logits = self.net(values.to(self.net.out.weight.device))
        return {"features": features.cpu(), "logits": logits.cpu()}


@torch.no_grad()
def accuracy(net: LeNet, values: Tensor, labels: Tensor) -> float:
    """Share of right classes among (N, 1, 28, 28) pictures."""
    net.eval()
    right = [(net(v)[1].argmax(1) == y).double() for v, y in zip(values.split(500), labels.split(500))]
    return float(torch.cat(right).mean())


def augment(values: Tensor, draws: torch.Generator) -> Tensor:
    """Each picture mirrored or not and moved by up to two pixels."""
    flip = torch.rand(len(values), generator=draws) < 0.5
    values = torch.where(flip[:, None, None, None], values.flip(3), values)
    move = torch.randint(0, 5, (2, len(values)), generator=draws)
    rows, columns = (m[:, None] + torch.arange(SIZE) for m in move)
    return F.pad(values, (2, 2, 2, 2))[
        torch.arange(len(values))[:, None, None], 0, rows[:, :, None], columns[:, None, :]
    ][:, None]


def train(
    *, epochs: int = EPOCHS, batch: int = 128, rate: float = 4e-3, seed: int = 0
) -> tuple[LeNet, dict[str, str]]:
    """AdamW on one cycle with label smoothing; weights are rounded to fp16 as they will be stored. Prints the
    accuracy on held-out pictures."""
    from studio.data import load_data

    data = load_data({"name": "fashion-mnist"})
    (values, cond), (test, test_cond) = (
        part.__getitems__(range(len(part))) for part in (data.train, data.held_out)
    )
    labels, test_labels = cond.label, test_cond.label
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = LeNet()
        steps = epochs * (len(values) // batch)
        optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
        start = time.perf_counter()
        for epoch in range(epochs):
            net.train()
            order = torch.randperm(len(values), generator=draws)
            for rows in order[: len(values) // batch * batch].split(batch):
                loss = F.cross_entropy(
                    net(augment(values[rows], draws))[1], labels[rows], label_smoothing=0.05
                )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
            print(
                f"epoch {epoch + 1:3d}  loss {loss.item():.3f}  {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    net.load_state_dict(
        {k: v.half().float() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    )
    reached = accuracy(net, test, test_labels)
    print(f"accuracy on {len(test)} held-out pictures: {reached:.4f}")
    notes = {
        "accuracy": f"{reached:.4f}",
        "data": f"{data.name} {data.hash}",
        "epochs": str(epochs),
        "seed": str(seed),
    }
    return net.eval(), notes


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train the lenet extractor, or tell the accuracy of the shipped one."
    )
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, help="the .safetensors file to write")
    args = parser.parse_args()
    if not args.train:
        return print(load_lenet()[1], metadata(shipped()))
    if args.out is None or args.out.suffix != ".safetensors":
        parser.error(f"got --out {args.out}, expected a .safetensors file")
    net, notes = train(epochs=args.epochs)
    state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_tensors(args.out, state, notes)
    print(args.out, sha256(args.out)[:16])


if __name__ == "__main__":
    main()
