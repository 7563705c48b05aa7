"""Views of samples: files that say what the samples are, the flow as the model has it, and the data that it
learned from."""

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import points_config
from torch import Tensor

import studio
from backbones import Cond
from studio.jobs.result import Result
from studio.jobs.views import file_of
from studio.model.maker import Asked
from studio.model.model import Model
from studio.tasks import REGISTRY, build_task, plane
from studio.tasks.tokens import TokensTask
from studio.tasks.views import FORMS, Seen, View, numbers

BOX = [(-4.0, 4.0), (-3.0, 3.0)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Eight Gaussians, each a class."""
    out = tmp_path_factory.mktemp("views") / "dots"
    return studio.train(points_config(labels=True), out=out, quiet=True).load(device="cpu", dtype="fp32")


def asked(model: Model, **options: object) -> Asked:
    return Asked(model, model.request(**options)[0])  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Sink:
    """A flow towards the origin, of which the data is known or not."""

    known: Tensor | None = None

    def data(self, count: int) -> Tensor | None:
        return self.known

    def velocity(self, values: Tensor, t: float) -> Tensor:
        return -values


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("shape", [(2,), (5,), (7, 2), (4, 1, 8, 8)])
def test_what_tasks_declare(name: str, shape: Sequence[int]) -> None:
    """Files that lie with the samples or are called like their sheet, so that the bin takes them too."""
    task = build_task(name)
    views = task.views(shape)
    assert len({v.file for v in views}) == len(views) == len({v.name for v in views})
    for view in views:
        assert view.form in FORMS
        assert view.file.startswith("sheet.") if view.draw else view.file in task.listing


def test_the_field_is_the_models_own_velocity(points_model: Model) -> None:
    places, maker = plane.grid(BOX), asked(points_model, seeds=[0])
    assert places.shape == (plane.SIDE**2, 2) and [c.tolist() for c in places[[0, -1]]] == [[-4, -3], [4, 3]]
    std = points_model.codec.std  # type: ignore[attr-defined]
    for t in plane.TIMES:
        own = points_model.denoiser.predict(places / std, t, Cond()).to("velocity")
        torch.testing.assert_close(maker.velocity(places, t), own * std, rtol=1e-4, atol=1e-4)


def test_the_field_is_guided_as_the_first_sample_was(labelled: Model) -> None:
    places, std = plane.grid(BOX), labelled.codec.std  # type: ignore[attr-defined]
    maker = asked(labelled, seeds=[5, 6], labels=[3, 4], guidance="cfg=3")
    ways = [
        labelled.denoiser.predict(places / std, 0.5, Cond(label=torch.full((len(places),), k))).to("velocity")
        for k in (-1, 3)
    ]
    wanted = std * (ways[0] + 3 * (ways[1] - ways[0]))
    torch.testing.assert_close(maker.velocity(places, 0.5), wanted, rtol=1e-4, atol=1e-4)


def test_the_data_is_of_the_classes_that_were_sampled(labelled: Model) -> None:
    found = asked(labelled, seeds=[0, 1], labels=[2, 2]).data(400)
    assert found is not None and 10 < len(found) < 100
    centre = 5 * torch.tensor([math.cos(math.pi / 2), math.sin(math.pi / 2)])
    assert float((found - centre).norm(dim=1).max()) < 3  # five standard deviations
    every = asked(labelled, seeds=[0], labels=[-1]).data(400)
    assert every is not None and len(every) == 400
    gone = {"name": "npz", "path": "/nowhere/at/all.npz"}
    moved = dataclasses.replace(labelled, config=dataclasses.replace(labelled.config, data=gone))
    assert asked(moved, seeds=[0]).data(400) is None


def test_pictures_are_drawn_with_the_data_and_without(tmp_path: Path) -> None:
    values = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    sizes = []
    for maker in (Sink(), Sink(values + 1)):
        plane.density(tmp_path / "d.png", Seen(values, [{}], maker))
        sizes.append(Image.open(tmp_path / "d.png").size)
    assert sizes[1] == (2 * sizes[0][0], sizes[0][1])
    plane.field(tmp_path / "f.png", Seen(values, [{}], Sink()))
    assert Image.open(tmp_path / "f.png").size == sizes[1]
    plane.angle_density(tmp_path / "a.png", Seen(values.view(10, 5, 2) % 3, [{}], Sink()))
    assert Image.open(tmp_path / "a.png").size == sizes[0]


# one row of four, two, and six of the first 24; which are laid out alike, whatever is drawn in them
HEIGHTS = {3: 216, 5: 384, 30: 1056}


@pytest.mark.parametrize(
    "name, shape, counts", [("curves", (16,), (3, 30)), ("curves", (2, 16), (5,)), ("rows", (9, 3), (3,))]
)
def test_curves_have_panels_of_their_own(
    name: str, shape: Sequence[int], counts: Sequence[int], tmp_path: Path
) -> None:
    (view,) = build_task(name).views(shape)
    assert view.draw is not None
    for count in counts:
        values = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
        view.draw(tmp_path / view.file, Seen(values, [{"seed": k} for k in range(count)], Sink()))
        assert Image.open(tmp_path / view.file).size[1] == HEIGHTS[count]


def test_a_table_has_a_row_for_each_sample(tmp_path: Path) -> None:
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    recipes = [{"seed": k + 10, "class": "a,b"} for k in range(6)]
    numbers(tmp_path / "n.csv", Seen(values, recipes, Sink()))
    columns, *rows = csv.reader((tmp_path / "n.csv").read_text().splitlines())
    assert columns == ["seed", "class", "x1", "x2", "x3"]
    assert [row[:2] for row in rows] == [[str(k), "a,b"] for k in range(10, 16)]
    read = torch.tensor([[float(v) for v in row[2:]] for row in rows])
    torch.testing.assert_close(read, values, rtol=1e-5, atol=0)


def test_ids_that_stand_for_symbols_are_read_as_text(tmp_path: Path) -> None:
    task = TokensTask(vocab=3, symbols=("C", "N", '"'))
    (view,) = task.views((4,))
    assert view.draw is not None and TokensTask(vocab=3).views((4,)) == ()
    seen = Seen(torch.tensor([[0, 1, 2, 0], [1, 1, 1, 1]]), [{"seed": 4}, {"seed": 9}], Sink())
    view.draw(tmp_path / view.file, seen)
    rows = list(csv.reader((tmp_path / view.file).read_text().splitlines()))
    assert rows == [["seed", "text"], ["4", 'CN"C'], ["9", "NNNN"]]


def result(model: Model, folder: Path) -> Result:
    samples = model.sample(seeds=range(4), num_steps=1)
    files = tuple(samples.save(folder))
    told = tuple({"name": v.name, "file": v.file, "form": v.form} for v in model.task.views((2,)))
    sheet = folder / "grid.png"
    return Result(folder, (sheet,), files, sheet, samples.recipes, 1, 0.0, 4, views=told)


def test_a_view_is_drawn_when_it_is_looked_at_and_kept(points_model: Model, tmp_path: Path) -> None:
    made, calls = result(points_model, tmp_path / "out"), []

    def again() -> tuple[Model, studio.sampling.Request]:
        calls.append(1)
        return points_model, points_model.request(seeds=range(4), num_steps=1)[0]

    assert Result.read(made.folder, made.told()) == made
    table = next(k for k, v in enumerate(made.views) if v["form"] == "table")
    first = file_of(made, table, again)
    written = first.read_bytes()
    assert file_of(made, table, again).read_bytes() == written and calls == [1]
    other = dataclasses.replace(points_model, hash="0" * 16)
    with pytest.raises(ValueError, match="others by now"):
        file_of(made, 0, lambda: (other, again()[1]))
    (made.folder / "samples.npz").unlink()
    with pytest.raises(ValueError, match="sample again"):
        file_of(made, 0, again)


def test_a_listed_file_that_is_gone_is_told(points_model: Model, tmp_path: Path) -> None:
    made = result(points_model, tmp_path / "out")
    odd = dataclasses.replace(made, views=(dataclasses.asdict(View("Odd", "sheet.odd.png", "picture")),))
    with pytest.raises(ValueError, match="sheet.odd.png is not there"):
        file_of(odd, 0, lambda: (points_model, points_model.request(seeds=range(4))[0]))
