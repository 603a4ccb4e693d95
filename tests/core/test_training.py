"""Degradation, patches, and a training that learns and resumes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion_core.degradation import block_centres, gaussian_matrix
from fusion_core.errors import Cancelled, FusionError
from fusion_core.models import create_model
from fusion_core.mtf import mtf_sigma
from fusion_core.training.ema import ExponentialMovingAverage
from fusion_core.training.patches import Augmentation, PatchSampler, TrainingImage
from fusion_core.training.trainer import Stage, TrainingSettings, train, validation_loss

CHANCES = (0.6, 1.0, 1.0, 0.6)


@pytest.mark.parametrize(("gain", "ratio"), [(0.3, 4), (0.15, 2), (0.26, 4)])
def test_degradation_has_the_gain_of_the_sensor_at_nyquist(gain, ratio):
    size = 400
    wave = np.cos(np.pi * (np.arange(size) - (ratio - 1) / 2) / ratio)
    centres = block_centres(size // ratio, ratio)
    seen = gaussian_matrix(centres, size, mtf_sigma(gain, ratio)) @ wave
    np.testing.assert_allclose(np.abs(seen[20:-20]), gain, rtol=1e-3)


def test_degradation_is_half_pixel_consistent():
    ramp = np.arange(64.0)
    seen = gaussian_matrix(block_centres(16, 4), 64, 2.0) @ ramp
    np.testing.assert_allclose(seen[4:-4], 4 * np.arange(4, 12) + 1.5, atol=1e-6)


def images() -> list[TrainingImage]:
    rng = np.random.default_rng(0)
    smooth = rng.random((4, 12, 12)).repeat(8, axis=1).repeat(8, axis=2)
    return [
        TrainingImage.from_counts(100 + 900 * smooth, 1.0),
        TrainingImage.from_counts(50 + 300 * smooth[::-1], 2.0, pan=200 + 500 * smooth[1]),
    ]


@pytest.fixture
def sampler():
    return PatchSampler(images(), 4, CHANCES, seed=1, augmentation=Augmentation())


def test_patches_have_the_shapes_of_tiles(sampler):
    batch = sampler.batch(0, 5, 32)
    assert batch.guide.shape == (5, 1, 32, 32)
    assert batch.ms.shape == (5, 4, 8, 8)
    assert batch.lms.shape == batch.reference.shape == (5, 4, 32, 32)
    for part in (batch.guide, batch.ms, batch.lms, batch.reference):
        assert part.dtype == torch.float32
        assert 0.3 < float(part.mean()) < 1.2


def test_patches_hang_on_the_iteration_alone(sampler):
    first, other = sampler.batch(7, 4, 32), sampler.batch(8, 4, 32)
    again = PatchSampler(images(), 4, CHANCES, 1, Augmentation()).batch(7, 4, 32)
    assert torch.equal(first.lms, again.lms)
    assert not torch.equal(first.lms, other.lms)


def test_plain_patches_are_wald_pairs():
    """Without augmentation MS is the blurred reference, and LMS is centred on it."""
    plain = PatchSampler(images(), 4, CHANCES, seed=1, augmentation=None)
    batch = plain.batch(0, 16, 32)
    blocks = batch.reference.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(-1, -2))
    assert float((batch.ms - blocks).abs().mean()) < 0.2 * float(blocks.std())
    error = (batch.lms - batch.reference).abs().mean()
    shifted = (batch.lms[..., 1:, 1:] - batch.reference[..., :-1, :-1]).abs().mean()
    assert error < shifted


def test_images_that_are_too_small_are_refused(sampler):
    with pytest.raises(ValueError, match="smaller than"):
        sampler.batch(0, 1, 96)
    with pytest.raises(ValueError, match="no image"):
        PatchSampler([], 4, CHANCES, 0, None)


def test_average_follows_slowly():
    network = torch.nn.Linear(2, 1)
    average = ExponentialMovingAverage(network, 0.9)
    start = network.weight.detach().clone()
    network.weight.data += 1
    average.update(network)
    moved = float((average.network.weight - start).mean())
    assert moved == pytest.approx(1 - 2 / 11)
    for _ in range(200):
        average.update(network)
    torch.testing.assert_close(average.network.weight, network.weight)


SETTINGS = TrainingSettings(
    iterations=12,
    stages=(Stage(0.5, 16, 4), Stage(1.0, 32, 2)),
    warm_up=2,
    save_every=4,
    validate_every=4,
    seed=3,
)


def network(method: str = "ssdiff"):
    torch.manual_seed(0)
    return create_model(method, 4, width=16)


def validation() -> list:
    return [PatchSampler(images(), 4, CHANCES, 9, None).batch(0, 4, 32)]


@pytest.mark.parametrize("method", ["ssdiff", "ddrf"])
def test_training_learns(sampler, method):
    settings = replace(SETTINGS, iterations=40, learning_rate=2e-3, self_conditioning=0.5)
    net, told = network(method), []
    judged = validation()
    before = validation_loss(net.eval(), judged, "x0")
    result = train(net, sampler, judged, settings, progress=told.append)
    assert result.best_validation < 0.8 * before
    assert result.iterations == 40
    assert told[-1].iteration == 40
    net.load_state_dict(result.state)
    assert validation_loss(net.eval(), judged, "x0") == pytest.approx(result.best_validation)


@pytest.mark.parametrize("objective", ["eps", "v"])
def test_other_objectives_train(sampler, objective):
    result = train(network(), sampler, [], replace(SETTINGS, iterations=3, objective=objective))
    assert all(torch.isfinite(v).all() for v in result.state.values() if v.is_floating_point())


def test_a_killed_training_resumes_bit_for_bit(sampler, tmp_path):
    unbroken = train(network(), sampler, validation(), SETTINGS)
    checkpoint = tmp_path / "checkpoint"

    class Killed(Exception):
        """Stands for a kill at any moment."""

    def kill(progress) -> None:
        if progress.iteration >= 8:
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            train(network(), sampler, validation(), SETTINGS, checkpoint=checkpoint, progress=kill)
    resumed = train(network(), sampler, validation(), SETTINGS, checkpoint=checkpoint)
    assert resumed.history == unbroken.history
    for name, value in unbroken.state.items():
        assert torch.equal(resumed.state[name], value), name


def test_cancel_keeps_the_checkpoint(sampler, tmp_path):
    checkpoint, seen = tmp_path / "checkpoint", []

    def cancelled() -> bool:
        seen.append(None)
        return len(seen) == 4

    with pytest.raises(Cancelled):
        train(network(), sampler, [], SETTINGS, checkpoint=checkpoint, cancelled=cancelled)
    assert torch.load(checkpoint, weights_only=True)["loop"]["iteration"] == 3


def test_a_checkpoint_of_other_settings_is_refused(sampler, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    train(network(), sampler, [], replace(SETTINGS, iterations=1), checkpoint=checkpoint)
    with pytest.raises(FusionError, match="other settings"):
        train(network(), sampler, [], SETTINGS, checkpoint=checkpoint)


def test_divergence_is_reported(sampler, monkeypatch):
    monkeypatch.setattr("fusion_core.training.trainer._iterate", lambda *arguments: math.nan)
    with pytest.raises(FusionError, match="diverged at iteration 0"):
        train(network(), sampler, [], SETTINGS)


def striped(**image_options) -> TrainingImage:
    """Stripes one pixel wide, the finest there are, on all bands alike."""
    stripes = np.broadcast_to(1.0 + 0.5 * (np.arange(96) % 2), (4, 96, 96)).astype(np.float32)
    return TrainingImage(stripes, 1.0, **image_options)


def test_simulated_pan_keeps_half_of_the_finest_contrast():
    batch = PatchSampler([striped()], 4, CHANCES, 0, None).batch(0, 2, 32)
    contrast = np.ptp(batch.guide[..., 4:-4].numpy()) / batch.guide.mean()
    expected = 0.5 * np.ptp(batch.reference.numpy()) / batch.reference.mean()
    np.testing.assert_allclose(contrast, expected, rtol=1e-3)


def test_real_pan_stays_as_sharp_as_it_is():
    pan = striped().reference[0]
    batch = PatchSampler([striped(pan=pan)], 4, CHANCES, 0, None).batch(0, 2, 32)
    np.testing.assert_allclose(np.unique(batch.guide), [1.0, 1.5])
    soft = PatchSampler([striped(pan=pan, sharp_pan=True)], 4, CHANCES, 0, None).batch(0, 2, 32)
    assert np.ptp(soft.guide[..., 4:-4].numpy()) < 0.3


def test_bands_without_haze_reach_down_to_nothing_and_keep_their_scale():
    hazy = TrainingImage.from_counts(300 + 700 * images()[0].reference, 1.0)
    still = Augmentation(
        band_gain=0, offset=0, gamma=0, pan_shift=0, noise_ms=0, noise_pan=0, haze_free=1.0
    )
    lows, highs = [], []
    for vary in (replace(still, haze_free=0.0), still):
        batch = PatchSampler([hazy], 4, CHANCES, 0, vary).batch(0, 8, 64)
        lows.append(float(batch.reference.min()))
        highs.append(float(batch.reference.quantile(0.98)))
    assert 0 <= lows[1] < 0.6 * lows[0]
    assert highs[1] == pytest.approx(highs[0], abs=0.05)
