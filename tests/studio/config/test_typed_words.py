"""Words as people type them, in ``key=value`` and in configs: what expects text gets the text, and the rest
ends in one plain line."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from tiny import points_config

import studio
from studio.cli.main import main
from studio.config import Config, from_tree, load_config
from studio.config.config import _escaped
from studio.runtime.progress import Bar
from studio.runtime.recipes import next_line

WORDS = [
    "[x",
    "[draft] a",
    "[draft]",
    "{x",
    "{a: b}",
    "${",
    "${x}",
    "a${b",
    "${seed}",
    "\\${x}",
    "\\\\${",
    "#1",
    "a #b",
    "'it",
    '"it',
    "it's",
    'say "hi"',
    "a: b",
    "x:",
    "*x",
    "&x",
    "!x",
    "!!python/object:os.system",
    "%x",
    "@x",
    "`x",
    "|",
    ">",
    "- x",
    "? x",
    "null",
    "~",
    "on",
    "no",
    "true",
    "1e3",
    "01",
    "0x1f",
    "1_000",
    "12:30:45",
    "2026-11-29",
    ".inf",
    "-",
    "---",
    "...",
    "=",
    "a=b",
    "<<",
    "???",
    "a, b",
    "a]b",
    "C:\\new",
    "é",
    "e\u0301",
    "日本",
    "☃",
    "a  b ",
    "[" * 3000,
    "$(x)",
    "%(x)s",
    "{{x}}",
]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("key", ["name", "data.path"])
def test_text_stays_what_was_typed_and_comes_back_from_the_file(key: str, word: str, tmp_path: Path) -> None:
    config = load_config({"data": {"name": "images"}}, [f"{key}={word}"])
    assert (config.name if key == "name" else config.data["path"]) == word
    (tmp_path / "config.yaml").write_text(config.yaml(), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config
    assert load_config(config.tree()) == config


def test_a_file_is_written_section_by_section() -> None:
    """As the whole would be."""
    words = ["data.path=${x}", "train.ema=[]", "train.clip=1e-9", "name='1e3'"]
    config = load_config({"data": {"name": "images"}}, words)
    assert config.yaml() == OmegaConf.to_yaml(OmegaConf.create(_escaped(config.tree())))


@pytest.mark.parametrize("word", ["'a b'", '"a b"', " 'a b' "])
def test_quotes_around_the_whole_are_quotes(word: str) -> None:
    assert load_config({}, [f"name={word}"]).name == "a b"


@pytest.mark.parametrize(
    "word", ["[1", "{", "${lr}", "'1", "1:30", "a", "[1]", "true", "*x", "!!float 1", "\\", "nan?"]
)
@pytest.mark.parametrize("key", ["train.lr", "train.steps", "seed", "sample.num_steps"])
def test_what_is_no_number_is_refused_in_a_line(key: str, word: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key} got ") as error:
        load_config("demo", [f"{key}={word}"])
    assert "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("train.ema=0.999", "ema", ("0.999",)),
        ("train.ema=0.9990", "ema", ("0.9990",)),
        ("train.ema=[0.999,power-12]", "ema", ("0.999", "power-12")),
        ("train.ema=0.999,power-6", "ema", ("0.999", "power-6")),
        ("train.ema=['0.999']", "ema", ("0.999",)),
        ("train.ema=power-6", "ema", ("power-6",)),
        ("train.ema=1e-1", "ema", ("1e-1",)),
        ("train.betas=0.9,0.95", "betas", (0.9, 0.95)),
        ("train.trackers=tensorboard", "trackers", ("tensorboard",)),
        ("train.steps=1e4", "steps", 10000),
        ("train.warmup=1e2", "warmup", 100),
        ("train.warmup=auto", "warmup", "auto"),
        ("train.lr=1e-3", "lr", 0.001),
        ("train.clip=none", "clip", None),
        ("train.compile=yes", "compile", True),
        ("train.batch-size=12", "batch_size", 12),
        ("train.minutes=2", "minutes", 2.0),
        ("train.ema=[]", "ema", ()),
        ("train.lr=1", "lr", 1.0),
    ],
)
def test_values_are_read_as_what_is_expected(typed: str, key: str, value: Any) -> None:
    assert getattr(load_config("demo", [typed]).train, key) == value


@pytest.mark.parametrize("ema", [0.999, "0.999", [0.999], ("0.999",), np.float64(0.999)])
def test_an_average_from_python_or_yaml(ema: Any, tmp_path: Path) -> None:
    assert load_config({"train": {"ema": ema}}).train.ema == ("0.999",)
    (tmp_path / "c.yaml").write_text(f"train: {{ema: {list(ema) if isinstance(ema, tuple) else ema}}}\n")
    assert load_config(tmp_path / "c.yaml").train.ema == ("0.999",)


def test_options_of_entries_are_read_by_their_signatures() -> None:
    typed = [
        "data.name=images",
        "data.path=007",
        "data.size=64",
        "data.background=[0,0,255]",
        "backbone.name=dit",
        "backbone.patch_size=4",
        "objective.path=vp",
        "objective.path.schedule=cosine",
        "lora.targets=[qkv,proj]",
        "data.held_out=1e-1",
    ]
    config = load_config({}, typed)
    assert config.data == {
        "name": "images",
        "path": "007",
        "size": 64,
        "background": (0, 0, 255),
        "held_out": 0.1,
    }
    assert config.objective["path"] == {"name": "vp", "schedule": "cosine"} and config.lora["targets"] == (
        "qkv",
        "proj",
    )
    assert load_config({}, ["data={name: npz, path: 'a b'}", "data.path=[x]"]).data == {
        "name": "npz",
        "path": "[x]",
    }
    assert load_config({}, ["data.name=molecules", "data.conditions=logP,QED", "data.path=x"]).data[
        "conditions"
    ] == ("logP", "QED")


@pytest.mark.parametrize(
    "typed", ["name", "=x", ".x=1", "data..path=x", "data.=x", "train. lr=1", "=", "", "train.ema.0=x"]
)
def test_what_is_no_override_is_refused(typed: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"^got override .* set all of it|^got override .* expected key=value, such as "
        r"train.steps=1000$",
    ):
        load_config({"train": {"ema": ["0.9"]}}, [typed])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {path: [x}\n", "line 1"),
        ("name: 'it\n", "line"),
        ("name: a\n\tseed: 3\n", "line 2"),
        ("name: ${x}\n", r"at name; \$\{key\} stands for another key"),
        ("name: ${\n", r"and \\\$\{ for the characters themselves"),
        ("name: *x\n", "line 1"),
        ("a: !!python/object:os.system x\n", "line 1"),
        ("- 1\n", "expected a tree"),
        ("[" * 5000, "nested too deeply|line 1"),
        ("name: \x00\n", "readable"),
    ],
)
def test_a_broken_file_is_told_in_a_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        load_config(tmp_path / "c.yaml")
    assert "\n" not in str(error.value) and "Error" not in str(error.value)


def test_one_key_may_stand_for_another_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: run-${seed}-\\${x}\nseed: 7\n")
    assert load_config(tmp_path / "c.yaml").name == "run-7-${x}"


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a\nb", "a\x07"])
def test_a_run_is_called_by_something_that_a_folder_can_be_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="for a run, expected printable text"):
        studio.train(points_config(), [f"name={name}"], quiet=True)
    assert not any(tmp_path.iterdir())


def test_a_run_of_such_a_name_is_trained_listed_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "[draft] ${a} #1 it's"
    (tmp_path / "c.yaml").write_text(from_tree(points_config()).yaml())
    main(["train", "c.yaml", f"name={name}", "train.steps=2"])
    told = capsys.readouterr().out.splitlines()
    assert (
        told[-1]
        == next_line("sample", f"runs/{name}", ("--out", "pictures"))
        == "studio sample 'runs/[draft] ${a} #1 it'\"'\"'s' --out pictures"
    )
    assert studio.load(f"runs/{name}", device="cpu").config.name == name
    main(["list"])
    assert f"runs/{name}" in capsys.readouterr().out
    main(["train", f"runs/{name}/config.yaml", "train.steps=3", "--resume"])
    assert "step 3" in capsys.readouterr().out


def test_a_name_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = Bar("[red]x[/blue]", 2)
    bar.update(1, "step 1")
    bar.note("[/red] of classes [a]")
    bar.close()
    assert "[red]x[/blue]" in sys.stderr.getvalue() and "[/red] of classes [a]" in sys.stderr.getvalue()


def test_the_tree_of_python_objects_is_plain(tmp_path: Path) -> None:
    config = load_config(
        {
            "data": {"name": "npz", "path": tmp_path / "a.npz"},
            "seed": np.int64(3),
            "train": {"lr": np.float32(0.5)},
        }
    )
    assert config == load_config(
        Config(data={"name": "npz", "path": str(tmp_path / "a.npz")}, seed=3, train=config.train)
    )
    assert "python/object" not in config.yaml()
