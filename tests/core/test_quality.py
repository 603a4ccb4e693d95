"""The quality metrics: identities, cases worked out by hand, invariances, masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fusion_core.errors import FusionError
from fusion_core.quality import (
    assess_full,
    assess_reduced,
    d_lambda_khan,
    d_s,
    d_sr,
    ergas,
    hqnr,
    q2n,
    rqnr,
    sam,
    scc,
    uiqi,
    uiqi_mean,
)
from fusion_core.quality.lowpass import lowpass
from fusion_core.resampling import cubic_matrix, upsampling_positions
from fusion_core.sample_scene import make_sample_scene


@pytest.fixture(scope="module")
def pair():
    """A structured image and a disturbed copy, (3, 70, 50): neither side a multiple of the block."""
    rng = np.random.default_rng(5)
    reference = 200 + 50 * rng.standard_normal((3, 70, 50)).cumsum(axis=1)
    reference = np.abs(reference) + 20
    return reference, np.abs(reference * 1.05 + rng.normal(0, 20, reference.shape))


@pytest.fixture(scope="module")
def scene():
    return make_sample_scene(size=128, bands=4, ratio=4, seed=0)


def interpolate(ms: np.ndarray, ratio: int) -> np.ndarray:
    weights = [
        cubic_matrix(upsampling_positions(size * ratio, ratio), size) for size in ms.shape[1:]
    ]
    image = weights[0] @ ms.astype(np.float64) @ weights[1].T
    return np.clip(np.rint(image), 0, 65535)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 8, 9])
def test_identity(bands):
    image = np.random.default_rng(bands).uniform(10, 500, (bands, 41, 67))
    assert sam(image, image) == pytest.approx(0, abs=1e-5)
    assert ergas(image, image, 4) == 0
    assert q2n(image, image) == pytest.approx(1, abs=1e-12)
    assert scc(image, image) == pytest.approx(1, abs=1e-12)
    assert uiqi_mean(image, image) == pytest.approx(1, abs=1e-12)


def test_sam_by_hand():
    reference = np.array([[[1.0, 1.0]], [[0.0, 1.0]]])
    fused = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    # The first pixel turns by 45 degrees, the second has no direction.
    assert sam(reference, fused) == pytest.approx(45)


def test_ergas_by_hand():
    reference = np.stack([np.full((4, 4), 10.0), np.full((4, 4), 20.0)])
    fused = reference + np.array([1.0, -4.0])[:, None, None]
    assert ergas(reference, fused, 4) == pytest.approx(25 * np.sqrt((0.01 + 0.04) / 2))
    assert ergas(reference, fused, 2) == pytest.approx(50 * np.sqrt((0.01 + 0.04) / 2))


def test_ergas_of_a_black_band():
    reference = np.stack([np.zeros((4, 4)), np.ones((4, 4))])
    assert ergas(reference, reference, 4) == 0
    assert ergas(reference, reference + 1, 4) == np.inf


def test_uiqi_by_hand():
    first = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    second = np.array([[[2.0, 2.0], [4.0, 4.0]]])
    covariance, variances = 4 / 3, 5 / 3 + 4 / 3
    expected = 2 * covariance / variances * (2 * 2.5 * 3 / (2.5**2 + 3**2))
    assert uiqi(first, second, block=2) == pytest.approx([expected])


def test_uiqi_of_opposites_is_negative():
    ramp = np.arange(16.0).reshape(1, 4, 4)
    assert uiqi(ramp, 15 - ramp, block=4)[0] == pytest.approx(-1)


def test_q2n_of_one_band_is_the_modulus_of_a_normalised_uiqi():
    rng = np.random.default_rng(3)
    x = rng.uniform(50, 90, (1, 32, 32))
    y = x + rng.normal(0, 6, x.shape)
    mean, deviation = x.mean(), x.std(ddof=1)
    expected = abs(uiqi((x - mean) / deviation + 1, (y - mean) / deviation + 1)[0])
    assert q2n(x, y) == pytest.approx(expected)


def multiply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Product of two hypercomplex numbers by the published recursion."""
    size = len(x)
    if size == 1:
        return x * y

    def conjugate(z):
        return np.concatenate([z[:1], -z[1:]])

    half = size // 2
    a, b, c, d = x[:half], conjugate(x[half:]), y[:half], conjugate(y[half:])
    if size == 2:
        return np.concatenate([a * c - d * b, a * d + c * b])
    first = multiply(a, c) - multiply(d, conjugate(b))
    return np.concatenate([first, multiply(conjugate(a), d) + multiply(c, b)])


@pytest.mark.parametrize("bands", [2, 3, 4, 6, 8])
def test_q2n_against_pixel_by_pixel_products(bands):
    rng = np.random.default_rng(bands)
    x = rng.uniform(100, 300, (bands, 6, 6))
    y = 0.8 * x + rng.normal(0, 30, x.shape)
    size = 1 << (bands - 1).bit_length()
    fill = np.ones((size - bands, 36))
    mean = x.mean(axis=(1, 2), keepdims=True)
    deviation = x.std(axis=(1, 2), ddof=1, keepdims=True)
    x1 = np.concatenate([((x - mean) / deviation + 1).reshape(bands, -1), fill])
    y1 = np.concatenate([((y - mean) / deviation + 1).reshape(bands, -1), fill])
    signs = np.where(np.arange(size) == 0, 1, -1)[:, None]
    y1 = signs * y1
    unbiased = 36 / 35
    mean_x, mean_y = x1.mean(axis=1), y1.mean(axis=1)
    product = np.mean([multiply(p, q) for p, q in zip(x1.T, y1.T)], axis=0)
    covariance = unbiased * (product - multiply(mean_x, mean_y))
    variances = unbiased * ((x1**2).sum(0).mean() - (mean_x**2).sum())
    variances += unbiased * ((y1**2).sum(0).mean() - (mean_y**2).sum())
    levels = np.linalg.norm(mean_x), np.linalg.norm(mean_y)
    expected = 2 * np.linalg.norm(covariance) / variances
    expected *= 2 * levels[0] * levels[1] / (levels[0] ** 2 + levels[1] ** 2)
    assert q2n(x, y, block=6) == pytest.approx(expected)


def test_q2n_of_flat_blocks_compares_levels():
    flat = np.full((4, 32, 32), 7.0)
    assert q2n(flat, flat) == pytest.approx(1)
    assert q2n(flat, flat + 1) < 0.01


def test_scc_of_ramps():
    ramp = np.tile(np.arange(10.0), (1, 10, 1))
    assert scc(ramp, 3 * ramp + 5) == pytest.approx(1)
    step = np.zeros((1, 10, 10))
    step[:, :, 5:] = 1
    # Both gradients are non-zero side by side in 2 of 8 columns only.
    assert scc(ramp, step) == pytest.approx(np.sqrt(2 / 8))


def test_scc_does_not_see_the_frame():
    rng = np.random.default_rng(0)
    x, y = 1e4 + rng.normal(0, 1, (2, 1, 20, 20))
    assert scc(x, y) == pytest.approx(scc(x - 1e4, y - 1e4))


@pytest.mark.parametrize("gain", [0.01, 37.0])
def test_gain_changes_nothing(pair, gain):
    reference, fused = pair
    for metric in (sam, q2n, scc, uiqi_mean):
        assert metric(gain * reference, gain * fused) == pytest.approx(metric(reference, fused))
    assert ergas(gain * reference, gain * fused, 4) == pytest.approx(ergas(reference, fused, 4))


def test_scaling_the_fused_image_alone_keeps_angle_and_structure(pair):
    reference, fused = pair
    assert sam(reference, 2 * fused) == pytest.approx(sam(reference, fused))
    assert scc(reference, 2 * fused) == pytest.approx(scc(reference, fused))
    assert ergas(reference, 2 * fused, 4) > ergas(reference, fused, 4)
    assert q2n(reference, 2 * fused) < q2n(reference, fused)


def test_mask_hides_pixels(pair):
    reference, fused = pair
    mask = np.ones(reference.shape[1:], bool)
    mask[20:30, 5:9] = False
    for spoiled_value in (9e6, np.nan):
        spoiled = np.where(mask, fused, spoiled_value)
        expected = [metric(reference, fused, mask=mask) for metric in (sam, q2n, scc, uiqi_mean)]
        found = [metric(reference, spoiled, mask=mask) for metric in (sam, q2n, scc, uiqi_mean)]
        assert found == pytest.approx(expected)
        assert ergas(reference, spoiled, 4, mask) == pytest.approx(ergas(reference, fused, 4, mask))


def test_pixels_that_are_not_numbers_count_as_masked(pair):
    reference, fused = pair
    mask = np.ones(reference.shape[1:], bool)
    mask[:7, :9] = False
    spoiled = np.where(mask, fused, np.nan)
    for metric in (sam, q2n, scc, uiqi_mean):
        assert metric(reference, spoiled) == pytest.approx(metric(reference, fused, mask=mask))


def test_everything_masked_is_refused(pair):
    reference, fused = pair
    with pytest.raises(FusionError, match="no valid pixel"):
        sam(reference, fused, np.zeros(reference.shape[1:], bool))


def test_shapes_that_differ_are_refused(pair):
    reference, fused = pair
    for metric, size in itertools.product((sam, q2n, scc, uiqi), (49, 51)):
        with pytest.raises(FusionError, match="cannot be compared"):
            metric(reference, np.ones((3, 70, size)))


def test_lowpass_keeps_constants_and_positions():
    flat = np.full((2, 32, 32), 5.0)
    assert lowpass(flat, 4, (8, 8), [0.3, 0.2]) == pytest.approx(5)
    ramp = np.tile(np.arange(64.0), (1, 64, 1))
    centres = 4 * np.arange(16) + 1.5
    found = lowpass(ramp, 4, (16, 16), [0.3])[0, 8]
    assert found[4:12] == pytest.approx(centres[4:12])


def test_lowpass_transfer_at_the_nyquist_frequency():
    position = np.arange(128)
    wave = np.cos(2 * np.pi * (position - 1.5) / 8) * np.ones((1, 128, 1))
    found = lowpass(wave, 4, (32, 32), [0.3])[0, 16, 8:24]
    assert np.abs(found) == pytest.approx(0.3, rel=1e-3)


def test_lowpass_ignores_masked_pixels():
    image = np.full((1, 32, 32), 5.0)
    mask = np.ones((32, 32), bool)
    mask[:, :3] = False
    image[:, ~mask] = 9e9
    assert lowpass(image, 4, (8, 8), [0.3], mask=mask) == pytest.approx(5)


def test_d_sr_of_a_mixture_is_zero():
    fused = np.random.default_rng(1).uniform(0, 100, (3, 40, 40))
    pan = np.tensordot([0.2, 0.5, 0.3], fused, axes=1)[None] + 12
    assert d_sr(fused, pan) == pytest.approx(0, abs=1e-12)
    assert d_sr(fused, np.random.default_rng(2).uniform(0, 1, (1, 40, 40))) > 0.9


def test_d_s_is_zero_where_both_relations_are_the_same():
    pan = np.random.default_rng(1).uniform(10, 100, (1, 64, 64))
    pan_low = np.random.default_rng(2).uniform(10, 100, (1, 16, 16))
    fused, ms = np.repeat(pan, 3, axis=0), np.repeat(pan_low, 3, axis=0)
    assert d_s(fused, pan, ms, pan_low, 4) == pytest.approx(0, abs=1e-12)


def test_products_without_reference():
    assert hqnr(0.1, 0.2) == pytest.approx(0.72)
    assert rqnr(0.1, 0.5) == pytest.approx(0.45)
    image = np.random.default_rng(1).uniform(10, 100, (3, 64, 64))
    assert d_lambda_khan(image, image) == pytest.approx(0, abs=1e-12)


def test_golden_numbers_of_the_sample_scene(scene):
    fused = interpolate(scene.ms, 4)
    found = assess_reduced(scene.reference, fused, 4)
    assert found == pytest.approx(GOLDEN_REDUCED, rel=2e-3)
    assert assess_full(scene.pan, scene.ms, fused, 4) == pytest.approx(GOLDEN_FULL, rel=1e-2)


def test_truth_beats_interpolation_without_reference(scene):
    truth = assess_full(scene.pan, scene.ms, scene.reference, 4)
    plain = assess_full(scene.pan, scene.ms, interpolate(scene.ms, 4), 4)
    assert truth["HQNR"] > plain["HQNR"]
    assert truth["RQNR"] > plain["RQNR"]


def test_full_assessment_with_nodata(scene):
    fused = interpolate(scene.ms, 4)
    mask = np.ones((128, 128), bool)
    mask[:48, :48] = False
    spoiled = np.where(mask, fused, 60000.0)
    expected = assess_full(scene.pan, scene.ms, fused, 4, mask=mask)
    assert assess_full(scene.pan, scene.ms, spoiled, 4, mask=mask) == pytest.approx(expected)


def test_full_assessment_refuses_what_does_not_fit(scene):
    with pytest.raises(FusionError, match="do not belong together"):
        assess_full(scene.pan, scene.ms, scene.reference[:3], 4)
    with pytest.raises(FusionError, match="gains"):
        assess_full(scene.pan, scene.ms, scene.reference, 4, gains=[0.3])


def test_a_border_that_leaves_nothing_is_refused():
    tiny = np.ones((2, 8, 8))
    with pytest.raises(FusionError, match="too small"):
        assess_reduced(tiny, tiny, 4)


GOLDEN_REDUCED = {"SAM": 2.7365, "ERGAS": 4.1253, "Q2n": 0.81296, "SCC": 0.76046}
GOLDEN_FULL = {
    "D_LAMBDA": 0.017261,
    "D_S": 0.11141,
    "HQNR": 0.87325,
    "D_SR": 0.12278,
    "RQNR": 0.86207,
}
