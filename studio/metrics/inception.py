"""The InceptionV3 of FID, as TensorFlow's 2015-12-05 graph computes it (Szegedy et al. 1512.00567; weights
ported to PyTorch by pytorch-fid).

It differs from torchvision's: average pools do not count padding, the last block pools by maximum, ``fc`` has
1,008 outputs, and pictures are enlarged to 299 × 299 with TensorFlow 1's bilinear rule, where output pixel i
reads from i · in / out (no half-pixel centres).

The weights are in no package: they are the user's file (`studio.metrics.inception_extractor`).
"""

import functools
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE, CLASSES = 299, 1008
TAPS = ("64", "192", "768", "2048", "spatial7", "logits_unbiased", "logits")


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
