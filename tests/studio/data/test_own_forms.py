"""Items of a user's own data set in every obvious form: pairs, triples, dictionaries, PIL pictures, numbers
as conditions; trained, previewed, sampled."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import dit_config, last_checkpoint, points_config
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

import studio
from studio.data import from_dataset
from studio.data.loader import Batches
from studio.data.notes import of_data

N = 24
BYTES = torch.randint(0, 256, (N, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PICTURES = [Image.fromarray(b.permute(1, 2, 0).numpy()) for b in BYTES]
LABELS = [i % 3 for i in range(N)]
KELVIN = [250.0 + 7 * i for i in range(N)]
BAR = [1.5 * (i % 5) for i in range(N)]
ROWS = np.stack([KELVIN, BAR], 1).astype(np.float32)


class Closed(Dataset):
    """Items that are only known one by one."""

    def __init__(self, items: Any, **attributes: Any):
        self.hidden = items
        self.__dict__ |= attributes

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, i: int) -> Any:
        return self.hidden[i]


def dicts(**columns: Any) -> list[dict[str, Any]]:
    return [{k: v[i] for k, v in columns.items()} for i in range(N)]


FORMS: dict[str, Any] = {
    "pairs": list(zip(BYTES, LABELS)),
    "PIL pairs": list(zip(PICTURES, LABELS)),
    "dict": dicts(image=BYTES, label=LABELS),
    "dict of PIL": dicts(image=PICTURES, label=LABELS),
    "other names": dicts(pixel_values=BYTES, target=LABELS),
    "text beside": dicts(img=PICTURES, file=[f"{i}.png" for i in range(N)], y=[np.int64(y) for y in LABELS]),
    "second dict": [(p, {"class": torch.tensor(y)}) for p, y in zip(PICTURES, LABELS)],
    "lists": [[p, y] for p, y in zip(PICTURES, LABELS)],
}


@pytest.mark.parametrize("wrap", [list, Closed, lambda x: Subset(x, range(N))])
@pytest.mark.parametrize("form", FORMS)
def test_one_set_in_every_form(form: str, wrap: Any) -> None:
    data = from_dataset(wrap(FORMS[form]), classes=3)
    values, cond = Batches(data.train, N, seed=1).at(0)
    plain, known = Batches(from_dataset(TensorDataset(BYTES, torch.tensor(LABELS))).train, N, seed=1).at(0)
    assert torch.equal(values, plain) and torch.equal(cond.label, known.label)
    assert data.classes == ("0", "1", "2") and data.codec == {"name": "pixels"} and data.numeric == ()
    assert any("left out of the items: file" in note for note in data.notes) == (form == "text beside")


NUMBERS: dict[str, tuple[Any, tuple[str, ...], bool]] = {
    "dict": (dicts(image=PICTURES, label=LABELS, kelvin=KELVIN, bar=BAR), ("kelvin", "bar"), True),
    "dict without label": (dicts(image=PICTURES, kelvin=KELVIN, bar=BAR), ("kelvin", "bar"), False),
    "tensors by name": (
        dicts(value=BYTES, kelvin=torch.tensor(KELVIN), bar=[np.float32(b) for b in BAR]),
        ("kelvin", "bar"),
        False,
    ),
    "second dict": (
        [(p, {"kelvin": k, "bar": b}) for p, k, b in zip(PICTURES, KELVIN, BAR)],
        ("kelvin", "bar"),
        False,
    ),
    "triples": (list(zip(PICTURES, LABELS, ROWS)), ("numeric0", "numeric1"), True),
    "triples by name": (
        [(p, y, {"kelvin": k, "bar": b}) for p, y, k, b in zip(PICTURES, LABELS, KELVIN, BAR)],
        ("kelvin", "bar"),
        True,
    ),
    "three tensors": (
        TensorDataset(BYTES, torch.tensor(LABELS), torch.from_numpy(ROWS)),
        ("numeric0", "numeric1"),
        True,
    ),
    "rows": (TensorDataset(BYTES, torch.from_numpy(ROWS)), ("numeric0", "numeric1"), False),
    "rows in lists": ([(p, r.tolist()) for p, r in zip(PICTURES, ROWS)], ("numeric0", "numeric1"), False),
    "named by the set": (Closed(list(zip(BYTES, ROWS)), numeric=("kelvin", "bar")), ("kelvin", "bar"), False),
    "numeric by name": (
        dicts(image=BYTES, numeric=[{"kelvin": k, "bar": b} for k, b in zip(KELVIN, BAR)]),
        ("kelvin", "bar"),
        False,
    ),
}


@pytest.mark.parametrize("form", NUMBERS)
def test_numbers_in_every_form(form: str) -> None:
    """They are standardised, as those of files are, and stay with their picture."""
    dataset, names, labelled = NUMBERS[form]
    data = from_dataset(dataset)
    assert (
        data.numeric == names
        and bool(data.classes) == labelled
        and f"numbers: {', '.join(names)}" in of_data(data)
    )
    values, cond = Batches(data.train, N, seed=1).at(0)
    wanted = torch.from_numpy((ROWS - ROWS.mean(0)) / ROWS.std(0))
    for value, row in zip(values, cond.numeric):
        i = next(i for i in range(N) if torch.equal(BYTES[i], value))
        torch.testing.assert_close(row, wanted[i], rtol=0, atol=1e-5)
    assert data.numeric_range == ((250.0, 411.0), (0.0, 6.0))


def test_missing_numbers_and_labels() -> None:
    data = from_dataset(
        dicts(image=BYTES, label=[None, *LABELS[1:]], kelvin=[None, *KELVIN[1:]], bar=[torch.nan, *BAR[1:]]),
        classes=3,
    )
    cond = data.train.fetch([0, 1], [0, 0], 0)[1]
    assert (
        cond.label.tolist() == [-1, 1] and cond.numeric[0].isnan().all() and cond.numeric[1].isfinite().all()
    )
    assert data.numeric_mean[0] == pytest.approx(np.mean(KELVIN[1:]))
    with pytest.raises(ValueError, match="no value of kelvin"):
        from_dataset(dicts(image=BYTES, kelvin=[None] * N))


@pytest.mark.parametrize(
    "item, text",
    [
        ({"label": 1}, "dict of label .*expected the value as value or image"),
        ({"image": BYTES[0], "label": 1, "target": 2}, "label and target in item 0"),
        ((BYTES[0], 1, 2.0, 3.0), "4 parts for item 0"),
        ((BYTES[0], 0.7), r"label 0.7,.*not whole.*\{'NAME': number\}"),
        ((BYTES[0], torch.eye(4)[1]), "argmax"),
        ((BYTES[0], ROWS[0], ROWS[0]), r"expected \(value, label, numbers\)"),
        ((BYTES[0], {"lable": 1}), "did you mean 'label'"),
        (
            {"image": BYTES[0], "box": torch.zeros(4)},
            "condition 'box' of item 0 .*row of them is called numeric",
        ),
        ((PICTURES[0], {"kelvin": "hot"}, 3), "place of the label|label"),
        ({"image": "a.png", "label": 1}, "str as the value of item 0"),
        (Image.fromarray(np.zeros((8, 8), np.uint16)), "PIL picture of mode I;16"),
        ((BYTES[0], {"numeric": ["a"]}), "list as the numbers of item 0"),
        ({"image": BYTES[0], "label": "cat"}, "class numbers"),
    ],
)
def test_what_is_no_item(item: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        from_dataset([item] * 4, classes=3)


@pytest.mark.parametrize(
    "odd, text",
    [
        ({"image": PICTURES[0], "label": 0, "bar": 1.0}, r"item 17 .*\(bar\), expected .*\(kelvin\)"),
        ({"image": PICTURES[0].convert("L"), "label": 0, "kelvin": 1.0}, r"item 17 of shape \(1, 8, 8\)"),
        ({"image": PICTURES[0].resize((9, 8)), "label": 0, "kelvin": 1.0}, r"item 17 of shape \(3, 8, 9\)"),
        (
            {"image": PICTURES[0], "label": 0, "kelvin": torch.inf},
            "infinite number in the conditions of item 17",
        ),
    ],
)
def test_an_item_unlike_the_others_is_named(odd: Any, text: str) -> None:
    items = dicts(image=PICTURES, label=LABELS, kelvin=KELVIN)
    with pytest.raises(ValueError, match=text):
        from_dataset([*items[:17], odd, *items[18:]])


def config(**train: Any) -> dict[str, Any]:
    return {
        **dit_config(
            Path("none"),
            **{"steps": 2, "save_every": 0, "log_every": 1, "eval_every": 1, "preview": True, **train},
        ),
        "data": {},
    }


def test_train_preview_sample_and_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dictionary with a label and numbers is a model that is asked by their names."""
    data = Closed(dicts(image=PICTURES, label=LABELS, kelvin=KELVIN, bar=BAR), classes=("a", "b", "c"))
    run = studio.train(config(), data=data, held_out=Subset(data, range(4)), out=tmp_path / "run")
    assert "numbers: kelvin, bar" in capsys.readouterr().err
    assert Image.open(last_checkpoint(run.folder) / "preview.png").size[0] > 8 and "held_out" in run.metrics
    model = run.load(dtype="fp32", device="cpu")
    assert model.info.numeric == ("kelvin", "bar")
    samples = model.sample(
        labels="b", conditions={"kelvin": np.float32(300), "bar": torch.tensor(2)}, seeds=[1], num_steps=2
    )
    assert (
        samples.recipes[0]["conditions"] == {"kelvin": 300.0, "bar": 2.0}
        and samples.recipes[0]["class"] == "b"
    )
    with pytest.warns(UserWarning, match="outside what"):
        model.request(conditions={"kelvin": 900.0}, seeds=[1])
    assert (
        studio.train(
            config(steps=3),
            data=data,
            held_out=Subset(data, range(4)),
            out=tmp_path / "run",
            resume=True,
            quiet=True,
        ).step
        == 3
    )


def test_an_older_run_goes_on_with_the_numbers_it_had(tmp_path: Path) -> None:
    """They were not standardised once; its record says so, and it wins."""
    items = [
        (x, {"numeric": [float(i)]})
        for i, x in enumerate(torch.randn(N, 2, generator=torch.Generator().manual_seed(0)))
    ]
    run = studio.train(points_config(steps=2), data=items, out=tmp_path / "run", quiet=True)
    meta = json.loads((run.folder / "meta.json").read_text())
    (run.folder / "meta.json").write_text(
        json.dumps({**meta, "numeric_mean": [0.0], "numeric_std": [1.0], "numeric_range": []})
    )
    again = studio.train(points_config(steps=4), data=items, out=tmp_path / "run", resume=True, quiet=True)
    assert again.load().info.numeric_mean == (0.0,) and again.step == 4
    assert again.load().request(conditions={"numeric0": 7.0}, seeds=[0])[0].numeric == ((7.0,),)


class Sees(nn.Module):
    """A network of one's own that is asked by a picture and by tokens, and cannot do without."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, cond: Any, ctx: Any = None) -> Tensor:
        shift = cond.tokens.mean((1, 2)).nan_to_num().view(-1, 1, 1, 1)
        return self.inner(torch.cat([x, cond.image.nan_to_num()], 1)) + shift


def test_pictures_and_tokens_as_conditions(tmp_path: Path) -> None:
    data = dicts(
        value=PICTURES,
        image=PICTURES[::-1],
        tokens=torch.randn(N, 5, 2, generator=torch.Generator().manual_seed(0)),
    )
    with pytest.raises(ValueError, match="tokens and image, which the backbone dit is not asked by"):
        studio.train(config(), data=data, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    run = studio.train(config(), data=data, backbone=Sees(), out=tmp_path / "run", quiet=True)
    assert (last_checkpoint(run.folder) / "preview.png").is_file()
    model = studio.load(run.folder, backbone=Sees(), dtype="fp32", device="cpu")
    shown = BYTES[:2] / 127.5 - 1
    samples = model.sample(seeds=[1, 2], conditions={"image": shown, "tokens": torch.ones(5, 2)}, num_steps=2)
    assert samples.recipes[0]["as_values"] == ["tokens", "image"]
    alone = model.sample(
        seeds=[2], conditions={"image": shown[1].numpy(), "tokens": np.ones((5, 2))}, num_steps=2
    )
    assert torch.equal(alone.values[0], samples.values[1]) and not torch.equal(
        model.sample(seeds=[2], num_steps=2).values, alone.values
    )
    with pytest.raises(ValueError, match=r"image of shape \(3, 4, 4\)"):
        model.request(seeds=[1], conditions={"image": torch.zeros(3, 4, 4)})


def test_a_preview_that_fails_keeps_what_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class NoNull(nn.Module):
        """It has no row for a missing label, which guidance asks for."""

        def __init__(self) -> None:
            super().__init__()
            self.label, self.inner = nn.Embedding(3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor, t: Tensor, cond: Any, ctx: Any = None) -> Tensor:
            return self.inner(x) + self.label(cond.label).view(-1, 1, 1, 1)

    plain = config()
    plain["objective"] = {**plain["objective"], "cond_drop": 0.0}
    run = studio.train(plain, data=list(zip(BYTES, LABELS)), backbone=NoNull(), out=tmp_path / "run")
    assert (
        run.step == 2
        and last_checkpoint(run.folder).is_dir()
        and "no preview: index out of range" in capsys.readouterr().err
    )
