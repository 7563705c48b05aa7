"""Exponential moving averages of the weights, in float32, beside the live network and never written into it.

Decays are those of `studio.config.decay`; n counts the updates of the network itself. Buffers (running
statistics) are no weights: they are copied from the live network.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from studio.config.decay import check_profile, decay_at


class EMA:
    """Averages of one or more networks' parameters, by name of the profile. ``known``: buffers,
    ``network.buffer``, as the config builds them; those that are still so are not kept beside the
    averages."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        profiles: Sequence[str],
        known: Mapping[str, Tensor] | None = None,
    ):
        for profile in profiles:
            check_profile(profile)
        self.networks, self.known = dict(networks), dict(known or {})
        self.names = [
            f"{net}.{key}" for net, module in networks.items() for key, _ in module.named_parameters()
        ]
        self.owners = [net for net, module in networks.items() for _ in module.parameters()]
        self.live = [p for module in networks.values() for p in module.parameters()]
        self.shadow = {profile: [p.detach().float().clone() for p in self.live] for profile in profiles}

    @torch.no_grad()
    def update(self, n: int, networks: Sequence[str] | None = None) -> None:
        """After the n-th optimiser step, of all networks or of those that it trained."""
        chosen = [i for i, owner in enumerate(self.owners) if networks is None or owner in networks]
        live = [
            p.detach() if p.dtype == torch.float32 else p.detach().float()
            for p in (self.live[i] for i in chosen)
        ]
        for profile, shadow in self.shadow.items():
            torch._foreach_lerp_([shadow[i] for i in chosen], live, 1 - decay_at(profile, n))

    @torch.no_grad()
    def restart(self, network: str) -> None:
        """A network's averages begin at its weights of now."""
        for shadow in self.shadow.values():
            for value, owner, live in zip(shadow, self.owners, self.live):
                if owner == network:
                    value.copy_(live)

    def tensors(self, profile: str) -> dict[str, Tensor]:
        """``network.parameter`` to average, and ``network.buffer`` to what it is now."""
        return {**dict(zip(self.names, self.shadow[profile])), **self._buffers()}

    def _buffers(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for net, module in self.networks.items():
            lasting = module.state_dict()  # not all buffers are kept
            found |= {
                f"{net}.{k}": b for k, b in module.named_buffers(remove_duplicate=False) if k in lasting
            }
        return {
            k: b for k, b in found.items() if k not in self.known or not torch.equal(b.cpu(), self.known[k])
        }

    @torch.no_grad()
    def load(self, profile: str, tensors: Mapping[str, Tensor]) -> None:
        """Averages of a checkpoint; its buffers are the live network's own."""
        for name, value in zip(self.names, self.shadow[profile]):
            value.copy_(tensors[name])

    @torch.no_grad()
    def copy_to(self, profile: str, networks: Mapping[str, nn.Module]) -> None:
        """Write an average, and buffers beside it, into other modules of the same form (not the live
        ones)."""
        targets = [p for module in networks.values() for p in module.parameters()]
        for target, value in zip(targets, self.shadow[profile]):
            target.copy_(value)
        for name, module in networks.items():
            for buffer, value in zip(module.buffers(), self.networks[name].buffers()):
                buffer.copy_(value)
