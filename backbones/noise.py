"""Random draws that depend on a seed and nothing else.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is a block cipher used as a
generator: 128 counter bits and 64 key bits in, 128 random bits out, no state. Here the key is the sample's
seed and the counter is (element block, step, stream, index), so the draws of sample *i* are the same for
every batch size, position, worker count and device, and asking twice for the same (step, stream) gives the
same numbers. Words are carried in int64 tensors, which every torch device has.
"""

import copy
import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_M0, _M1, _W0, _W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
FEW = 2**14  # numbers of a word, up to which numpy is faster than torch


def philox(
    counter: Sequence[Tensor], key: Sequence[Tensor], rounds: int = 10
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32: four counter words and two key words (int64 tensors holding 32 bits, broadcastable) to four
    random words."""
    if counter[0].device.type == "cpu":
        words = [word.numpy() for word in (*counter, *key)]
        if (whole := np.broadcast(*words)).size <= FEW:
            return _philox_of_few(words[:4], words[4:], rounds, whole.shape)
    c0, c1, c2, c3 = counter
    # the keys of all rounds at once
    count = torch.arange(rounds, device=c0.device).view(-1, *[1] * key[0].dim())
    for k0, k1 in zip(((key[0] + _W0 * count) & _MASK).unbind(), ((key[1] + _W1 * count) & _MASK).unbind()):
        # 64-bit products; int64 wraps, the masked shift below reads the high word all the same
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
    return c0, c1, c2, c3


def _philox_of_few(
    counter: Sequence[np.ndarray], key: Sequence[np.ndarray], rounds: int, shape: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same words by numpy, whose operations on short arrays cost far less than torch's; words 0 and 2,
    which are multiplied, in one array, 1 and 3 in another. Both halves of a product are views of it, and keys
    are of samples, not of every number."""
    ones = [1] * len(shape)
    factors, steps = (np.array(pair, np.uint64).reshape(2, *ones) for pair in ((_M0, _M1), (_W0, _W1)))
    even, odd = (np.empty((2, *shape), np.uint32) for _ in range(2))
    for into, words in ((even, counter[::2]), (odd, counter[1::2])):
        into[0], into[1] = words
    own = np.stack(np.broadcast_arrays(*key)).astype(np.uint64)
    own = own.reshape(2, *ones[own.ndim - 1 :], *own.shape[1:])
    counts = np.arange(rounds, dtype=np.uint64).reshape(rounds, 1, *ones)
    high = int(sys.byteorder == "little")
    for keys in (own + steps * counts).astype(np.uint32):
        halves = (even * factors).view(np.uint32).reshape(2, *shape, 2)[::-1]
        even = halves[..., high] ^ odd ^ keys
        odd = halves[..., 1 - high]
    first, second, third, fourth = torch.from_numpy(
        np.stack([even, odd], 1).astype(np.int64).reshape(4, *shape)
    )
    return first, second, third, fourth


class NoiseSource:
    """One random stream per sample.

    ``seeds``: B integers (one per sample). ``index``: B further integers, 0 by default; training keys every
    sample by (run seed, position in the global batch), so the draws do not depend on how a batch is split
    over processes. ``step`` selects a page of the stream.
    """

    def __init__(
        self,
        seeds: Sequence[int] | Tensor,
        *,
        index: Sequence[int] | Tensor | None = None,
        step: int = 0,
        device: str | torch.device = "cpu",
    ):
        device = torch.device(device)
        values = [int(s) for s in (seeds.tolist() if isinstance(seeds, Tensor) else seeds)]
        if any(s < 0 or s >= 2**63 for s in values):
            raise ValueError(
                f"got seed {next(s for s in values if s < 0 or s >= 2**63)}, expected 0 <= seed < 2**63"
            )
        self.seeds = torch.tensor(values, dtype=torch.int64, device=device)
        self.index = (
            torch.zeros_like(self.seeds)
            if index is None
            else torch.as_tensor(index, dtype=torch.int64, device=device)
        )
        self.step = int(step)
        self.device = device

    def __len__(self) -> int:
        return len(self.seeds)

    def at(self, step: int) -> Self:
        """The same streams at another step."""
        other = copy.copy(self)
        other.step = int(step)
        return other

    def select(self, i: Tensor | slice) -> Self:
        """The streams of some of the samples."""
        other = copy.copy(self)
        other.seeds, other.index = self.seeds[i], self.index[i]
        return other

    def _words(self, count: int, stream: str) -> Tensor:
        """(B, count) random 32-bit words in int64."""
        blocks = -(-count // 4)
        block = torch.arange(blocks, device=self.device)[None, :]
        rows = self.seeds[:, None]
        counter = (
            block,
            torch.full_like(rows, self.step & _MASK),
            torch.full_like(rows, zlib.crc32(stream.encode())),
            self.index[:, None] & _MASK,
        )
        words = philox(counter, (rows & _MASK, (rows >> 32) & _MASK))
        return torch.stack(torch.broadcast_tensors(*words), dim=-1).reshape(len(self), blocks * 4)[:, :count]

    def _unit(self, count: int, stream: str) -> Tensor:
        """(B, count) in the open interval (0, 1), float64 where the device has it."""
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        return self._words(count, stream).to(exact).add_(0.5).mul_(2.0**-32)

    def uniform(
        self, shape: Sequence[int] = (), *, stream: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(B, *shape) uniform on (0, 1), both ends left out in every dtype: what would round to them is the
        nearest number within."""
        info = torch.finfo(dtype)
        draws = self._unit(math.prod(shape), stream).reshape(len(self), *shape).to(dtype)
        return draws.clamp_(info.smallest_normal * info.eps, 1 - info.eps / 2)

    def normal(self, shape: Sequence[int] = (), *, stream: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, *shape) standard normal (Box–Muller)."""
        count = math.prod(shape)
        half = -(-count // 2)
        u = self._unit(2 * half, stream)
        radius, angle = (-2 * u[:, :half].log()).sqrt(), (2 * math.pi) * u[:, half:]
        z = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return z[:, :count].reshape(len(self), *shape).to(dtype)

    def integers(self, high: int, shape: Sequence[int] = (), *, stream: str) -> Tensor:
        """(B, *shape) int64 in [0, high); the bias of the modulo is below high / 2**32."""
        return self._words(math.prod(shape), stream).reshape(len(self), *shape) % high


class RecordedNoise:
    """Replays recorded tensors: every ``normal`` of a stream returns the next of its list, whatever the step.
    For reference outputs."""

    def __init__(self, streams: Mapping[str, Sequence[Tensor]]):
        self.streams = {name: list(values) for name, values in streams.items()}
        self.used = dict.fromkeys(self.streams, 0)
        self.device = torch.device("cpu")

    def at(self, step: int) -> "RecordedNoise":
        return self

    def normal(self, shape: Sequence[int] = (), *, stream: str, dtype: torch.dtype = torch.float32) -> Tensor:
        values = self.streams.get(stream, [])
        i = self.used.get(stream, 0)
        if i >= len(values):
            raise ValueError(
                f"recorded noise has {len(values)} draws of stream {stream!r}, got a request for one more"
            )
        self.used[stream] = i + 1
        if tuple(values[i].shape[1:]) != tuple(shape):
            raise ValueError(
                f"recorded draw {i} of {stream!r} has shape {tuple(values[i].shape[1:])}, expected "
                f"{tuple(shape)}"
            )
        return values[i].to(dtype)
