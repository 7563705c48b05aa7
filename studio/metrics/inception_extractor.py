"""FID's extractor of features: the user's file with the weights of InceptionV3, found by `find_inception` and
read by `load_inception`, never by unpickling code."""

import os
import re
import warnings
from pathlib import Path

import torch
from torch import Tensor

from studio.metrics.inception import SIZE, Inception
from studio.runtime.files import load_tensors, sha256

FILE = "pt_inception-2015-12-05-6726825d.pth"
HELP = (
    f"pass inception=FILE or set STUDIO_INCEPTION=FILE, where FILE is {FILE} from the release fid_weights "
    "of pytorch-fid (torch-fidelity publishes "
    "the same as weights-inception-2015-12-05-6726825d.pth; 6726825d is the start of its SHA-256) or its "
    "tensors in a .safetensors; every other "
    "extractor and metric works without it"
)


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
    with torch.device("meta"):  # nothing is drawn of what is loaded
        net = Inception()
    counters = {k: torch.tensor(0) for k in net.state_dict() if k.endswith("num_batches_tracked")}
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
    net.load_state_dict({k: state[k].float() for k in own} | counters, assign=True)
    net.hash = sha256(file)
    net.eval().requires_grad_(False)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


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
