"""What a noisy sample tells of its time: exact for Gaussians, and the estimate of data agrees with it."""

import json

import numpy as np
import pytest

from studio.cli.main import main
from studio.metrics.time_posterior import of_data, of_gaussian


def test_gaussians_tell_more_in_more_dimensions() -> None:
    """The figures of a computation that was done apart, with draws of its own."""
    found = [of_gaussian(dim, 0.5, draws=3000) for dim in (2, 16, 64, 784)]
    assert np.allclose(found, [0.258, 0.166, 0.110, 0.059], atol=0.006)
    assert abs(of_gaussian(1, 1e-9, draws=2000) - of_gaussian(1, 1e-6, draws=2000)) < 1e-3


def test_nothing_tells_where_all_times_look_alike() -> None:
    """Of one dimension and many data of deviation 1 little is told; the estimate agrees with the exact."""
    x = np.random.default_rng(0).standard_normal((1500, 2)) * 0.5
    assert abs(of_data(x, draws=200) - of_gaussian(2, 0.5)) < 0.02
    assert of_gaussian(1, 1.0) > 0.25
    with pytest.raises(ValueError, match="at least 4"):
        of_data(x[:3])


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["diagnose", "time-posterior", "--dims", "2,64", "--num", "50", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["gaussian of 2 dimensions"] > found["gaussian of 64 dimensions"] > 0
    with pytest.raises(SystemExit, match="2"):
        main(["diagnose", "nothing"])
