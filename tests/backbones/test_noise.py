"""Philox against its published answers; draws that depend on the seed and nothing else; the distributions;
recorded noise."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from backbones import NoiseSource, RecordedNoise, noise
from backbones.noise import philox

# Known-answer vectors of Random123 for philox4x32-10: counter, key, output
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[Tensor]:
    return [torch.tensor(int(w, 16)) for w in text.split()]


@pytest.mark.parametrize("few", [0, noise.FEW])
@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_philox_known_answers(
    counter: str, key: str, expected: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch and by numpy."""
    monkeypatch.setattr(noise, "FEW", few)
    assert " ".join(f"{int(w):08x}" for w in philox(words(counter), words(key))) == expected


def test_philox_is_elementwise() -> None:
    """All known answers in one call with broadcast keys give the same words."""
    counters = [torch.stack(c) for c in zip(*(words(k[0]) for k in KNOWN))]
    keys = [torch.stack(c) for c in zip(*(words(k[1]) for k in KNOWN))]
    out = torch.stack(philox(counters, keys), dim=1)
    assert torch.equal(out, torch.stack([torch.stack(words(k[2])) for k in KNOWN]))


def test_a_draw_is_the_same_beside_few_and_beside_many() -> None:
    many = NoiseSource(range(5)).integers(2**32, (2 * noise.FEW,), stream="a")
    few = NoiseSource(range(5)).integers(2**32, (noise.FEW // 2,), stream="a")
    assert torch.equal(many[:, : few.shape[1]], few)


def test_counter_layout() -> None:
    """Key = the seed's low and high word; counter = (element block, step, crc32 of the stream's name,
    index)."""
    seed, step, index = 0x123456789ABCDEF0, 7, 11
    source = NoiseSource([seed], index=[index], step=step)
    got = source.integers(2**32, (8,), stream="123456789")
    crc = 0xCBF43926  # the check value of CRC-32
    for block in range(2):
        w = philox(
            [torch.tensor(v) for v in (block, step, crc, index)],
            [torch.tensor(0x9ABCDEF0), torch.tensor(0x12345678)],
        )
        assert torch.equal(got[0, 4 * block : 4 * block + 4], torch.stack(w))


def test_draws_do_not_depend_on_the_batch() -> None:
    seeds = [9, 5, 2**40 + 5, 0, 5, 2**63 - 1]
    together = NoiseSource(seeds).at(3)
    for i, seed in enumerate(seeds):
        alone = NoiseSource([seed]).at(3)
        for shape in [(), (3,), (4, 5, 2)]:
            assert torch.equal(together.uniform(shape, stream="a")[i], alone.uniform(shape, stream="a")[0])
            assert torch.equal(
                together.integers(1000, shape, stream="a")[i], alone.integers(1000, shape, stream="a")[0]
            )
            torch.testing.assert_close(
                together.normal(shape, stream="a")[i], alone.normal(shape, stream="a")[0], rtol=0, atol=1e-6
            )
    picked = together.select(torch.tensor([3, 1]))
    assert torch.equal(picked.uniform((6,), stream="a"), together.uniform((6,), stream="a")[[3, 1]])


def test_asking_twice_gives_the_same_and_every_coordinate_matters() -> None:
    base = NoiseSource([5], index=[1], step=2)
    u = base.uniform((64,), stream="a")
    assert torch.equal(base.uniform((64,), stream="a"), u)
    others = {
        "seed": NoiseSource([6], index=[1], step=2).uniform((64,), stream="a"),
        "high word of the seed": NoiseSource([5 + 2**32], index=[1], step=2).uniform((64,), stream="a"),
        "index": NoiseSource([5], index=[2], step=2).uniform((64,), stream="a"),
        "step": base.at(3).uniform((64,), stream="a"),
        "stream": base.uniform((64,), stream="b"),
    }
    for name, other in others.items():
        assert not bool((other == u).any()), name


N = 200_000


def test_normal_moments_and_distribution() -> None:
    z = NoiseSource([1]).normal((N,), stream="z", dtype=torch.float64)[0]
    for power, expected, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(float((z**power).mean()) - expected) < 4.5 * math.sqrt(variance / N), power
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    half = N // 2  # the two outputs of one Box–Muller pair are independent
    assert abs(float((z[:half] * z[half:]).mean())) < 4.5 / math.sqrt(half)
    assert abs(float(((z[:half] ** 2 - 1) * (z[half:] ** 2 - 1)).mean())) < 4.5 * 2 / math.sqrt(half)


def test_uniform_and_integers() -> None:
    source = NoiseSource([2])
    u = source.uniform((N,), stream="u", dtype=torch.float64)[0]
    assert 0 < float(u.min()) and float(u.max()) < 1
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    k = source.integers(7, (N,), stream="k")[0]
    assert k.dtype == torch.int64
    assert stats.chisquare(torch.bincount(k, minlength=7).numpy()).pvalue > 1e-3 and int(k.max()) == 6


@pytest.mark.parametrize("other", ["seed", "index", "step", "stream"])
def test_neighbouring_draws_are_uncorrelated(other: str) -> None:
    def draw(seed: int = 1, index: int = 0, step: int = 0, stream: str = "z") -> Tensor:
        return NoiseSource([seed], index=[index], step=step).normal(
            (20_000,), stream=stream, dtype=torch.float64
        )[0]

    a, b = draw(), draw(**{other: "y" if other == "stream" else 2})
    assert abs(float((a * b).mean())) < 4.5 / math.sqrt(len(a))


def test_across_samples_too() -> None:
    """One number from each of many seeds is standard normal: seeds need not be spread out."""
    z = NoiseSource(range(50_000)).normal(stream="z", dtype=torch.float64)
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    assert abs(float((z[1:] * z[:-1]).mean())) < 4.5 / math.sqrt(len(z))


@pytest.mark.parametrize("seeds", [[3, -1], [2**63]])
def test_bad_seeds_are_refused(seeds: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"got seed {seeds[-1]}, expected 0 <= seed"):
        NoiseSource(seeds)


def test_seeds_from_a_tensor_and_length() -> None:
    source = NoiseSource(torch.tensor([4, 8]))
    assert len(source) == 2 and torch.equal(
        source.uniform(stream="a"), NoiseSource([4, 8]).uniform(stream="a")
    )


def test_recorded_noise_replays_in_order() -> None:
    a, b = torch.arange(6.0).view(2, 3), torch.ones(2, 3, dtype=torch.float64)
    noise = RecordedNoise({"step": [a, b], "start": [a]})
    assert torch.equal(noise.at(40).normal((3,), stream="step"), a)
    assert torch.equal(noise.normal((3,), stream="start"), a)  # streams advance on their own
    second = noise.at(0).normal((3,), stream="step", dtype=torch.float32)
    assert torch.equal(second, torch.ones(2, 3)) and second.dtype == torch.float32
    with pytest.raises(ValueError, match="has 2 draws of stream 'step'"):
        noise.normal((3,), stream="step")
    with pytest.raises(ValueError, match="has 0 draws of stream 'drop'"):
        noise.normal((3,), stream="drop")


def test_recorded_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(4,\)"):
        RecordedNoise({"step": [torch.zeros(2, 3)]}).normal((4,), stream="step")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("word", [0, 1, 2**31, 2**32 - 1, 2**32 - 2, 2**32 - 129])
def test_uniform_numbers_never_reach_their_ends(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, word: int
) -> None:
    """Whatever bits are drawn: 1 − u and log u are safe in every dtype."""
    monkeypatch.setattr(
        NoiseSource,
        "_words",
        lambda self, count, stream: torch.full((len(self), count), word, dtype=torch.int64),
    )
    u = NoiseSource([1]).uniform((3,), stream="x", dtype=dtype)
    assert u.dtype == dtype and bool((u > 0).all() & (u < 1).all())
    nearest = torch.tensor((word + 0.5) / 2**32, dtype=torch.float64).to(dtype)
    assert not 0 < nearest < 1 or bool((u == nearest).all())
