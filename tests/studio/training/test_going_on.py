"""`--resume` means the run that was named: which folder, what changed in its source since, and whether its
data is the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import (
    checkpoint_differences,
    checkpoints,
    dit_config,
    files_below,
    last_checkpoint,
    points_config,
    run_studio,
    write_pictures,
)
from torch import Tensor, nn

import studio
from studio.checkpoints import checkpoint
from studio.config import from_tree, load_config
from studio.model.export import export
from studio.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
FLAT = {"schedule": "constant", "weak_snapshot": False}


def written(path: Path, tree: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(from_tree(tree).yaml())
    return path


def short(**train: Any) -> dict[str, Any]:
    return points_config(**{"steps": 4, **FLAT, **train})


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, text
    path.write_text(text.replace(old, new))


def steps_of(run: Path) -> int | None:
    return load_config(run / "config.yaml").train.steps


# ---- which run is meant --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studio.train(short(), out=tmp_path_factory.mktemp("trained") / "first", quiet=True).folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four steps of dots, in a folder that is not called after the config; the working folder is beside
    it."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "mine" / "first")


@pytest.mark.parametrize("form", ["config", "folder", "relative", "linked folder", "linked config", "inside"])
def test_a_config_beside_checkpoints_means_that_run(
    form: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Any = {"config": run / "config.yaml", "folder": run, "relative": "mine/first/config.yaml"}.get(
        form
    )
    if form == "linked folder":
        (tmp_path / "latest").symlink_to(run)
        source = "latest/config.yaml"
    elif form == "linked config":
        (tmp_path / "that.yaml").symlink_to(run / "config.yaml")
        source = str(tmp_path / "that.yaml")
    elif form == "inside":
        monkeypatch.chdir(run)
        source = "config.yaml"
    before = files_below(run)
    with pytest.raises(FileExistsError, match="holds a run already; pass --resume to go on"):
        studio.train(source, quiet=True)
    assert files_below(run) == before
    rest = studio.train(source, ["train.steps=6"], resume=True, quiet=True)
    assert rest.step == 6 and rest.folder.resolve() == run and checkpoints(run) == [4, 6]
    again = studio.train(source, out=run, resume=True, quiet=True)  # the same folder, said twice
    assert again.step == 6
    for folder in (tmp_path, run, tmp_path / "mine"):
        assert not (folder / "runs").exists(), "nothing began elsewhere"


def test_the_command_line_goes_on_with_the_run_beside_the_config(run: Path, tmp_path: Path) -> None:
    done = run_studio("train", run / "config.yaml", "train.steps=5", "--resume", "--json", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["step"] == 5, done.stderr
    assert checkpoints(run) == [4, 5] and not (tmp_path / "runs").exists()


def test_another_out_than_the_run_of_the_config_is_refused(run: Path, tmp_path: Path) -> None:
    other = studio.train(short(), out=tmp_path / "mine" / "second", quiet=True).folder
    before = files_below(tmp_path)
    for out in (other, tmp_path / "mine" / "third"):
        with pytest.raises(
            ValueError,
            match=rf"first.*is the config of the run .*first, but --out says .*{out.name}.*leave out --out",
        ):
            studio.train(run / "config.yaml", ["train.steps=6"], out=out, resume=True, quiet=True)
    assert files_below(tmp_path) == before
    # a new run by the same recipe
    fresh = studio.train(run / "config.yaml", out=tmp_path / "mine" / "third", quiet=True)
    assert (
        fresh.step == 4 and checkpoint_differences(last_checkpoint(run), last_checkpoint(fresh.folder)) == []
    )


@pytest.mark.parametrize("out", ["mine/frist", "mine", "mine/first/checkpoints", "elsewhere/first", None])
def test_nothing_to_resume_is_an_error_that_names_what_is_there(
    out: str | None, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "runs" / "dot")
    before = files_below(tmp_path)
    with pytest.raises((ValueError, FileExistsError)) as error:
        studio.train(short(steps=6), out=out, resume=True, quiet=True)
    near = "runs/dot " if out in (None, "elsewhere/first") else "mine/first "
    assert near in str(error.value) and "(step 4)" in str(error.value) and "resume" in str(error.value)
    assert (
        files_below(tmp_path) == before
        and not (tmp_path / "elsewhere").exists()
        and not (tmp_path / "runs" / "dots").exists()
    )


def test_a_typo_on_the_command_line(run: Path, tmp_path: Path) -> None:
    config = written(tmp_path / "dots.yaml", short())
    for words in (
        (config, "--out", "mine/fist", "--resume"),
        (config, "--resume"),
        (tmp_path / "mine" / "frist", "--resume"),
    ):
        done = run_studio("train", *words, cwd=tmp_path)
        assert (
            done.returncode == 2 and done.stderr.startswith("error: got ") and done.stderr.count("\n") == 1
        ), done.stderr
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="nothing to resume"):
        studio.train(config, out=tmp_path / "empty", resume=True, quiet=True)
    assert not list((tmp_path / "empty").iterdir()) and not (tmp_path / "runs").exists()


def test_an_export_is_no_run(run: Path, tmp_path: Path) -> None:
    flat = export(str(run), tmp_path / "flat")
    for source in (flat, flat / "config.yaml"):
        with pytest.raises(ValueError, match="flat is an exported model.*--from"):
            studio.train(source, resume=True, quiet=True)
    assert {"source", "config"}.isdisjoint(json.loads((flat / "meta.json").read_text()))
    assert studio.train(flat / "config.yaml", out=tmp_path / "again", quiet=True).step == 4


def test_resume_and_overwrite_contradict(run: Path) -> None:
    with pytest.raises(ValueError, match="both resume and overwrite"):
        studio.train(run, resume=True, overwrite=True, quiet=True)


# ---- what changed in the source ------------------------------------------------------------------


def test_keys_that_may_change_are_taken_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(tmp_path / "dots.yaml", short())
    out = tmp_path / "run"
    studio.train(config, ["train.log_every=1"], out=out, quiet=True)
    studio.train(config, out=out, resume=True, quiet=True)
    assert steps_of(out) == 4 and load_config(out / "config.yaml").train.log_every == 1, (
        "what the first call said stays"
    )
    edited(config, " steps: 4", " steps: 6")
    edited(config, "sampler: heun", "sampler: euler")
    rest = studio.train(config, out=out, resume=True)
    told = capsys.readouterr().err
    assert rest.step == 6 and rest.config.sample.sampler == "euler" and rest.config.train.log_every == 1
    assert "train.steps 4 → 6" in told and "sample.sampler heun → euler" in told and "log_every" not in told
    edited(config, " steps: 6", " steps: 7")
    assert studio.train(config, ["train.steps=8"], out=out, resume=True, quiet=True).step == 8, (
        "this call comes first"
    )
    assert studio.train(config, out=out, resume=True, quiet=True).config.train.steps == 8, "taken once"
    edited(config, " steps: 7", " steps: 9")
    assert studio.train(config, out=out, resume=True, quiet=True).step == 9


def test_one_length_replaces_the_other(tmp_path: Path) -> None:
    tree = short()
    run = studio.train(tree, out=tmp_path / "run", quiet=True).folder
    del tree["train"]["steps"]
    tree["train"]["minutes"] = 1e-9
    rest = studio.train(tree, out=run, resume=True, quiet=True)
    assert (rest.config.train.steps, rest.config.train.minutes) == (None, 1e-9)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("width: 32", "width: 16", "backbone.*width"),
        ("seed: 0", "seed: 4", "seed"),
        ("kind: eight_gaussians", "kind: moons", "data.*kind"),
        ("parameterization: velocity", "parameterization: data", "objective.*parameterization"),
        ("path: linear", "path: trig", "objective.*path"),
        ("procedure: {}", "procedure:\n  name: plain", "procedure"),
        ("  width: 32\n", "", "backbone.*width"),
        ("count: 512", "count: 256", "data.*count"),
    ],
)
@pytest.mark.parametrize("own", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_keys_that_may_not_change_are_refused(
    own: bool, old: str, new: str, word: str, tmp_path: Path
) -> None:
    """In the source, and in the run's own config.yaml."""
    config = written(tmp_path / "dots.yaml", short())
    run = studio.train(config, out=tmp_path / "run", quiet=True).folder
    source = run / "config.yaml" if own else config
    edited(source, old, new)
    edited(source, " steps: 4", " steps: 6")
    before = files_below(tmp_path)
    with pytest.raises(
        ValueError,
        match=rf"{word}.*differs from the run being resumed|differs from the run being resumed.*{word}",
    ) as error:
        studio.train(source, out=run, resume=True, quiet=True)
    assert "--from" in str(error.value) and files_below(tmp_path) == before
    edited(source, new, old) if new else source.write_text(
        source.read_text().replace("name: mlp\n", "name: mlp\n  width: 32\n")
    )
    assert studio.train(source, out=run, resume=True, quiet=True).step == 6


def test_the_length_in_the_runs_own_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = studio.train(short(), out=tmp_path / "run", quiet=True).folder
    edited(run / "config.yaml", " steps: 4", " steps: 5")
    assert studio.train(run, resume=True).step == 5
    assert "train.steps 4 → 5" in capsys.readouterr().err


def test_a_run_without_the_record_goes_on_as_ever_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = short()
    run = studio.train(tree, out=tmp_path / "run", quiet=True).folder
    meta = json.loads((run / "meta.json").read_text())
    (run / "meta.json").write_text(
        json.dumps({k: v for k, v in meta.items() if k not in ("source", "config")})
    )
    tree["train"]["steps"] = 6
    assert studio.train(tree, out=run, resume=True).step == 4
    assert "train.steps" in capsys.readouterr().err
    with pytest.raises(ValueError, match="seed differs from the run being resumed"):
        studio.train(tree | {"seed": 1}, out=run, resume=True, quiet=True)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        return self.layer(x)


def test_own_networks_are_neither_lost_nor_put_in(tmp_path: Path) -> None:
    ours = studio.train(short(), backbone=Own(), out=tmp_path / "ours", quiet=True).folder
    with pytest.raises(ValueError, match="network of your own; pass it again: backbone="):
        studio.train(ours, ["train.steps=6"], resume=True, quiet=True)
    assert studio.train(short(steps=6), backbone=Own(), out=ours, resume=True, quiet=True).step == 6
    theirs = studio.train(short(), out=tmp_path / "theirs", quiet=True).folder
    with pytest.raises(ValueError, match="backbone differs from the run being resumed"):
        studio.train(short(), backbone=Own(), out=theirs, resume=True, quiet=True)


def test_the_base_of_a_resumed_run(points_run: Run, tmp_path: Path) -> None:
    base, out = str(points_run.folder), tmp_path / "run"
    studio.train(short(), start_from=base, out=out, quiet=True)
    assert studio.train(short(steps=5), start_from=base, out=out, resume=True, quiet=True).step == 5
    other = studio.train(short(), out=tmp_path / "other", quiet=True).folder
    with pytest.raises(ValueError, match="--from .*other.*the run being resumed began from"):
        studio.train(short(), start_from=str(other), out=out, resume=True, quiet=True)
    with pytest.raises(ValueError, match="began from nothing"):
        studio.train(short(), start_from=base, out=other, resume=True, quiet=True)


def test_data_alone_with_a_base_goes_on_by_the_same_words(
    picture_run: Run, pictures: Path, tmp_path: Path
) -> None:
    words: Any = (f"npz:{pictures}", ["train.steps=2", "train.ema=[]", "train.preview=false"])
    options: dict[str, Any] = dict(start_from=str(picture_run.folder), out=tmp_path / "run", quiet=True)
    studio.train(*words, **options)
    rest = studio.train(words[0], [*words[1], "train.steps=3"], resume=True, **options)
    assert rest.step == 3 and rest.config.backbone["hidden_size"] == 32


# ---- the same data -------------------------------------------------------------------------------


def test_the_same_data_at_another_path(pictures: Path, tmp_path: Path) -> None:
    mine, moved = tmp_path / "a.npz", tmp_path / "sub" / "b.npz"
    shutil.copy(pictures, mine)
    config = dit_config(mine, steps=2, save_every=0, **FLAT)
    whole = studio.train(
        {**config, "train": {**config["train"], "steps": 4}}, out=tmp_path / "whole", quiet=True
    )
    config_file = written(tmp_path / "tiny.yaml", config)
    run = studio.train(config_file, out=tmp_path / "run", quiet=True).folder
    moved.parent.mkdir()
    mine.rename(moved)
    with pytest.raises(ValueError, match="does not exist.*data.path="):
        studio.train(run, resume=True, quiet=True)
    studio.train(run, [f"data.path={moved}", "train.steps=3"], resume=True, quiet=True)
    assert load_config(run / "config.yaml").data["path"] == str(moved)
    edited(config_file, f"path: {mine}", f"path: {moved}")  # and in the source
    rest = studio.train(config_file, ["train.steps=4"], out=run, resume=True, quiet=True)
    assert (
        rest.step == 4 and checkpoint_differences(last_checkpoint(whole.folder), last_checkpoint(run)) == []
    )


@pytest.mark.parametrize("record", [True, False])
def test_the_same_data_at_another_path_of_the_source(record: bool, pictures: Path, tmp_path: Path) -> None:
    """The file was moved, and the source says so, without a word on the command line."""
    mine, moved = tmp_path / "a.npz", tmp_path / "b.npz"
    shutil.copy(pictures, mine)
    source = written(tmp_path / "tiny.yaml", dit_config(mine, steps=2, **FLAT))
    run = studio.train(source, out=tmp_path / "run", quiet=True).folder
    if not record:
        meta = json.loads((run / "meta.json").read_text())
        (run / "meta.json").write_text(
            json.dumps({k: v for k, v in meta.items() if k not in ("source", "config")})
        )
    mine.rename(moved)
    edited(source, f"path: {mine}", f"path: {moved}")
    assert studio.train(source, ["train.steps=3"], out=run, resume=True, quiet=True).step == 3
    assert load_config(run / "config.yaml").data["path"] == str(moved)
    with_arrays(moved, images=np.load(moved)["images"][::-1])
    with pytest.raises(ValueError, match="the data differs"):
        studio.train(source, ["train.steps=4"], out=run, resume=True, quiet=True)


def with_arrays(path: Path, **changes: Any) -> None:
    arrays = {**dict(np.load(path)), **changes}
    np.savez(path, **arrays)


def test_a_renamed_class_is_refused(tmp_path: Path) -> None:
    mine = write_pictures(tmp_path / "p.npz")
    run = studio.train(dit_config(mine, steps=2), out=tmp_path / "run", quiet=True).folder
    old = ["bar", "dot", "ring", "wedge"]
    for names, words in (
        ([*old[:3], "edge"], ("'edge'", "'wedge'")),
        (["bar", "dot", "wedge", "ring"], ("'wedge'", "'ring'")),
        (["Bar", *old[1:]], ("'Bar'", "'bar'")),
        ([*old, "more"], ("'more'", "got 5, it has 4")),
    ):
        with_arrays(mine, classes=np.array(names))
        with pytest.raises(ValueError, match="classes differ .*--from") as error:
            studio.train(run, ["train.steps=3"], resume=True, quiet=True)
        assert all(word in str(error.value) for word in words), "both names are told"
    assert checkpoints(run) == [2]


def numbers(path: Path, names: tuple[str, ...] = ("ph", "mass")) -> Path:
    rng = np.random.default_rng(0)
    numeric = rng.normal(3, 2, (48, 2))
    numeric[::7, 1] = np.nan
    np.savez(
        path,
        arr_0=rng.normal(size=(48, 2)).astype(np.float32) * 3,
        numeric=numeric,
        numeric_names=np.array(names),
    )
    return path


def test_renamed_numbers_are_refused(tmp_path: Path) -> None:
    tree = short(steps=2) | {"data": {"name": "npz", "path": str(numbers(tmp_path / "n.npz"))}}
    run = studio.train(tree, out=tmp_path / "run", quiet=True).folder
    numbers(tmp_path / "n.npz", ("ph", "weight"))
    with pytest.raises(ValueError, match="'weight'.*'mass'"):
        studio.train(run, ["train.steps=3"], resume=True, quiet=True)


def test_the_recorded_codec_and_standardisation_win(tmp_path: Path) -> None:
    """What the run wrote down at its start is what goes on, though this version would compute other numbers
    from the same content."""
    path = numbers(tmp_path / "n.npz")
    tree = short(steps=2) | {"data": {"name": "npz", "path": str(path), "held_out": 0.25}}
    run = studio.train(tree, out=tmp_path / "run", quiet=True).folder
    meta = json.loads((run / "meta.json").read_text())
    kept = {
        "codec": {"name": "scale", "std": 2.5},
        "numeric_mean": [1.0, 0.5],
        "numeric_std": [4.0, 2.0],
        "numeric_range": [[-9.0, 9.0], [0.0, 5.0]],
    }
    (run / "meta.json").write_text(json.dumps({**meta, **kept}))
    seen: list[Any] = []
    from studio.training.loop import Trainer

    begin = Trainer.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", lambda self: (seen.append(self), begin(self))[1])
        studio.train(run, ["train.steps=3"], resume=True, quiet=True)
    (trainer,) = seen
    after = json.loads((run / "meta.json").read_text())
    assert {k: after[k] for k in kept} == kept
    model = studio.load(run)
    assert model.codec.std == trainer.codec.std == 2.5 and model.info.numeric_std == (4.0, 2.0)
    raw = np.load(path)["numeric"]
    both = np.concatenate([trainer.data.train.numeric, trainer.data.held_out.numeric])
    want = (raw - np.array([1.0, 0.5])) / np.array([4.0, 2.0])
    assert trainer.data.numeric_mean == (1.0, 0.5)
    np.testing.assert_allclose(np.sort(both, 0), np.sort(want, 0), rtol=1e-6)


def test_content_that_differs_only_because_the_decoder_is_newer_is_named_as_that(
    pictures: Path, tmp_path: Path
) -> None:
    run = studio.train(dit_config(pictures, steps=2), out=tmp_path / "run", quiet=True).folder
    meta = json.loads((run / "meta.json").read_text())
    for decoder, named in ((0, True), (10**6, False)):
        (run / "meta.json").write_text(json.dumps({**meta, "data_hash": "0" * 16, "decoder": decoder}))
        with pytest.raises(ValueError, match="data differs from that of the run being resumed") as error:
            studio.train(run, ["train.steps=3"], resume=True, quiet=True)
        assert ("reads pictures differently" in str(error.value)) == named and "--from" in str(error.value)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = studio.train(short(), out=tmp_path / "whole", quiet=True)
    run = shutil.copytree(whole.folder, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    rest = studio.train(run, resume=True)
    assert "no checkpoint yet" in capsys.readouterr().err
    assert checkpoint_differences(last_checkpoint(whole.folder), last_checkpoint(rest.folder)) == []


def test_the_record_is_in_meta(tmp_path: Path) -> None:
    tree = short()
    run = studio.train(tree, ["train.log_every=3"], out=tmp_path / "run", quiet=True)
    meta = checkpoint.read_meta(run.folder)
    assert meta["source"]["train"]["log_every"] == tree["train"]["log_every"] != 3 and meta["source"][
        "backbone"
    ] == {
        "name": "mlp",
        "width": 32,
        "depth": 1,
    }
    assert from_tree(meta["config"]) == run.config == load_config(run.folder / "config.yaml")
    assert torch.load(last_checkpoint(run.folder) / "state.pt", weights_only=True)["step"] == 4
