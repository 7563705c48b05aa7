"""The recurrences with chunks side by side: values, gradients and second ones of the reference at any length,
awkward input, what they hold in memory, and who picks them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from thinned import thinned
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from backbones import Cond, build, dis, rwkv
from backbones.recurrences import scan_chunked, wkv_chunked
from backbones.recurrences.forms import pick
from backbones.recurrences.scan import selective_scan
from backbones.recurrences.two_way import Way, two_way_scan
from backbones.recurrences.wkv import MODES, bi_wkv
from backbones.types import RunContext

LENGTHS = [1, 7, 16, 33, 64, 100]
SCAN = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "state")
PLACES = ("u", "delta", "B", "C", "z")


def scan_inputs(length: int, *, channels: int = 5, states: int = 3) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(length)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    long, short = (2, channels, length), (2, states, length)
    values = [r(*long), r(*long) - 1, -torch.exp(r(channels, states)), r(*short), r(*short)]
    values += [r(channels), r(*long), r(channels), r(2, channels, states)]
    return dict(zip(SCAN, values))


def wkv_inputs(length: int, *, keys: float = 1.0, decay: float = 1.0) -> list[Tensor]:
    g = torch.Generator().manual_seed(length)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return [decay * r(3), r(3), keys * r(2, length, 3), r(2, length, 3)]


def ways(length: int, channels: int = 5) -> list[Tensor]:
    """The inputs of both directions and the gate."""
    g = torch.Generator().manual_seed(length)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    made = []
    for _ in range(2):
        made += [r(2, length, channels), r(2, length, 2), r(2, length, 3), r(2, length, 3)]
        made += [-torch.exp(r(channels, 3)), r(channels, 2), r(channels), r(channels)]
    return [*made, r(2, length, channels)]


def both_ways(*values: Tensor, form: str) -> Tensor:
    return two_way_scan(Way(*values[:8]), Way(*values[8:16]), values[16], form=form)


def near(got: Tensor, want: Tensor, tolerance: float = 1e-12) -> bool:
    """Relative to the largest value."""
    return float((got - want).detach().abs().max()) <= tolerance * float(want.detach().abs().max() + 1e-12)


def all_of(run: Callable[..., Tensor], leaves: Sequence[Tensor], *, twice: bool) -> list[Tensor]:
    """The values, their gradients, and gradients of those where ``twice``; zeros where nothing depends."""
    y = run(*leaves)
    slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    made, total = [y], (y * slope).sum()
    for again in range(1 + twice):
        grads = torch.autograd.grad(total, leaves, create_graph=twice and not again, allow_unused=True)
        whole = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, leaves)]
        made += whole
        total = torch.stack([g.square().sum() for g in whole]).sum()
    return made


def same(
    run: Callable[..., Tensor], leaves: Sequence[Tensor], *, twice: bool = False, tolerance: float = 1e-11
) -> None:
    """``run(*leaves, form=...)`` in chunks is the reference."""
    got, want = (
        all_of(partial(run, form=form), [x.requires_grad_() for x in leaves], twice=twice)
        for form in ("chunked", "reference")
    )
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert near(a, b, tolerance), i


def scan(names: Sequence[str], **options: Any) -> Callable[..., Tensor]:
    """A scan of the named inputs: its output and last state in one row."""

    def run(*values: Tensor, form: str) -> Tensor:
        given: dict[str, Any] = dict(zip(names, values)) | options
        y, end = selective_scan(**given, return_state=True, form=form)
        return torch.cat([y.flatten(), end.flatten()])

    return run


OPTIONS = {
    "ahead": (False, True, ()),
    "back, from zeros, without a gate": (True, True, ("z", "state")),
    "steps as they are": (True, False, ("D", "delta_bias")),
}


@pytest.mark.parametrize("length, options", thinned(3, LENGTHS, list(OPTIONS)))
def test_the_scan_is_the_reference(length: int, options: str) -> None:
    """Both directions, with and without what is optional; second gradients, too."""
    reverse, softplus, out = OPTIONS[options]
    given = {k: v for k, v in scan_inputs(length).items() if k not in out}
    if not softplus:
        given["delta"] = given["delta"].exp()
    run = scan(list(given), reverse=reverse, delta_softplus=softplus)
    same(run, list(given.values()))
    same(run, list(given.values()), twice=True)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_two_way_scan_is_the_reference(length: int) -> None:
    same(both_ways, ways(length))


@pytest.mark.parametrize("length, mode", thinned(2, LENGTHS, list(MODES)))
def test_the_wkv_is_the_reference(length: int, mode: str) -> None:
    """Decays of both signs, and keys of which one outweighs all others."""
    for keys, decay in ((1.0, 1.0), (1.0, -0.3), (30.0, 0.01)):
        inputs = wkv_inputs(length, keys=keys, decay=decay)
        same(partial(bi_wkv, mode=mode), inputs, tolerance=1e-10)
    if length < 50:
        same(partial(bi_wkv, mode=mode), wkv_inputs(length), twice=True, tolerance=1e-10)


@pytest.mark.parametrize("chunk, piece, together", [(4, 2, 2), (8, 8, 1), (64, 16, 3)])
def test_no_length_of_a_chunk_changes_anything(
    chunk: int, piece: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_chunked, "CHUNK", chunk)
    monkeypatch.setattr(scan_chunked, "PIECE", piece)
    monkeypatch.setattr(scan_chunked, "TOGETHER", together)
    monkeypatch.setattr(wkv_chunked, "CHUNK", chunk)
    for length in (33, 100):
        given = scan_inputs(length)
        same(scan(list(given)), list(given.values()))
        same(bi_wkv, wkv_inputs(length))


def test_extreme_numbers_pass() -> None:
    """In float32: large steps forget, steps of zero keep, keys of ±80 and decays of either sign overflow
    nothing, also in the gradients; a NaN stays in its sample and channel and goes the way of time."""
    given = {k: v.float() for k, v in scan_inputs(300).items()}
    for delta, a in ((given["delta"] * 1e4, given["A"] * 100), (given["delta"] - 200, given["A"])):
        same(scan(SCAN), [*(given | {"delta": delta, "A": a}).values()], tolerance=1e-4)
    u = given["u"].clone()
    u[1, 3, 20] = torch.nan
    y = selective_scan(**(given | {"u": u}), form="chunked")
    assert isinstance(y, Tensor)
    expected = torch.zeros_like(y, dtype=torch.bool)
    expected[1, 3, 20:] = True
    assert torch.equal(y.isnan(), expected)
    for keys, decay in ((80.0, 0.01), (80.0, 80.0), (1.0, -80.0), (80.0, -0.3)):
        w, first, k, v = (x.float() for x in wkv_inputs(300))
        inputs = [torch.full_like(w, decay), first, keys * k.sign(), v]
        exact = bi_wkv(*(x.double() for x in inputs))
        plain, got = (bi_wkv(*inputs, form=form) for form in ("reference", "chunked"))
        off = float((plain - exact).abs().max() / exact.abs().max())
        assert near(got.double(), exact, max(2e-6, 2 * off)), (keys, decay)
        leaves = [x.requires_grad_() for x in inputs]
        for mode in MODES:
            y = bi_wkv(*leaves, mode, form="chunked")
            grads = torch.autograd.grad(y.sum(), leaves, allow_unused=True)
            assert (
                mode == "kernel"
                and decay == 80.0
                or all(bool(x.isfinite().all()) for x in (y, *grads) if x is not None)
            ), (mode, keys, decay)
    k = inputs[2].detach().clone()
    k[1, 5, 2] = torch.nan
    out = bi_wkv(inputs[0], inputs[1], k, inputs[3], form="chunked")
    assert bool(out[1, :, 2].isnan().any()) and int(out.isnan().any(1).sum()) == 1


class Largest(TorchDispatchMode):
    """The most numbers that any one tensor made inside has."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = (x.numel() for x in tree_leaves(made) if isinstance(x, Tensor) and x.is_contiguous())
        self.numbers = max(self.numbers, *sizes, 0)
        return made


@pytest.mark.parametrize("length", [256, 1024])
def test_no_tensor_holds_every_state(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward never make (B, L, D, N), nor anything larger than the inputs: with N = `CHUNK`
    those are as large as the states at the beginning of all chunks."""
    size = scan_chunked.CHUNK
    given = {k: v.float() for k, v in scan_inputs(length, channels=32, states=size).items()}
    # the loops themselves: an operator hides what it makes
    monkeypatch.setattr(scan_chunked, "_chunks", scan_chunked._forward)
    with Largest() as ahead:
        selective_scan(**given, form="chunked")  # type: ignore[arg-type]
    t, b = torch.rand(size, length // size, 2, 32), torch.rand(size, length // size, 2, size)
    entered = torch.rand(length // size, 2, 32, size)
    with Largest() as back:
        scan_chunked._backward(t, entered[0], t, t, given["A"], b, b, entered[0], entered)
    assert max(ahead.numbers, back.numbers) <= given["u"].numel()


@pytest.mark.slow
def test_under_vmap_and_compiled() -> None:
    values = scan_inputs(20)
    rest = {k: v for k, v in values.items() if k != "u"}
    both = torch.func.vmap(lambda u: selective_scan(u, **rest, form="chunked"))(
        torch.stack([values["u"], 2 * values["u"]])
    )
    assert near(both[1], selective_scan(2 * values["u"], **rest))  # type: ignore[arg-type]
    w, u, k, v = wkv_inputs(20)
    slopes = torch.func.vmap(torch.func.grad(lambda x: bi_wkv(w, u, k, x, form="chunked").sum()))(
        torch.stack([v])
    )
    assert near(slopes[0], torch.func.grad(lambda x: bi_wkv(w, u, k, x, form="reference").sum())(v))
    torch._dynamo.reset()
    for run, leaves in (
        (partial(both_ways, form="chunked"), ways(20)),
        (partial(bi_wkv, form="chunked"), [w, u, k, v]),
    ):
        leaves = [x.requires_grad_() for x in leaves]
        compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
        for got, want in zip(*(all_of(f, leaves, twice=False) for f in (compiled, run))):
            assert near(got, want)
    torch._dynamo.reset()


def test_who_picks_them() -> None:
    """Off the CPU, where no kernel is installed; where nothing computes (meta) the reference, of which flops
    are counted. A network that is differentiated twice asks for ``double``."""
    kinds = ("fused", "mamba", "chunked")
    with FakeTensorMode():
        for device, auto, double in (
            ("cuda", "chunked", "chunked"),
            ("mps", "chunked", "chunked"),
            ("cpu", "fused", "reference"),
        ):
            x = torch.empty(2, 3, device=device)
            assert (pick("auto", kinds, x), pick("double", kinds, x)) == (auto, double)
            assert pick("double", ("fused",), x) == "reference"
    x = torch.empty(2, 3, device="meta")
    assert pick("auto", kinds, x) == "reference" and pick("chunked", kinds, x) == "chunked"
    long = torch.empty(2, 3, 40, device="meta")
    y, end = selective_scan(long, long, x.new_empty(3, 3), long, long, return_state=True, form="chunked")
    assert y.shape == long.shape and end.shape == (2, 3, 3)
    assert pick("auto", kinds, torch.empty(2, dtype=torch.float64)) == "reference"
    with pytest.raises(ValueError, match="got form='chunked', expected auto, reference, fused"):
        pick("chunked", ("fused",), torch.empty(2))


NETS = [
    ("dis", {"hidden_size": 32, "depth": 2}),
    ("rwkv", {"hidden_size": 64, "depth": 3}),
    ("rwkv", {"hidden_size": 64, "depth": 3, "wkv": "kernel"}),
]


@pytest.mark.parametrize("name, options", NETS, ids=str)
def test_a_network_is_the_same_by_form(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of the whole network in float64."""
    torch.manual_seed(0)
    net = build(name, input_size=12, in_channels=2, num_classes=3, **options).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    x = torch.randn(2, 2, 12, 12, dtype=torch.float64)
    asked: list[str] = []

    def run(x: Tensor, *weights: Tensor, form: str) -> Tensor:
        monkeypatch.setattr(
            dis, "two_way_scan", lambda *v, **k: (asked.append(form), two_way_scan(*v, form=form))[1]
        )
        monkeypatch.setattr(rwkv, "bi_wkv", lambda *v, **k: (asked.append(form), bi_wkv(*v, form=form))[1])
        cond = Cond(label=torch.tensor([0, -1]))
        return net(x, torch.tensor([10.0, 900.0], dtype=torch.float64), cond, RunContext())

    same(run, [x, *net.parameters()], tolerance=1e-9)
    assert asked.count("chunked") == asked.count("reference") > 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("length", [16, 100, 257])
def test_on_a_gpu(length: int) -> None:
    """What a GPU picks is the reference in float64, values and gradients."""
    given = {k: v.cuda() for k, v in scan_inputs(length).items()}
    same(scan(SCAN), list(given.values()), tolerance=1e-10)
    same(both_ways, [x.cuda() for x in ways(length)], tolerance=1e-10)
    for mode in MODES:
        same(partial(bi_wkv, mode=mode), [x.cuda() for x in wkv_inputs(length)], tolerance=1e-10)
    single = [x.float() for x in given.values()]
    assert near(
        scan(SCAN)(*single, form="auto").double(), scan(SCAN)(*given.values(), form="reference"), 1e-4
    )
