"""Thousands of malformed recipes, links, pictures and field values: each is refused in plain words or done.
Nothing outside the folder of outputs is written, no stranger's model is opened, and the page lives on."""

import json
import random
import re
import shutil
import sys
import traceback
import warnings
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from later import Later
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio.jobs.recipe import FILES, Recipe
from studio.jobs.translation import Translation
from studio.runtime.recipes import KEY
from studio.runtime.seeds import parse_seeds
from studio.runtime.signals import Stopped
from ui.engine import Engine
from ui.jobs import Jobs

handling, dropped, apis, conditions, gr, toasting = (
    Later("ui.handlers"),
    Later("ui.dropped"),
    Later("ui.api"),
    Later("ui.conditions"),
    Later("gradio"),
    Later("ui.toasts"),
)
NAMES = re.compile(
    r"[A-Z]\w*(Error|Exception|Warning)\b|Traceback|Bomb|File \"|\bline \d+, in |0x[0-9a-f]{8}"
)
SHORT = 3000  # characters of a message
WRITING = (
    "shutil.rmtree",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
)

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2.5, -0.0, 1e308, 10**30, -(2**63), 2**63, 10**400, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), [], {}, [[]], {"a": 1}, [None], [True], ["x"], [1, "2"]),
    *("", " ", "\0", "a\0b", "\x1b[31m", "\ud800", "\u202egnp.exe", "\u2066x", "\ufeff", "é\u0301", "𝒳"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;", '"', "'", "`", "$(x)", ";", "%00"),
    *("../../etc/passwd", "/etc/passwd", "..", "~", "~root/x", "C:\\x", "file:///etc/passwd", "//host/share"),
    *("hf:nobody/nothing", "hf:", "hf:../..", "http://localhost:1/", "none", "auto", "base", "default"),
    *("fast.json", "x" * 5000, "9" * 500, "-" * 300, "," * 300, "=" * 300, "@/etc/passwd", "{", "[", "NaN"),
]
LINES = {
    "seeds": [
        "0-99999999999",
        "0-",
        "-3",
        "3-1",
        "1,,2",
        "0-9,0-9",
        "0x10",
        "1e3",
        "٣",
        "²",
        "0-" + "9" * 400,
    ],
    "guidance": [
        *(
            "cfg=1e999",
            "cfg=nan",
            "cfg=-inf",
            "cfg=",
            "=2",
            "cfg=2,cfg=3",
            "cfg" * 500,
            "prior=hf:nobody/nothing",
        ),
        *("cfg=" + "(" * 4000 + ")" * 4000, "cfg(" * 3000, "autoguidance(scale=2,model=STRANGER)", "custom"),
        *(
            "prior=STRANGER,cfg=2",
            "prior=STRANGER@4",
            "prior=base",
            "cfg=2,interval=0.9:0.1",
            "interval=nan:1",
        ),
        *("cfg=" + "9" * 5000, "apg(scale=2,norm=nan)", "cfg=2,rescale=1e30", "prior=fashion-ddpm,cfg=2"),
    ],
    "sampler": [
        *("custom", "euler()", "heun(", "ddim(eta=nan)", "ddim(eta=1e999)", "ddim(eta=2)", "euler(steps=1)"),
        *("ddim" + "(" * 4000, "torchdiffeq(atol=0)", "ddim(eta=" + "[" * 3000, "__import__('os')", "masked"),
        *(
            "diffusers",
            "dpm++(order=10**9)",
            "euler(resample=10000000000)",
            "ab2(x=1)",
            "Euler",
            "euler,heun",
        ),
    ],
    "conditions": [
        *(
            "a=1",
            "a=",
            "=1",
            "a=nan",
            "a=inf",
            "{",
            '{"a": NaN}',
            '{"a": 1e999}',
            "[" * 20000,
            "a=@/etc/passwd",
        ),
        *('{"a": ' * 3000, '{"a": [[[1]]]}', "a=1," * 3000, '{"": 0}', '{"a": "@/etc/passwd"}', "t" * 9000),
    ],
    "label": [
        "0-99999999999",
        "[" * 5000,
        "[0, -7]",
        "99",
        "-1",
        "none,none",
        '["0", 1, null]',
        "0-2",
        "1e400",
    ],
    "weights": ["raw", "ema", "../raw", "ema-0.9/../../x", "raw\0"],
    "model": [
        "STRANGER",
        "STRANGER@4",
        "STRANGER/../squares",
        "fashion-dit@../x",
        "M@2",
        "M@99999999999999999999",
    ],
    "dtype": ["fp8", "float32", "bf16", "FP32"],
    "plan": ["auto", "../x", "a.json", "none.json"],
}


@dataclass
class Watch:
    """What is written outside of a folder, and what of a stranger's is opened, while it is on."""

    on: bool = False
    allowed: tuple[str, ...] = ()
    stranger: str = "\0"
    seen: list[str] = field(default_factory=list)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if (
            not self.on
            or (event != "open" and event not in WRITING)
            or not isinstance(args[0], str | bytes | Path)
        ):
            return
        if event in ("os.rmdir", "os.remove") and args[1] not in (None, -1):
            return  # within a tree, whose root is told before
        path = str(args[0].decode("utf-8", "replace") if isinstance(args[0], bytes) else args[0])
        flags = args[2] if event == "open" and isinstance(args[2], int) else 0
        writes = event != "open" or flags & 3 or bool(set(str(args[1] or "")) & set("wax+"))
        if path.startswith(self.stranger) or (writes and not path.startswith(self.allowed)):
            self.seen.append(f"{event} {path}")


WATCH = Watch()
sys.addaudithook(WATCH.hook)


class Fuzz:
    """Cases over one page; each returns the texts that a person would see."""

    def __init__(self, handlers: Any, model: str, stranger: str, home: Path, seed: int):
        self.h, self.api, self.model, self.stranger, self.home = (
            handlers,
            apis.Api(handlers.jobs),
            model,
            stranger,
            home,
        )
        self.rng = random.Random(seed)
        self.plain = asdict(Recipe(model, "raw", None, "0", 1, "euler", "", "", "fp32"))
        self.form = {k: v for k, v in self.plain.items() if k not in FILES}  # these are sent apart
        self.picture = {
            **{"model": model, "model_hash": "0" * 16, "weights": "raw", "num_steps": 1, "sampler": "euler"},
            **{"guidance": "", "dtype": "fp32", "seed": 1, "label": 0, "class": "0"},
        }

    def told(self, text: Any) -> Any:
        """The words of a line, with the names of models put in."""
        return (
            text.replace("STRANGER", self.stranger).replace("M@", f"{self.model}@")
            if isinstance(text, str)
            else text
        )

    def value(self, name: str) -> Any:
        lines = LINES.get(name, LINES["seeds"])
        return self.told(self.rng.choice(lines if self.rng.random() < 0.5 else ODD))

    def changed(self, plain: dict[str, Any]) -> dict[str, Any]:
        """A dict with one or two wrong values, a key more or one less."""
        made = dict(plain)
        for _ in range(self.rng.randint(1, 2)):
            name = self.rng.choice([*plain, "more"])
            if self.rng.random() < 0.1:
                made.pop(name, None)
            else:
                made[name] = self.value(name)
        return made

    def text(self, said: dict[str, Any]) -> str:
        """It as JSON, now and then damaged."""
        text = json.dumps(said)
        at = self.rng.randrange(len(text) + 1)
        damage = [text, text, text[:at], text[:at] + self.rng.choice('{}[]",:\\\0\ud800é') + text[at:]]
        deep = '{"a":' * 5000
        return self.rng.choice([*damage, deep + text, "[" * 300 + text, text * 2, f"[{text}]"])

    def refused(self, call: Callable[[], Any], *kinds: type[BaseException]) -> list[str]:
        """The words with which a call is refused, none where it is not."""
        try:
            call()
        except kinds as error:
            if isinstance(cause := error.__cause__, Exception) and "not of your making" in str(error):
                return [f"left: {''.join(traceback.format_exception(cause)[-3:])}"]
            return [unescape(str(getattr(error, "message", error)))]
        return []

    # ---- cases

    def recipe(self) -> list[str]:
        said = self.changed(self.rng.choice([self.plain, self.picture]))
        return self.refused(lambda: Recipe.parse(self.rng.choice([said, self.text(said)])), ValueError)

    def translation(self) -> list[str]:
        said = self.changed(asdict(Translation("fashion-restore", ("a.png",))))
        return self.refused(lambda: Translation.parse(self.rng.choice([said, self.text(said)])), ValueError)

    def link(self) -> list[str]:
        name = self.rng.choice(["recipe", "item", "job", "form"])
        said: Any = self.changed(self.rng.choice([self.plain, self.picture]))
        said = self.rng.choice([said, self.text(said)]) if name in ("recipe", "form") else self.value("model")
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            answer = self.h.open(1, {name: said})
        assert answer["form"] in ("sample", "translate")
        return [str(w.message) for w in shown]

    def png(self) -> list[str]:
        path, info = self.home / "dropped.png", PngInfo()
        text = self.text(self.changed(self.picture)).encode("utf-8", "replace").decode()
        info.add(b"iTXt" if self.rng.random() < 0.2 else b"tEXt", f"{KEY}\0{text}".encode())
        Image.new("L", (4, 4)).save(path, pnginfo=info)
        data = bytearray(path.read_bytes())
        way = self.rng.random()
        if way < 0.3:
            for _ in range(self.rng.randint(1, 8)):
                data[self.rng.randrange(len(data))] = self.rng.randrange(256)
        elif way < 0.4:
            del data[self.rng.randrange(len(data)) :]
        elif way < 0.45:  # packed a thousand to one
            packed = KEY.encode() + b"\0\0" + zlib.compress(bytes(9_000_000))
            data[33:33] = len(packed).to_bytes(4, "big") + b"zTXt" + packed
            data[33 + 8 + len(packed) : 33 + 8 + len(packed)] = zlib.crc32(b"zTXt" + packed).to_bytes(
                4, "big"
            )
        path.write_bytes(bytes(data))
        shown = dict(zip(dropped.FOUND, dropped.look(self.h.engine, str(path))))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            words = self.refused(
                lambda: dropped.apply(self.h.engine, str(path), {"sample": 1, "translate": 2}), gr.Error
            )
            words += self.refused(lambda: self.api.recipe(str(path)), gr.Error)
        return [*words, str(shown.get("found_note", "")), *(str(w.message) for w in said)]

    def fields(self) -> list[str]:
        values = list(self.changed(self.form).values())[: len(self.form)]
        values += [self.rng.choice(ODD)] * (len(self.form) - len(values))
        if self.costs(values):
            return []
        if self.rng.random() < 0.5:
            return self.refused(lambda: list(self.h.generate(None, *values, False)), gr.Error)
        named = dict(zip(self.form, values))
        return self.refused(lambda: list(self.api.generate(None, **named)), gr.Error)

    def costs(self, values: list[Any]) -> bool:
        """Whether it would be a long run, which a page may well be asked for."""
        named = dict(zip(self.form, values))
        try:
            Recipe(**named).check()
            many = len(parse_seeds(str(named["seeds"] or "0-9"))) > 20
        except Exception:  # noqa: BLE001 (the page will be asked)
            return False
        return many or float(named["num_steps"] or 0) > 20

    def small(self) -> list[str]:
        """What controls ask on their way."""
        odd, line = self.value("model"), self.value(self.rng.choice(list(LINES)))
        text = line if isinstance(line, str) else str(line)
        asked = self.changed({"ticket": 1, "model": self.model, "rest": "0", "plan": "auto"}) | {"ticket": 1}
        calls: list[Callable[[], Any]] = [
            lambda: self.h.notes([self.model, text, odd, text, text, text, odd, text, odd, text, odd]),
            lambda: self.h.choose(asked),
            lambda: self.h.choose_plan(asked),
            lambda: self.h.refresh(odd if isinstance(odd, str) else str(odd)),
            lambda: conditions.read(self.h.engine.card, self.model, text),
            lambda: conditions.read(self.h.engine.card, str(odd), text),
            lambda: self.api.job(odd),
            lambda: self.api.result(odd),
            lambda: self.api.stop(None, odd),
            lambda: list(self.h.follow(None, odd, False)),
            lambda: self.h.shown(None, odd),
            lambda: list(self.api.translate(None, [], str(odd), 1, 0)),
        ]
        return self.refused(self.rng.choice(calls), gr.Error)


@pytest.mark.parametrize(
    ("cases", "seed"), [(100, 0), pytest.param(2000, 1, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_whatever_is_said_to_the_page(cases: int, seed: int, shelf: Any, tmp_path: Path) -> None:
    stranger = Path(shutil.copytree(shelf.pictures, tmp_path / "stranger" / "squares"))
    engine = Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")
    handlers = handling.Handlers(Jobs(engine))
    fuzz = Fuzz(handlers, shelf.pictures, str(stranger), tmp_path, seed)
    plain = [*fuzz.form.values(), False]
    list(handlers.generate(None, *plain))  # all that is loaded once is there
    before = {p: p.stat().st_mtime_ns for p in stranger.rglob("*")}
    kinds = [fuzz.recipe, fuzz.translation, fuzz.link, fuzz.png, fuzz.fields, fuzz.small]
    failures: list[str] = []
    WATCH.allowed = (str(tmp_path / "out"), str(tmp_path / "dropped.png"), "/dev/null", "/proc")
    WATCH.stranger, WATCH.seen = str(tmp_path / "stranger"), []
    for number in range(cases):
        case = kinds[number % len(kinds)]
        WATCH.on = True
        try:
            words = case()
        except (Exception, Stopped) as error:  # noqa: BLE001 (which is what must not be)
            words = [f"left: {type(error).__name__}: {str(error)[:300]}"]
        finally:
            WATCH.on = False
        bad = [
            w
            for w in words
            if NAMES.search(w) or toasting.BUG in w or w.startswith("left: ") or len(w) > SHORT
        ]
        failures += [f"case {number} {case.__name__}: {w[:400]}" for w in bad]
    assert not failures, "\n".join([f"{len(failures)} of {cases}", *failures[:40]])
    assert not WATCH.seen, WATCH.seen[:20]
    assert before == {p: p.stat().st_mtime_ns for p in stranger.rglob("*")}
    first, *_ = handlers.generate(None, *plain)
    shown = dict(zip(handling.SHOWN, handlers.shown(None, first[0])))
    assert Path(shown["paths"][0]).is_file() and not handlers.jobs.line()
    handlers.jobs.queue.close()
