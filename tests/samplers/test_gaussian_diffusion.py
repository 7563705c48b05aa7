"""ADM's Gaussian diffusion as the original DiT uses it, against values recorded from its code: tables,
respacing, losses, whole loops."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import Cond, RecordedNoise
from samplers import Batch, Denoiser, Objective, Prediction, VPPath, build
from samplers.heads.parameterization import data as data_output
from samplers.heads.parameterization import noise as noise_output
from samplers.heads.variational import bound, log_variance_of, log_variances
from samplers.paths.coefficients import mix
from samplers.solvers.ancestral import transition

PATH = VPPath()


class Net(nn.Module):
    """The network of the recording: [tanh(0.7x + 0.5τ), 0.3 sin(2x + 2τ)] with τ = k/1000."""

    def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        tau = (t / 1000).view(-1, 1, 1, 1)
        return torch.cat([torch.tanh(0.7 * x + 0.5 * tau), 0.3 * torch.sin(2 * x + 2 * tau)], dim=1)


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return golden("gaussian_diffusion")


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    """Within 1e-5 of the largest entry, or of 1 where that is larger: the recording is float32."""
    assert a.shape == b.shape
    assert float((a.double() - b.double()).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


def time_of(k: Tensor) -> Tensor:
    return 1 - (k.double() + 1) / PATH.size


def test_tables(recorded: Any) -> None:
    g = recorded[0]
    full = {k.removeprefix("output.full1000."): v for k, v in g.items() if k.startswith("output.full1000.")}
    torch.testing.assert_close(PATH.betas, full["betas"], rtol=1e-12, atol=0)
    torch.testing.assert_close(PATH.alpha_bar, full["alphas_cumprod"], rtol=1e-12, atol=0)
    cosine = VPPath(schedule="cosine").betas
    torch.testing.assert_close(cosine, g["output.squaredcos_cap_v2_1000.betas"], rtol=1e-12, atol=1e-16)
    for k in (0, 1, 2, 500, 998, 999):
        c_x, c_data, small, large, _ = transition(PATH, PATH.time(k), PATH.time(k - 1))
        for ours, name in ((c_data, "posterior_mean_coef1"), (c_x, "posterior_mean_coef2"), (large, "betas")):
            assert float(ours) == pytest.approx(float(full[name][k]), rel=1e-10), (k, name)
        if k:
            assert float(small) == pytest.approx(float(full["posterior_variance"][k]), rel=1e-10)
    logs = log_variances(PATH, torch.arange(1000))
    torch.testing.assert_close(logs[0], full["betas"].log(), rtol=1e-12, atol=0)
    torch.testing.assert_close(logs[1], full["posterior_log_variance_clipped"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("spec", ["250", "50", "10", "100", "ddim50", "ddim25", "10,15,20"])
def test_respacing(recorded: Any, spec: str) -> None:
    entries = PATH.respaced(spec)
    assert entries[::-1] == recorded[1]["respaced_timestep_maps"][spec]
    sampler = build("ddpm", respacing=spec)
    assert sampler.times(PATH, 10) == [PATH.time(k) for k in entries] + [1.0]


@pytest.mark.parametrize("n", [50, 250])
def test_respaced_tables(recorded: Any, n: int) -> None:
    """The betas of the shorter chain are the large variances of our strided steps."""
    g, entries = recorded[0], PATH.respaced(str(n))[::-1]
    torch.testing.assert_close(
        PATH.alpha_bar[entries], g[f"output.respaced_{n}.alphas_cumprod"], rtol=1e-12, atol=0
    )
    times = [1.0] + [PATH.time(k) for k in entries]
    betas = torch.stack([transition(PATH, t, s)[3] for s, t in zip(times[:-1], times[1:])])
    torch.testing.assert_close(betas, g[f"output.respaced_{n}.betas"], rtol=1e-10, atol=0)


def test_q_sample(recorded: Any) -> None:
    g = recorded[0]
    x = mix(PATH.coefficients(time_of(g["input.t"])), g["input.noise"], g["input.x0"])
    close(x, g["output.q_sample"], 1e-6)


def prediction(g: dict[str, Tensor]) -> Prediction:
    """The recording's prediction at its noised data."""
    return Denoiser(Net(), PATH, noise_output(variance="learned_range")).predict(
        g["output.q_sample"], time_of(g["input.t"]), Cond()
    )


@pytest.mark.parametrize("clip", [False, True])
def test_mean_and_variance(recorded: Any, clip: bool) -> None:
    g = recorded[0]
    sampler = build("ddpm", variance="learned_range", clip=1.0 if clip else None)
    want = {
        n: g[f"output.p_mean_variance_clip{clip}.{n}"]
        for n in ("mean", "variance", "log_variance", "pred_xstart")
    }
    p, k = prediction(g), g["input.t"]
    data = sampler.data(p)
    close(data, want["pred_xstart"])
    log_variance = log_variance_of(p, k)
    close(log_variance, want["log_variance"])
    close(log_variance.exp(), want["variance"])
    one = Denoiser(Net(), PATH, noise_output(variance="learned_range"))
    # through the sampler's own step: its mean with a noise of zeros, its deviation with one of ones
    for i in range(len(k)):
        t, s = PATH.time(int(k[i])), PATH.time(int(k[i]) - 1)
        x = g["output.q_sample"][i : i + 1]
        out = [
            sampler.step(
                x,
                t,
                s,
                lambda x, t: one.predict(x, t, Cond()),
                RecordedNoise({"step": [torch.full_like(x, level)]}),
                [],
            )
            for level in (0.0, 1.0)
        ]
        close(out[0], want["mean"][i : i + 1])
        if s < 1:
            close(out[1] - out[0], want["variance"][i : i + 1].sqrt(), 1e-5)
        else:
            assert torch.equal(out[0], out[1])


@pytest.mark.parametrize("mode", ["training_losses", "training_losses_rescaled_mse"])
def test_mse_and_bound(recorded: Any, mode: str) -> None:
    """``bound_weight`` 1 is the plain mode; the rescaled one multiplies by T/1000, which is 1 as well at T =
    1000."""
    g = recorded[0]
    objective = Objective(PATH, noise_output(variance="learned_range"), bound_weight=PATH.size / 1000)
    noise = RecordedNoise({"prior": [g["input.noise"]]})
    loss = objective.loss(Net(), Batch(g["input.x0"]), noise, t=time_of(g["input.t"]))
    close(loss.per_sample, g[f"output.{mode}.loss"], 1e-5)
    assert float(loss.logs["error"]) == pytest.approx(float(g[f"output.{mode}.mse"].mean()), rel=1e-5)
    assert float(loss.logs["bound"]) == pytest.approx(float(g[f"output.{mode}.vb"].mean()), rel=1e-4)
    close(loss.per_sample - g[f"output.{mode}.mse"], g[f"output.{mode}.vb"])


def test_the_whole_bound(recorded: Any) -> None:
    """The rescaled KL mode is T times the bound's term."""
    g = recorded[0]
    close(bound(prediction(g), g["input.x0"]) * PATH.size, g["output.training_losses_use_kl.loss"])


def test_data_prediction_with_fixed_variance(recorded: Any) -> None:
    g = recorded[0]

    class Half(Net):
        def forward(self, *args: Any) -> Tensor:
            return super().forward(*args).chunk(2, dim=1)[0]

    loss = Objective(PATH, data_output()).loss(
        Half(), Batch(g["input.x0"]), RecordedNoise({"prior": [g["input.noise"]]}), t=time_of(g["input.t"])
    )
    close(loss.per_sample, g["output.training_losses_xstart_fixed.loss"], 1e-5)
    close(loss.per_sample, g["output.training_losses_xstart_fixed.mse"], 1e-5)


LOOPS = {
    "p_sample_loop_10": ("ddpm", {"variance": "learned_range"}),
    "p_sample_loop_10_clip": ("ddpm", {"variance": "learned_range", "clip": 1.0}),
    "ddim_sample_loop_10_eta0": ("ddim", {"eta": 0.0}),
    "ddim_sample_loop_10_eta0.5": ("ddim", {"eta": 0.5}),
}


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_loops(recorded: Any, name: str) -> None:
    g = recorded[0]
    sampler = build(LOOPS[name][0], respacing="10", **LOOPS[name][1])
    denoiser = Denoiser(Net(), PATH, noise_output(variance="learned_range"))
    noise = RecordedNoise({"step": list(g["input.loop.noise_seq"])})
    out = sampler.sample(denoiser, g["input.loop.z"], noise=noise)
    close(out, g[f"output.{name}"], 2e-6)
