"""torch-molecule's Graph DiT as the other side of `benchmarks.graph_dit`: commands as JSON lines in, results
as JSON lines out. Runs in an environment of its own.

Nothing of the package is changed, but that training ends after minutes instead of epochs; on request the time
fed in sampling is that of its training ("repaired").
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from common import held_mb, peak_mb


class Over(Exception):
    """The minutes are over."""


class Peer:
    def __init__(self, job: dict[str, Any]):
        import torch_molecule.generator.graph_dit.modeling_graph_dit as module

        torch.set_num_threads(job["threads"])
        torch.manual_seed(job["seed"])
        np.random.seed(job["seed"])
        self.graphs: list[Any] = []
        plain = module.graph_to_smiles

        def kept(graphs: list[Any], decoder: Any) -> list[str | None]:
            self.graphs = graphs
            return plain(graphs, decoder)

        module.graph_to_smiles = kept
        self.module = module
        if "saved" in job:
            self.model = module.GraphDITMolecularGenerator(device="cpu")
            self.model.load_from_local(job["saved"])
            return
        rows = np.load(job["data"], allow_pickle=False)
        self.smiles, self.labels = rows["smiles"].tolist(), rows["labels"]
        self.model = module.GraphDITMolecularGenerator(
            num_layer=job["depth"],
            hidden_size=job["width"],
            num_head=job["heads"],
            task_type=["regression"] * self.labels.shape[1],
            timesteps=job["timesteps"],
            batch_size=job["batch"],
            drop_condition=0.1,
            device="cpu",
            epochs=10**6,
        )

    def train(self, minutes: float) -> dict[str, Any]:
        """Fit for so many minutes of steps; what comes before the first step does not count. ``minutes`` 0:
        one step."""
        state: dict[str, Any] = {"started": None, "steps": 0}
        loader = self.module.DataLoader

        class Timed(loader):  # type: ignore[misc, valid-type]
            def __iter__(inner) -> Any:  # noqa: N805
                for batch in super().__iter__():
                    state["started"] = state["started"] or time.monotonic()
                    if state["steps"] and time.monotonic() - state["started"] >= 60 * minutes:
                        raise Over
                    state["steps"] += 1
                    yield batch

        self.module.DataLoader = Timed
        try:
            self.model.fit(self.smiles, self.labels)
        except Over:
            pass
        self.model.is_fitted_ = True
        seconds = time.monotonic() - (state["started"] or time.monotonic())
        return {
            "steps": state["steps"],
            "seconds": seconds,
            "parameters": sum(p.numel() for p in self.model.model.parameters()),
        }

    def save(self, path: str) -> dict[str, Any]:
        self.model.save_to_local(path)
        return {}

    def generate(
        self, labels: list[list[float]], scale: float, repaired: bool, seed: int, batch: int
    ) -> dict[str, Any]:
        """Molecules for targets: their SMILES as the package gives them, and the graphs that they were made
        from."""
        torch.manual_seed(seed)
        self.model.guide_scale = scale
        hook = None
        if repaired:  # its network is trained on t = 0 … T and sampled with t/T

            def as_trained(net: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                noisy = {**args[0], "t": args[0]["t"] * self.model.timesteps}
                return (noisy, *args[1:]), kwargs

            hook = self.model.model.register_forward_pre_hook(as_trained, with_kwargs=True)
        smiles: list[str | None] = []
        graphs = []
        before = held_mb()
        started = time.perf_counter()
        try:
            for a in range(0, len(labels), batch):
                smiles += self.model.generate(labels=labels[a : a + batch])
                graphs += [[x.tolist(), e.tolist()] for x, e in self.graphs]
        finally:
            if hook is not None:
                hook.remove()
        seconds = time.perf_counter() - started
        decoder = [str(a) for a in self.model.dataset_info["atom_decoder"]]
        return {
            "smiles": smiles,
            "graphs": graphs,
            "atoms": decoder,
            "seconds": seconds,
            "before_mb": before,
            "peak_mb": peak_mb(),
        }


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # what the package prints is not an answer
    peer: Peer | None = None
    for line in sys.stdin:
        job = json.loads(line)
        what = job.pop("do")
        if what == "make":
            peer, answer = Peer(job), {}
        elif peer is None:
            raise RuntimeError("got a command before 'make'")
        else:
            answer = getattr(peer, what)(**job)
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
