"""A network and a data set of one's own: train, load, sample."""

import tempfile

import torch

import studio


class Stripes(torch.utils.data.Dataset):
    classes = ("level", "upright")

    def __len__(self) -> int:
        return 64

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        rows = (torch.arange(8) // 2 % 2 * 255).to(torch.uint8).expand(8, 8)
        return (rows if i % 2 else rows.T)[None], i % 2  # (1, 8, 8) uint8 and a label


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.label, self.inner = (
            torch.nn.Embedding(3, 64),
            torch.nn.Sequential(torch.nn.Linear(129, 256), torch.nn.SiLU(), torch.nn.Linear(256, 64)),
        )

    # t on the network's clock, 0 (noise) to 1000 (data); a missing label is -1
    def forward(self, x, t, cond, ctx=None):
        label = torch.where(cond.label < 0, 2, cond.label)
        return self.inner(torch.cat([x.flatten(1), self.label(label), t[:, None] / 1000], 1)).view_as(x)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run = studio.train(
            {"train": {"steps": 200, "batch_size": 32, "preview": False}},
            data=Stripes(),
            backbone=Net(),
            out=f"{folder}/stripes",
            quiet=True,
        )
        samples = studio.load(run.folder, backbone=Net()).sample(
            labels=["level", "upright"] * 2, seeds=range(4), guidance=1.5
        )
        print(samples.values.shape, samples.recipes[0]["class"])
