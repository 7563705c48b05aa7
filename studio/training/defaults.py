"""`studio train images:DIR` with nothing else: settings for a first run, from the pictures and from how fast
this machine is.

What was typed always wins. What is chosen is part of the run's own config, so that going on with the run
chooses nothing again. The form of the network is `studio.training.form`'s.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from studio.checkpoints.build import Info
from studio.codecs.codec import are_numbers
from studio.config import Config, files_of, load_config
from studio.data import takes
from studio.data.colour import background_of
from studio.data.look import Look, look
from studio.data.parts import HELD_OUT
from studio.data.sides import Size, as_size, said, sides_of
from studio.runtime.devices import keep_freed_memory
from studio.training.form import MOST_TOKENS, levels_of, network
from studio.training.processes import agreed, is_first
from studio.training.speed import step_seconds

USUAL = "images"  # the config that a folder of pictures is trained by
LONGEST, SHORTEST = 30.0, 2.0  # minutes
SIDES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
LARGEST = {"cpu": 64, "mps": 64, "cuda": 128}  # beyond it a user decides
BATCHES, STEPS = (64, 32, 16, 8), 2000  # the largest batch that leaves a run so many steps
# pictures that a run should see, repeats counted: of each so many, but at least and at most
SEEN = (60, 12_000, 100_000)
WHOLE = (300, 30_000, 600_000)  # the same of a run whose length is chosen
LOOKING = 0.05  # of a run's time at most for previews, and as much for held-out losses
CROPPED = 0.97  # of a picture: where its middle keeps more, nothing is said of the rest


def is_open(source: Any) -> bool:
    """Whether a source leaves its settings to the studio: files without a config of their own, of pictures
    that can be brought to a size."""
    files = files_of(source)
    return files is not None and takes(files[0], "size")


def settled(
    config: Config,
    source: Any,
    overrides: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
    *,
    like: Info | None = None,
    quiet: bool = False,
) -> Config:
    """A config with what its source leaves open chosen by the first process, which tells it on stderr."""
    if not is_open(source):
        return config

    def choice() -> tuple[dict[str, Any], list[str]]:
        if device.type == "cpu":
            keep_freed_memory()
        return choose(config, overrides, device, dtype, like=like)

    tree, told = agreed(choice, cpu=device.type == "cpu")
    if told and not quiet and is_first():
        print(
            "\n  ".join(
                ["chosen, as nothing else was asked for (whatever you type as key=value wins):", *told]
            ),
            file=sys.stderr,
            flush=True,
        )
    return load_config(tree, overrides)


def choose(
    config: Config,
    overrides: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
    *,
    like: Info | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """A config's tree with settings for its folder of pictures, and what was chosen and why, in lines:
    nothing where no picture can be read, which is told in reading them. ``like``: of a model to fine-tune,
    whose network, size and channels stay. Raises ``ValueError`` for keys that do not fit."""
    tree, typed = config.tree(), {o.partition("=")[0].strip().replace("-", "_") for o in overrides}
    root = Path(str(config.data.get("path", ""))).expanduser()
    if not root.is_dir() or (like is not None and not are_numbers(like.codec, pictures=True)):
        return tree, []
    if config.data.get("size") is not None:
        sides_of(config.data["size"])  # refuses what is none
    seen = look(root, background_of(config.data.get("background", "white")))
    if seen is None:
        return tree, []
    choosing = _Choosing(tree, overrides, typed, config, seen, device, dtype, like)
    choosing.pictures()
    choosing.network_and_length()
    return choosing.tree, choosing.told


class _Choosing:
    """One choice as it grows: ``tree`` and what is ``told`` of it."""

    def __init__(
        self,
        tree: dict[str, Any],
        overrides: Sequence[str],
        typed: set[str],
        asked: Config,
        seen: Look,
        device: torch.device,
        dtype: torch.dtype,
        like: Info | None,
    ):
        self.tree, self.overrides, self.typed, self.asked, self.seen, self.like = (
            tree,
            overrides,
            typed,
            asked,
            seen,
            like,
        )
        self.device, self.dtype = device, dtype
        self.told: list[str] = []
        self.name = str(asked.backbone.get("name"))  # forms are of the network that `USUAL` has
        self.own_network = (
            like is None
            and not typed & {"backbone", "backbone.size"}
            and self.name == load_config(USUAL).backbone["name"]
        )
        share = asked.data.get("held_out")
        self.count = max(1, round(seen.count * (1 - (HELD_OUT if share is None else float(share)))))

    def _set(self, section: str, why: str = "", **values: Any) -> None:
        """Take values for keys that were not typed, and tell them."""
        open_keys = {
            k: v
            for k, v in values.items()
            if f"{section}.{k}" not in self.typed and section not in self.typed
        }
        self.tree[section] = {**self.tree.get(section, {}), **open_keys}
        if open_keys and why:
            self.told.append(f"{' '.join(f'{section}.{k}={_text(v)}' for k, v in open_keys.items())}: {why}")

    def pictures(self) -> None:
        """Channels, flip."""
        seen = self.seen
        grey = "none of the pictures has a colour" if seen.grey else "the pictures have colours"
        if self.like is not None:
            self._set(
                "data",
                "those of the model to begin with",
                channels=self.like.shape[0],
                size=as_size(self.like.shape[-2:]),
            )
        else:
            self._set("data", grey, channels=1 if seen.grey else 3)
        why = (
            "mirrored pictures look like others of their class"
            if seen.mirrors
            else "mirrored pictures look unlike the others, or too few can tell"
        )
        self._set("train", why, flip=seen.mirrors)

    def _crop(self, sides: Sequence[int]) -> None:
        """What becomes of pictures of another ratio."""
        kept = self.seen.kept(*sides)
        if kept < CROPPED and self.seen.border is not None and "data.background" not in self.typed:
            self._set(
                "data",
                "all pictures have a plain border of this colour, which fills up what is around them",
                crop="none",
                background=list(self.seen.border),
            )
        elif kept < CROPPED:
            self._set(
                "data",
                f"the middle of each, which keeps {100 * kept:.0f}% of a picture on average",
                crop="centre",
            )

    def network_and_length(self) -> None:
        """Size, form and width of the network, batch, length, and how often it is looked at."""
        minutes = self.asked.train.minutes if "train.minutes" in self.typed else None
        steps = self.asked.train.steps if "train.steps" in self.typed else None
        budget = 60 * (minutes or LONGEST)
        enough = _clipped(SEEN, self.count)
        if "train.batch_size" not in self.typed:
            self._set("train", batch_size=_batch(32, self.count))
        pace = self._size_and_width(
            lambda pace: steps is not None or budget / pace >= enough,
            lambda pace: budget / pace >= 4 * enough,
        )
        if minutes is None and steps is None:
            chosen = min(LONGEST, max(SHORTEST, round(_clipped(WHOLE, self.count) * pace / 60)))
            self.tree["train"] = {k: v for k, v in self.tree["train"].items() if k != "steps"}
            self._set(
                "train",
                f"each of {self.count:,} pictures is seen about {60 * chosen / pace / self.count:,.0f} times",
                minutes=float(chosen),
            )
            budget = 60 * chosen
        if "train.batch_size" not in self.typed:
            batch = next((b for b in BATCHES if steps is not None or budget / pace / b >= STEPS), BATCHES[-1])
            self._set(
                "train",
                "the most pictures a step that leave the run enough steps",
                batch_size=_batch(batch, self.count),
            )
        config = self._config()
        step = step_seconds(config, self._info(config), self.device, self.dtype)
        total = steps or budget / step
        self._looks(config, step, total)
        self.told.append(
            f"measured here: {1000 * step:.0f} ms a step of {config.train.batch_size}, so about "
            f"{total:,.0f} steps in {_minutes(total * step)}"
        )

    def _looks(self, config: Config, step: float, total: float) -> None:
        """How often the run is looked at and saved: some ten times, or as often as takes `LOOKING` of its
        time."""
        sample, train = config.sample, config.train
        # a step is a forward pass and a backward one of twice the work
        forward, time = step / train.batch_size / 3, total * step
        grid = 20 * sample.num_steps * (2 if sample.guidance and self.seen.classes else 1) * forward
        losses = 10 * min(train.eval_samples, self.seen.count - self.count) * (1 + len(train.ema)) * forward

        def every(cost: float) -> int:
            times = min(10, LOOKING * time / max(cost, 1e-9))
            return min(1000, max(1, int(total / times))) if times >= 1 and total >= 20 else 0

        previews = grid < LOOKING * time
        if not previews:
            self._set(
                "train",
                f"a grid of samples takes about {grid:.0f} seconds here, much of this run",
                preview=False,
            )
        self._set(
            "train",
            eval_every=every(losses),
            save_every=every(grid if previews else 0),
            weak_snapshot=time > 60,
            log_every=int(min(50, max(1, total // 40))),
        )

    def _size_and_width(self, enough: Callable[[float], bool], plenty: Callable[[float], bool]) -> float:
        """Settle size and network; returns the seconds a picture takes in training."""
        sizes, pace = self._sizes(), 0.0
        for k, size in enumerate(sizes):
            for width in (192, 128):
                pace = self._take(size, width)
                if enough(pace) or not self.own_network:
                    break
            if enough(pace) or k + 1 == len(sizes):
                break
        width = 192 if self.tree["backbone"].get("hidden_size") == 192 else 0
        for wider, pictures in ((256, 2000), (384, 10_000)):
            if not (self.own_network and width and self.count >= pictures and plenty(pace)):
                break
            quicker, before = pace, dict(self.tree["backbone"])
            pace = self._take(size, wider)
            if not enough(pace):
                pace, self.tree["backbone"] = quicker, before
                break
        if size is not None:
            self._crop(self._sides(size))
        if self.like is None:
            side = (
                f"three quarters of the pictures have {self.seen.side} pixels or more along their "
                "shorter side"
            )
            reason = f"all pictures have {_by(self.seen.shape or ())}" if size is None else side
            reason += (
                "; larger would be too slow here"
                if size != sizes[0]
                else f"; more than {size} is for you to ask for"
                if size == self._most()
                else ""
            )
            self._set("data", reason, **({} if size is None else {"size": size}))
        if self.own_network:
            form, sides = self._config().backbone, self._sides(size)
            stem = form.get("stem_channels")
            patch = 2 ** len(stem) if stem else form.get("patch_size", 2)
            both = (patch, patch) if isinstance(patch, int) else patch
            self.told.append(
                f"backbone {form['name']}: width {form.get('hidden_size')}, depth {form.get('depth')}, "
                f"patch {said(patch)}{' by a convolutional stem' if stem else ''}, so "
                f"{_by([s // p for s, p in zip(sides, both)])} tokens"
            )
        return pace

    def _sizes(self) -> Sequence[Size | None]:
        """Sides to try, the largest first; None: the pictures as they are."""
        size = self.asked.data.get("size")
        if size is not None or "data.size" in self.typed:
            return [size]
        if self.like is not None:
            return [as_size(self.like.shape[-2:])]
        most = self._most()
        squares = [s for s in SIDES if s <= min(most, max(self.seen.side, SIDES[0]))][::-1][:3]
        shape = self.seen.shape
        if shape is not None and max(shape) <= most and max(shape) // 2 ** levels_of(shape) <= MOST_TOKENS:
            return [None, *(s for s in squares if s < min(shape))][:3]
        return squares

    def _most(self) -> int:
        return LARGEST.get(self.device.type, LARGEST["cpu"])

    def _sides(self, size: Size | None) -> tuple[int, int]:
        return sides_of(size) if size is not None else self.seen.shape or (self.seen.side,) * 2

    def _take(self, size: Size | None, width: int) -> float:
        """Put a network for this size into the tree; seconds a picture takes."""
        if self.own_network:
            given = {k.partition(".")[2] for k in self.typed if k.startswith("backbone.")}
            form = network(self.name, self._sides(size), width)
            if "patch_size" in given:
                form = {k: v for k, v in form.items() if not k.startswith("stem")}
            if "hidden_size" in given and "num_heads" not in given:
                own = int(self.asked.backbone["hidden_size"])
                form["num_heads"] = max(h for h in range(1, max(2, own // 48 + 1)) if own % h == 0)
            self.tree["backbone"] = form
        config = self._config()
        return (
            step_seconds(config, self._info(config, self._sides(size)), self.device, self.dtype)
            / config.train.batch_size
        )

    def _config(self) -> Config:
        return load_config(self.tree, self.overrides)

    def _info(self, config: Config, sides: Sequence[int] | None = None) -> Info:
        channels = int(config.data.get("channels") or 3)
        sides = sides or self._sides(config.data.get("size"))
        return Info("image", (channels, *sides), self.seen.classes, {"name": "pixels"})


def _batch(most: int, count: int) -> int:
    """A power of two that is no more than there are pictures."""
    return min(most, 1 << max(count.bit_length() - 1, 1))


def _clipped(rule: tuple[int, int, int], count: int) -> float:
    each, least, most = rule
    return min(max(each * count, least), most)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def _by(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
