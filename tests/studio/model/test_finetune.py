"""Fine-tuning: what comes from the base and what does not, adapters alone and merged, and `prior=base`."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import checkpoint_differences, dit_config, points_config, write_pictures

import studio
from backbones.graph_dit import GraphDiT
from studio.checkpoints import checkpoint
from studio.model import finetune
from studio.model.export import export
from studio.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three classes, whose names the base does not know."""
    path = write_pictures(tmp_path_factory.mktemp("other") / "others.npz", classes=3, seed=5)
    with np.load(path) as data:
        np.savez(path, images=data["images"], labels=data["labels"], classes=np.array(["up", "down", "left"]))
    return path


@pytest.fixture(scope="module")
def tuned(picture_run: Run, others: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All weights, three new classes, ten steps."""
    return studio.train(
        dit_config(others, steps=10, save_every=5),
        start_from=str(picture_run.folder),
        out=tmp_path_factory.mktemp("tuned") / "full",
        quiet=True,
    )


@pytest.fixture(scope="module")
def adapted(picture_run: Run, others: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Adapters of rank 2 and a new table."""
    config = dit_config(others, steps=10, save_every=5) | {"lora": {"rank": 2}}
    return studio.train(
        config, start_from=str(picture_run.folder), out=tmp_path_factory.mktemp("tuned") / "lora", quiet=True
    )


def first(run: Run, name: str = "net") -> dict[str, torch.Tensor]:
    return load_file(checkpoint.listing(run.folder)[-1] / f"{name}.safetensors")


def test_a_run_names_its_base_by_hash(picture_run: Run, tuned: Run) -> None:
    base = studio.load(picture_run.folder)
    entry = json.loads((tuned.folder / "meta.json").read_text())["base"]
    assert entry == {
        "model": f"{picture_run.folder.resolve()}@48",
        "weights": base.weights,
        "hash": base.hash,
    }
    assert tuned.load().info.base == entry and tuned.load().classes == ("up", "down", "left")


def test_new_classes_get_a_table_of_their_own(picture_run: Run, others: Path, tmp_path: Path) -> None:
    """Without a step taken: everything is the base's but the table, of which only the null is."""
    run = studio.train(
        dit_config(others, steps=1, lr=1e-30, ema=[], clip=None),
        start_from=str(picture_run.folder),
        out=tmp_path / "run",
        quiet=True,
    )
    ours, base = first(run), studio.load(picture_run.folder, dtype="fp32").denoiser.net.state_dict()
    key = "y_embedder.embedding_table.weight"
    assert all(torch.equal(v, base[k]) for k, v in ours.items() if k != key)
    assert ours[key].shape[0] == 4 and torch.equal(ours[key][-1], base[key][-1])
    assert not any(torch.equal(a, b) for a in ours[key][:-1] for b in base[key])
    tuned, donor = run.load(dtype="fp32"), studio.load(picture_run.folder, dtype="fp32")
    same = [m.sample(seeds=[0, 1], labels="none", guidance=None).values for m in (tuned, donor)]
    assert torch.equal(*same)


def test_the_same_classes_keep_their_table(picture_run: Run, pictures: Path, tmp_path: Path) -> None:
    run = studio.train(
        dit_config(pictures, steps=1, lr=1e-30, ema=[]),
        start_from=str(picture_run.folder),
        out=tmp_path / "run",
        quiet=True,
    )
    ours, base = first(run), studio.load(picture_run.folder, dtype="fp32").denoiser.net.state_dict()
    assert all(torch.equal(v, base[k]) for k, v in ours.items())


def test_adapters_train_and_nothing_else(picture_run: Run, adapted: Run) -> None:
    base = studio.load(picture_run.folder, dtype="fp32").denoiser.net.state_dict()
    ours = first(adapted)
    for name, value in base.items():
        frozen = ours.get(
            name, ours.get(name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias"))
        )
        assert frozen is not None
        assert torch.equal(frozen, value) or name.startswith("y_embedder"), name
    moved = [k for k, v in ours.items() if "lora_B" in k and bool(v.any())]
    assert len(moved) == 2 * 4  # qkv, proj, fc1 and fc2 of two blocks
    assert ours["y_embedder.embedding_table.weight"].shape == (4, 32)


def test_merged_is_the_same_function(adapted: Run, tmp_path: Path) -> None:
    """The run, its merged export and the adapter beside its base give the same samples; the adapter is the
    smaller file."""
    run = adapted.load(dtype="fp32")
    assert not any("lora" in k or "base_layer" in k for k in run.denoiser.net.state_dict())
    whole, alone = (
        export(str(adapted.folder), tmp_path / "whole"),
        export(str(adapted.folder), tmp_path / "alone", adapter=True),
    )
    assert (alone / "adapter.safetensors").stat().st_size < 0.4 * (whole / "model.safetensors").stat().st_size
    assert (
        "lora" not in (whole / "config.yaml").read_text() or "lora: {}" in (whole / "config.yaml").read_text()
    )
    want = run.sample(seeds=range(4), guidance="cfg=2").values
    for folder in (whole, alone):
        model = studio.load(folder, dtype="fp32")
        assert (
            torch.equal(model.sample(seeds=range(4), guidance="cfg=2").values, want)
            and model.info.base == run.info.base
        )
    names = load_file(alone / "adapter.safetensors")
    assert all("lora_" in k or k.startswith("y_embedder.") for k in names)


def test_a_fine_tuned_run_resumes_to_the_same_bytes(
    picture_run: Run, others: Path, adapted: Run, tmp_path: Path
) -> None:
    config = dit_config(others, steps=5, save_every=5) | {"lora": {"rank": 2}}
    run = studio.train(config, start_from=str(picture_run.folder), out=tmp_path / "run", quiet=True)
    studio.train(config, ["train.steps=10"], out=run.folder, resume=True, quiet=True)
    spot = "checkpoints/000000010"
    # the cosine of the first five steps was that of a run of five: only what does not depend on it is
    # compared
    assert (
        json.loads((run.folder / "meta.json").read_text())["base"]
        == json.loads((adapted.folder / "meta.json").read_text())["base"]
    )
    long = dit_config(others, steps=10, save_every=5) | {"lora": {"rank": 2}}
    long["train"]["schedule"] = "constant"
    short = {**long, "train": {**long["train"], "steps": 5}}
    whole = studio.train(long, start_from=str(picture_run.folder), out=tmp_path / "whole", quiet=True)
    half = studio.train(short, start_from=str(picture_run.folder), out=tmp_path / "half", quiet=True)
    studio.train(short, ["train.steps=10"], out=half.folder, resume=True, quiet=True)
    assert checkpoint_differences(whole.folder / spot, half.folder / spot) == []


def test_prior_base(picture_run: Run, tuned: Run) -> None:
    """`base` and the base by its path are one prior, and not the model's own."""
    model = tuned.load(dtype="fp32")
    lines = ["prior=base,cfg=3", f'prior="{picture_run.folder}@48",cfg=3', "cfg=3"]
    by_base, by_name, own = (model.sample(seeds=range(4), guidance=line) for line in lines)
    assert torch.equal(by_base.values, by_name.values) and not torch.equal(by_base.values, own.values)
    assert by_base.recipes[0]["borrowed"] == {"base": model.info.base["hash"]}
    freed = model.sample(seeds=range(4), guidance="prior(model=base,free=true),cfg=3,interval=0.1:0.9").values
    kept = model.sample(seeds=range(4), guidance="prior=base,cfg=3,interval=0.1:0.9").values
    assert torch.equal(freed, kept)


def test_a_base_that_is_gone_or_changed(tuned: Run, tmp_path: Path) -> None:
    folder = export(str(tuned.folder), tmp_path / "model")
    meta = json.loads((folder / "meta.json").read_text())
    for change, message in (
        ({"model": str(tmp_path / "gone")}, "is not there"),
        ({"hash": "0" * 16}, "has changed since"),
    ):
        (folder / "meta.json").write_text(json.dumps({**meta, "base": {**meta["base"], **change}}))
        with pytest.raises(ValueError, match=message):
            studio.load(folder).sample(seeds=[0], guidance="prior=base,cfg=2")


def test_points_keep_the_scale_of_their_base(points_run: Run, tmp_path: Path) -> None:
    """A prior divides its data as the model does, or its states would be others."""
    run = studio.train(
        points_config("moons", steps=4), start_from=str(points_run.folder), out=tmp_path / "run", quiet=True
    )
    base, model = points_run.load(), run.load()
    assert model.codec.std == base.codec.std  # type: ignore[attr-defined]
    resumed = studio.train(
        points_config("moons", steps=4), ["train.steps=6"], out=run.folder, resume=True, quiet=True
    )
    assert resumed.load().codec.std == base.codec.std  # type: ignore[attr-defined]
    alone = studio.train(points_config("moons", steps=4), out=tmp_path / "alone", quiet=True).load()
    assert alone.codec.std != base.codec.std  # type: ignore[attr-defined]


def test_a_folder_of_pictures_takes_the_network_of_its_base(
    picture_run: Run, others: Path, tmp_path: Path
) -> None:
    run = studio.train(
        f"npz:{others}",
        ["train.steps=2", "train.ema=[]", "train.preview=false"],
        start_from=str(picture_run.folder),
        out=tmp_path / "run",
        quiet=True,
    )
    assert (
        run.config.backbone["hidden_size"] == 32
        and run.config.objective["cond_drop"] == 0.3
        and run.load().classes == ("up", "down", "left")
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lora": {"rank": 0}}, "got lora.rank=0, expected a whole number"),
        ({"lora": {"ranks": 4}}, "got the unknown lora option 'ranks', expected rank, alpha or targets"),
        (
            {"lora": {"targets": ["attn"]}},
            "got lora.targets with 'attn', expected names of linear layers: .*qkv",
        ),
        (
            {"backbone": {"name": "dit", "hidden_size": 48, "depth": 2, "num_heads": 2, "patch_size": 2}},
            "has shape .* use the same backbone section",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    picture_run: Run, others: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        studio.train(
            {**dit_config(others), **change},
            start_from=str(picture_run.folder),
            out=tmp_path / "run",
            quiet=True,
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"depth": 1}, "blocks.1.* is in the base alone; use the same backbone section"),
        ({"depth": 3}, "blocks.2.* is in the new network alone; use the same backbone section"),
        ({"depth": 2, "bond_bias": True}, "blocks.0.bond_bias.weight is in the new network alone"),
        (
            {"depth": 2, "num_numeric": 2, "conditions": "clusters"},
            "y_embedding_list.encoders.0.mlp.* use the same backbone section",
        ),
    ],
)
def test_weights_are_all_taken_or_none(form: dict[str, Any], message: str) -> None:
    sizes: dict[str, Any] = {"max_atoms": 5, "atom_types": 3, "hidden_size": 16, "num_heads": 2}
    base: Any = SimpleNamespace(
        name="base", denoiser=SimpleNamespace(net=GraphDiT(**sizes, depth=2, num_numeric=2))
    )
    with pytest.raises(ValueError, match=message):
        finetune.begin(GraphDiT(**sizes, **form), base, ())
    net = GraphDiT(**sizes, depth=2)
    finetune.begin(net, base, ())  # conditions that only one of them has are no hindrance
    assert torch.equal(net.blocks[1].attn.qkv.weight, base.denoiser.net.blocks[1].attn.qkv.weight)


def test_other_data_and_no_base(picture_run: Run, others: Path, tmp_path: Path) -> None:
    large = write_pictures(tmp_path / "large.npz", size=16)
    with pytest.raises(
        ValueError, match=r"got image of shape \(1, 16, 16\) to fine-tune .*; set data.size=8"
    ):
        studio.train(dit_config(large), start_from=str(picture_run.folder), out=tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="or backbone.input_size=8 to stretch its positions"):
        studio.train(dit_config(large), start_from=str(picture_run.folder), out=tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="got a lora section without a base; pass --from MODEL"):
        studio.train({**dit_config(others), "lora": {"rank": 2}}, out=tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="got image of shape"):
        studio.train(dit_config(others), start_from="fashion-dit", out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_same_network_goes_on_at_another_size(picture_run: Run, tmp_path: Path) -> None:
    """Where the config keeps the base's own size, its positions are stretched: the weights are the base's,
    and the model samples pictures of the new size."""
    config = dit_config(write_pictures(tmp_path / "large.npz", size=16), steps=1, lr=1e-12)
    config["backbone"]["input_size"] = 8
    run = studio.train(config, start_from=str(picture_run.folder), out=tmp_path / "run", quiet=True)
    model, base = (
        studio.load(folder, weights="raw" if folder == run.folder else "ema", dtype="fp32", device="cpu")
        for folder in (run.folder, picture_run.folder)
    )
    ours, theirs = model.denoiser.net, base.denoiser.net
    torch.testing.assert_close(ours.blocks[0].attn.qkv.weight, theirs.blocks[0].attn.qkv.weight)
    assert torch.equal(ours.pos_embed, theirs.pos_embed) and model.info.shape == (1, 16, 16)
    assert model.sample(seeds=[0], num_steps=2).values.shape == (1, 1, 16, 16)
