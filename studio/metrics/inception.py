"""The InceptionV3 of FID, as TensorFlow's 2015-12-05 graph computes it (Szegedy et al. 1512.00567; weights
ported to PyTorch by pytorch-fid).

It differs from torchvision's: average pools do not count padding, the last block pools by maximum, ``fc`` has
1,008 outputs, and pictures are enlarged to 299 × 299 with TensorFlow 1's bilinear rule, where output pixel i
reads from i · in / out (no half-pixel centres).

The weights are in no package: they are the user's file, found by `find_inception` and read by
`load_inception`, never by unpickling code.
"""

import functools
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.runtime.files import load_tensors, sha256

SIZE, CLASSES = 299, 1008
TAPS = ("64", "192", "768", "2048", "spatial7", "logits_unbiased", "logits")
FILE = "pt_inception-2015-12-05-6726825d.pth"
HELP = (
    f"pass inception=FILE or set STUDIO_INCEPTION=FILE, where FILE is {FILE} from the release fid_weights "
    "of pytorch-fid (torch-fidelity publishes "
    "the same as weights-inception-2015-12-05-6726825d.pth; 6726825d is the start of its SHA-256) or its "
    "tensors in a .safetensors; every other "
    "extractor and metric works without it"
)


def resize(x: Tensor, size: int = SIZE) -> Tensor:
    """(B, C, H, W) → (B, C, size, size) by TensorFlow 1's bilinear rule: source = i · in / out, corners not
    aligned."""
    for axis in (3, 2):
        n = x.shape[axis]
        place = torch.arange(size, dtype=torch.float32, device=x.device) * (n / size)
        low = place.floor().long()
        share = (place - low).to(x.dtype).view(-1, *[1] * (3 - axis))
        near, far = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=n - 1))
        x = torch.lerp(near, far, share.expand_as(near))
    return x


average = functools.partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
largest = functools.partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
shrink = functools.partial(F.max_pool2d, kernel_size=3, stride=2)


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU; "same" padding unless it has a stride or says ``valid``."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        valid: bool = False,
    ):
        super().__init__()
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if valid or stride > 1 else (rows // 2, columns // 2)
        self.conv = nn.Conv2d(inputs, outputs, (rows, columns), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def chain(x: Tensor, *layers: nn.Module) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class MixedA(nn.Module):
    """35 × 35: 1×1, 5×5, two 3×3, pool."""

    def __init__(self, inputs: int, pool: int):
        super().__init__()
        self.branch1x1 = Conv(inputs, 64)
        self.branch5x5_1, self.branch5x5_2 = Conv(inputs, 48), Conv(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3 = (
            Conv(inputs, 64),
            Conv(64, 96, 3),
            Conv(96, 96, 3),
        )
        self.branch_pool = Conv(inputs, pool)

    def forward(self, x: Tensor) -> Tensor:
        wide = chain(x, self.branch5x5_1, self.branch5x5_2)
        double = chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        return torch.cat([self.branch1x1(x), wide, double, self.branch_pool(average(x))], 1)


class MixedB(nn.Module):
    """35 × 35 → 17 × 17."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3 = Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3 = (
            Conv(inputs, 64),
            Conv(64, 96, 3),
            Conv(96, 96, 3, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self.branch3x3(x),
                chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3),
                shrink(x),
            ],
            1,
        )


class MixedC(nn.Module):
    """17 × 17: 1×1, 7×7 and twice 7×7 in factors of 1×7 and 7×1, pool."""

    def __init__(self, middle: int):
        super().__init__()
        self.branch1x1 = Conv(768, 192)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = (
            Conv(768, middle),
            Conv(middle, middle, (1, 7)),
            Conv(middle, 192, (7, 1)),
        )
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Conv(768, middle), Conv(middle, middle, (7, 1))
        self.branch7x7dbl_3, self.branch7x7dbl_4 = Conv(middle, middle, (1, 7)), Conv(middle, middle, (7, 1))
        self.branch7x7dbl_5, self.branch_pool = Conv(middle, 192, (1, 7)), Conv(768, 192)

    def forward(self, x: Tensor) -> Tensor:
        seven = chain(x, self.branch7x7_1, self.branch7x7_2, self.branch7x7_3)
        double = chain(
            x,
            self.branch7x7dbl_1,
            self.branch7x7dbl_2,
            self.branch7x7dbl_3,
            self.branch7x7dbl_4,
            self.branch7x7dbl_5,
        )
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average(x))], 1)


class MixedD(nn.Module):
    """17 × 17 → 8 × 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(768, 192), Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(768, 192), Conv(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = Conv(192, 192, (7, 1)), Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = chain(x, self.branch7x7x3_1, self.branch7x7x3_2, self.branch7x7x3_3, self.branch7x7x3_4)
        return torch.cat([chain(x, self.branch3x3_1, self.branch3x3_2), seven, shrink(x)], 1)


class MixedE(nn.Module):
    """8 × 8, branches that fork into 1×3 and 3×1; the graph's last one pools by maximum."""

    def __init__(self, inputs: int, *, maximum: bool):
        super().__init__()
        self.pool = largest if maximum else average
        self.branch1x1, self.branch_pool = Conv(inputs, 320), Conv(inputs, 192)
        self.branch3x3_1, self.branch3x3_2a, self.branch3x3_2b = (
            Conv(inputs, 384),
            Conv(384, 384, (1, 3)),
            Conv(384, 384, (3, 1)),
        )
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inputs, 448), Conv(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = Conv(384, 384, (1, 3)), Conv(384, 384, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        three, double = self.branch3x3_1(x), chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2)
        forks = [
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
        ]
        return torch.cat([self.branch1x1(x), *forks, self.branch_pool(self.pool(x))], 1)


class Inception(nn.Module):
    """uint8 pictures (B, 3, H, W) → the asked `TAPS`: pooled features (B, 64 | 192 | 768 | 2048), logits (B,
    1008) with and without bias, and ``spatial7`` (B, 7, 17, 17), the first seven channels of a convolution
    inside Mixed_6d, before its norm (the ADM suite's sFID)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = (
            Conv(3, 32, 3, stride=2),
            Conv(32, 32, 3, valid=True),
            Conv(32, 64, 3),
        )
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80), Conv(80, 192, 3, valid=True)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = MixedA(192, 32), MixedA(256, 64), MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            MixedC(128),
            MixedC(160),
            MixedC(160),
            MixedC(192),
        )
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = (
            MixedD(),
            MixedE(1280, maximum=False),
            MixedE(2048, maximum=True),
        )
        self.fc = nn.Linear(2048, CLASSES)
        self.hash = ""

    def forward(self, values: Tensor, taps: Iterable[str] = ("2048",)) -> dict[str, Tensor]:
        """Raises ``ValueError`` for pictures that are not uint8 (B, 3, H, W) or an unknown tap."""
        wanted = set(taps)
        if wanted - set(TAPS):
            raise ValueError(f"got taps {', '.join(sorted(wanted))}, expected some of {', '.join(TAPS)}")
        if values.dtype != torch.uint8 or values.ndim != 4 or values.shape[1] != 3:
            raise ValueError(
                f"got {values.dtype} pictures of shape {tuple(values.shape)}, expected uint8 (B, 3, H, W)"
            )
        out: dict[str, Tensor] = {}
        x = (resize(values.float()) - 128) / 128
        x = out["64"] = shrink(chain(x, self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3))
        x = out["192"] = shrink(chain(x, self.Conv2d_3b_1x1, self.Conv2d_4a_3x3))
        x = chain(x, self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b, self.Mixed_6c)
        out["spatial7"] = F.conv2d(x, self.Mixed_6d.branch1x1.conv.weight[:7])
        x = out["768"] = chain(x, self.Mixed_6d, self.Mixed_6e)
        if wanted & {"2048", "logits", "logits_unbiased"}:
            x = out["2048"] = chain(x, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c).mean((2, 3))
            out["logits_unbiased"] = F.linear(x, self.fc.weight)
            out["logits"] = out["logits_unbiased"] + self.fc.bias
        return {k: out[k].mean((2, 3)) if k in ("64", "192", "768") else out[k] for k in TAPS if k in wanted}


def find_inception(path: str | Path | None = None) -> Path:
    """The file with the weights: ``path``, else the environment's STUDIO_INCEPTION.

    Raises ``ValueError`` that says where such weights come from when there is none, and for a file whose name
    ends in another hash than its own.
    """
    given = path or os.environ.get("STUDIO_INCEPTION")
    if not given:
        raise ValueError(f"got no weights for the inception extractor; {HELP}")
    file = Path(given).expanduser()
    if not file.is_file():
        raise ValueError(f"got inception weights {file}, which do not exist; {HELP}")
    promised = re.search(r"-([0-9a-f]{8})$", file.stem)
    if promised and not sha256(file).startswith(promised[1]):
        raise ValueError(
            f"{file.name} has SHA-256 {sha256(file)[:8]}…, expected {promised[1]}…; it is damaged or was "
            "cut off: download it again"
        )
    return file


def load_inception(path: str | Path) -> Inception:
    """The network in eval mode from a .safetensors, .pth or .pt of tensors, with keys as in pytorch-fid or
    torch-fidelity; ``hash`` is the SHA-256 of the file.

    A common prefix of all keys, counters of batches and the auxiliary head are ignored. Raises ``ValueError``
    for archives of code, pickles of anything but tensors, files that are cut off, and tensors that are
    missing or of another shape.
    """
    file = Path(path)
    state = load_tensors(file) if file.suffix == ".safetensors" else read_state(file)
    anchor = next((k for k in state if k.endswith("Conv2d_1a_3x3.conv.weight")), None)
    if anchor is None:
        raise ValueError(
            f"{file} holds {len(state)} tensors but no Conv2d_1a_3x3.conv.weight, expected FID's "
            f"InceptionV3; {HELP}"
        )
    prefix = anchor.removesuffix("Conv2d_1a_3x3.conv.weight")
    state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    net = Inception()
    own = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    missing = [k for k in own if k not in state]
    extra = [
        k
        for k in state
        if k not in own and not k.endswith("num_batches_tracked") and not k.startswith("AuxLogits.")
    ]
    wrong = [f"{k} {tuple(state[k].shape)}" for k in own if k in state and state[k].shape != own[k].shape]
    if missing or extra or wrong:
        texts = {"missing": missing, "unknown": extra, "of another shape": wrong}
        found = "; ".join(
            f"{len(v)} {k} ({', '.join(v[:2])}{', …' if len(v) > 2 else ''})" for k, v in texts.items() if v
        )
        raise ValueError(
            f"{file} is not FID's InceptionV3: {found}; torchvision's and ImageNet's own weights have "
            f"1,000 classes and give other numbers; {HELP}"
        )
    net.load_state_dict({k: state[k].float() for k in own}, strict=False)
    net.hash = sha256(file)
    net.eval().requires_grad_(False)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class InceptionExtractor:
    """`Extractor` of FID's network: 2,048 features, the 1,008 logits without bias that the inception score
    uses, and the spatial features of sFID."""

    name, dim, channels, resize = (
        "inception",
        2048,
        3,
        f"{SIZE}×{SIZE}, bilinear by TensorFlow 1's rule (pixel i from i · in / out)",
    )

    def __init__(self, path: str | Path | None = None, *, device: str | torch.device = "cpu"):
        self.net = load_inception(find_inception(path)).to(device)
        self.hash = self.net.hash[:16]

    def __call__(self, values: Tensor) -> dict[str, Tensor]:
        device = self.net.fc.weight.device
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            out = self.net(values.to(device), ("2048", "logits_unbiased", "spatial7"))
        return {
            "features": out["2048"].cpu(),
            "logits": out["logits_unbiased"].cpu(),
            "spatial": out["spatial7"].cpu(),
        }


def read_state(file: Path) -> dict[str, Tensor]:
    """A ``torch.save`` of a dict of tensors; nothing in the file is run. Raises ``ValueError`` for anything
    else."""
    refusal = (
        f"{file} is refused: expected a dict of tensors saved by torch.save, or .safetensors; code "
        "(TorchScript, pickled objects) is never run"
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what is refused below
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different class for every kind of bad file
        raise ValueError(
            f"{refusal} ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no text'})"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(refusal)
    return state
