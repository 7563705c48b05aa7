"""Molecules as files hold them ↔ packed one-hot graphs, and how many atoms a new one gets.

In memory a molecule is (n, n + 1) uint8: atom type + 1 (0 = padding), then its row of bond classes (0 none …
4 aromatic). The number of atoms is drawn from the training set's own; given properties y, from those numbers
weighed by the Gaussian that (number, y) would be: mean m + C_ny C_yy⁻¹ (y − m_y), variance C_nn − C_ny C_yy⁻¹
C_yn, over the properties that are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.types import Cond, NoiseSource
from samplers.paths.graph import GraphPath
from samplers.spaces.packing import BONDS, category, draw, mask, pack, unpack
from studio.codecs.codec import Setting


class GraphCodec:
    """``atoms``: the types; ``size`` n; ``counts`` (n + 1,) frequencies of numbers of atoms; ``joint``: mean
    (1 + K,) and cov (1 + K, 1 + K) of the number and the standardised conditions, where there are any;
    ``aromatic``: whether bond class 4 is used."""

    name, bound, pictures, rescales, space = "graph", None, False, False, "graph"
    parts, judges = True, "prediction"

    def __init__(
        self,
        *,
        atoms: tuple[str, ...],
        size: int,
        counts: tuple[float, ...] = (),
        joint: dict[str, Any] | None = None,
        aromatic: bool = False,
    ):
        self.atoms, self.size, self.aromatic = atoms, size, aromatic
        weights = torch.tensor(counts or [0.0] + [1.0] * size, dtype=torch.float64)
        if len(weights) != size + 1 or float(weights[1:].sum()) <= 0:
            raise ValueError(
                f"got {len(weights)} frequencies of numbers of atoms, expected {size + 1} with "
                "something beyond 0"
            )
        weights[0] = 0.0
        self.counts = weights / weights.sum()
        self.joint = None
        if joint:
            self.joint = (
                torch.tensor(joint["mean"], dtype=torch.float64),
                torch.tensor(joint["cov"], dtype=torch.float64),
            )

    @property
    def types(self) -> int:
        return len(self.atoms)

    def encode(self, data: Tensor) -> Tensor:
        """(B, n, n + 1) uint8 → (B, n, dx + 5n) float32."""
        codes, bonds = data[..., 0].long(), data[..., 1:].long()
        valid = codes > 0
        one = pack(F.one_hot((codes - 1).clamp_min(0), self.types).float(), F.one_hot(bonds, BONDS).float())
        return mask(one, valid, self.types)

    def decode(self, x: Tensor) -> Tensor:
        """The likeliest class of every atom and bond, (B, n, n + 1) uint8; rows without any are padding."""
        atoms, bonds = unpack(x, self.types)
        codes = torch.where(atoms.abs().sum(-1) > 0, atoms.argmax(-1) + 1, 0)
        classes = bonds.argmax(-1) * (codes > 0)[:, :, None] * (codes > 0)[:, None]
        return torch.cat([codes[..., None], classes], dim=-1).to(torch.uint8)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """``atoms``: how many a molecule gets."""
        return {"atoms": Setting(1, self.size)}

    def places(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The atoms."""
        return (0,)

    def sizes(self, shape: Sequence[int]) -> dict[str, Any]:
        return {"max_atoms": self.size, "atom_types": self.types}

    def misread(self, made_for: "GraphCodec", model: str) -> str:
        """Graphs count atom types, so the same numbers mean other molecules elsewhere."""
        if (list(self.atoms), self.size, self.aromatic) == (
            list(made_for.atoms),
            made_for.size,
            made_for.aromatic,
        ):
            return ""
        return (
            f"got molecules of atoms {', '.join(made_for.atoms)} in graphs of {made_for.size}, {model} "
            f"knows {', '.join(self.atoms)} in {self.size}; read them as it does: "
            f"data.atoms=[{','.join(self.atoms)}] data.size={self.size} data.max_atoms={self.size} "
            f"data.aromatic={str(self.aromatic).lower()}"
        )

    def apart(self, other: "GraphCodec", mine: str, theirs: str) -> str:
        return self.misread(other, mine)

    def valid(self, numbers: Tensor) -> Tensor:
        """(B, n) from (B,) numbers of atoms."""
        return torch.arange(self.size, device=numbers.device)[None] < numbers[:, None]

    def numbers(self, noise: NoiseSource, numeric: Tensor | None) -> Tensor:
        """(B,) numbers of atoms, one draw a sample (stream ``atoms``)."""
        u = noise.uniform(stream="atoms", dtype=torch.float64).cpu()
        return category(self.weights(numeric, len(noise)), u).clamp(1, self.size).to(noise.device)

    def weights(self, numeric: Tensor | None, batch: int) -> Tensor:
        """(B, n + 1) probabilities of numbers of atoms."""
        plain = self.counts.expand(batch, -1)
        if numeric is None or self.joint is None:
            return plain
        mean, cov = self.joint
        rows, at = [], torch.arange(self.size + 1, dtype=torch.float64)
        for y in numeric.double().cpu():
            there = torch.nonzero(~y.isnan())[:, 0] + 1
            if not len(there):
                rows.append(self.counts)
                continue
            gain = torch.linalg.solve(
                cov[there][:, there] + 1e-6 * torch.eye(len(there), dtype=torch.float64), cov[there, 0]
            )
            centre = mean[0] + gain @ (y[there - 1] - mean[there])
            spread = (cov[0, 0] - gain @ cov[there, 0]).clamp_min(0.25)
            row = torch.exp(-(at - centre).square() / (2 * spread)) * (self.counts > 0)
            rows.append(
                row / row.sum()
                if float(row.sum()) > 0
                else F.one_hot(centre.round().long().clamp(1, self.size), self.size + 1).double()
            )
        return torch.stack(rows)

    def start(
        self,
        cond: Cond,
        noise: NoiseSource,
        path: GraphPath,
        shape: Sequence[int] = (),
        *,
        settings: Mapping[str, Any] | None = None,
        part: Tensor | None = None,
        free: Tensor | None = None,
    ) -> tuple[Tensor, Cond]:
        """Pure noise (B, n, F) and the conditions with the padding told, for a new run, of as many atoms as
        ``settings`` has, or as `numbers` says. ``part`` (n, n + 1) uint8 is a piece of a molecule that stays;
        ``free`` (n, n + 1) bool what of it may change all the same, by default all but its atoms and the
        bonds between them. Raises ``ValueError`` for fewer atoms than the piece has."""
        numbers = self.numbers(noise, cond.numeric if isinstance(cond.numeric, Tensor) else None)
        number = (settings or {}).get("atoms")
        if number is not None:
            number = self.settings["atoms"].of_each("atoms", number, len(numbers))
            numbers = torch.as_tensor(number, device=numbers.device).expand(len(numbers))
        held = None
        if part is not None:
            there = part[:, 0] > 0
            size = int(there.sum())
            if number is not None and int(numbers.min()) < size:
                raise ValueError(
                    f"got {int(numbers.min())} atoms for a molecule that shall hold a piece of {size}, "
                    f"expected at least {size}"
                )
            numbers = numbers.clamp_min(size)
            # (n, n + 1)
            held = ~free if free is not None else F.pad(there, (1, 0), value=True)[None] & there[:, None]
        valid = self.valid(numbers)
        x = draw(path.prior(valid), noise, valid, self.types, stream="prior")
        cond = replace(cond, valid=valid)
        if part is not None and held is not None:
            widths = torch.tensor([self.types] + [BONDS] * self.size)
            one = F.one_hot((part[:, 0].long() - 1).clamp_min(0), self.types).float() * there[:, None]
            given = (
                pack(one[None], F.one_hot(part[None, :, 1:].long(), BONDS).float())
                .to(noise.device)
                .expand(len(numbers), -1, -1)
            )
            known = held.repeat_interleave(widths, dim=1).to(noise.device).expand(len(numbers), -1, -1)
            cond = replace(cond, known=known, given=mask(given, valid, self.types))
        return x, cond
