"""Schedule, objectives, noise field and samplers."""

from __future__ import annotations

import math

import pytest
import torch

from fusion_core.diffusion import Schedule, noise_field, sample
from fusion_core.diffusion.objectives import OBJECTIVES, predicted_x0, training_target
from fusion_core.diffusion.samplers import ddim, dpm_solver_2m
from fusion_core.models import create_model
from tests.core.networks import fill, tiles


@pytest.mark.parametrize("steps", [25, 500, 1000])
def test_cosine_schedule(steps):
    schedule = Schedule(steps)
    torch.testing.assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(steps).double())
    assert (schedule.alpha.diff() < 0).all()
    # f(t) / f(0) of Nichol and Dhariwal holds until the clipping of the last betas.
    middle = steps // 2
    f = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, middle + 1)]
    assert float(schedule.alpha[middle]) ** 2 == pytest.approx(f[1] / f[0], rel=1e-9)


@pytest.mark.parametrize("grid", ["uniform", "logsnr"])
@pytest.mark.parametrize("steps", [1, 2, 5, 25, 499, 500])
def test_time_grids_descend_from_pure_noise(grid, steps):
    timesteps = Schedule(500).timesteps(steps, grid)
    assert len(timesteps) == steps
    assert timesteps[0] == 499
    assert all(later < earlier for earlier, later in zip(timesteps, timesteps[1:]))
    assert timesteps[-1] >= 0


def test_published_timesteps():
    assert Schedule(500).published_timesteps(25) == list(range(480, -1, -20))
    assert Schedule(1000).published_timesteps(10) == list(range(900, -1, -100))


@pytest.mark.parametrize("steps", [0, 501])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match="steps must be"):
        Schedule(500).timesteps(steps)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_lead_back_to_x0(objective):
    x0, noise = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    alpha, sigma = 0.8, 0.6
    target = training_target(x0, noise, alpha, sigma, objective)
    x_t = alpha * x0 + sigma * noise
    torch.testing.assert_close(predicted_x0(target, x_t, alpha, sigma, objective), x0)


def test_noise_is_a_field():
    whole = noise_field(-7, 3, 40, 50, 4, seed=5)
    torch.testing.assert_close(
        whole[:, 9:20, 11:41], noise_field(2, 14, 11, 30, 4, 5), rtol=0, atol=0
    )
    assert not torch.equal(whole, noise_field(-7, 3, 40, 50, 4, seed=6))


def test_noise_is_standard_normal_and_white():
    noise = noise_field(0, 0, 400, 500, 5, seed=1).double()
    assert abs(float(noise.mean())) < 0.005
    assert float(noise.std()) == pytest.approx(1, abs=0.005)
    assert float((noise**4).mean()) == pytest.approx(3, abs=0.05)
    for shifted in (
        noise[:, 1:] * noise[:, :-1],
        noise[..., 1:] * noise[..., :-1],
        noise[1:] * noise[:-1],
    ):
        assert abs(float(shifted.mean())) < 0.005
    other = noise_field(0, 0, 400, 500, 5, seed=2).double()
    assert abs(float((noise * other).mean())) < 0.005


def gaussian_levels(steps: int, grid: str) -> list[tuple[float, float]]:
    schedule = Schedule(1000)
    timesteps = schedule.timesteps(steps, grid)
    return [(float(schedule.alpha[t]), float(schedule.sigma[t])) for t in timesteps] + [(1.0, 0.0)]


@pytest.mark.parametrize("solver", [ddim, dpm_solver_2m])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_samplers_reach_what_is_certain(solver, steps):
    truth = torch.linspace(-1, 1, 11).double()
    levels = gaussian_levels(steps, "logsnr")
    torch.testing.assert_close(solver(lambda x, i: truth, torch.randn(11).double(), levels), truth)


@pytest.mark.parametrize(
    ("solver", "grid", "steps", "low", "high"),
    [
        (ddim, "uniform", 1, 0.0, 0.001),
        (ddim, "uniform", 25, 0.5, 0.75),
        (dpm_solver_2m, "logsnr", 5, 0.8, 0.95),
        (dpm_solver_2m, "logsnr", 10, 0.95, 1.05),
        (dpm_solver_2m, "logsnr", 25, 0.97, 1.03),
    ],
)
def test_samplers_spread_like_the_posterior(solver, grid, steps, low, high):
    """A Gaussian posterior of deviation 0.05 has a known x0 predictor; the samples' deviation shows the sampler's error."""
    deviation = 0.05
    levels = gaussian_levels(steps, grid)

    def predict(x: torch.Tensor, i: int) -> torch.Tensor:
        alpha, sigma = levels[i]
        return alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2) * x

    samples = solver(predict, noise_field(0, 0, 200, 200, 1, 0).double(), levels)
    assert low <= float(samples.std()) / deviation <= high


@pytest.fixture(scope="module")
def network():
    return fill(create_model("ddrf", 3, width=16), 4)


@torch.inference_mode()
def test_x0_plus_lms_stays_in_range(network):
    condition = network.prepare(*tiles(3, 16, 16))
    seen = []
    residual = sample(
        network,
        condition,
        torch.randn(1, 3, 16, 16),
        steps=4,
        value_range=(0.2, torch.tensor([0.5, 0.6, 0.7])[:, None, None]),
        callback=lambda done, calls, x0: seen.append((done, calls, x0 + condition.lms)),
    )
    assert [(done, calls) for done, calls, _ in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for image in (*(image for _, _, image in seen), condition.lms + residual):
        assert float(image.min()) >= 0.2 - 1e-6
        assert (image.amax(dim=(0, 2, 3)) <= torch.tensor([0.5, 0.6, 0.7]) + 1e-6).all()


@torch.inference_mode()
def test_self_conditioning_changes_later_steps_only(network):
    condition = network.prepare(*tiles(3, 16, 16))
    noise = torch.randn(1, 3, 16, 16)
    seen = {False: [], True: []}
    for use, x0s in seen.items():
        sample(
            network,
            condition,
            noise,
            steps=2,
            self_conditioning=use,
            callback=lambda done, calls, x0, x0s=x0s: x0s.append(x0),
        )
    torch.testing.assert_close(seen[True][0], seen[False][0])
    assert not torch.allclose(seen[True][1], seen[False][1])


@torch.inference_mode()
def test_a_callback_can_stop(network):
    condition = network.prepare(*tiles(3, 16, 16))

    def stop(done: int, calls: int, x0: torch.Tensor) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(network, condition, torch.randn(1, 3, 16, 16), steps=5, callback=stop)


@pytest.mark.parametrize(
    "wrong",
    [
        {"solver": "euler"},
        {"grid": "cosine"},
        {"indexing": "theirs"},
        {"steps": 0},
        {"objective": "y"},
    ],
)
@torch.inference_mode()
def test_unknown_choices_are_refused(network, wrong):
    condition = network.prepare(*tiles(3, 16, 16))
    with pytest.raises(ValueError, match="must be"):
        sample(network, condition, torch.randn(1, 3, 16, 16), **{"steps": 1, **wrong})
