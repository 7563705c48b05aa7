"""The command of a recipe: it asks for the same samples again, whatever was asked for, and runs nothing that
a stranger wrote into a file."""

import dataclasses
import json
import random
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from tiny import run_studio

import guidance
import studio.model.loading
from guidance import CFG, PriorSwap
from samplers import LinearPath
from studio.cli.info import describe
from studio.cli.main import app, main
from studio.generation.plan import command_of_manifest
from studio.model.model import Model
from studio.runtime.recipes import NoCommand, checked, read_recipe, shown, told
from studio.sampling.commands import command_of, script_of
from studio.sampling.engine import Request
from studio.sampling.samples import save_png, sheet_recipe

PLAIN: dict[str, Any] = {
    "model": "fashion-dit",
    "seed": 5,
    "label": 1,
    "class": "ring",
    "num_steps": 9,
    "sampler": "heun",
    "guidance": "",
    "weights": "raw",
    "dtype": "fp32",
}


class Asked(Exception):
    """What a model was asked for."""


class Listening(Model):
    """A model that checks what it is asked for as ever, and goes no further."""

    def stream(self, request: Request, rules: Any = None, **_: Any) -> Any:
        raise Asked(request, self.path)


def asked(command: str, model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Request, str]:
    """The request that a command makes of ``model``, by the real command line in another working folder."""
    listening = Listening(**{f.name: getattr(model, f.name) for f in dataclasses.fields(model)})
    words = shlex.split(command)
    assert words[0] == "studio" and "\n" not in command
    with monkeypatch.context() as patch:
        patch.setattr(studio.model.loading, "load", lambda *a, **k: listening)
        patch.chdir(tmp_path)
        with pytest.raises(Asked) as caught:
            main(words[1:])
    return caught.value.args


def asked_in_python(
    script: str, model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[Request, str]:
    """The same of lines of Python."""
    listening = Listening(**{f.name: getattr(model, f.name) for f in dataclasses.fields(model)})
    with monkeypatch.context() as patch:
        patch.setattr(studio, "load", lambda *a, **k: listening)
        patch.chdir(tmp_path)
        with pytest.raises(Asked) as caught:
            exec(script, {})
    return caught.value.args


def same(a: Request, b: Request) -> bool:
    """All that the samples depend on, pictures included."""
    tensors = [(getattr(a, k), getattr(b, k)) for k in ("init", "mask", "sources")]
    alike = all((x is None) == (y is None) and (x is None or torch.equal(x, y)) for x, y in tensors)
    plain = [
        {f.name: getattr(r, f.name) for f in dataclasses.fields(r) if f.compare and f.name != "batch"}
        for r in (a, b)
    ]
    return alike and repr(plain[0]) == repr(plain[1])  # every digit, and NaN is NaN


def with_numbers(model: Model) -> Model:
    """The same model as if it had learned from two numbers too; it is only asked, not run."""
    info = dataclasses.replace(
        model.info,
        numeric=("ph", "a=b, c"),
        numeric_mean=(6.1, -0.3),
        numeric_std=(1.7, 3e-5),
        numeric_range=((-1e9, 1e9),) * 2,
    )
    return dataclasses.replace(model, info=info)


@pytest.mark.parametrize("count", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_every_recipe_of_the_studio_asks_for_the_same_again(
    count: int, picture_model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pictures: Path
) -> None:
    folder = tmp_path / "it's a -folder; $(x)"
    folder.mkdir()
    rng = random.Random(1)
    noise = np.random.default_rng(0)
    for name in ("init.png", "--mask.png"):
        Image.fromarray((noise.random((8, 8)) > 0.5).astype(np.uint8) * 255).save(folder / name)
    samplers = ["euler", "ddim(eta=0.5)", "heun(shift=2.0)", "dpmpp_2m", "ab2"]
    for _ in range(count):
        model = with_numbers(picture_model) if rng.random() < 0.5 else picture_model
        if rng.random() < 0.4:
            model = model.on_path(
                rng.choice(
                    [
                        "trig",
                        {"name": "vp", "schedule": "cosine"},
                        {"name": "edm", "sigma_max": rng.uniform(20, 90)},
                        "linear(sigma=0.1)",
                    ]
                )
            )
        seeds = [rng.choice([rng.randrange(20), rng.randrange(2**63)]) for _ in range(rng.randint(1, 5))]
        options: dict[str, Any] = {
            "seeds": seeds,
            "labels": rng.choice([None, -1, 2, "ring", [rng.randint(-1, 3) for _ in seeds]]),
            "num_steps": rng.randint(1, 30),
            "sampler": rng.choice(samplers),
            "deterministic": rng.random() < 0.3,
            "guidance": rng.choice(
                [
                    "default",
                    None,
                    1.7,
                    rng.uniform(0, 9),
                    CFG(rng.random(), interval=(0, rng.random())),
                    [CFG(2.0), "rescale=0.3"],
                    "tcfg,cfg=3",
                ]
            ),
        }
        if model.info.numeric:
            options["conditions"] = {
                k: rng.choice(
                    [rng.gauss(0, 1), rng.uniform(-1, 1) * 1e-12, 7, 0.1 + 0.2, "1e3", np.float32(0.1)]
                )
                for k in rng.sample(model.info.numeric, rng.randint(0, 2))
            }
        if rng.random() < 0.4:
            options |= {"init": folder / "init.png", "strength": rng.uniform(0.3, 1)} | (
                {"mask": folder / "--mask.png"} if rng.random() < 0.5 else {}
            )
        request, rules = model.request(**options)
        assert rules is None
        origin = {k: str(options[k]) for k in ("init", "mask") if k in options}
        recipes = json.loads(json.dumps(model.recipes(request, origin)))
        again, path = asked(
            command_of(sheet_recipe(recipes)),
            model if not model.path else dataclasses.replace(model, path="", denoiser=picture_model.denoiser),
            monkeypatch,
            tmp_path,
        )
        assert same(again, request) and path == model.path, (options, command_of(sheet_recipe(recipes)))
        plain = dataclasses.replace(model, path="", denoiser=picture_model.denoiser)
        script = script_of(sheet_recipe(recipes))
        again, path = asked_in_python(script, plain, monkeypatch, tmp_path)
        assert same(again, request) and path == model.path, (options, script)
        one, _ = asked(
            command_of(recipes[-1]),
            dataclasses.replace(model, path="", denoiser=picture_model.denoiser),
            monkeypatch,
            tmp_path,
        )
        assert (
            one.seeds == request.seeds[-1:]
            and one.values == request.values
            and repr(one.numeric) == repr(request.numeric and request.numeric[-1:])
        )
        assert one.labels == (request.labels and request.labels[-1:])


NASTY = [
    "$(touch run)",
    "`touch run`",
    "'; touch run; '",
    '"; touch run; "',
    "x && touch run",
    "x\ntouch run",
    "x\r\ntouch run",
    "--out=/",
    "-rf",
    "--",
    "-",
    "",
    " ",
    "*",
    "~",
    "\\",
    "\\'",
    "a\u2028touch run",
    "\x1b[2Jx",
    "\x00",
    "x\u202etxt.exe",
    "\ud800",
    "$HOME",
    "!!",
    "#",
    "x\ttouch run",
    "é ü 日本 👩‍🎨",
    "[1, 2]",
    "x" * 20_000,
]


def words_of(command: str) -> list[str]:
    """The arguments as bash sees them, which have to be those that Python sees."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True
    )
    words = done.stdout.split("\0")[:-1]
    assert words == shlex.split(command)
    return words


ENTRIES = ["model", "guidance", "init", "path", "source", "condition", "option"]
LIKE_THEM = ["weights", "sampler", "dtype", "mask", "direction"]


@pytest.mark.parametrize(
    "name", [*ENTRIES, *(pytest.param(name, marks=pytest.mark.slow) for name in LIKE_THEM)]
)
def test_a_hostile_text_is_one_argument_or_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    schema = typer.main.get_command(app)
    for text in NASTY:
        recipe = {**PLAIN, "init": "a.png", "strength": 0.5}
        if name in ("source", "direction"):
            recipe = {**PLAIN, "source": "a.png", "seed_base": -3, "direction": "forward"}
        if name == "condition":
            recipe["conditions"] = {text: 1.5}
        elif name == "option":
            recipe["path"] = {"name": "vp", "schedule": text}
        else:
            recipe[name] = text
        try:
            command = command_of(recipe)
        except ValueError as reason:
            assert isinstance(reason, NoCommand) or (name == "source" and text in ("", " ", "-", "--", "."))
            assert shown(told_or_damaged(recipe)).splitlines() == [told_or_damaged(recipe)]
            continue
        assert len(command.splitlines()) == 1 and command.isprintable() or "👩" in text
        words = words_of(command)
        context = schema.commands[words[1]].make_context(words[1], words[2:])  # type: ignore[attr-defined]
        asked_for = [
            context.params.get(k)
            for k in ("model", "weights", "sampler", "guidance", "dtype", "init", "mask", "path", "direction")
        ]
        held = {"condition": f"{text}=1.5", "option": f"vp(schedule={guidance.grammar.text_of(text)})"}.get(
            name, text
        )
        found = [
            *map(str, asked_for),
            *(context.params.get("set_") or []),
            *map(str, context.params.get("inputs") or []),
        ]
        assert (
            held in found
            or (name in ("mask", "source") and str(Path(held)) in found)
            or (name == "path" and text == "")
        ), (text, found)
    assert not list(tmp_path.iterdir())


def told_or_damaged(recipe: dict[str, Any]) -> str:
    try:
        return told(lambda: command_of(recipe))
    except ValueError as error:
        return str(error)


WRONG: list[dict[str, Any]] = [
    {"seed": "5; touch run"},
    {"seed": [1, "2"]},
    {"seed": []},
    {"seed": -1},
    {"seed": 2**63},
    {"seed": True},
    {"seed": 1.5},
    {"seed": [[1]]},
    {"seed": None},
    {"num_steps": "9; x"},
    {"num_steps": 0},
    {"num_steps": 9.0},
    {"num_steps": [9]},
    {"strength": "0.5 $(x)"},
    {"strength": float("nan")},
    {"strength": float("inf")},
    {"label": "1"},
    {"label": -2},
    {"label": 10**12},
    {"label": [1, 2]},
    {"seed": [1, 2], "label": [1]},
    {"class": 7},
    {"class": {"a": 1}},
    {"label": 1.0},
    {"model": ["a"]},
    {"model": None},
    {"weights": 5},
    {"sampler": {"name": "heun"}},
    {"guidance": 2.0},
    {"guidance": ["cfg=2"]},
    {"dtype": False},
    {"conditions": {"ph": "7; x"}},
    {"conditions": {"ph": [7]}},
    {"conditions": {"ph": float("nan")}},
    {"conditions": ["ph=7"]},
    {"conditions": "ph=7"},
    {"path": 5},
    {"path": {"schedule": "cosine"}},
    {"path": {"name": "vp", "betas": [1]}},
    {"deterministic": "yes"},
    {"deterministic": 1},
    {"init": 5, "strength": 1},
    {"mask": ["a"]},
    {"seed_base": "0"},
    {"source": ["a.png"]},
    {"direction": 1},
    {"resize": "no"},
    {"borrowed": ["a"]},
    {"borrowed": {"a": 1}},
    {"as_values": "init"},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_what_is_not_of_its_type_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^got |^the recipe is damaged") as caught:
        command_of({**PLAIN, **change})
    assert len(str(caught.value)) < 300
    save_png(tmp_path / "crafted.png", Image.new("L", (4, 4)), {**PLAIN, **change})
    with pytest.raises(ValueError, match="crafted.png carries a damaged recipe"):
        describe(str(tmp_path / "crafted.png"))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "5", "null", '"x"', "{", "1" * 5000, "{}"])
def test_what_is_no_recipe_is_refused(text: str, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("drift-studio", text)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(ValueError, match="damaged"):
        describe(str(tmp_path / "a.png"))


def test_info_ends_with_the_command_on_one_line(tmp_path: Path) -> None:
    """Nothing else that a stranger wrote looks like a command, moves the cursor, or comes after it."""
    hostile = {
        **PLAIN,
        "command": "studio evil",
        "note": "x\ncommand: studio evil",
        "\x1b[2J": {"a": "\n"},
        "class": "a\nb",
        "guidance": "cfg=2' \"`$(touch run)",
    }
    save_png(tmp_path / "a.png", Image.new("L", (4, 4)), hostile)
    done = run_studio("info", tmp_path / "a.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (
        [line for line in lines if line.startswith("command")] == lines[-1:]
        and "\x1b" not in done.stdout
        and "evil" not in lines[-1]
    )
    words = words_of(lines[-1].removeprefix("command:"))
    assert (
        words[words.index("--guidance") + 1] == "cfg=2' \"`$(touch run)" and not (tmp_path / "run").exists()
    )
    save_png(tmp_path / "b.png", Image.new("L", (4, 4)), {**PLAIN, "guidance": "custom"})
    last = run_studio("info", tmp_path / "b.png", cwd=tmp_path).stdout.splitlines()[-1]
    assert last.startswith("command:") and "none, because its guidance was rules given as objects" in last


def test_rules_as_objects_are_sampled_and_told(picture_model: Model, tmp_path: Path) -> None:
    class Mine(CFG):
        """A rule of one's own."""

    options: dict[str, Any] = {"seeds": [3], "labels": [1], "num_steps": 2, "sampler": "euler"}
    line = picture_model.sample(guidance="cfg=2.5,interval=0:0.8", **options)
    for spec in (
        [CFG(2.5, interval=(0.0, 0.8))],
        CFG(2.5, interval=(0, 0.8)),
        [{"name": "cfg", "scale": 2.5, "interval": [0, 0.8]}],
        ["cfg=2.5", "interval=0:0.8"],
    ):
        samples = picture_model.sample(guidance=spec, **options)
        assert samples.recipes == line.recipes and torch.equal(samples.values, line.values)
    own = picture_model.sample(guidance=[Mine(2.5, interval=(0.0, 0.8))], **options)
    assert torch.equal(own.values, line.values) and own.recipes[0]["guidance"] == "custom"
    (path,) = own.save(tmp_path / "own")
    assert describe(str(path))["command"].startswith("none, because its guidance was rules")
    lent = picture_model.sample(guidance=[PriorSwap(picture_model.denoiser), "cfg=2"], **options)
    assert lent.recipes[0]["guidance"] == "custom" and "borrowed" not in lent.recipes[0]
    named = picture_model.sample(guidance=[PriorSwap(picture_model.name), Mine(2.0)], **options)
    assert named.recipes[0]["guidance"] == "custom" and named.recipes[0]["borrowed"] == {
        picture_model.name: picture_model.hash
    }
    with pytest.raises(ValueError, match="got the guidance"):
        picture_model.request(guidance=object(), **options)


def test_generate_takes_rules_that_have_a_line(picture_model: Model, tmp_path: Path) -> None:
    class Mine(CFG):
        """A rule of one's own."""

    with pytest.raises(ValueError, match="objects that no line describes"):
        studio.generate(picture_model, tmp_path / "no", num=2, guidance=[Mine(2.0)], quiet=True)
    with pytest.raises(ValueError, match="path that no text describes"):
        studio.generate(picture_model.on_path(LinearPath()), tmp_path / "no", num=2, quiet=True)
    assert not (tmp_path / "no").exists()
    studio.generate(picture_model, tmp_path / "yes", num=2, guidance=[CFG(2.0)], num_steps=1, quiet=True)
    told_of = describe(str(tmp_path / "yes"))
    assert told_of["guidance"] == "cfg=2" and "--guidance cfg=2 " in told_of["command"]


def test_values_that_no_file_holds_have_no_command(picture_model: Model) -> None:
    options: dict[str, Any] = {"seeds": [3], "labels": [1], "num_steps": 2, "sampler": "euler"}
    recipe = picture_model.sample(
        init=torch.zeros(1, 8, 8, dtype=torch.uint8), strength=0.5, **options
    ).recipes[0]
    assert told(lambda: command_of(recipe)) == "none, because init came as values in Python, not as a file"
    recipe = picture_model.on_path(LinearPath(sigma=0.2)).sample(**options).recipes[0]
    assert recipe["path"] == "custom" and "path was an object" in told(lambda: command_of(recipe))
    with pytest.raises(TypeError, match="JSON"):
        picture_model.sample(origin={"note": object()}, **options)


def test_older_recipes_are_read() -> None:
    """Paths with options as a table, sheets whose label is one for all."""
    words = shlex.split(
        command_of(
            {**PLAIN, "path": {"name": "vp", "schedule": "cosine", "zero_snr": True}, "seed": [1, 2, 3, 9]}
        )
    )
    assert (
        words[words.index("--path") + 1] == "vp(schedule=cosine,zero_snr=true)"
        and words[words.index("--seeds") + 1] == "1-3,9"
    )
    assert checked({"anything": object()})


def test_a_manifest_is_quoted_too(tmp_path: Path) -> None:
    pinned = {
        "num": 5,
        "seeds": "0-4",
        "labels": "balanced",
        "conditions": {"ph": 0.1},
        "num_steps": 2,
        "sampler": "ab2",
        "guidance": "",
        "weights": "raw; x",
        "dtype": "fp32",
        "deterministic": {"threads": 1, "micro_batch": 8},
        "path": "own",
    }
    words = words_of(command_of_manifest({"model": "$(x)", "pinned": pinned}, tmp_path / "a b"))
    assert (
        words[2] == "$(x)"
        and words[words.index("--weights") + 1] == "raw; x"
        and words[words.index("--threads") + 1] == "1"
        and "--path" not in words
    )
    for change in (
        {"num": "5; x"},
        {"seeds": 4},
        {"labels": None},
        {"deterministic": {"threads": "1; x"}},
        {"conditions": {"ph": "1; x"}},
        {"num_steps": "2; x"},
    ):
        with pytest.raises(ValueError, match="is damaged"):
            command_of_manifest({"model": "m", "pinned": {**pinned, **change}}, tmp_path)
    with pytest.raises(NoCommand, match="labels came from a file"):
        command_of_manifest({"model": "m", "pinned": {**pinned, "labels": "file 0123"}}, tmp_path)


def test_a_damaged_picture_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(ValueError, match="not a readable picture"):
        read_recipe(tmp_path / "a.png")


def test_a_class_is_said_by_its_number() -> None:
    """What a recipe calls a class does not matter where the model is here: its number does."""
    recipe = {
        "model": "fashion-dit",
        "weights": "ema",
        "num_steps": 2,
        "sampler": "ab2",
        "guidance": "",
        "dtype": "fp32",
        "seed": 0,
        "label": 8,
        "class": "none",
    }
    words = shlex.split(command_of(recipe))
    assert words[words.index("--labels") + 1] == "Bag"
