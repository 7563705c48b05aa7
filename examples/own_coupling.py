"""A coupling of one's own, given as an object: along a random direction, the k-th source goes to the k-th
data point."""

import tempfile

import torch

import studio
from samplers import Coupled


class Sliced:
    # (B, ...), (B, ...); draws come from noise, so a run resumes to the same bytes
    def __call__(self, source, data, cond, noise):
        direction = noise.normal(data.shape[1:], stream="slice", dtype=data.dtype)[:1].flatten()  # (D,)
        along_source, along_data = source.flatten(1) @ direction, data.flatten(1) @ direction  # (B,)
        which = torch.empty_like(along_data, dtype=torch.long)
        which[along_data.argsort()] = along_source.argsort()
        # data stay in their places, and their conditions with them
        return Coupled(source[which], data, cond)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, coupling in {"independent": "independent", "sliced": Sliced()}.items():
            config = {
                "data": {"name": "points", "kind": "eight_gaussians"},
                "backbone": {"name": "mlp", "width": 64},
                "train": {"steps": 200, "batch_size": 256, "lr": 0.005, "preview": False},
            }
            model = studio.load(
                studio.train(config, coupling=coupling, out=f"{folder}/{name}", quiet=True).folder
            )
            few, many = (model.sample(seeds=range(512), sampler="euler", num_steps=n).values for n in (2, 50))
            print(f"{name}: two steps are {float((few - many).norm(dim=1).mean()):.2f} away from fifty")
