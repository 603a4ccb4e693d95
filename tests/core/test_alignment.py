"""Pixel grids of PAN and MS on each other."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_core.raster.alignment import AxisTaps, align_axis, interpolate
from fusion_core.resampling import cubic_matrix, cubic_taps


@pytest.mark.parametrize("stretch", [1.0, 1.3])
def test_taps_are_the_rows_of_the_cubic_matrix(stretch):
    positions = np.linspace(-3, 14, 50)
    taps, weights = cubic_taps(positions, 12, stretch)
    matrix = np.zeros((50, 12))
    np.add.at(matrix, (np.arange(50)[:, None], taps), weights)
    np.testing.assert_array_equal(matrix, cubic_matrix(positions, 12, stretch))


def test_interpolate_is_the_matrix_product():
    rng = np.random.default_rng(0)
    source = rng.random((3, 9, 11)).astype(np.float32)
    rows, cols = np.linspace(0, 8, 20), np.linspace(-1, 11, 30)
    expected = cubic_matrix(rows, 9) @ source @ cubic_matrix(cols, 11).T
    taps = [AxisTaps.of(positions) for positions in (rows, cols)]
    around = [np.clip(axis.reach, 0, size - 1) for axis, size in zip(taps, (9, 11))]
    found = interpolate(source[:, around[0][:, None], around[1]], *taps)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("start", [-8, 0, 4, 4000])
@pytest.mark.parametrize("ratio", [2, 4])
def test_weights_that_repeat_give_the_same_bits(start, ratio):
    axis = align_axis(5000 * ratio, 5000, 1 / ratio, 0.0, ratio)
    rows, cols = (axis.ms_positions(np.arange(start, start + n * ratio)) for n in (7, 30))
    taps = [AxisTaps.of(positions, period=ratio) for positions in (rows, cols)]
    assert [axis.period for axis in taps] == [ratio, ratio]
    sizes = [len(axis.reach) for axis in taps]
    source = np.random.default_rng(0).random((2, *sizes)).astype(np.float32)
    plain = [AxisTaps(axis.taps, axis.weights) for axis in taps]
    np.testing.assert_array_equal(interpolate(source, *taps), interpolate(source, *plain))


def test_weights_that_only_nearly_repeat_are_not_taken_to():
    assert AxisTaps.of(np.arange(0.1, 1000, 0.25), period=4).period == 0


def test_block_aligned():
    axis = align_axis(400, 100, 0.25, 0.0, 4)
    assert (axis.phase, axis.shift, axis.overlap()) == (0, 0, (0, 400))
    # The centre of the first MS pixel is PAN coordinate 1.5.
    assert axis.ms_positions(np.array([1.5]))[0] == 0


def test_whole_pixel_shifts_are_exact():
    # MS starts 5 PAN pixels into PAN.
    axis = align_axis(400, 90, 0.25, -1.25, 4)
    assert (axis.phase, axis.shift) == (1, -1)
    assert axis.overlap() == (5, 365)
    np.testing.assert_array_equal(axis.coarse_ms_positions(np.array([1, 2])), [0, 1])


@pytest.mark.parametrize("shift", [-7.9, -0.55, -0.2, 0.2, 1.45, 3.7])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_coarse_grid_is_within_half_a_pan_pixel(shift, ratio):
    axis = align_axis(400, 100, 1 / ratio, -shift / ratio, ratio)
    assert axis.shift is None
    distance = (axis.phase - shift + ratio / 2) % ratio - ratio / 2
    assert abs(distance) <= 0.5 + 1e-9


def test_rounded_georeference_is_snapped_and_a_real_drift_is_not():
    assert align_axis(4000, 1000, 0.25 * (1 + 1e-6), 1e-3, 4).shift == 0
    drifting = align_axis(3980, 1000, 1 / 3.98, 0.0, 4)
    assert drifting.shift is None
    assert drifting.scale == 1 / 3.98
    assert drifting.overlap() == (0, 3980)


def test_half_pixel_ties_fall_on_one_side_despite_rounding():
    phases = {align_axis(400, 200, 0.5, 0.25 + noise, 2).phase for noise in (-1e-9, 0, 1e-9)}
    assert len(phases) == 1
